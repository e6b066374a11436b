"""The read loop of one open connection: the io thread's whole life between open and end.

Only the io thread touches the socket, except while a leader reads in its place (`leadership.py`). Other threads queue a
frame in the outbox or set a flag, and then wake it. The loop reads, passes payloads on, answers and sends pings, and
decides when a silent peer is dead. It decodes nothing, and waits for no user code except what `on_payloads` calls.
"""

from __future__ import annotations

import heapq
import os
import socket
import ssl
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from finx_sync import forks
from finx_sync.errors import ConnectionLostError, PeerTimeoutError, ProtocolError
from finx_sync.transport.channel import Channel
from finx_sync.transport.frames import (
    CLOSE,
    MANY_FRAMES,
    PAUSE,
    PING,
    PONG,
    Frame,
    FrameReader,
    Violation,
    close_payload,
    encode_frame,
    parse_close,
)
from finx_sync.transport.leadership import PATIENCE, ReadLeadership
from finx_sync.transport.waker import LONGEST_WAIT, Poller, Waker

__all__ = ["ConnectionEnd", "Heartbeat", "Outbox", "ReadLoop"]

MAX_OUTBOX: Final = 64 * 1024 * 1024
"""Bytes that may wait to be sent. Beyond that the peer has evidently stopped reading, and `put` refuses more."""
MAX_PONG_BACKLOG: Final = 64 * 1024
"""Pings are not answered while this many bytes wait to be sent: a flood of pings must not fill the outbox."""
FAREWELL_TIMEOUT: Final = 1.0
"""Seconds to wait for the peer to end the TCP connection after the close frames."""
Promote = Callable[[ReadLeadership], object]
"""Called on the io thread when another thread may read; whoever calls `ReadLeadership.turn` leads from then on."""
TLS_RECORD: Final = 16 * 1024
"""Bytes of a full TLS record; after a full one, another is probably waiting."""
MAX_RECORDS: Final = 64
"""TLS records read in a row before pings, timers and the outbox get their turn."""


@dataclass(frozen=True)
class ConnectionEnd:
    """How a connection was closed properly.

    Attributes:
        by_peer: whether the peer sent the first close frame.
        payload: the payload of the peer's close frame; b"" if none came.
    """

    by_peer: bool
    payload: bytes = b""


@dataclass(frozen=True)
class Heartbeat:
    """When to ping.

    Attributes:
        interval: seconds between pings; 0 for none.
        timeout: seconds of listening without a pong after which the peer counts as dead; None for never.
        payload: the payload of each ping.
    """

    interval: float = 0.0
    timeout: float | None = None
    payload: bytes = b""


class Outbox:
    """Frames waiting to be sent.

    `put` is for any thread, `put_control` for the thread that reads, the rest for the io thread.

    Why no frame is overlooked: `put` appends first and wakes afterwards, so a frame that comes after `flush` has found
    the queue empty is sent in the round that the wake-up starts.

    Attributes:
        waiting: bytes not sent yet.
    """

    def __init__(self, waker: Waker) -> None:
        self._waker = waker
        # Keeps `waiting` correct, and `put` from appending after the last frame. Never held while sending.
        # Re-entrant, because a signal handler may send on the very thread that holds it.
        self._lock = threading.RLock()
        self._frames: deque[bytes] = deque()
        self._head = memoryview(b"")
        self._ended = False
        self.waiting = 0

    def put(self, frame: bytes) -> None:
        """Queue one encoded frame.

        Raises:
            ConnectionLostError: the connection is closing, or the peer has stopped reading and the outbox is full.
        """
        with self._lock:
            if self._ended:
                raise ConnectionLostError("the connection is closing; nothing more is sent")
            if self.waiting and self.waiting + len(frame) > MAX_OUTBOX:  # a single message may be of any size
                raise ConnectionLostError(
                    f"the peer has left {self.waiting} bytes unread; nothing more is queued for it"
                )
            self._frames.append(frame)
            self.waiting += len(frame)
        self._waker.wake()

    def put_control(self, frame: bytes, *, last: bool = False) -> None:
        """Queue one of the loop's own frames, even if the outbox is full; nothing is queued after the `last` one."""
        with self._lock:
            if not self._ended:
                self._frames.append(frame)
                self.waiting += len(frame)
            self._ended = self._ended or last
        self._waker.wake()  # needed on the io thread too: this round's flush may be over

    def discard(self) -> None:
        """Drop everything that waits, and accept nothing more."""
        with self._lock:
            self._ended = True
            self._frames.clear()
            self._head = memoryview(b"")
            self.waiting = 0

    def flush(self, send: Callable[[memoryview], int]) -> bool:
        """Send as much as the socket accepts; returns whether anything is left."""
        # Without the lock: only this thread takes frames out, others append, and a deque's methods are atomic.
        while True:
            if not self._head:
                if not self._frames:
                    return False
                self._head = memoryview(self._frames.popleft())
            try:
                sent = send(self._head)
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return True
            self._head = self._head[sent:]
            with self._lock:
                self.waiting -= sent


