"""One proxied connection: one thread owns both of its sockets and carries out the orders for them.

Orders from other threads come through a queue, followed by a wake-up. Every wait is for the sockets, the wake-up or a
time, and nothing blocks in `recv` or `send`, so an order, above all the one to stop, is carried out at once.
"""

from __future__ import annotations

import contextlib
import errno
import math
import queue
import selectors
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Final

from finx_sync.testing.editor import DAMAGE, Conversation, FrameEditor, WholeFrame, close_frame, http_answer
from finx_sync.testing.faults import (
    Answer,
    BlackHole,
    Close,
    Corrupt,
    Cut,
    Delay,
    Fault,
    Mute,
    Reset,
    Split,
    SwallowHandshake,
    Throttle,
)
from finx_sync.testing.shaper import TrafficShaper

__all__ = ["Link", "LinkRoute", "Order"]

CHUNK: Final = 256 * 1024
"""Bytes read at once."""
PIECES_AT_ONCE: Final = 256
"""Sends in a row before the queue of orders is checked again."""
CONNECT_TIMEOUT: Final = 10.0
"""Seconds to reach the target, and for each TLS handshake."""
LEAVE_GRACE: Final = 1.0
"""Seconds that each side has to answer a FIN or a close frame; closing earlier would turn the FIN into a RST."""

_LINGER_OFF: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


@dataclass(frozen=True)
class LinkRoute:
    """Where connections go.

    Attributes:
        family, address: the target's.
        name: the target's host name, to check its certificate.
        host: what its clients write into the `Host` header.
        server_context: for TLS with clients; None passes bytes on unchanged.
        upstream_context: for TLS with the target; None for plain TCP, or for TLS that is passed on.
        opaque: whether the bytes are TLS that is passed on without being read.
    """

    family: socket.AddressFamily
    address: tuple[str, int]
    name: str
    host: str
    server_context: ssl.SSLContext | None
    upstream_context: ssl.SSLContext | None
    opaque: bool


@dataclass(frozen=True)
class Order:
    """An order to a link.

    Attributes:
        fault: the fault to apply; None cancels all lasting faults.
        random: decides what the fault leaves open.
        happened: called with a note, on the link's thread, each time the fault has taken effect.
    """

    fault: Fault | None
    random: Random
    happened: Callable[[str], None]


class _Over(Exception):  # noqa: N818 - no error
    """Raised to end the connection now."""


class _End:
    """One of the two sockets."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.has_ended = False  # it has sent its last byte
        self.was_reset = False
        self.is_finished = False  # we have sent our last byte
        self.is_blocked = False  # it accepts no more for now
        self.events = 0

    def receive(self) -> bytes | None:
        """Receive the available bytes; b"" at the end of the stream, None if there are none yet."""
        try:
            return self.sock.recv(CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except OSError as error:
            self.was_reset = isinstance(error, ConnectionResetError)
            return b""

    def send(self, data: memoryview) -> int:
        """Send as much as the socket accepts; returns how many bytes that was."""
        try:
            count = self.sock.send(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            count = 0
        self.is_blocked = count == 0
        return count

    def has_unseen(self) -> bool:
        """Whether OpenSSL holds bytes that a selector cannot see."""
        return isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0

    def finish(self) -> None:
        """Send a FIN."""
        if not self.is_finished:
            self.is_finished = True
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self.sock, socket.SHUT_WR)  # SSLSocket's own method drops the TLS state

    def reset(self) -> None:
        """Make `close` send a RST."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)


