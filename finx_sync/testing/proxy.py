"""`FaultProxy`: a TCP proxy that causes the faults of bad networks, servers and middleboxes on purpose."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final
from urllib.parse import urlsplit

from finx_sync.errors import ConfigError, InvalidInputError, StreamTimeoutError, UsageError
from finx_sync.redaction import redact
from finx_sync.testing.faults import Fault
from finx_sync.testing.link import Link, LinkRoute, Order
from finx_sync.testing.script import Performance, Step

__all__ = ["Effect", "FaultProxy", "Injection", "ProxiedConnection"]

EFFECTS_KEPT: Final = 100_000
ACCEPT_PAUSE: Final = 0.02
"""Seconds to wait before accepting again after it failed."""
PORTS: Final = {"ws": 80, "http": 80, "tcp": 0, "wss": 443, "https": 443}
TLS_SCHEMES: Final = frozenset({"wss", "https"})


@dataclass(frozen=True)
class Effect:
    """A fault that took effect.

    Attributes:
        at: seconds after the proxy was made.
        connection: the number of the connection, from 1.
        fault: the fault that was injected.
        note: what the seed decided, such as which byte of a frame was changed to what.
    """

    at: float
    connection: int
    fault: Fault
    note: str


@dataclass(frozen=True)
class ProxiedConnection:
    """A snapshot of one open connection.

    Attributes:
        number: unique within the proxy, from 1.
        is_websocket: whether the server has agreed to a websocket, as far as the proxy can see.
        to_client, to_server: bytes passed on.
    """

    number: int
    is_websocket: bool
    to_client: int
    to_server: int


class Injection:
    """The effects of one `FaultProxy.inject` or `arm`. May be used from any thread."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._effects: list[Effect] = []

    @property
    def effects(self) -> tuple[Effect, ...]:
        """The effects so far."""
        with self._condition:
            return tuple(self._effects)

    def wait(self, timeout: float, effects: int = 1) -> bool:
        """Wait until its faults have taken effect `effects` times; returns whether they have.

        Args:
            timeout: seconds.
            effects: how often, counted over all connections and faults.
        """
        with self._condition:
            return self._condition.wait_for(lambda: len(self._effects) >= effects, timeout)

    def _add(self, effect: Effect) -> None:
        with self._condition:
            self._effects.append(effect)
            self._condition.notify_all()


class _Armed:
    """Faults that wait for the next connections."""

    def __init__(self, faults: tuple[Fault, ...], left: int | None, injection: Injection) -> None:
        self.faults = faults
        self.left = left
        self.injection = injection


