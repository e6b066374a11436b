"""Reading one connection in place of its io thread (leader and followers).

A message that comes alone wakes two threads, and the second wake-up costs more than everything else. So while messages
come in quick succession and are handled as quickly, the thread that waits for them leads: it reads the socket itself,
and the io thread stands by. The io thread reads again when there is anything else to do (a frame to send, a timer, an
end), when no message comes, and when the leader does not come back for the next one: then its handler is slow, and
pings have to be answered.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Final

from finx_sync.transport.waker import LONGEST_WAIT, Poller, Waker

__all__ = ["PATIENCE", "ReadLeadership"]

PATIENCE: Final = 0.02
"""Seconds between two looks of the io thread. It reads again if the leader has not read since the last look, because no
message has come or because its handler is slow."""


class ReadLeadership:
    """Decides who reads: the io thread, or the leader.

    `turn` is for the leader, `interrupt` for any thread, the rest for the io thread.

    Why no two threads read the socket at once: the leader holds `_reading` from before it waits until what it has read
    is taken in, and looks at `_is_handed_over` only while it holds it. The io thread clears that flag first and then
    takes the lock, so it reads only after the leader has left, and a leader that comes later sees the flag and leaves.

    `_turns` is written under the lock and read without it: at worst the io thread sees a turn one look later.

    Args:
        sock: the connection.
        waker: wakes the io thread.
        receive: reads once, on the leader's thread; returns whether the leader may go on.
    """

    def __init__(self, sock: socket.socket, waker: Waker, receive: Callable[[], bool]) -> None:
        self._waker = waker
        self._receive = receive
        self._nudge = waker.opposite()
        self._poller = Poller(sock, self._nudge)
        self._reading = threading.Lock()  # held by the leader while it waits for data and takes it in
        self._is_handed_over = False
        self._turns = self._seen = 0
        self._leader: int | None = None

    def turn(self) -> bool:
        """Wait for data and read once, or until `interrupt`; returns whether the leader may go on."""
        with self._reading:
            if not self._is_handed_over:
                return False
            readable, woken = self._poller.wait_for_data(LONGEST_WAIT)
            if woken or not readable:
                return self._is_handed_over
            self._turns += 1
            if self._leader is None:
                self._leader = threading.get_ident()
            if self._receive():
                return True
            self._is_handed_over = False
        self._waker.wake()  # after the lock is released, so that the io thread need not wait for it
        return False

    def interrupt(self) -> None:
        """End the leader's wait."""
        self._nudge.wake()

    @property
    def leader(self) -> int | None:
        """The thread that is in `turn` now; None if none is."""
        return self._leader if self._reading.locked() else None

    def begin(self) -> None:
        """Hand the reading over: whoever calls `turn` leads from now on."""
        self._is_handed_over, self._seen = True, -1

    @property
    def is_used(self) -> bool:
        """Whether the leader has read since the last look; at the first look, whether it may soon."""
        seen, self._seen = self._seen, self._turns
        return self._is_handed_over and self._turns != seen

    def end(self) -> None:
        """Take the reading back: returns once the leader has left, so the io thread may read."""
        self._is_handed_over = False
        self._nudge.wake()
        # A wait that was just ending may have consumed the wake-up, so wake the leader again until it has left.
        while not self._reading.acquire(timeout=LONGEST_WAIT):
            self._nudge.wake()
        self._reading.release()
