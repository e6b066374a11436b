"""Counters of the messages received, and of what became of them.

At every moment they add up:

received = handled + unclaimed + control + unreadable + duplicate + dropped + in_flight + waiting
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

__all__ = ["Counters", "MessageCounter"]


@dataclass(frozen=True)
class Counters:
    """The numbers of text messages since the start.

    Attributes:
        received: messages read from the socket.
        handled: messages for which at least one handler was called, whether it raised or not.
        unclaimed: messages that were decoded but had no handler.
        control: replies to the library's own messages, and error messages from the server.
        unreadable: payloads that could not be decoded; reported to `on_error`.
        duplicate: messages that came on two connections while one replaced the other and were delivered once, and
            messages with nothing but events delivered before, such as fills that a server sends again.
        dropped: messages discarded by an overflow rule, which is reported to `on_gap`, or by `stop`.
        in_flight: messages taken from the queue whose disposition is not yet known.
        waiting: messages in the queue.
        unknown: those of `unclaimed` and `handled` whose structure the venue's documentation does not describe.
        backfilled: messages fetched later to fill a gap; not included in `received`.
    """

    received: int = 0
    handled: int = 0
    unclaimed: int = 0
    control: int = 0
    unreadable: int = 0
    duplicate: int = 0
    dropped: int = 0
    in_flight: int = 0
    waiting: int = 0
    unknown: int = 0
    backfilled: int = 0


class MessageCounter:
    """Counts messages. Safe to use from any thread.

    One lock guards all counters, so that every snapshot balances although io threads and the dispatch thread count at
    the same time. It is held for a few additions, once for each batch or part of a batch.

    Attributes:
        bytes_received: bytes of all messages received.
    """

    def __init__(self) -> None:
        # Reentrant, because a signal handler may take a snapshot while it interrupts a thread that holds the lock.
        self._lock = threading.RLock()
        self._received = self._waiting = self._in_flight = 0
        self._handled = self._unclaimed = self._control = self._unreadable = self._duplicate = self._dropped = 0
        self._unknown = self._backfilled = 0
        self.bytes_received = 0

    def reset_after_fork(self) -> None:
        """Replace the lock in a forked child: the thread that held it does not exist there."""
        self._lock = threading.RLock()

    def receive(self, count: int, size: int = 0) -> int:
        """Count `count` messages of `size` bytes as received. Returns how many are waiting now."""
        with self._lock:
            self.bytes_received += size
            self._received += count
            self._waiting += count
            return self._waiting

    def take(self, count: int) -> int:
        """Move `count` messages from waiting to in flight. Returns how many are waiting now."""
        with self._lock:
            self._waiting -= count
            self._in_flight += count
            return self._waiting

    def drop_waiting(self, count: int) -> int:
        """Count `count` waiting messages as dropped. Returns how many are waiting now."""
        with self._lock:
            self._waiting -= count
            self._dropped += count
            return self._waiting

    def handle(self, count: int) -> None:
        """Count `count` messages in flight as handled. A faster `settle` for the most frequent case."""
        with self._lock:
            self._handled += count
            self._in_flight -= count

    def settle(
        self,
        *,
        handled: int = 0,
        unclaimed: int = 0,
        control: int = 0,
        unreadable: int = 0,
        duplicate: int = 0,
        dropped: int = 0,
        unknown: int = 0,
    ) -> None:
        """Count messages in flight by disposition. Those in `unknown` are also in one of the other numbers."""
        with self._lock:
            self._handled += handled
            self._unclaimed += unclaimed
            self._control += control
            self._unreadable += unreadable
            self._duplicate += duplicate
            self._dropped += dropped
            self._unknown += unknown
            self._in_flight -= handled + unclaimed + control + unreadable + duplicate + dropped

    def backfill(self, count: int) -> None:
        """Count `count` messages as backfilled."""
        with self._lock:
            self._backfilled += count

    @property
    def waiting(self) -> int:
        """The number of messages in the queue."""
        return self._waiting  # one attribute: no lock is needed to read it

    @property
    def dropped(self) -> int:
        """The number of messages dropped so far."""
        return self._dropped

    def snapshot(self) -> Counters:
        """All counters at this moment."""
        with self._lock:
            return Counters(
                received=self._received,
                handled=self._handled,
                unclaimed=self._unclaimed,
                control=self._control,
                unreadable=self._unreadable,
                duplicate=self._duplicate,
                dropped=self._dropped,
                in_flight=self._in_flight,
                waiting=self._waiting,
                unknown=self._unknown,
                backfilled=self._backfilled,
            )