class ReadLoop:
    """Runs one connection until it ends.

    `request_close`, `request_abort`, `pause`, `resume` and the outbox's `put` are for any thread; the rest is for the
    io thread.

    While a leader reads, `_read_as_leader` and the callbacks run on its thread. They share the reader, the flags of the
    closing handshake and the timers with the io thread, which meanwhile only looks at them. Both threads write them
    only while they read, and `ReadLeadership` lets one thread read at a time; the lock that it passes on between them
    also makes one's writes visible to the other.

    Args:
        waker: wakes this loop.
        reader: cuts the stream into frames.
        heartbeat: when to ping.
        on_payloads: called with complete text payloads.
        on_frame: called with every other frame; a ping has been answered by then.
    """

    def __init__(
        self,
        waker: Waker,
        reader: FrameReader,
        heartbeat: Heartbeat,
        on_payloads: Callable[[list[bytes]], None],
        on_frame: Callable[[Frame], None],
    ) -> None:
        self.outbox = Outbox(waker)
        self._waker = waker
        self._reader = reader
        self._heartbeat = heartbeat
        self._on_payloads = on_payloads
        self._on_frame = on_frame
        # Written by any thread, which then wakes the io thread; looked at by the thread that reads. No lock is needed:
        # each is a single assignment, and the waker is cleared before the flags are looked at, so no change is
        # overlooked. Only `pause` wakes nobody: one more read does no harm.
        self._aborted = False
        self._held = False
        self._wanted_close: tuple[bytes, float] | None = None
        # Only for the thread that reads.
        self._closing = False
        self._farewell: ConnectionEnd | ConnectionLostError | None = None
        self._failure: OSError | None = None
        self._give_up_at: float | None = None
        self._pong_left: float | None = None
        self._unseen = False  # whether OpenSSL holds bytes that poll cannot see
        self._timers: list[tuple[float, int, float | None, Callable[[], object]]] = []  # a heap by due time
        self._timer_count = 0
        self._promote: Promote | None = None
        self._leadership: ReadLeadership | None = None
        self._over = False  # whether the leader has read the end of the stream, which shows only once
        forks.watch(self, ReadLoop.forked)

    def forked(self) -> None:
        """In the child of a fork, which may have been made in a callback of this loop: end it and send nothing more."""
        self._aborted = True
        self.outbox = Outbox(self._waker)
        self.outbox.discard()

    def request_close(self, payload: bytes, timeout: float) -> None:
        """Begin the closing handshake; after `timeout` seconds the connection is cut."""
        # Two threads may both see None here: then the later one's code is sent, and the connection closes all the same.
        if self._wanted_close is None:
            self._wanted_close = (payload, timeout)
        self._waker.wake()

    def request_abort(self) -> None:
        """Cut the connection now."""
        self._aborted = True
        self._waker.wake()

    def call_later(self, delay: float, action: Callable[[], object], *, every: float | None = None) -> None:
        """Call `action` on the io thread in `delay` seconds, then every `every` seconds.

        Called on the thread that reads. If that is a leader, the io thread notices at its next look.
        """
        self._timer_count += 1  # keeps actions due at one time in order, so that functions are never compared
        heapq.heappush(self._timers, (time.monotonic() + delay, self._timer_count, every, action))

    def pause(self) -> None:
        """Stop reading: data waits in the kernel and, through TCP's flow control, at the peer."""
        self._held = True

    def resume(self) -> None:
        """Continue reading."""
        self._held = False
        self._waker.wake()

    def hand_over(self, promote: Promote | None) -> None:
        """Let another thread lead the reading; None ends that. Called on the thread that reads now."""
        self._promote = promote

    @property
    def leader(self) -> int | None:
        """The thread that reads in place of the io thread at this moment; None if none does."""
        return self._leadership.leader if self._leadership is not None else None

    def run(self, channel: Channel) -> ConnectionEnd:
        """Serve the connection until it ends.

        Returns:
            How it was closed.

        Raises:
            PeerTimeoutError: the peer answered no ping in time.
            ProtocolError: the peer broke the websocket protocol.
            ConnectionLostError: it ended without a closing handshake.
        """
        try:
            if self._heartbeat.interval:
                self.call_later(self._heartbeat.interval, self._ping, every=self._heartbeat.interval)
            rest = channel.take_rest()
            while rest and self._farewell is None:
                space = self._reader.space()
                count = min(len(space), len(rest))
                space[:count] = rest[:count]
                rest = rest[count:]
                self._take_in(count)
            return self._serve(channel.sock)
        finally:
            channel.close()

    def _serve(self, sock: socket.socket) -> ConnectionEnd:
        poller = Poller(sock, self._waker)
        monotonic, send, flush = time.monotonic, sock.send, self._flush
        receive = self._receive_tls if isinstance(sock, ssl.SSLSocket) else self._receive
        while not self._aborted:
            before = monotonic()
            deadline = self._run_timers(before)
            pending = flush(send)
            if self._give_up_at is not None:
                if before >= self._give_up_at:
                    return self._ended()
                deadline = self._give_up_at
            if not pending and self._only_reads():
                if not self._read_on(sock, poller, receive):
                    return self._ended()
                continue
            held = self._held and not self._closing  # while closing, read in any case: the peer's close frame must come
            if self._unseen and not held:
                timeout: float | None = 0.0
            else:
                timeout = None if deadline is None else deadline - before
            readable, _ = poller.wait(read=not held, write=pending, timeout=timeout)
            # Only time spent listening counts, and only when nothing has come is the peer declared dead: neither a slow
            # handler nor a paused reader can make a living peer look dead. A peer that still sends but no longer
            # receives does not look alive either, since only a pong stops the clock.
            if self._pong_left is not None and not held:
                self._pong_left -= monotonic() - before
            if readable or (self._unseen and not held):
                if not receive(sock):
                    return self._ended()
            elif self._pong_left is not None and self._pong_left <= 0 and not held:
                raise PeerTimeoutError(
                    f"the peer answered no ping for {self._heartbeat.timeout:g} s; the connection is dead"
                )
        return self._farewell if isinstance(self._farewell, ConnectionEnd) else ConnectionEnd(by_peer=False)

    def _only_reads(self) -> bool:
        """Whether there is nothing to do but read, until a wake-up or a timer."""
        ending = self._give_up_at is not None  # set as soon as the connection begins to close
        return not (ending or self._held or self._unseen or self._pong_left is not None)

    def _read_on(self, sock: socket.socket, poller: Poller, receive: Callable[[socket.socket], bool]) -> bool:
        """Read until there is anything else to do; returns False at the end of the stream.

        This is by far the most common case, and a message's latency is spent here, so each turn is short.
        """
        monotonic, timers, data_comes = time.monotonic, self._timers, poller.wait_for_data
        while self._only_reads():
            left = timers[0][0] - monotonic() if timers else LONGEST_WAIT
            if left <= 0:
                return True
            readable, woken = data_comes(left)
            if woken or not readable:
                return True
            if not receive(sock):
                return False
            if self._promote is not None:
                self._stand_by(sock, poller, receive)
                return not self._over
        return True

    def _stand_by(self, sock: socket.socket, poller: Poller, receive: Callable[[socket.socket], bool]) -> None:
        """Let another thread lead until there is anything else to do, or until it stops reading."""
        promote = self._promote
        if promote is None or not self._may_hand_over():
            self._promote = None
            return
        if self._leadership is None:
            self._leadership = ReadLeadership(sock, self._waker, _weakly(self._read_as_leader, sock))
        leadership = self._leadership
        leadership.begin()
        try:
            promote(leadership)
            # From here to `end` the leader may be reading: look at flags and timers, and touch nothing else. Its
            # callbacks may add timers meanwhile, but never remove one, so the first entry is always there to look at.
            while self._may_hand_over() and leadership.is_used:
                left = self._timers[0][0] - time.monotonic() if self._timers else LONGEST_WAIT
                if left <= 0 or poller.wait_for_wake(min(left, PATIENCE)):
                    break
        finally:
            leadership.end()  # the leader has left when this returns: `_over` and the reader are safe to use again
            self._promote = None

    def _read_as_leader(self, sock: socket.socket) -> bool:
        """Read once, on the leader's thread; returns whether the leader may go on."""
        receive = self._receive_tls if isinstance(sock, ssl.SSLSocket) else self._receive
        self._over = not receive(sock)
        return not self._over and self._may_hand_over()

    def _may_hand_over(self) -> bool:
        """Whether another thread wants to lead, and there is nothing to do but read. Either thread."""
        ending = self._give_up_at is not None or self._aborted
        return not (ending or self._promote is None or self._held or self._unseen or self._pong_left is not None)

    def _flush(self, send: Callable[[memoryview], int]) -> bool:
        """Send as much as the socket accepts; returns whether anything is left."""
        try:
            return self.outbox.flush(send)
        except OSError as error:
            # The peer is gone, but what it sent before, such as its close frame, can still be read.
            self._failure = error
            self.outbox.discard()
            self._give_up_within(FAREWELL_TIMEOUT)
            return False

    def _receive(self, sock: socket.socket) -> bool:
        """Read once; returns False at the end of the stream."""
        try:
            count = sock.recv_into(self._reader.space())
        except BlockingIOError:
            return True
        except OSError as error:
            self._failure = error
            return False
        if count:
            self._take_in(count)
        return count > 0

    def _receive_tls(self, sock: socket.socket) -> bool:
        """Read as many records as are there and fit, and take them in together.

        OpenSSL returns one record at a time; taking in each by itself would cost more than decrypting it.
        """
        assert isinstance(sock, ssl.SSLSocket)
        space = self._reader.space()
        filled, alive = 0, True
        try:
            while alive:
                count = sock.recv_into(space[filled:])
                alive = count > 0
                filled += count
                # Poll cannot see what OpenSSL has already taken from the kernel.
                self._unseen = sock.pending() > 0
                if (not self._unseen and count < TLS_RECORD) or len(space) - filled < TLS_RECORD:
                    break
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._unseen = False
        except OSError as error:
            alive = False
            if not isinstance(error, ssl.SSLEOFError):  # an end without close_notify is treated like any other end
                self._failure = error
        if filled:
            self._take_in(filled)
        return alive

    def _take_in(self, count: int) -> None:
        """Pass on everything that is complete in the reader after `count` more bytes."""
        if self._farewell is None:  # afterwards only the end of the stream matters
            self._reader.received(count)
        number = 0
        while self._farewell is None:
            number += 1
            payloads, event = self._reader.cut()
            if payloads and not self._closing and self._wanted_close is None:
                self._on_payloads(payloads)
            if event is None:
                return
            if isinstance(event, Violation):
                self._fail(event)
            elif event is not PAUSE:
                self._control(event)
            if (event is PAUSE or number % MANY_FRAMES == 0) and (self._aborted or self._wanted_close is not None):
                return  # one read can hold a flood of frames, and stop() must not wait until all are handled

    def _control(self, frame: Frame) -> None:
        if frame.opcode == CLOSE:
            self._peer_closes(frame.data)
            return
        if frame.opcode == PONG:
            self._pong_left = None
        elif frame.opcode == PING and not self._closing and self.outbox.waiting < MAX_PONG_BACKLOG:
            self._send(PONG, frame.data)
        if not self._closing and self._wanted_close is None:
            self._on_frame(frame)

    def _peer_closes(self, payload: bytes) -> None:
        if not self._closing:
            code, _ = parse_close(payload)
            self._send(CLOSE, close_payload(code))
        self._say_farewell(ConnectionEnd(by_peer=not self._closing, payload=payload))

    def _fail(self, violation: Violation) -> None:
        if not self._closing:
            self._send(CLOSE, close_payload(violation.code, violation.reason))
        self._say_farewell(
            ProtocolError(
                f"the peer broke the websocket protocol: {violation.reason}; closed with {violation.code}",
                violation.code,
                violation.reason,
            )
        )

    def _say_farewell(self, outcome: ConnectionEnd | ConnectionLostError) -> None:
        """Ignore everything but the end of the stream; the peer gets a moment to end the TCP connection first."""
        self._farewell = outcome
        self._closing = True
        self._pong_left = None  # the outcome is known, so a missing pong must not replace it
        self._give_up_within(FAREWELL_TIMEOUT)

    def _give_up_within(self, seconds: float) -> None:
        """Cut the connection after this time, unless it is to be cut earlier already."""
        limit = time.monotonic() + seconds
        self._give_up_at = limit if self._give_up_at is None else min(limit, self._give_up_at)

    def _ended(self) -> ConnectionEnd:
        outcome = self._farewell
        if isinstance(outcome, ConnectionEnd):
            return outcome
        if outcome is not None:
            raise outcome
        if self._closing:
            return ConnectionEnd(by_peer=False)
        if self._failure is not None:
            raise ConnectionLostError(f"the connection was lost: {self._failure}") from self._failure
        raise ConnectionLostError("the peer ended the connection without a close frame")

    def _run_timers(self, now: float) -> float | None:
        """Do what is due; returns when to look again, on the monotonic clock, or None."""
        if self._wanted_close is not None and not self._closing:
            payload, timeout = self._wanted_close
            self._closing = True
            self._pong_left = None
            self._give_up_within(timeout)
            self._send(CLOSE, payload)
        if self._give_up_at is not None:
            return self._give_up_at
        while self._timers and self._timers[0][0] <= now:
            due, number, every, action = heapq.heappop(self._timers)
            if every is not None:
                heapq.heappush(self._timers, (max(due + every, now), number, every, action))
            action()
        deadline = self._timers[0][0] if self._timers else None
        if self._pong_left is not None and not self._held:
            judged_at = now + self._pong_left
            deadline = judged_at if deadline is None else min(deadline, judged_at)
        return deadline

    def _ping(self) -> None:
        self._send(PING, self._heartbeat.payload)
        if self._pong_left is None:
            self._pong_left = self._heartbeat.timeout

    def _send(self, opcode: int, payload: bytes) -> None:
        self.outbox.put_control(encode_frame(opcode, payload, os.urandom(4)), last=opcode == CLOSE)


def _weakly(read: Callable[[socket.socket], bool], sock: socket.socket) -> Callable[[], bool]:
    """What the leader calls. It holds the loop weakly, so a leader does not keep alive a loop that nobody else uses."""
    method = weakref.WeakMethod(read)

    def read_if_alive() -> bool:
        alive = method()
        return alive is not None and alive(sock)

    return read_if_alive
