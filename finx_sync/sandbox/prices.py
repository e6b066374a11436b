"""The simulated prices: pure functions of (seed, currency, time), so that everything agrees with them.

Each day is a random walk in steps of a minute, between the prices at two midnights, which the seed determines; within a
minute the price is interpolated. The midnight prices scatter around a constant level instead of drifting, so the
listed strikes stay near the money, and the numbers in the documentation's examples stay plausible in every year.

No state besides caches, no clock, no I/O; safe from any thread.
"""

from __future__ import annotations

import hashlib
import math
import random
from functools import lru_cache
from typing import Final

__all__ = ["BASE_LEVELS", "DAY_MS", "MINUTE_MS", "PricePath", "unit_noise"]

MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000
_MINUTES: Final = 1440

BASE_LEVELS: Final[dict[str, float]] = {"BTC": 23_200.0, "ETH": 1_690.0, "SOL": 40.0, "USDC": 1.0}
"""USD; BTC as in the contract example of the FinX docs (streams page), the others from the same week."""

_DAY_SCATTER: Final[dict[str, float]] = {"BTC": 0.02, "ETH": 0.025, "SOL": 0.035, "USDC": 0.0002}
"""Standard deviation of the logarithm of the midnight price around its base level."""

_MINUTE_SCATTER: Final = 1 / 60
"""Standard deviation of one minute's move, as a fraction of `_DAY_SCATTER`."""


def unit_noise(*parts: object) -> float:
    """Return a number in [0, 1) that depends only on `parts`, and is the same on every platform and Python version."""
    digest = hashlib.blake2b(":".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


class PricePath:
    """The index price of each currency over time.

    Args:
        seed: equal seeds give equal prices.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        # One walk is 1441 floats; a live stream needs one per currency, a history page one more.
        self._walk = lru_cache(maxsize=32)(self._build_walk)

    def price(self, currency: str, timestamp: int) -> float:
        """Return the USD price of a currency of `BASE_LEVELS`.

        Args:
            currency: e.g. ``BTC``.
            timestamp: milliseconds since 1970.
        """
        day, within = divmod(timestamp, DAY_MS)
        minute, rest = divmod(within, MINUTE_MS)
        walk = self._walk(currency, day)
        low, high = walk[minute], walk[minute + 1]
        return low + (high - low) * (rest / MINUTE_MS)

    def _anchor(self, currency: str, day: int) -> float:
        return random.Random(f"anchor:{self._seed}:{currency}:{day}").gauss(0.0, _DAY_SCATTER[currency])

    def _build_walk(self, currency: str, day: int) -> tuple[float, ...]:
        """Return the prices at the 1441 minute marks of a day, both midnights included."""
        start, end = self._anchor(currency, day), self._anchor(currency, day + 1)
        rng = random.Random(f"walk:{self._seed}:{currency}:{day}")
        scatter = _DAY_SCATTER[currency] * _MINUTE_SCATTER
        walk = [0.0]
        for _ in range(_MINUTES):
            walk.append(walk[-1] + rng.gauss(0.0, scatter))
        # A Brownian bridge: a linear correction makes the walk end at the next midnight's anchor.
        slope = (end - start - walk[-1]) / _MINUTES
        base = BASE_LEVELS[currency]
        return tuple(base * math.exp(start + step + slope * minute) for minute, step in enumerate(walk))