class Link:
    """Carries one client's connection to the target.

    Any thread may call `order`, `stop` and `join`, and read `is_websocket`, `to_client` and `to_server`. Only the
    link's thread writes those three, each in a single assignment. Everything else is for the link's thread alone.

    Args:
        number: unique within the proxy, from 1.
        client: the connection that was just accepted.
        route: where to connect.
        orders: carried out before the first byte passes.
        ended: called at the end, on the link's thread.
    """

    def __init__(
        self,
        number: int,
        client: socket.socket,
        route: LinkRoute,
        orders: Iterable[Order],
        ended: Callable[[Link], None],
    ) -> None:
        self.number: Final = number
        self._route = route
        self._ended = ended
        self._client = _End(client)
        self._server: _End | None = None
        self._up, self._down = TrafficShaper(), TrafficShaper()
        self._talk = Conversation(route.host, opaque=route.opaque)
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        for order in orders:
            self._orders.put(order)
        self._refusal: Order | None = None  # a fault of the handshake, which takes the server's place
        self._closing: Order | None = None  # a `Close` that waits for the end of a frame
        self._unmutes: list[tuple[float, FrameEditor]] = []
        self._cut_at = math.inf  # when the client's time to answer a close frame is over
        self._leave_by = math.inf  # once finite, nothing is carried: both sides have until then to end
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_writer.setblocking(False)
        self._wake_reader.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self.to_client = self.to_server = 0
        self._thread = threading.Thread(target=self._run, name=f"finx-sync fault proxy link {number}", daemon=True)

    def start(self) -> None:
        """Start the link's thread."""
        self._thread.start()

    def order(self, order: Order) -> None:
        """Have an order carried out at once."""
        # First the order, then the wake-up: the thread discards the wake-ups before it empties the queue, so it
        # cannot go to sleep while an order is waiting.
        self._orders.put(order)
        self._wake()

    def stop(self) -> None:
        """End the connection."""
        self._orders.put(None)
        self._wake()

    def join(self, timeout: float) -> bool:
        """Wait for the thread; returns whether it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def is_websocket(self) -> bool:
        """Whether the server has agreed to a websocket, as far as the proxy can see."""
        return self._talk.is_websocket

    def _wake(self) -> None:
        # A full pipe wakes the thread as well, and a closed one means that the link has ended.
        with contextlib.suppress(OSError):
            self._wake_writer.send(b"!")

    # The link's thread

    def _run(self) -> None:
        try:
            self._selector.register(self._wake_reader, selectors.EVENT_READ)
            self._client.sock.setblocking(False)
            self._client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._obey_all()
            if self._leave_by == math.inf:
                self._begin()
            while True:
                self._carry()
        except _Over:
            pass
        except OSError:
            self._client.reset()  # the target cannot be reached, or a TLS handshake failed
        finally:
            self._selector.close()
            for end in self._ends():
                end.sock.close()
            self._wake_reader.close()
            self._wake_writer.close()
            self._ended(self)

    def _ends(self) -> list[_End]:
        return [self._client] if self._server is None else [self._client, self._server]

    def _begin(self) -> None:
        """Do the TLS handshake with the client, then connect to the target unless a fault takes its place."""
        route = self._route
        if route.server_context is not None:
            self._client.sock = route.server_context.wrap_socket(
                self._client.sock, server_side=True, do_handshake_on_connect=False
            )
            self._agree_on_tls(self._client)
        if self._refusal is not None:
            return
        server = self._server = _End(socket.socket(route.family, socket.SOCK_STREAM))
        server.sock.setblocking(False)
        server.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        deadline = time.monotonic() + CONNECT_TIMEOUT
        if server.sock.connect_ex(route.address) not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
            raise ConnectionError("the target refuses connections")
        self._wait_for(server, selectors.EVENT_WRITE, deadline)
        if server.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise ConnectionError("the target refuses connections")
        if route.upstream_context is not None:
            server.sock = route.upstream_context.wrap_socket(
                server.sock, do_handshake_on_connect=False, server_hostname=route.name
            )
            self._agree_on_tls(server)

    def _agree_on_tls(self, end: _End) -> None:
        assert isinstance(end.sock, ssl.SSLSocket)
        deadline = time.monotonic() + CONNECT_TIMEOUT
        while True:
            try:
                end.sock.do_handshake()
            except ssl.SSLWantReadError:
                self._wait_for(end, selectors.EVENT_READ, deadline)
            except ssl.SSLWantWriteError:
                self._wait_for(end, selectors.EVENT_WRITE, deadline)
            else:
                return

    def _wait_for(self, end: _End, event: int, deadline: float) -> None:
        """Wait for one event of one socket, and carry out orders in the meantime."""
        self._selector.register(end.sock, event)
        try:
            while True:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError("nothing came in time")
                if any(key.fileobj is end.sock for key, _ in self._selector.select(left)):
                    return
                self._obey_all()
                if self._leave_by < math.inf:
                    raise _Over  # cut before there was anything to carry
        finally:
            self._selector.unregister(end.sock)

    # Carrying

    def _carry(self) -> None:
        """Do everything that can be done now, then wait."""
        now = time.monotonic()
        self._obey_all()
        for at, editor in list(self._unmutes):
            if at <= now:
                editor.muted = False
                self._unmutes.remove((at, editor))
        for end in self._ends():
            if self._may_read(end):
                self._read(end, now)
        if self._leave_by == math.inf:
            self._flush(self._down, self._client, now)
            if self._server is not None:
                self._flush(self._up, self._server, now)
            self._look_for_the_end(now)
        if now >= self._leave_by or (self._leave_by < math.inf and all(end.has_ended for end in self._ends())):
            raise _Over
        self._wait(now)

    def _may_read(self, end: _End) -> bool:
        if end.has_ended:
            return False
        shaper = self._up if end is self._client else self._down
        return self._leave_by < math.inf or not shaper.is_full

    def _read(self, end: _End, now: float) -> None:
        data = end.receive()
        if data is None:
            return
        end.has_ended = not data
        if self._leave_by < math.inf:
            return
        if end is self._server:
            self._down.put(self._talk.from_server(data), now)
            return
        through = self._talk.from_client(data)
        if self._server is not None and not self._talk.down.has_ended:
            self._up.put(through, now)
        elif self._refusal is not None and self._talk.has_request:
            self._refuse(now)

    def _refuse(self, now: float) -> None:
        """The client's request is complete: answer it, if that is the fault."""
        order = self._refusal
        assert order is not None
        if isinstance(order.fault, Answer) and not self._talk.down.has_ended:
            fault = order.fault
            self._down.put(http_answer(fault.status, fault.all_headers(), fault.body), now)
            self._talk.down.has_ended = True  # nothing follows it
            order.happened(f"answered {fault.status}")

    def _flush(self, shaper: TrafficShaper, sink: _End, now: float) -> None:
        try:
            for _ in range(PIECES_AT_ONCE):
                piece = shaper.take(now)
                if piece is None:
                    return
                count = sink.send(piece)
                if not count:
                    return
                shaper.sent(count, now)
                if sink is self._client:
                    self.to_client += count
                else:
                    self.to_server += count
        except OSError:
            if sink is self._client:
                raise _Over from None  # the client has disconnected
            # The server has disconnected. What it sent before, and the end itself, are still to be read.
            shaper.drop()
            sink.is_blocked = False

    def _look_for_the_end(self, now: float) -> None:
        client, server = self._client, self._server
        if self._talk.down.has_ended:
            self._say_goodbye(now)
        elif server is None:
            if client.has_ended:
                raise _Over
        else:
            self._pass_ends_on(client, server, now)

    def _say_goodbye(self, now: float) -> None:
        """End after a fault's last bytes to the client; its answer to a close frame comes before the FIN."""
        if self._closing is not None:
            self._closing.happened("")
            self._closing = None
        if self._server is not None:
            self._server.finish()
        if not self._down.is_empty:
            return
        if self._cut_at == math.inf:
            self._cut_at = now + LEAVE_GRACE
        if not self._talk.is_websocket or self._talk.up.has_closed or self._client.has_ended or now >= self._cut_at:
            self._cut(now)

    def _pass_ends_on(self, client: _End, server: _End, now: float) -> None:
        """End on one side what has ended on the other, in the same way, after everything before it has arrived."""
        if client.has_ended:
            if client.was_reset:
                server.reset()
                raise _Over
            if self._down.is_held(now) or self._up.is_held(now):
                raise _Over  # the client has given up during a black hole, so the server need not wait
            if self._up.is_empty:
                server.finish()
        if server.has_ended and self._down.is_empty:
            if server.was_reset:
                client.reset()
                raise _Over
            client.finish()
            if client.has_ended and self._up.is_empty:
                raise _Over

    def _wait(self, now: float) -> None:
        wake_at = min([self._leave_by, self._cut_at, *(at for at, _ in self._unmutes)])
        for end, shaper in zip(self._ends(), (self._down, self._up), strict=False):
            events = selectors.EVENT_READ if self._may_read(end) else 0
            if events and end.has_unseen():
                wake_at = now
            if self._leave_by == math.inf:
                next_at = shaper.next_at(now)
                if next_at is not None and end.is_blocked and next_at <= now:
                    events |= selectors.EVENT_WRITE
                elif next_at is not None:
                    wake_at = min(wake_at, next_at)
            self._watch(end, events)
        timeout = None if wake_at == math.inf else max(0.0, wake_at - time.monotonic())
        self._selector.select(timeout)

    def _watch(self, end: _End, events: int) -> None:
        if events == end.events:
            return
        if not events:
            self._selector.unregister(end.sock)
        elif end.events:
            self._selector.modify(end.sock, events)
        else:
            self._selector.register(end.sock, events)
        end.events = events

    # Orders

    def _obey_all(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake_reader.recv(4096):
                pass
        now = time.monotonic()
        while True:
            try:
                order = self._orders.get_nowait()
            except queue.Empty:
                return
            if order is None:
                raise _Over
            if order.fault is None:
                self._clear(now)
            elif self._leave_by == math.inf:
                self._obey(order, order.fault, now)

    def _obey(self, order: Order, fault: Fault, now: float) -> None:
        if isinstance(fault, (SwallowHandshake, Answer)):
            self._refusal = order
            if isinstance(fault, SwallowHandshake):
                order.happened("")
        elif isinstance(fault, Corrupt):
            self._corrupt(order, fault)
        elif isinstance(fault, Close):
            self._closing = order
            self._down.put(self._talk.close(close_frame(fault.code, fault.reason)), now)
        else:
            order.happened("")
            if isinstance(fault, Cut):
                self._cut(now)
            elif isinstance(fault, Reset):
                for end in self._ends():
                    end.reset()
                raise _Over
            elif isinstance(fault, Mute):
                self._mute(fault, now)
            else:
                self._shape(fault, now)

    def _shape(self, fault: Fault, now: float) -> None:
        assert isinstance(fault, (BlackHole, Delay, Throttle, Split))
        for name, shaper in (("to_client", self._down), ("to_server", self._up)):
            if fault.direction not in ("both", name):
                continue
            if isinstance(fault, Split):
                shaper.split(fault.size, fault.pause, math.inf if fault.count is None else fault.count)
                continue
            until = math.inf if fault.lasting is None else now + fault.lasting
            if isinstance(fault, BlackHole):
                shaper.hold(until)
            elif isinstance(fault, Delay):
                shaper.delay(fault.seconds, until)
            else:
                shaper.throttle(fault.bytes_per_second, until)

    def _corrupt(self, order: Order, fault: Corrupt) -> None:
        def edit(frame: WholeFrame) -> bytes | None:
            changed = DAMAGE[fault.part](frame, order.random)
            if changed is None:
                return None
            order.happened(changed[1])
            return changed[0]

        editor = self._talk.down if fault.direction == "to_client" else self._talk.up
        for _ in range(fault.times):
            editor.edit(edit)

    def _mute(self, fault: Mute, now: float) -> None:
        for name, editor in (("to_client", self._talk.down), ("to_server", self._talk.up)):
            if fault.direction in ("both", name):
                editor.muted = True
                if fault.lasting is not None:
                    self._unmutes.append((now + fault.lasting, editor))

    def _cut(self, now: float) -> None:
        for end in self._ends():
            end.finish()
        self._leave_by, self._cut_at = now + LEAVE_GRACE, math.inf

    def _clear(self, now: float) -> None:
        self._up.clear()
        self._down.clear()
        self._unmutes.clear()
        for editor in (self._talk.up, self._talk.down):
            editor.clear()
        if self._refusal is not None:
            self._cut(now)
