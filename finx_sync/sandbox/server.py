"""The sandbox's server: a socket, a thread, an event loop, and what tests may ask of them.

Two threads meet here: the caller's and the one named "finx-sync sandbox". The caller's binds the port, so a taken one
raises where it can be caught, and afterwards only hands coroutines to the loop and waits for their result. Everything
on a socket happens on the loop. Venues are
those of the registry, each with its paths, all from the same market.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, TypeVar

from aiohttp import web

from finx_sync.errors import ConfigError, FinxSyncError, InvalidInputError, StreamTimeoutError, UsageError
from finx_sync.sandbox.connection import BACKLOG_LIMIT, Limits
from finx_sync.sandbox.history import PriceHistory
from finx_sync.sandbox.host import SandboxHost, SandboxVenue, dumps
from finx_sync.sandbox.hub import ConnectionInfo, Hub
from finx_sync.sandbox.market import Market
from finx_sync.venues.registry import find, load_all

__all__ = ["Sandbox"]

logger = logging.getLogger("finx_sync.sandbox")

THREAD_NAME: Final = "finx-sync sandbox"
CALL_TIMEOUT: Final = 10.0
"""Seconds for the loop to do what a test asks of it."""
MAX_PORT: Final = 65_535
ACCEPT_BACKLOG: Final = 512
_T = TypeVar("_T")


class Sandbox:
    """A local market-data server, HTTP and WebSocket on one port, that speaks the protocols of all venues.

    Args:
        host: address to listen on.
        port: 0 takes a free one. A sandbox that is started again takes the same port again.
        seed: equal seeds give equal prices and history.
        keys: accepted keys.
        secret: what every key signs with, on the venues that want signatures.
        robots: let a robot trade on each account, so that private streams have something to show.
        redis_url: where IME's data is published, a Pub/Sub channel for each contract; None for inside the process.
        numbered: add a running ``seq`` to each streamed message, per connection and name, from 1, and the
            ``connection`` itself, by its id.
        contract_interval: seconds between two messages of a contract stream.
        spot_interval: seconds between two messages of a spot stream.
        exchange_interval: seconds between two steps of the exchanges' tables.
        idle_timeout: seconds after which a connection is closed whose client sent no message (FinX docs: five minutes).
        ssl_context: for ``wss`` and ``https``.
        backlog_limit: characters that may wait for a client that does not read, before it is closed with 1013.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        *,
        # where
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        # what
        seed: int = 20220805,
        keys: Iterable[str] = ("sandbox-key",),
        secret: str = "sandbox-secret",  # noqa: S107 - everybody's
        robots: bool = True,
        redis_url: str | None = None,
        numbered: bool = False,
        # pace, seconds
        contract_interval: float = 0.1,
        spot_interval: float = 0.1,
        exchange_interval: float = 0.1,
        idle_timeout: float = 300.0,
        # limits
        backlog_limit: int = BACKLOG_LIMIT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        for name, value in (
            ("contract_interval", contract_interval),
            ("spot_interval", spot_interval),
            ("exchange_interval", exchange_interval),
            ("idle_timeout", idle_timeout),
        ):
            if not value > 0:
                raise ConfigError(f"{name} is {value!r}; it must be above 0 seconds")
        if not 0 <= port <= MAX_PORT:
            raise ConfigError(f"port is {port!r}; it must be 0 to {MAX_PORT}")
        self._host = host
        self._port = port
        self._ssl_context = ssl_context
        self._keys = _checked_keys(keys)
        self._clock = clock
        self._market = Market(seed)
        self._history = PriceHistory(seed, self._market.path)
        self._hub = Hub(Limits(idle_timeout, backlog_limit))
        self._secret = secret
        services = SandboxHost(
            hub=self._hub,
            market=self._market,
            history=self._history,
            now=self._now,
            accepts=self._accepts,
            secret_of=self._secret_of,
            contract_interval=contract_interval,
            spot_interval=spot_interval,
            exchange_interval=exchange_interval,
            robots=robots,
            numbered=numbered,
            redis_url=redis_url,
            call=self._call,
        )
        self._venues = _venues(services)
        # Guards the fields below against two threads that start or stop at once; never held while waiting for the loop.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def __repr__(self) -> str:
        """Tell the address and whether it runs; never the keys."""
        state = "running" if self.is_running else "stopped"
        return f"<Sandbox {self._host}:{self._port} {state}>"

    # life

    def start(self, timeout: float = 10.0) -> Sandbox:
        """Listen; return when clients can connect.

        Args:
            timeout: seconds.

        Raises:
            ConfigError: the address cannot be listened on, most often because the port is taken.
            StreamTimeoutError: it took longer than `timeout`.
            UsageError: it runs already.
        """
        with self._lock:
            if self._thread is not None:
                raise UsageError("the sandbox runs already")
            listener = self._listen()
            ready: concurrent.futures.Future[None] = concurrent.futures.Future()
            thread = threading.Thread(target=self._run, args=(listener, ready), name=THREAD_NAME, daemon=True)
            self._thread = thread
            thread.start()
        try:
            ready.result(timeout)
        except concurrent.futures.TimeoutError:
            self.stop()
            raise StreamTimeoutError(f"the sandbox did not start within {timeout:g} s") from None
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, timeout: float = 5.0) -> None:
        """End every connection, free the port and join the thread; does nothing when stopped already.

        Args:
            timeout: seconds.

        Raises:
            StreamTimeoutError: the thread is still alive after `timeout`.
        """
        with self._lock:
            thread, loop, stopping = self._thread, self._loop, self._stopping
        if thread is None:
            return
        if loop is not None and stopping is not None:
            # A RuntimeError says that the loop closed by itself just now; then the join below is short.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stopping.set)
        thread.join(timeout)
        if thread.is_alive():
            raise StreamTimeoutError(f"the sandbox did not stop within {timeout:g} s")
        with self._lock:
            # Another thread may have stopped and started it meanwhile.
            if self._thread is thread:
                self._thread = None

    def serve_forever(self) -> None:
        """Start if need be, and block until Ctrl+C or until another thread stops it."""
        if not self.is_running:
            self.start()
        with self._lock:
            thread = self._thread
        try:
            while thread is not None and thread.is_alive():
                # A join without a timeout cannot be interrupted on Windows.
                thread.join(1.0)
        except KeyboardInterrupt:
            pass
        finally:
            self.stop()

    def __enter__(self) -> Sandbox:
        """Start unless it runs already."""
        return self if self.is_running else self.start()

    def __exit__(self, *exc: object) -> None:
        """Stop."""
        self.stop()

    @property
    def is_running(self) -> bool:
        """Whether clients can connect."""
        with self._lock:
            return self._thread is not None and self._thread.is_alive()

    @property
    def url(self) -> str:
        """``ws://127.0.0.1:PORT``, or ``wss://`` with an `ssl_context`; without a slash at its end."""
        return self._url("wss" if self._ssl_context else "ws")

    @property
    def http_url(self) -> str:
        """``http://127.0.0.1:PORT``, or ``https://`` with an `ssl_context`; without a slash at its end."""
        return self._url("https" if self._ssl_context else "http")

    # for tests

    def set_keys(self, *keys: str) -> None:
        """Accept these keys from now on and no others, as FinX does every 24 hours.

        Open connections feel it at their next message.
        """
        self._keys = _checked_keys(keys)

    def connections(self) -> list[ConnectionInfo]:
        """Return the open websockets, oldest first."""
        return self._hub.snapshot()

    @property
    def requests(self) -> list[tuple[int, Any]]:
        """The latest 10,000 messages, oldest first, as (connection id, parsed message), the key replaced by ``***``."""
        return self._hub.requests()

    def sent_count(self, name: str, connection: int | None = None) -> int:
        """Return how many messages of a stream were written: on one connection, or on all there ever were.

        "Written" is handed to the operating system or about to be; what a reset connection still held is counted as
        well.
        """
        return self._hub.sent_count(name, connection)

    def sent_numbers(self, name: str, connection: int) -> range:
        """Return the running numbers written on a connection for a name; published messages have none."""
        return range(1, self._hub.numbered_count(name, connection) + 1)

    def sent_at(self, name: str, connection: int) -> list[float]:
        """Return when each running number was written, seconds since 1970, in the order of the numbers."""
        return self._hub.numbered_at(name, connection)

    def numbered_connections(self) -> list[int]:
        """Return the ids of the connections whose numbers are known, also of closed ones, oldest first."""
        return self._hub.numbered_connections()

    def wait_for_subscribers(self, name: str, count: int = 1, timeout: float = 5.0) -> bool:
        """Wait until at least `count` open connections stream `name`; return whether they do."""
        return self._hub.wait_for_subscribers(name, count, timeout)

    def wait_for_connections(self, count: int, timeout: float = 5.0) -> bool:
        """Wait until exactly `count` websockets are open; return whether they are."""
        return self._hub.wait_for_connections(count, timeout)

    def publish(self, name: str, fields: dict[str, Any]) -> int:
        """Send a message, exactly these fields, on every connection that streams `name`.

        Returns:
            How many connections that were.
        """
        return self.publish_raw(name, dumps(fields))

    def publish_raw(self, name: str, *texts: str) -> int:
        """Send texts, whatever they are, in this order on every connection that streams `name`.

        Waits for clients that are behind, for a second; then they are slow consumers and closed with 1013.

        Returns:
            How many connections stream `name`.
        """
        return self._call(self._hub.publish(name, texts), timeout=None)

    def controls(self, venue: str) -> Any:
        """What a venue's half lets tests do, like ``sandbox.controls("bitmex").place("XBTUSD", "buy", 100)``.

        Raises:
            ConfigError: there is no such venue, or it has no half in the sandbox.
        """
        if venue not in self._venues:
            find(venue)  # says why, where it cannot be imported
            raise ConfigError(f"the venue {venue!r} has no half in the sandbox")
        return self._venues[venue].controls

    def disconnect_all(self, code: int = 1001, reason: str = "") -> int:
        """Close every websocket and wait until they are gone; return how many there were."""
        return self._call(self._hub.end_all(code, reason))

    def abort_all(self) -> int:
        """Reset every websocket's TCP connection, without a close frame; return how many there were."""
        return self._call(self._hub.abort_all())

    # the caller's thread

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            listener = socket.create_server((self._host, self._port), family=family, backlog=ACCEPT_BACKLOG)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {self._host}:{self._port}: {error}; choose another port, or 0 for any"
            ) from error
        self._port = listener.getsockname()[1]
        return listener

    def _url(self, scheme: str) -> str:
        if self._port == 0:
            raise UsageError("the sandbox has no port yet; call start()")
        # A wildcard is no address to connect to.
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104 - compared
        return f"{scheme}://[{host}]:{self._port}" if ":" in host else f"{scheme}://{host}:{self._port}"

    def _call(self, work: Coroutine[Any, Any, _T], timeout: float | None = CALL_TIMEOUT) -> _T:
        with self._lock:
            if self._loop is None:
                work.close()
                raise UsageError("the sandbox is not running; call start()")
            pending = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return pending.result(timeout)
        except concurrent.futures.CancelledError:
            raise UsageError("the sandbox was stopped meanwhile") from None
        except concurrent.futures.TimeoutError:
            pending.cancel()
            raise StreamTimeoutError(f"the sandbox did not answer within {timeout} s") from None

    # the sandbox's thread

    def _run(self, listener: socket.socket, ready: concurrent.futures.Future[None]) -> None:
        try:
            asyncio.run(self._serve(listener, ready))
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)
        finally:
            listener.close()

    async def _serve(self, listener: socket.socket, ready: concurrent.futures.Future[None]) -> None:
        stopping = asyncio.Event()
        with self._lock:
            self._loop, self._stopping = asyncio.get_running_loop(), stopping
        # Connections are ended below, before the clean-up: its own patience is for plain HTTP requests only.
        runner = web.AppRunner(self._application(), access_log=None, handle_signals=False, shutdown_timeout=0.5)
        await runner.setup()
        try:
            site = web.SockSite(runner, listener, ssl_context=self._ssl_context, backlog=ACCEPT_BACKLOG)
            await site.start()
            ready.set_result(None)
            await stopping.wait()
            await site.stop()
            await self._hub.end_all(1001, "going away")
        finally:
            # A closing loop takes calls in and never runs them. Take no more, and let those already taken begin, so
            # that the end of `asyncio.run` cancels them and nobody waits for ever.
            with self._lock:
                self._loop = self._stopping = None
            await asyncio.sleep(0)
            await runner.cleanup()

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[_forget_the_departed])
        for venue in self._venues.values():
            venue.add_to(app)
        return app

    def _secret_of(self, key: str) -> str | None:
        return self._secret if self._accepts(key) else None

    def _accepts(self, key: str) -> bool:
        return key in self._keys

    def _now(self) -> int:
        return int(self._clock() * 1000)


@web.middleware
async def _forget_the_departed(request: web.Request, handler: Callable[..., Any]) -> web.StreamResponse:
    """Keep a client that left during the upgrade out of the error log: whoever tests connecting does that all day."""
    try:
        response: web.StreamResponse = await handler(request)
    except ConnectionError:
        return web.Response()
    return response


def _venues(host: SandboxHost) -> dict[str, SandboxVenue]:
    """The halves of all venues; one that cannot be made is a warning, so that it disturbs no other."""
    made: dict[str, SandboxVenue] = {}
    for venue in load_all(lambda error: logger.warning("the sandbox goes without a venue: %s", error)):
        try:
            if venue.sandbox is not None:
                made[venue.name] = venue.sandbox(host)
        except FinxSyncError:  # a setting that cannot be right, which the caller can change
            raise
        except Exception:  # whatever a package's code raises
            logger.exception("the sandbox goes without the venue %s, whose half of it failed", venue.name)
    return made


def _checked_keys(keys: Iterable[str]) -> frozenset[str]:
    if isinstance(keys, str):
        raise InvalidInputError("keys must be a list or tuple of texts, not one text")
    return frozenset(keys)
