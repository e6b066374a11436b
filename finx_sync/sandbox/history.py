"""The ticks of past days, the same in every run for the same (seed, pair, date).

Ticks are generated an hour at a time, in a few milliseconds, so that a page of history never delays a live stream. A
day has 20 to 60 thousand ticks on several exchanges. On purpose, some ticks of two exchanges share a millisecond, and
some ticks are repeated exactly: a client that joins pages must keep the former and cope with the latter.

No tick falls on a day's first millisecond, so that "after 00:00" means the whole day.

No clock, no I/O; safe from any thread.
"""

from __future__ import annotations

import operator
import random
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timezone
from functools import lru_cache
from itertools import islice
from typing import Final

from finx_sync.errors import InvalidInputError
from finx_sync.sandbox.market import EXCHANGES, SpotTrade, check_pair, spot_price
from finx_sync.sandbox.prices import DAY_MS, PricePath

__all__ = ["PAGE_ROWS", "TIME_IS_INCLUSIVE", "PriceHistory", "day_start", "time_of_day"]

PAGE_ROWS: Final = 1000
"""At most this many rows per call (FinX docs, functions page)."""

TIME_IS_INCLUSIVE: Final = False
"""Whether a tick exactly at the requested time is returned. The docs say "_after_ the TIME", taken literally."""

_HOUR_MS: Final = 3_600_000
_TICKS_PER_DAY: Final = (20_000, 60_000)
_SHARE_TIES: Final = 0.01
_SHARE_REPEATS: Final = 0.002
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_when: Final = operator.attrgetter("timestamp")
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9])(?:\.([0-9]{1,3}))?)?Z?")


def day_start(text: str) -> int:
    """Return the first millisecond (since 1970) of a UTC day.

    Raises:
        InvalidInputError: `text` is not a date like ``2022-06-15``, or lies before 1970.
    """
    try:
        if not _DATE.fullmatch(text):
            raise ValueError
        day = datetime.combine(date.fromisoformat(text), datetime.min.time(), timezone.utc)
    except ValueError:
        raise InvalidInputError(f"bad date {text!r}; send one like 2022-06-15") from None
    if day.year < 1970:
        raise InvalidInputError(f"bad date {text!r}; history begins in 1970, so send a later date")
    return round(day.timestamp()) * 1000


