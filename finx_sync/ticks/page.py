"""A page of tick history, from its text straight into columns. Pure; no I/O.

Source: FinX documentation, page *Functions*, "Tick History": an object of up to 1000 unsorted rows, keyed by number.
"""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Iterable
from typing import Final

import msgspec

from finx_sync.messages import Name, Number, Text, Tick
from finx_sync.ticks.columns import DAY, MILLISECOND, NOT_A_PRICE, Columns, ExchangeNames, micros

__all__ = ["DayPage", "page_of_ticks", "read_page"]


class _Row(msgspec.Struct, gc=False):
    """A row, without what a `Tick` has beside it."""

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
"""Milliseconds of a day at which each of its minutes begins."""
_FORM: Final = ((2, ":"), (5, ":"), (8, "."), (12, "Z"))
"""Where what stands in ``21:27:40.453Z``."""
_LENGTH: Final = 13
_PUNCTUATION: Final = str.maketrans("", "", ":.Z")
_LEAP: Final = 60_000


class DayPage:
    """What a server returned for one day.

    Attributes:
        columns: the rows of the pair and day that were asked for, sorted.
        count: all rows, also those of another pair or day.
        beyond: whether there were rows of a later day, which shows that the day has no more.
    """

    __slots__ = ("beyond", "columns", "count")

    def __init__(self, columns: Columns, count: int, beyond: bool = False) -> None:
        self.columns = columns
        self.count = count
        self.beyond = beyond


def read_page(text: str, pair: str, date: str, names: ExchangeNames) -> DayPage | None:
    """Read a page in its usual form; None for any other, which has to be looked at row by row.

    A thousand rows take well under a millisecond: C decodes, sorts and fills the columns.
    """
    try:
        rows = list(_rows.decode(text).values())
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if not all(map((pair, date).__eq__, map(_place, rows))):
        return None
    try:
        rows.sort(key=_order)
    except TypeError:  # two rows of one moment, and one of them lacks a value
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
    return DayPage(columns, len(rows))


def _milliseconds(times: list[str]) -> list[int] | None:
    """Milliseconds within the day; None unless every text is like ``21:27:40.453Z``."""
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


def page_of_ticks(ticks: Iterable[Tick], pair: str, date: str, names: ExchangeNames) -> DayPage:
    """The same from ticks that were read one by one.

    Raises:
        ValueError: a date or time is none.
    """
    midnight = micros(dt.datetime.fromisoformat(date))
    found = [(tick, micros(tick.datetime)) for tick in ticks]
    mine = [
        (stamp, tick.exchange, tick.price)
        for tick, stamp in found
        if tick.pair == pair and midnight <= stamp < midnight + DAY
    ]
    beyond = any(stamp >= midnight + DAY for _, stamp in found)
    return DayPage(Columns.of(mine, names), len(found), beyond)
