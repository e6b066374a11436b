"""Two clocks in one: waits and ages are monotonic; what is shown and stored is wall clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

__all__ = ["Clock"]

SUSPENDED: Final = 1.0
"""Seconds asleep, or of a step of the wall clock, from which on it counts."""


def boot_time() -> float | None:
    """Seconds since boot, sleep included; None where the system does not say."""
    try:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    except (AttributeError, OSError):
        return None


class Clock:
    """Reads the system's clocks.

    Attributes:
        offset: what turns monotonic seconds into UNIX seconds. Refreshed by `look`, so a step of the wall clock (NTP,
            an administrator) moves the stamps that follow and nothing else.
        stepped: whether the last look found the two clocks apart from where they were.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.monotonic = monotonic
        self._wall = wall
        self.offset = wall() - monotonic()
        self.stepped = False
        self._slept = self._sleep_so_far()

    def wall(self) -> float:
        """UNIX seconds now."""
        return self.monotonic() + self.offset

    def look(self) -> float:
        """Look at the clocks once more; returns the seconds that the machine slept since the last look.

        The monotonic clock stands still during sleep where the boot clock goes on (Linux); a step of the wall clock
        moves neither, and so is no sleep.
        """
        offset = self._wall() - self.monotonic()
        self.stepped = abs(offset - self.offset) >= SUSPENDED
        self.offset = offset
        before, self._slept = self._slept, self._sleep_so_far()
        slept = self._slept - before
        return slept if slept >= SUSPENDED else 0.0

    def _sleep_so_far(self) -> float:
        boot = boot_time()
        return 0.0 if boot is None else boot - self.monotonic()
