"""How long to wait before the next attempt to connect."""

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

    The jitter keeps thousands of clients from coming back in the same second after a server's restart.

    Attributes:
        first: bound of the first wait, seconds.
        cap: largest bound, seconds.
        factor: what the bound grows by at each failure in a row.
        healthy_after: seconds of a connection with data after which the failures before it are forgotten.
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
        """The longest wait, in seconds, after `failures` failures in a row (1 or more)."""
        try:
            return min(self.cap, self.first * self.factor ** (failures - 1))
        except OverflowError:
            return self.cap

    def delay(self, failures: int, random: Callable[[], float]) -> float:
        """A wait in seconds.

        Args:
            failures: attempts that failed in a row, 1 or more.
            random: returns a number from 0 to 1.
        """
        return self.bound(failures) * random()
