"""The clock of a stream: monotonic time for waits and ages, wall-clock time for what is shown and stored."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

__all__ = ["Clock"]

SUSPENDED: Final = 1.0
"""Seconds: shorter sleeps and smaller steps of the wall clock are ignored."""


def boot_time() -> float | None:
    """Seconds since boot, sleep included; None if the system does not report them."""
    try:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    except (AttributeError, OSError):
        return None


class Clock:
    """Reads the system's clocks.

    One thread calls `look`. Any thread may call `wall`: `offset` is replaced in one assignment, so a reader gets either
    the old or the new value.

    Attributes:
        offset: add it to monotonic seconds to get UNIX seconds. `look` refreshes it, so a step of the wall clock (NTP,
            an administrator) only affects later timestamps.
        stepped: whether the last call of `look` found that the wall clock had stepped against the monotonic one.
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
        """The current time, UNIX seconds."""
        return self.monotonic() + self.offset

    def look(self) -> float:
        """Read the clocks again and return how many seconds the machine slept since the last call.

        On Linux, the monotonic clock stops during sleep while the boot clock continues. A step of the wall clock
        affects neither, so it is not mistaken for sleep.
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
