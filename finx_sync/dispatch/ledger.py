"""The books: what came in, and what became of it. They balance at every moment.

received = handled + unclaimed + control + unreadable + dropped + in_hand + waiting
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

__all__ = ["Counters", "Ledger"]


@dataclass(frozen=True)
class Counters:
    """How many text messages, since the start.

    Attributes:
        received: came in from the socket.
        handled: reached at least one handler, whether it raised or not.
        unclaimed: could be read, but nobody wanted them.
        control: replies to the library's own messages, and error frames.
        unreadable: no message at all; told to `on_error`.
        dropped: thrown away by `stop`.
        in_hand: decoded, on their way through the handlers now.
        waiting: in the inbox.
        unknown: those of `unclaimed` and `handled` whose shape no source describes.
    """

    received: int = 0
    handled: int = 0
    unclaimed: int = 0
    control: int = 0
    unreadable: int = 0
    dropped: int = 0
    in_hand: int = 0
    waiting: int = 0
    unknown: int = 0


class Ledger:
    """Counts under one lock, which is held for a few additions, once for each batch or slice of one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = Counters()

    def receive(self, count: int) -> int:
        """`count` messages came in; returns how many wait now."""
        with self._lock:
            now = self._now
            self._now = replace(now, received=now.received + count, waiting=now.waiting + count)
            return self._now.waiting

    def take(self, count: int) -> int:
        """`count` messages go from waiting to in hand; returns how many wait now."""
        with self._lock:
            now = self._now
            self._now = replace(now, waiting=now.waiting - count, in_hand=now.in_hand + count)
            return self._now.waiting

    def settle(
        self,
        *,
        handled: int = 0,
        unclaimed: int = 0,
        control: int = 0,
        unreadable: int = 0,
        dropped: int = 0,
        unknown: int = 0,
    ) -> None:
        """Messages in hand have become one of these."""
        with self._lock:
            now = self._now
            self._now = replace(
                now,
                handled=now.handled + handled,
                unclaimed=now.unclaimed + unclaimed,
                control=now.control + control,
                unreadable=now.unreadable + unreadable,
                dropped=now.dropped + dropped,
                unknown=now.unknown + unknown,
                in_hand=now.in_hand - handled - unclaimed - control - unreadable - dropped,
            )

    def snapshot(self) -> Counters:
        """The books as they stand now."""
        return self._now
