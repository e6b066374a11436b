"""When to ask anew for a book that has gone wrong, and which events have been handed on before. No clock of its own."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

__all__ = ["REPAIR_INTERVAL", "Once", "Repairs"]

REPAIR_INTERVAL: Final = 5.0
"""Seconds between two requests for the same book: a server whose checksums are wrong is not to be hammered."""
REMEMBERED: Final = 100_000
"""Events that are known again."""


class Repairs:
    """Limits how often something is asked for anew: at once, then every `REPAIR_INTERVAL` seconds at most."""

    def __init__(self) -> None:
        self._asked_at: dict[Hashable, float] = {}

    def is_due(self, what: Hashable, now: float) -> bool:
        """Whether to ask now; then the time counts from here.

        Args:
            what: which.
            now: seconds on any clock that only goes forward.
        """
        if now - self._asked_at.get(what, now - REPAIR_INTERVAL) < REPAIR_INTERVAL:
            return False
        self._asked_at[what] = now
        return True

    def asked(self, what: Hashable, now: float) -> None:
        """It has just been asked for anyway."""
        self._asked_at[what] = now


class Once:
    """Tells what was seen before, of the latest 100,000."""

    def __init__(self, size: int = REMEMBERED) -> None:
        self._seen: dict[Hashable, None] = {}
        self._size = size

    def is_new(self, what: Hashable) -> bool:
        """Whether `what` is seen for the first time; from now on it is known."""
        if what in self._seen:
            return False
        self._seen[what] = None
        if len(self._seen) > self._size:
            del self._seen[next(iter(self._seen))]
        return True
