"""When to request an invalid book again, and which events were already delivered. It reads no clock."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

__all__ = ["REPAIR_INTERVAL", "Once", "Repairs"]

REPAIR_INTERVAL: Final = 5.0
"""Minimum seconds between two requests for the same book, so that wrong checksums do not cause a flood of requests."""
REMEMBERED: Final = 100_000
"""The number of events that `Once` remembers."""


W = TypeVar("W", bound=Hashable)


class Repairs(Generic[W]):
    """Decides when to request an image again: at once if a book becomes invalid, but never twice in an interval.

    `now` is seconds on a monotonic clock.

    Attributes:
        waiting: the invalid items that have not been requested yet.
    """

    def __init__(self) -> None:
        self.waiting: set[W] = set()
        self._due_at: dict[W, float] = {}
        self._repaired_at: dict[W, float] = {}

    def expected(self, what: W, now: float) -> None:
        """Note that an image has just been requested; it is not requested again for one interval."""
        self.waiting.discard(what)
        self._due_at[what] = now + REPAIR_INTERVAL

    def forget(self, what: W) -> None:
        """Remove an item that is no longer subscribed to."""
        self.waiting.discard(what)
        self._due_at.pop(what, None)

    def broken(self, what: W, now: float) -> None:
        """Note that an item is invalid; it is due as soon as an interval has passed since its last repair."""
        self.waiting.add(what)
        repaired_at = self._repaired_at.get(what)
        self._due_at[what] = now if repaired_at is None else max(now, repaired_at + REPAIR_INTERVAL)

    def is_due(self, what: W, now: float) -> bool:
        """Return whether to request an image now; if so, the item counts as repaired."""
        if now < self._due_at.get(what, now):
            return False
        self._repaired_at[what] = now
        self.expected(what, now)
        return True


class Once:
    """Remembers which events were seen, up to a number of the latest ones."""

    def __init__(self, size: int = REMEMBERED) -> None:
        # In a plain dictionary, finding the first key becomes slow once many keys before it have been deleted.
        self._seen: OrderedDict[Hashable, None] = OrderedDict()
        self._size = size

    def is_new(self, what: Hashable) -> bool:
        """Remember `what`; return whether it was not known before."""
        if what in self._seen:
            return False
        self._seen[what] = None
        if len(self._seen) > self._size:
            self._seen.popitem(last=False)
        return True

    def forget(self, what: Hashable) -> None:
        """Forget `what`, so that it counts as new again."""
        self._seen.pop(what, None)
