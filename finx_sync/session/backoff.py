"""The wait before the next attempt to connect."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from finx_sync.errors import ConfigError
from finx_sync.spelling import keywords_checked

__all__ = ["Backoff"]


@keywords_checked
@dataclass(frozen=True)
class Backoff:
    """Capped exponential back-off with full jitter: a random wait between 0 and a bound that doubles up to a cap.

    The jitter keeps thousands of clients from reconnecting in the same second after a server restarts.

    Attributes:
        first: the bound of the first wait, seconds.
        cap: the largest bound, seconds.
        factor: the bound is multiplied by this after each consecutive failure.
        healthy_after: seconds after which an open connection that has received data resets the count of failures.
    """

    first: float = 1.0
    cap: float = 30.0
    factor: float = 2.0
    healthy_after: float = 10.0

    def __post_init__(self) -> None:
        for name in ("first", "cap", "factor", "healthy_after"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ConfigError(f"Backoff's {name} is a number, not {value!r}")
        if not (0 < self.first <= self.cap and self.factor >= 1 and self.healthy_after >= 0):
            raise ConfigError("Backoff needs 0 < first <= cap, factor >= 1 and healthy_after >= 0 (seconds)")

    def bound(self, failures: int) -> float:
        """Return the longest wait, in seconds, after `failures` consecutive failures (1 or more)."""
        try:
            return min(self.cap, self.first * self.factor ** (failures - 1))
        except OverflowError:
            return self.cap

    def delay(self, failures: int, random: Callable[[], float]) -> float:
        """Return a random wait in seconds.

        Args:
            failures: the number of consecutive failed attempts, 1 or more.
            random: a function that returns a number from 0 to 1.
        """
        return self.bound(failures) * random()
