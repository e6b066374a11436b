"""One websocket of the sandbox: a reader, a bounded queue with a writer, streams driven by timers, an orderly close.

Everything here runs on the sandbox's event loop; other threads use `hub`. Only the handler task
(`ClientConnection.run`) closes the websocket, after the reader has stopped: aiohttp skips the closing handshake if
another task closes during a receive.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from aiohttp import WSMsgType, web

__all__ = ["BACKLOG_LIMIT", "CLOSE_TIMEOUT", "ClientConnection", "Limits", "ServerSession"]

logger = logging.getLogger("finx_sync.sandbox")

BACKLOG_LIMIT: Final = 8 * 1024 * 1024
"""The number of characters that may be queued for a client that does not read, in addition to the kernel's buffers."""

CLOSE_TIMEOUT: Final = 0.5
"""Seconds within which a client has to answer a close frame."""

ROOM_TIMEOUT: Final = 1.0
"""Seconds that published messages wait for a client to read before it counts as a slow consumer."""

_LINGER_OFF: Final = struct.pack("ii", 1, 0)


class ServerSession(Protocol):
    """A venue's side of one connection."""

    def opened(self) -> None:
        """Begin the session, before the first message."""

    def received(self, text: str) -> None:
        """Handle a text message."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a connection.

    Attributes:
        idle_timeout: seconds without a message from the client after which it is closed; protocol pings do not count
            (FinX docs: the socket closes after five minutes unless a message is sent). Infinite for venues without
            such a limit.
        backlog: the number of characters that may be queued.
    """

    idle_timeout: float
    backlog: int = BACKLOG_LIMIT


class _Outgoing(NamedTuple):
    text: str
    name: str | None
    numbered: bool


class _Stream:
    """One subscription, with a timer that fires at multiples of the interval, so that it does not drift."""

    __slots__ = ("emit", "interval", "next_at", "paused", "timer")

    def __init__(self, interval: float, emit: Callable[[], None]) -> None:
        self.interval = interval
        self.emit = emit
        self.next_at = 0.0
        self.paused = False
        self.timer: asyncio.TimerHandle | None = None


