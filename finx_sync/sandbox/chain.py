"""The instruments that the sandbox lists at a given time: options, futures and perpetuals, under Deribit's names.

Sources: `listDeribitContracts` of the FinX docs names options, futures and perpetuals, among them
``BTC_USDC-PERPETUAL``; expiries follow Deribit's calendar: Fridays at 08:00 UTC, weekly, the last of the month, the
last of the quarter.

The documentation's own contract ``BTC-26AUG22-20000-C`` and its future ``BTC-26AUG22`` are always listed, so that every
example of the docs runs. Their `timestamp` is the current time, but their time to expiry is always that of the example
(20 days 3 hours 28 minutes).

Pure; no clock.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Final

from finx_sync.pricing import EXPIRY_HOUR_UTC, Instrument, expiry_code, parse_instrument
from finx_sync.pricing import years_to_expiry as wall_years_to_expiry
from finx_sync.sandbox.prices import DAY_MS

__all__ = ["DOCUMENTED_CONTRACT", "OPTION_BASES", "has_future", "instruments", "years_to_expiry"]

DOCUMENTED_CONTRACT: Final = "BTC-26AUG22-20000-C"
_DOCUMENTED_EXPIRY: Final = datetime(2022, 8, 26, EXPIRY_HOUR_UTC, tzinfo=timezone.utc)
_DOCUMENTED_TIMESTAMP: Final = 1_659_760_300_724
"""Milliseconds since 1970: the `timestamp` of the contract example (FinX docs, streams page)."""

OPTION_BASES: Final = ("BTC", "ETH")
_PERPETUALS: Final = (
    "BTC-PERPETUAL",
    "BTC_USDC-PERPETUAL",
    "ETH-PERPETUAL",
    "ETH_USDC-PERPETUAL",
    "SOL-PERPETUAL",
    "SOL_USDC-PERPETUAL",
)
_STRIKE_STEPS: Final = {
    # lowest strike, highest strike, step; USD, around the constant price levels of `prices`
    "weekly": {"BTC": (19_000, 28_000, 1_000), "ETH": (1_400, 2_000, 100)},
    "monthly": {"BTC": (16_000, 32_000, 2_000), "ETH": (1_200, 2_400, 200)},
    "quarterly": {"BTC": (10_000, 45_000, 5_000), "ETH": (800, 3_200, 400)},
}
_EXPIRY_SHIFT: Final = timedelta(hours=EXPIRY_HOUR_UTC)


def years_to_expiry(instrument: Instrument, timestamp: int) -> float:
    """Return the time to expiry in years; it is constant for the documentation's own expiry.

    Args:
        instrument: an option or a future.
        timestamp: milliseconds since 1970.
    """
    if instrument.expiry is None:
        return 0.0
    now = _DOCUMENTED_TIMESTAMP if instrument.expiry == _DOCUMENTED_EXPIRY else timestamp
    return wall_years_to_expiry(now, instrument.expiry)


def instruments(timestamp: int) -> dict[str, Instrument]:
    """Return every instrument listed at `timestamp` (milliseconds since 1970), by name.

    The list changes at 08:00 UTC only.
    """
    return _listing((timestamp - EXPIRY_HOUR_UTC * 3_600_000) // DAY_MS)


@lru_cache(maxsize=16)
def _listing(trading_day: int) -> dict[str, Instrument]:
    opened = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(days=trading_day) + _EXPIRY_SHIFT
    names = [DOCUMENTED_CONTRACT, DOCUMENTED_CONTRACT.rsplit("-", 2)[0], *_PERPETUALS]
    for expiry, cycle in sorted(_expiries(opened).items()):
        code = expiry_code(expiry)
        for base in OPTION_BASES:
            if cycle != "weekly":
                names.append(f"{base}-{code}")
            low, high, step = _STRIKE_STEPS[cycle][base]
            for strike in range(low, high + 1, step):
                names += (f"{base}-{code}-{strike}-C", f"{base}-{code}-{strike}-P")
    return {name: parse_instrument(name) for name in names}


def has_future(instrument: Instrument) -> bool:
    """Return whether a future with the option's expiry is listed; if not, the underlying is synthetic (``SYN.``)."""
    expiry = instrument.expiry
    return expiry is not None and (expiry == _DOCUMENTED_EXPIRY or expiry == _last_friday(expiry.year, expiry.month))


def _expiries(after: datetime) -> dict[datetime, str]:
    """Return the next two weekly, two monthly and three quarterly expiries after a time, with their cycle."""
    days_ahead = (4 - after.weekday()) % 7 or 7
    first = after + timedelta(days=days_ahead)
    found = {first: "weekly", first + timedelta(days=7): "weekly"}
    month_ends = [
        friday
        for ahead in range(13)
        if (friday := _last_friday(after.year + (after.month - 1 + ahead) // 12, (after.month - 1 + ahead) % 12 + 1))
        > after
    ]
    found.update(dict.fromkeys(month_ends[:2], "monthly"))
    found.update(dict.fromkeys([friday for friday in month_ends if friday.month % 3 == 0][:3], "quarterly"))
    return found


def _last_friday(year: int, month: int) -> datetime:
    following = datetime(year + month // 12, month % 12 + 1, 1, EXPIRY_HOUR_UTC, tzinfo=timezone.utc)
    return following - timedelta(days=(following.weekday() - 5) % 7 + 1)
