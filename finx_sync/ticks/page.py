"""Parse a page of tick history straight into columns. Pure: no I/O.

Source: FinX documentation, page *Functions*, "Tick History": an object of up to 1000 unsorted rows, keyed by number.
"""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from finx_sync.messages import Name, Number, Text, Tick
from finx_sync.ticks.columns import DAY, MILLISECOND, NOT_A_PRICE, Columns, ExchangeNames, micros

__all__ = ["BadRow", "DayPage", "page_of_ticks", "read_page", "same_pair"]


class _Row(msgspec.Struct, gc=False):
    """A row, without the internal fields of a `Tick`."""

    pair: Name
    date: Name
    time: Name
    exchange: Text
    price: Number


_rows: Final = msgspec.json.Decoder(dict[str, _Row], strict=False)
_time: Final = operator.attrgetter("time")
_exchange: Final = operator.attrgetter("exchange")
_price: Final = operator.attrgetter("price")
_order: Final = operator.attrgetter("time", "exchange", "price")
_place: Final = operator.attrgetter("pair", "date")
_MINUTES: Final = {f"{minute // 60:02d}:{minute % 60:02d}": minute * 60_000 for minute in range(24 * 60)}
"""The millisecond of a day at which each minute begins."""
_FORM: Final = ((2, ":"), (5, ":"), (8, "."), (12, "Z"))
"""The punctuation of ``21:27:40.453Z``, by position."""
_LENGTH: Final = 13
_PUNCTUATION: Final = str.maketrans("", "", ":.Z")
_LEAP: Final = 60_000


class BadRow(NamedTuple):
    """A row that is not a tick.

    Attributes:
        stamp: microseconds since the epoch; None where its time cannot be read.
        row: the row, unchanged.
        reason: why it is not a tick.
    """

    stamp: int | None
    row: Any
    reason: str


class DayPage:
    """What a server returned for one day.

    Attributes:
        columns: the rows of the requested pair and day, sorted.
        count: all rows, including bad ones and those of another pair or day.
        beyond: whether rows of a later day followed, which proves that this day has no more.
        bad: the rows that are not ticks.
        other_pair, other_day: how many rows were of another pair, or of another day.
        earlier: whether there were rows of an earlier day.
        spelling: the pair as the server writes it; None where no row is of the pair.
    """

    __slots__ = ("bad", "beyond", "columns", "count", "earlier", "other_day", "other_pair", "spelling")

    def __init__(
        self,
        columns: Columns,
        count: int,
        beyond: bool = False,
        *,
        bad: Sequence[BadRow] = (),
        other_pair: int = 0,
        other_day: int = 0,
        earlier: bool = False,
        spelling: str | None = None,
    ) -> None:
        self.columns = columns
        self.count = count
        self.beyond = beyond
        self.bad = bad
        self.other_pair = other_pair
        self.other_day = other_day
        self.earlier = earlier
        self.spelling = spelling

    def last_from(self, position: int) -> int | None:
        """The millisecond of the last row, good or bad; None where there is none from `position` on."""
        stamps = [one.stamp for one in self.bad if one.stamp is not None]
        if self.columns.stamps:
            stamps.append(self.columns.stamps[-1])
        last = max(stamps, default=-1) // MILLISECOND
        return last if last >= position else None


def same_pair(one: str, other: str) -> bool:
    """Whether two texts name the same pair; case does not matter."""
    return one == other or one.casefold() == other.casefold()


def read_page(text: str, pair: str, date: str, names: ExchangeNames) -> DayPage | None:
    """Read a page in its usual form; None for any other form, which has to be read row by row.

    A thousand rows take about a millisecond: C code decodes, sorts and fills the columns.
    """
    try:
        rows = list(_rows.decode(text).values())
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    spelling = rows[0].pair if rows else None
    if spelling is not None and not same_pair(spelling, pair):
        return None
    if not all(map((spelling, date).__eq__, map(_place, rows))):
        return None
    try:
        rows.sort(key=_order)
    except TypeError:  # two rows of the same moment, one of which lacks a value
        return None
    within = _milliseconds(list(map(_time, rows)))
    if within is None:
        return None
    midnight = micros(dt.datetime.fromisoformat(date))
    columns = Columns(names)
    columns.stamps.extend([midnight + MILLISECOND * one for one in within])
    columns.codes.extend(map(names.__getitem__, map(_exchange, rows)))
    prices = list(map(_price, rows))
    columns.prices.extend([NOT_A_PRICE if price is None else price for price in prices] if None in prices else prices)
    return DayPage(columns, len(rows), spelling=spelling)


def _milliseconds(times: list[str]) -> list[int] | None:
    """Milliseconds within the day; None unless every text has the form ``21:27:40.453Z``."""
    joined = "".join(times)
    if len(joined) != _LENGTH * len(times) or not joined.isascii():
        return None
    if any(joined[place::_LENGTH] != mark * len(times) for place, mark in _FORM):
        return None
    if times and not joined.translate(_PUNCTUATION).isdigit():
        return None
    try:
        parsed = [(_MINUTES[text[:5]], int(text[6:8] + text[9:12])) for text in times]
    except (KeyError, ValueError):
        return None
    if any(rest >= _LEAP for _, rest in parsed):
        return None
    return [minute + rest for minute, rest in parsed]


def page_of_ticks(
    ticks: Iterable[Tick], pair: str, date: str, names: ExchangeNames, bad: Sequence[BadRow] = ()
) -> DayPage:
    """The same from ticks that were read one by one, and from the rows that are not ticks.

    Raises:
        ValueError: a date or time is invalid.
    """
    midnight = micros(dt.datetime.fromisoformat(date))
    found = [(tick, micros(tick.datetime)) for tick in ticks]
    ours = [(tick, stamp) for tick, stamp in found if same_pair(tick.pair, pair)]
    mine = [(stamp, tick.exchange, tick.price) for tick, stamp in ours if midnight <= stamp < midnight + DAY]
    return DayPage(
        Columns.of(mine, names),
        len(found) + len(bad),
        bool(mine) and any(stamp >= midnight + DAY for _, stamp in ours),
        bad=bad,
        other_pair=len(found) - len(ours),
        other_day=len(ours) - len(mine),
        earlier=any(stamp < midnight for _, stamp in ours),
        spelling=ours[0][0].pair if ours else None,
    )
