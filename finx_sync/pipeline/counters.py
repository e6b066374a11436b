"""The books: what came in, and what became of it. They balance at every moment.

received = handled + unclaimed + control + unreadable + duplicate + dropped + in_flight + waiting
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

__all__ = ["Counters", "MessageCounter"]


@dataclass(frozen=True)
class Counters:
    """How many text messages, since the start.

    Attributes:
        received: came in from the socket.
        handled: reached at least one handler, whether it raised or not.
        unclaimed: could be read, but no handler got anything of them.
        control: replies to the library's own messages, and error frames.
        unreadable: no message at all; told to `on_error`.
        duplicate: came on two connections while one replaced the other, and were handed on once; or brought nothing but
            events that were handed on before, such as the fills that a server sends again.
        dropped: thrown away: by an overflow rule, told to `on_gap`, or by `stop`.
        in_flight: decoded, on their way through the handlers now.
        waiting: in the inbox.
        unknown: those of `unclaimed` and `handled` whose shape no source describes.
        backfilled: fetched afterwards to fill a gap; not among `received`.
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
    """Counts under one lock, which is held for a few additions, once for each batch or slice of one.

    Attributes:
        bytes_received: of all messages that came in.
    """

    def __init__(self) -> None:
        # Re-entrant, as are all locks of what may be looked at in a signal handler: it may have interrupted a look.
        self._lock = threading.RLock()
        self._received = self._waiting = self._in_flight = 0
        self._handled = self._unclaimed = self._control = self._unreadable = self._duplicate = self._dropped = 0
        self._unknown = self._backfilled = 0
        self.bytes_received = 0

    def reset_after_fork(self) -> None:
        """In the child of a fork: whoever held the lock has not come along."""
        self._lock = threading.RLock()

    def receive(self, count: int, size: int = 0) -> int:
        """`count` messages of `size` bytes came in; returns how many wait now."""
        with self._lock:
            self.bytes_received += size
            self._received += count
            self._waiting += count
            return self._waiting

    def take(self, count: int) -> int:
        """`count` messages go from waiting to in hand; returns how many wait now."""
        with self._lock:
            self._waiting -= count
            self._in_flight += count
            return self._waiting

    def drop_waiting(self, count: int) -> int:
        """`count` waiting messages are thrown away unread; returns how many wait now."""
        with self._lock:
            self._waiting -= count
            self._dropped += count
            return self._waiting

    def handle(self, count: int) -> None:
        """`count` messages in hand have reached a handler: `settle` for the usual case, which is shorter."""
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
        """Messages in hand have become one of these; `unknown` are counted among the others already."""
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
        """`count` messages were fetched afterwards."""
        with self._lock:
            self._backfilled += count

    @property
    def waiting(self) -> int:
        """Messages in the inbox now."""
        return self._waiting

    @property
    def dropped(self) -> int:
        """Messages thrown away so far."""
        return self._dropped

    def snapshot(self) -> Counters:
        """The books as they stand now."""
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