def time_of_day(text: str) -> int:
    """Return a time of day in milliseconds, from ``HH:MM``, ``HH:MM:SS`` or ``HH:MM:SS.mmm``, with or without ``Z``.

    Raises:
        InvalidInputError: `text` has none of these forms.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise InvalidInputError(f"bad time {text!r}; send one like 21:27, 21:27:40 or 21:27:40.453Z")
    hours, minutes, seconds, fraction = match.groups(default="0")
    return ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(fraction.ljust(3, "0"))


class PriceHistory:
    """Deterministic tick tables.

    Args:
        seed: equal seeds give equal tables.
        path: the price path, shared with live ticks.
    """

    def __init__(self, seed: int, path: PricePath) -> None:
        self._seed = seed
        self._path = path
        # About 1700 ticks an hour; 48 hours are two whole days, or the pages of many days.
        self._hour = lru_cache(maxsize=48)(self._build_hour)
        self._tables: dict[tuple[str, int], tuple[SpotTrade, ...]] = {}

    def set_day(self, pair: str, start: int, rows: Iterable[SpotTrade]) -> None:
        """Replace the generated ticks of a day.

        Args:
            pair: one of `PAIRS`.
            start: the day's first millisecond.
            rows: the ticks, in any order.

        Raises:
            InvalidInputError: the pair is not one of `PAIRS`, or a tick is of another pair or day.
        """
        table = tuple(sorted(rows, key=_when))
        if any(row.pair != check_pair(pair) or not start <= row.timestamp < start + DAY_MS for row in table):
            raise InvalidInputError(f"a tick is of another pair or day; pass only ticks of {pair} on this day")
        self._tables[pair, start] = table

    def page(self, pair: str, start: int, after: int | None, until: int) -> list[SpotTrade]:
        """Return up to `PAGE_ROWS` ticks of a day, shuffled by the seed: according to the docs, rows are unsorted.

        Args:
            pair: one of `PAIRS`.
            start: the day's first millisecond.
            after: only ticks after this time, in milliseconds of the day; None for the whole day.
            until: the current time, milliseconds since 1970; later ticks do not exist yet.
        """
        first = start if after is None else start + after + (not TIME_IS_INCLUSIVE)
        rows = list(islice(self._between(pair, first, min(until + 1, start + DAY_MS)), PAGE_ROWS))
        random.Random(f"shuffle:{self._seed}:{pair}:{first}").shuffle(rows)
        return rows

    def last(self, pair: str, start: int, at: int) -> SpotTrade | None:
        """Return the day's last tick at or before `at`, or else the day's first tick; None if the day has no ticks.

        Args:
            pair: one of `PAIRS`.
            start: the day's first millisecond.
            at: milliseconds since 1970.
        """
        at = min(at, start + DAY_MS - 1)
        for hour in range((at - start) // _HOUR_MS, -1, -1):
            begin = start + hour * _HOUR_MS
            rows = list(self._between(pair, begin, min(at + 1, begin + _HOUR_MS)))
            if rows:
                return rows[-1]
        return next(self._between(pair, start, start + DAY_MS), None)

    def before(self, pair: str, start: int) -> SpotTrade | None:
        """Return the last tick before a day; None if there is none in the week before.

        Args:
            pair: one of `PAIRS`.
            start: the day's first millisecond.
        """
        for begin in range(start - _HOUR_MS, max(0, start - 7 * DAY_MS) - 1, -_HOUR_MS):
            if rows := list(self._between(pair, begin, begin + _HOUR_MS)):
                return rows[-1]
        return None

    def day(self, pair: str, start: int, until: int) -> list[SpotTrade]:
        """Return the ticks of a whole day, in time order; arguments as for `page`."""
        return list(self._between(pair, start, min(until + 1, start + DAY_MS)))

    def _between(self, pair: str, first: int, end: int) -> Iterator[SpotTrade]:
        """Yield the ticks with first <= timestamp < end, in time order."""
        check_pair(pair)
        table = self._tables.get((pair, first // DAY_MS * DAY_MS))
        if table is not None:
            yield from table[bisect_left(table, first, key=_when) : bisect_left(table, end, key=_when)]
            return
        for hour in range(first // _HOUR_MS * _HOUR_MS, end, _HOUR_MS):
            rows = self._hour(pair, hour)
            for row in islice(rows, bisect_left(rows, first, key=_when), None):
                if row.timestamp >= end:
                    break
                yield row

    def _build_hour(self, pair: str, hour_start: int) -> tuple[SpotTrade, ...]:
        rng = random.Random(f"hour:{self._seed}:{pair}:{hour_start}")
        per_day = random.Random(f"day:{self._seed}:{pair}:{hour_start // DAY_MS}").randint(*_TICKS_PER_DAY)
        rows = []
        for timestamp in sorted(hour_start + 1 + int(rng.random() * (_HOUR_MS - 1)) for _ in range(per_day // 24)):
            exchange = int(rng.random() * len(EXCHANGES))
            price = spot_price(self._path, pair, timestamp, rng.random())
            row = SpotTrade(pair, timestamp, EXCHANGES[exchange], price)
            rows.append(row)
            chance = rng.random()
            if chance < _SHARE_REPEATS:
                rows.append(row)
            elif chance < _SHARE_REPEATS + _SHARE_TIES:
                other = EXCHANGES[(exchange + 1 + int(rng.random() * (len(EXCHANGES) - 1))) % len(EXCHANGES)]
                rows.append(SpotTrade(pair, timestamp, other, spot_price(self._path, pair, timestamp, rng.random())))
        return tuple(rows)
