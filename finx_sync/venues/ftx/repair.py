"""When to ask anew for a book that has gone wrong, and which events have been handed on before. No clock of its own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

__all__ = ["REPAIR_INTERVAL", "Once", "Repairs"]

REPAIR_INTERVAL: Final = 5.0
"""Seconds between two requests for the same book: a server whose checksums are wrong is not to be hammered."""
REMEMBERED: Final = 100_000
"""Events that are known again."""


W = TypeVar("W", bound=Hashable)


class Repairs(Generic[W]):
    """Tells when an image is to be asked for anew: at once when something breaks, but never twice in an interval.

    Times are seconds on any clock that only goes forward.

    Attributes:
        waiting: what is wrong, and not asked for yet.
    """

    def __init__(self) -> None:
        self.waiting: set[W] = set()
        self._due_at: dict[W, float] = {}
        self._repaired_at: dict[W, float] = {}

    def expected(self, what: W, now: float) -> None:
        """Its image has just been asked for in the usual way; it has an interval's time to come."""
        self.waiting.discard(what)
        self._due_at[what] = now + REPAIR_INTERVAL

    def forget(self, what: W) -> None:
        """It is not wanted any more."""
        self.waiting.discard(what)
        self._due_at.pop(what, None)

    def broken(self, what: W, now: float) -> None:
        """It is wrong: due as soon as an interval has gone by since the last repair."""
        self.waiting.add(what)
        repaired_at = self._repaired_at.get(what)
        self._due_at[what] = now if repaired_at is None else max(now, repaired_at + REPAIR_INTERVAL)

    def is_due(self, what: W, now: float) -> bool:
        """Whether to ask now; then it counts as repaired."""
        if now < self._due_at.get(what, now):
            return False
        self._repaired_at[what] = now
        self.expected(what, now)
        return True


class Once:
    """Tells what was seen before, of the latest 100,000."""

    def __init__(self, size: int = REMEMBERED) -> None:
        # Not a plain dictionary, whose first key is the harder to find the more of them were taken out in front of it.
        self._seen: OrderedDict[Hashable, None] = OrderedDict()
        self._size = size

    def is_new(self, what: Hashable) -> bool:
        """Whether `what` is seen for the first time; from now on it is known."""
        if what in self._seen:
            return False
        self._seen[what] = None
        if len(self._seen) > self._size:
            self._seen.popitem(last=False)
        return True

    def forget(self, what: Hashable) -> None:
        """Not seen after all."""
        self._seen.pop(what, None)
