"""The arguments of a history, defined once, and checked before any I/O.

FinX returns pages of one day, and has announced more arguments: a number of observations, a frequency of ticks across
the window, and an end (FinX documentation, page *Functions*, "Tick History"). Those are `limit`, `every` and `end`.
"""

from __future__ import annotations

import datetime as dt
import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar, dataclass, field
from pathlib import Path
from typing import Any, Final, TypedDict, TypeVar

from finx_sync.errors import InvalidInputError
from finx_sync.functions.evidence import DAY_MS
from finx_sync.functions.inputs import checked_pair, checked_timeout
from finx_sync.moments import EARLIEST_SECONDS, UTC, Moment, TimeOfDay, on_day, read_any, read_start
from finx_sync.ticks.columns import MILLISECOND, micros, moment
from finx_sync.ticks.spans import Span, read_span

__all__ = ["DEFAULT_WORKERS", "HistoryOptions", "HistoryQuery", "with_history_options"]

DEFAULT_WORKERS: Final = 8
"""The number of connections that a history opens at once."""
MAX_WORKERS: Final = 64
DAY_TIMEOUT: Final = 120.0
"""Seconds for each day if the caller gives no timeout."""

End = Moment | TimeOfDay
"""A time of the same day, a later day, or a moment; as text, or in Python's own types."""
CacheFolder = str | os.PathLike[str]
T = TypeVar("T", bound=Callable[..., Any])


class HistoryOptions(TypedDict, total=False):
    """The keyword arguments of every function that returns a history; see `FinxFunctions.get_tick_history`."""

    end: End | None
    limit: int | None
    every: Span | None
    exchange: str | None
    strict: bool
    workers: int
    cache: CacheFolder | None
    timeout: float | None


@dataclass(frozen=True)
class HistoryQuery:
    """A request for a history. The arguments are those of `FinxFunctions.get_tick_history`.

    Attributes:
        pair: like "BTC:USD".
        limit: the maximum number of rows.
        exchange: only rows of this exchange.
        strict: whether a history that is not proven complete is an error.
        workers: the number of simultaneous connections.
        cache: the folder that keeps past days.
        first, last: milliseconds since the epoch, both included.
        period: microseconds; only the first row of each period is kept.
        time_limit: seconds for the whole call.

    Raises:
        InvalidInputError: an argument is invalid.
    """

    pair: str
    date: InitVar[Moment]
    time: InitVar[TimeOfDay | None] = None
    _: KW_ONLY
    end: InitVar[End | None] = None
    limit: int | None = None
    every: InitVar[Span | None] = None
    exchange: str | None = None
    strict: bool = False
    workers: int = DEFAULT_WORKERS
    cache: CacheFolder | None = None
    timeout: InitVar[float | None] = None
    first: int = field(init=False)
    last: int = field(init=False)
    period: int | None = field(init=False)
    time_limit: float = field(init=False)

    def __post_init__(
        self, date: Moment, time: TimeOfDay | None, end: End | None, every: Span | None, timeout: float | None
    ) -> None:
        day, after = read_start(date, time)
        midnight = _millisecond(day)
        # No tick of the day is before its midnight: a history that begins there includes a tick at that time.
        first = midnight if after is None else _after(_millisecond(day, after), midnight)
        last = midnight + DAY_MS - 1 if end is None else _end(end, date, day)
        if last < first:
            raise InvalidInputError(f"the end {end!r} lies before the beginning")
        for name, value, most in (("limit", self.limit, None), ("workers", self.workers, MAX_WORKERS)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InvalidInputError(f"{name} is a whole number above 0, not {value!r}")
            if value is not None and most is not None and value > most:
                raise InvalidInputError(f"{name} is at most {most}: a server would see more as an attack")
        if self.exchange is not None and (not isinstance(self.exchange, str) or not self.exchange):
            raise InvalidInputError(f"{self.exchange!r} is not an exchange; it looks like 'COINBASE'")
        _check_cache(self.cache)
        checked_pair(self.pair)
        days = (last - midnight) // DAY_MS + 1
        set_field = functools.partial(object.__setattr__, self)  # the dataclass is frozen
        set_field("first", first)
        set_field("last", last)
        set_field("period", None if every is None else read_span(every))
        set_field("time_limit", DAY_TIMEOUT * days if timeout is None else checked_timeout(timeout))

    @classmethod
    def between(cls, pair: str, first: int, last: int, timeout: float) -> HistoryQuery:
        """Return a query for all ticks from one millisecond since the epoch to another, both included.

        Raises:
            InvalidInputError: an argument is invalid.
        """
        before = first - (first % DAY_MS > 0)  # a beginning is exclusive, except for midnight
        return cls(pair, moment(before * MILLISECOND), end=moment(last * MILLISECOND), timeout=timeout)


def with_history_options(function: T) -> T:
    """Make `help` and `inspect` show each of `HistoryOptions` for a function that takes them as ``**options``."""
    signature = inspect.signature(function)
    own = [one for one in signature.parameters.values() if one.name != "options"]
    where = own.pop() if own[-1].kind is inspect.Parameter.VAR_KEYWORD else None
    defaults = inspect.signature(HistoryQuery).parameters
    options = [
        defaults[name].replace(annotation=written.__forward_arg__)
        for name, written in HistoryOptions.__annotations__.items()
    ]
    parameters = [*own, *options, *([] if where is None else [where])]
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return function


def _check_cache(cache: CacheFolder | None) -> None:
    try:
        folder = None if cache is None else os.fspath(cache)
    except TypeError:
        folder = ""
    if folder is not None and (not isinstance(folder, str) or not folder or Path(folder).is_file()):
        raise InvalidInputError(
            f"{cache!r} is not a folder for a cache; it looks like 'ticks' or Path.home() / 'ticks'"
        )


def _millisecond(day: dt.date, clock: dt.time = dt.time()) -> int:
    return micros(dt.datetime.combine(day, clock, UTC)) // MILLISECOND


def _after(position: int, midnight: int) -> int:
    return midnight if position == midnight else position + 1


def _end(end: End, date: Moment, day: dt.date) -> int:
    """Return the last millisecond to include; `date` is the beginning as given, `day` its day in UTC."""
    found = read_any(end, EARLIEST_SECONDS)
    if isinstance(found, dt.time):
        given = read_any(date)
        # A time with a zone belongs to the day that the caller named, not to the corresponding day in UTC.
        local = given if isinstance(given, dt.date) and not isinstance(given, dt.datetime) else day
        return _millisecond(*on_day(day if found.tzinfo is None else local, found))
    if isinstance(found, dt.datetime):
        return micros(found) // MILLISECOND
    return _millisecond(found) + DAY_MS - 1