class ClientConnection:
    """An accepted websocket; every method runs on the event loop's thread.

    Args:
        number: the connection's id, unique within the sandbox, from 1.
        path: the path for display, without the key.
        websocket: the prepared response.
        transport: the transport of the same request.
        limits: the limits of this connection.
        written: called for each message passed to the transport, with its name or None, and whether it was numbered.
    """

    def __init__(
        self,
        number: int,
        path: str,
        *,
        websocket: web.WebSocketResponse,
        transport: asyncio.Transport,
        limits: Limits,
        written: Callable[[str | None, bool], None],
    ) -> None:
        self.number: Final = number
        self.path: Final = path
        self._websocket = websocket
        self._transport = transport
        self._limits = limits
        self._written = written
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Outgoing] = deque()
        self._backlog = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._end: asyncio.Future[tuple[int, str]] = self._loop.create_future()
        self._streams: dict[str, _Stream] = {}
        self._joined: dict[str, None] = {}
        self._last_heard = self._loop.time()
        self._idle_timer: asyncio.TimerHandle | None = None
        self.gone: Final = asyncio.Event()

    # called by sessions

    def send(self, text: str, name: str | None = None, *, numbered: bool = False) -> None:
        """Queue a message; if the queue is full, close the connection with 1013 instead.

        Args:
            text: the message.
            name: the stream that it belongs to, for the record of sent messages.
            numbered: whether the message carries a sequence number.
        """
        if self._end.done():
            return
        self._queue.append(_Outgoing(text, name, numbered))
        self._backlog += len(text)
        self._wake.set()
        if self._backlog > self._limits.backlog // 2:
            self._room.clear()
        if self._backlog > self._limits.backlog:
            self.end(1013, "slow consumer")

    async def send_when_room(self, text: str, name: str) -> None:
        """Queue a message like `send`, but first give a client that is behind `ROOM_TIMEOUT` seconds to read."""
        if not self._room.is_set() and not self._end.done():
            try:
                await asyncio.wait_for(self._room.wait(), ROOM_TIMEOUT)
            except asyncio.TimeoutError:
                self.end(1013, "slow consumer")
        self.send(text, name)

    def subscribe(self, name: str, interval: float, emit: Callable[[], None], delay: float = 0.0) -> None:
        """Call `emit` after `delay` seconds and then every `interval`; does nothing if the name is streamed already."""
        if name in self._streams or self._end.done():
            return
        stream = self._streams[name] = _Stream(interval, emit)
        if delay > 0:
            self._arm(stream, self._loop.time() + delay)
        else:
            stream.next_at = self._loop.time()
            self._tick(stream)

    def postpone(self, name: str) -> None:
        """Send the next message of a stream one interval from now, unless the stream is paused."""
        stream = self._streams.get(name)
        if stream is not None and not self._end.done():
            self._arm(stream, self._loop.time() + stream.interval)

    def pause(self, name: str) -> None:
        """Stop the timer of a stream, which stays subscribed."""
        stream = self._streams.get(name)
        if stream is not None:
            stream.paused = True
            if stream.timer is not None:
                stream.timer.cancel()

    def join(self, name: str) -> None:
        """Add a subscription without a timer, whose messages the venue itself sends."""
        self._joined[name] = None

    def leave(self, name: str) -> None:
        """Stop streaming a name."""
        self._joined.pop(name, None)
        self.pause(name)
        self._streams.pop(name, None)

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """The names streamed on this connection, in the order of subscription."""
        return (*self._streams, *self._joined)

    def finish(self, code: int, reason: str) -> None:
        """Close the connection after all queued messages have been written."""
        self._stop(code, reason)

    def end(self, code: int, reason: str) -> None:
        """Close the connection at once; queued messages are dropped."""
        self._queue.clear()
        self._backlog = 0
        self._stop(code, reason)

    def abort(self) -> None:
        """Reset the TCP connection, without a close frame."""
        self.end(1006, "")
        sock = self._transport.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            # With a linger time of zero, the kernel sends RST instead of FIN.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
        self._transport.abort()

    # lifecycle

    async def run(self, session: ServerSession) -> None:
        """Serve the connection until either side ends it."""
        reader = self._loop.create_task(self._read(session))
        writer = self._loop.create_task(self._write())
        self._watch_idle()
        try:
            session.opened()
            either: set[asyncio.Future[Any]] = {reader, self._end}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # The client may have closed the connection itself. From here on, nothing is queued.
            self._stop(1000, "")
            reader.cancel()
            (failure,) = await asyncio.gather(reader, return_exceptions=True)
            await self._drain(writer)
            if isinstance(failure, Exception):
                logger.error("the sandbox failed to handle a client's message", exc_info=failure)
                await self._close(1011, "internal error")
            else:
                await self._close(*self._end.result())
            self.gone.set()

    async def _read(self, session: ServerSession) -> None:
        async for message in self._websocket:
            if self._end.done():
                return
            self._last_heard = self._loop.time()
            if message.type is WSMsgType.TEXT:
                session.received(message.data)
            elif message.type is WSMsgType.BINARY:
                self.finish(1003, "text messages only")

    async def _write(self) -> None:
        while self._queue or not self._end.done():
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
                continue
            outgoing = self._queue.popleft()
            self._backlog -= len(outgoing.text)
            try:
                await self._websocket.send_str(outgoing.text)
            except (ConnectionError, RuntimeError):
                # The connection is lost, or the peer sent a close frame; the reader notices both.
                return
            except asyncio.CancelledError:
                # Only the wait for the peer to read was cancelled: the transport already has the frame.
                self._written(outgoing.name, outgoing.numbered)
                raise
            self._written(outgoing.name, outgoing.numbered)
            if self._backlog <= self._limits.backlog // 2:
                self._room.set()

    def _stop(self, code: int, reason: str) -> None:
        if self._end.done():
            return
        self._end.set_result((code, reason))
        for stream in self._streams.values():
            if stream.timer is not None:
                stream.timer.cancel()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._wake.set()
        self._room.set()

    async def _drain(self, writer: asyncio.Task[None]) -> None:
        """Let the writer empty the queue, for at most `CLOSE_TIMEOUT` seconds."""
        await asyncio.wait({writer}, timeout=CLOSE_TIMEOUT if self._queue else 0)
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)

    async def _close(self, code: int, reason: str) -> None:
        if code == 1006:
            return
        try:
            # If a client does not read, not even the close frame can be sent.
            await asyncio.wait_for(self._websocket.close(code=code, message=reason.encode()), CLOSE_TIMEOUT)
        except asyncio.TimeoutError:
            self._transport.abort()

    # timers

    def _tick(self, stream: _Stream) -> None:
        stream.emit()
        if not self._end.done():
            # After a stall the timer restarts from now: a burst of late messages would be unrealistic.
            self._arm(stream, max(stream.next_at + stream.interval, self._loop.time()))

    def _arm(self, stream: _Stream, at: float) -> None:
        if stream.timer is not None:
            stream.timer.cancel()
        if stream.paused:
            return
        stream.next_at = at
        stream.timer = self._loop.call_at(at, self._tick, stream)

    def _watch_idle(self) -> None:
        if self._limits.idle_timeout == math.inf:
            return
        due = self._last_heard + self._limits.idle_timeout
        if self._loop.time() >= due:
            self.end(1001, f"no message for {self._limits.idle_timeout:g} s")
        else:
            self._idle_timer = self._loop.call_at(due, self._watch_idle)
