"""Waking a thread that waits on a socket, and waiting on a socket in a way that can be ended."""

from __future__ import annotations

import contextlib
import select
import socket
from typing import Final

from finx_sync import forks

__all__ = ["LONGEST_WAIT", "Poller", "Waker"]

LONGEST_WAIT: Final = 1.0
"""Seconds. A signal that comes just before the system call does not end it, and Ctrl+C must not wait for a message."""


class Waker:
    """A self-pipe: `wake`, called from any thread, ends the owner's wait.

    Call `wake` after appending to a queue, and `clear` before reading the queue: then nothing appended is overlooked.
    """

    def __init__(self, pair: tuple[socket.socket, socket.socket] | None = None) -> None:
        self._reader, self._writer = pair or socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._pending = False
        forks.watch(self, Waker.forked)

    def opposite(self) -> Waker:
        """A waker in the other direction, over the same descriptors; only this one closes them."""
        return Waker((self._writer, self._reader))

    def fileno(self) -> int:
        """The descriptor that is readable while a wake is pending."""
        return self._reader.fileno()

    def wake(self) -> None:
        """End the owner's current or next wait. Any thread; never blocks; harmless after `close`."""
        # No lock: two threads that both see False send two bytes, and `clear` takes both.
        if self._pending:
            return
        self._pending = True
        with contextlib.suppress(OSError):  # closed in the meantime: nobody waits any more
            self._writer.send(b"\0")

    def clear(self) -> None:
        """Consume the pending wake-ups. The owner only."""
        with contextlib.suppress(BlockingIOError):
            self._reader.recv(64)
        # Only now: whoever still saw the flag set has already appended, and the owner reads the queue after this line.
        self._pending = False

    def close(self) -> None:
        """Release the descriptors. The owner only."""
        self._pending = True
        self._reader.close()
        self._writer.close()

    def forked(self) -> None:
        """In the child of a fork: close the descriptors, since a wake-up would reach the parent."""
        self.close()


class _Poll:
    """Waits with `poll`, where the system has it: no limit on descriptor numbers."""

    _ERROR: Final = select.POLLERR | select.POLLHUP | select.POLLNVAL if hasattr(select, "poll") else 0

    def __init__(self, sock: int, waker: int) -> None:
        self._sock, self._waker = sock, waker
        self._poll = select.poll()
        self._poll.register(waker, select.POLLIN)
        self._interest = -1
        self._just_data = [(sock, select.POLLIN)]

    def wait(self, read: bool, write: bool, timeout: float) -> tuple[bool, bool, bool]:
        self._want((select.POLLIN if read else 0) | (select.POLLOUT if write else 0))
        readable = writable = woken = False
        for fd, events in self._poll.poll(max(0.0, timeout * 1000)):
            if fd == self._waker:
                woken = True
            else:  # an error counts as ready: the next recv or send raises it
                readable = bool(events & (select.POLLIN | self._ERROR)) and read
                writable = bool(events & (select.POLLOUT | self._ERROR)) and write
        return readable, writable, woken

    def wait_for_data(self, timeout: float) -> tuple[bool, bool]:
        if self._interest != select.POLLIN:
            self._want(select.POLLIN)
        events = self._poll.poll(timeout * 1000)
        if events == self._just_data:  # one comparison in C for the usual answer
            return True, False
        woken = any(fd == self._waker for fd, _ in events)
        return len(events) > woken, woken

    def _want(self, interest: int) -> None:
        if interest == self._interest:
            return
        # A socket that is not waited for is unregistered, since poll would report its errors again and again.
        if interest:
            self._poll.register(self._sock, interest)
        elif self._interest > 0:
            self._poll.unregister(self._sock)
        self._interest = interest


class _Select:
    """Waits with `select`, for Windows, which has no `poll` and no limit on the numbers of sockets."""

    def __init__(self, sock: int, waker: int) -> None:
        self._sock, self._waker = sock, waker

    def wait(self, read: bool, write: bool, timeout: float) -> tuple[bool, bool, bool]:
        readers = [self._waker, self._sock] if read else [self._waker]
        writers = [self._sock] if write else []
        ready, able, failed = select.select(readers, writers, writers, max(0.0, timeout))
        return self._sock in ready, bool(able or failed), self._waker in ready

    def wait_for_data(self, timeout: float) -> tuple[bool, bool]:
        ready, _, _ = select.select([self._waker, self._sock], [], [], timeout)
        return self._sock in ready, self._waker in ready


class Poller:
    """Waits for one socket and one waker. Used by one thread."""

    def __init__(self, sock: socket.socket, waker: Waker) -> None:
        self._waker = waker
        self._impl = (_Poll if hasattr(select, "poll") else _Select)(sock.fileno(), waker.fileno())

    def wait_for_data(self, timeout: float) -> tuple[bool, bool]:
        """Wait up to `timeout` seconds, at most `LONGEST_WAIT`, for data, the end of the stream or a wake-up.

        Returns:
            Whether there is data or the end of the stream, and whether the waker was woken.
        """
        readable, woken = self._impl.wait_for_data(timeout if timeout < LONGEST_WAIT else LONGEST_WAIT)
        if woken:
            self._waker.clear()
        return readable, woken

    def wait_for_wake(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for a wake-up, whatever the socket does; returns whether it came."""
        _, _, woken = self._impl.wait(False, False, timeout)
        if woken:
            self._waker.clear()
        return woken

    def wait(self, *, read: bool = False, write: bool = False, timeout: float | None = None) -> tuple[bool, bool]:
        """Wait until the socket is ready, the waker is woken, or the time is up; may end early, so call it in a loop.

        Args:
            read: whether to wait for data.
            write: whether to wait for room to send.
            timeout: seconds; None for as long as possible. It waits at most `LONGEST_WAIT`.

        Returns:
            Whether it is readable, and whether it is writable; after an error, whichever was waited for.
        """
        if timeout is None or timeout > LONGEST_WAIT:
            timeout = LONGEST_WAIT
        readable, writable, woken = self._impl.wait(read, write, timeout)
        if woken:
            self._waker.clear()
        return readable, writable