class FaultProxy:
    """Runs between any client and any server, and passes everything on until faults are injected.

    ::

        with Sandbox() as sandbox, FaultProxy(sandbox.url) as proxy:
            stream = StreamManager("sandbox-key", url=proxy.url)
            ...
            proxy.inject(Reset())                      # now, to all open connections
            proxy.arm(Answer(503), times=3)            # the next three handshakes
            proxy.play([Step(1.0, (Cut(),))])          # following a script

    Every method may be called from any thread. One thread accepts connections, and each connection has its own
    thread; `stop` ends them all.

    In front of a TLS server it either passes TLS on, and then only faults of bytes are possible (`Fault.needs_frames`
    is False), or terminates it with a certificate that the client trusts (`server_context`), and then sees the frames.

    Args:
        target: ``ws://host:port``, ``wss://host``, ``http``, ``https`` or ``tcp://host:port``, or a (host, port) pair.
        seed: decides what a fault leaves open, such as which byte is damaged. Equal seeds and equal calls in the same
            order damage equal frames in the same way.
        host: address to listen on.
        port: 0 takes a free one. A proxy that is started again takes the same port again.
        server_context: has the proxy's own certificate, with which it terminates TLS with clients.
        upstream_context: verifies the target if `server_context` is given and the target uses TLS; None verifies
            against the system's certificates.

    Raises:
        ConfigError: the target is not valid.
    """

    def __init__(
        self,
        target: str | tuple[str, int],
        *,
        seed: int = 0,
        host: str = "127.0.0.1",
        port: int = 0,
        server_context: ssl.SSLContext | None = None,
        upstream_context: ssl.SSLContext | None = None,
    ) -> None:
        self._scheme, self._target, self._path = _parse_target(target)
        self._seed = seed
        self._host = host
        self._port = port
        is_tls = self._scheme in TLS_SCHEMES
        self._server_context = server_context
        self._upstream_context: ssl.SSLContext | None = None
        if is_tls and server_context is not None:
            self._upstream_context = upstream_context or ssl.create_default_context()
        self.sees_frames: Final = not is_tls or server_context is not None
        self._made_at = time.monotonic()
        # Guards everything below; never held while waiting for I/O or for a thread to end. The links' threads take it
        # too, when a fault takes effect and when they end; they hold no other lock then, so no two wait for each other.
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._waker: socket.socket | None = None
        self._links: dict[int, Link] = {}
        self._accepted = 0
        self._orders = 0
        self._armed: deque[_Armed] = deque()
        self._effects: deque[Effect] = deque(maxlen=EFFECTS_KEPT)
        self._performances: list[Performance] = []

    def __repr__(self) -> str:
        """Show both addresses."""
        return f"<FaultProxy {self._host}:{self._port} to {self._target[0]}:{self._target[1]}>"

    # Start and stop

    def start(self) -> FaultProxy:
        """Start listening; clients can connect when this returns.

        Raises:
            ConfigError: the target's name has no address, or the port is taken.
            UsageError: the proxy is already running.
        """
        route = self._route()
        with self._changed:
            if self._thread is not None:
                raise UsageError("the proxy is already running")
            listener = self._listen()
            self._port = listener.getsockname()[1]
            waiting, self._waker = socket.socketpair()
            self._stopping = False
            self._thread = threading.Thread(
                target=self._accept, args=(listener, waiting, route), name="finx-sync fault proxy", daemon=True
            )
            self._thread.start()
        return self

    def stop(self, timeout: float = 5.0) -> None:
        """End every connection and every script, and free the port; does nothing if the proxy is already stopped.

        Args:
            timeout: seconds.

        Raises:
            StreamTimeoutError: a thread is still alive after `timeout`.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            thread, waker = self._thread, self._waker
            self._stopping = True
            performances, self._performances = self._performances, []
        if thread is None or waker is None:
            return
        with contextlib.suppress(OSError):  # another thread may have stopped it just now and closed the waker
            waker.send(b"!")
        for performance in performances:
            performance.stop()
        thread.join(max(0.0, deadline - time.monotonic()))
        # Once the accepting thread has ended, no link is added any more.
        with self._changed:
            links = list(self._links.values())
            self._armed.clear()
        for link in links:
            link.stop()
        waits = [link.join for link in links] + [performance.wait for performance in performances]
        ended = [wait(max(0.0, deadline - time.monotonic())) for wait in waits]
        if thread.is_alive() or not all(ended):
            raise StreamTimeoutError(f"the proxy did not stop within {timeout:g} s")
        with self._changed:
            if self._thread is thread:
                self._thread = self._waker = None
        waker.close()

    def __enter__(self) -> FaultProxy:
        """Start."""
        return self.start()

    def __exit__(self, *exc: object) -> None:
        """Stop."""
        self.stop()

    @property
    def port(self) -> int:
        """The TCP port; 0 before the first start, unless one was given."""
        return self._port

    @property
    def url(self) -> str:
        """The target's URL with the proxy's address; pass it to the client."""
        scheme = self._scheme
        if self._server_context is not None:
            scheme = {"ws": "wss", "http": "https"}.get(scheme, scheme)
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self._port}{self._path}"

    # Faults

    def inject(self, *faults: Fault) -> Injection:
        """Apply faults now, to all open connections; faults of the handshake apply to the next connection.

        The latter are armed first, so ``inject(Answer(503), Cut())`` cuts, and answers 503 to the next handshake.

        Returns:
            The effects, now and later. If no connection is open, faults of open connections have none.

        Raises:
            InvalidInputError: no fault is given, or something that is not a fault.
            UsageError: a fault needs to see frames, and the proxy passes TLS on.
        """
        self._check(faults)
        injection = Injection()
        waiting = tuple(fault for fault in faults if fault.at_handshake)
        with self._changed:
            if waiting:
                self._armed.append(_Armed(waiting, 1, injection))
            orders = [
                (link, self._order(fault, link.number, injection))
                for fault in faults
                if not fault.at_handshake
                for link in self._links.values()
            ]
        for link, order in orders:
            link.order(order)
        return injection

    def arm(self, *faults: Fault, times: int | None = 1) -> Injection:
        """Make the next connections begin with these faults, each connection with all of them.

        Faults that were armed first are used first. A `Close` follows right after the handshake; a `Corrupt`
        damages the first suitable frame.

        Args:
            faults: of the handshake, of open connections, or both.
            times: how many connections; None for all until `clear`.

        Returns:
            The effects, now and later.

        Raises:
            InvalidInputError, UsageError: as `inject`.
        """
        self._check(faults)
        if times is not None and times < 1:
            raise InvalidInputError(f"times is {times!r}; it is a number of connections above 0, or None")
        injection = Injection()
        with self._changed:
            self._armed.append(_Armed(faults, times, injection))
        return injection

    def clear(self) -> None:
        """Cancel all armed and lasting faults; bytes that black holes held arrive now."""
        order = Order(None, Random(0), lambda note: None)
        with self._changed:
            self._armed.clear()
            links = list(self._links.values())
        for link in links:
            link.order(order)

    def play(self, script: Sequence[Step]) -> Performance:
        """Play a script from now on: inject each step at its time, on its own thread.

        Raises:
            InvalidInputError, UsageError: a step cannot be injected, as `inject`; then nothing is played.
        """
        for step in script:
            self._check(step.faults)
        performance = Performance(script, lambda step: self.inject(*step.faults))
        with self._changed:
            self._performances.append(performance)
        return performance

    # The record

    @property
    def effects(self) -> list[Effect]:
        """The latest 100,000 faults that took effect, oldest first."""
        with self._changed:
            return list(self._effects)

    @property
    def accepted(self) -> int:
        """How many connections have been accepted in all."""
        with self._changed:
            return self._accepted

    def connections(self) -> list[ProxiedConnection]:
        """The open connections, oldest first; one that a fault is ending is listed until it has ended."""
        with self._changed:
            return [
                ProxiedConnection(link.number, link.is_websocket, link.to_client, link.to_server)
                for link in self._links.values()
            ]

    def wait_for_connections(self, count: int, timeout: float = 5.0) -> bool:
        """Wait until exactly `count` connections are open; returns whether they are.

        Args:
            count: how many.
            timeout: seconds.
        """
        with self._changed:
            return self._changed.wait_for(lambda: len(self._links) == count, timeout)

    # Inside

    def _check(self, faults: tuple[Fault, ...]) -> None:
        if not faults or not all(isinstance(fault, Fault) for fault in faults):
            raise InvalidInputError("give one fault or more, like Cut() or Answer(503)")
        blind = [fault for fault in faults if fault.needs_frames and not self.sees_frames]
        if blind:
            raise UsageError(f"{blind[0]} needs to see inside TLS; give the proxy a certificate, as server_context")

    def _order(self, fault: Fault, connection: int, injection: Injection) -> Order:
        """Create an order. The caller holds the lock."""
        self._orders += 1
        # A string as seed gives the same numbers on every system.
        random = Random(f"{self._seed} {self._orders}")
        return Order(fault, random, partial(self._happened, fault, connection, injection))

    def _happened(self, fault: Fault, connection: int, injection: Injection, note: str) -> None:
        effect = Effect(time.monotonic() - self._made_at, connection, fault, note)
        with self._changed:
            self._effects.append(effect)
        injection._add(effect)

    def _route(self) -> LinkRoute:
        host, port = self._target
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        except OSError as error:
            raise ConfigError(f"the target {host!r} has no address: {error}") from error
        shown = f"[{host}]" if ":" in host else host
        default = PORTS[self._scheme] == port
        return LinkRoute(
            family=family,
            address=(str(address[0]), int(address[1])),
            name=host,
            host=shown if default else f"{shown}:{port}",
            server_context=self._server_context,
            upstream_context=self._upstream_context,
            opaque=not self.sees_frames,
        )

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            listener = socket.create_server((self._host, self._port), family=family, backlog=128)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {self._host}:{self._port}: {error}; choose another port, or 0 for any"
            ) from error
        listener.setblocking(False)
        return listener

    # The accepting thread

    def _accept(self, listener: socket.socket, waiting: socket.socket, route: LinkRoute) -> None:
        with listener, waiting, selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(waiting, selectors.EVENT_READ)
            while True:
                selector.select()
                with self._changed:
                    if self._stopping:
                        return
                try:
                    client, _ = listener.accept()
                except OSError:  # the client has disconnected, or no descriptor is free for now
                    time.sleep(ACCEPT_PAUSE)
                    continue
                self._add(client, route)

    def _add(self, client: socket.socket, route: LinkRoute) -> None:
        with self._changed:
            self._accepted += 1
            number = self._accepted
            orders = []
            if self._armed:
                armed = self._armed[0]
                orders = [self._order(fault, number, armed.injection) for fault in armed.faults]
                if armed.left is not None:
                    armed.left -= 1
                    if not armed.left:
                        self._armed.popleft()
            # Started under the lock: `_ended`, on the link's thread, waits for it, so the link is registered by then.
            link = self._links[number] = Link(number, client, route, orders, self._ended)
            link.start()
            self._changed.notify_all()

    def _ended(self, link: Link) -> None:
        with self._changed:
            del self._links[link.number]
            self._changed.notify_all()


def _parse_target(target: str | tuple[str, int]) -> tuple[str, tuple[str, int], str]:
    """Return the scheme, the address and the path."""
    if not isinstance(target, str):
        host, port = target
        return "tcp", (host, port), ""
    parts = urlsplit(target)
    try:
        port = parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        port = 0
    if parts.scheme not in PORTS or not parts.hostname or not port:
        raise ConfigError(f"the target is {redact(target)!r}; it is a URL like ws://host:port, or a (host, port) pair")
    return parts.scheme, (parts.hostname, port), parts.path.rstrip("/")
