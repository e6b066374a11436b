"""Tick history as it is wanted: whole days and spans of days, put together from pages.

FinX returns 1000 unsorted rows at a time, of one day, and announces for later: a number of observations, a frequency of
ticks across the window, and an end (FinX documentation, page *Functions*, "Tick History"). These are `limit`, `every`
and `end` here.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import time as clock
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from finx_sync.errors import FinxSyncError, IncompleteHistoryError, InvalidInputError
from finx_sync.functions.backend import Backend
from finx_sync.functions.day import DAY_MS, Window
from finx_sync.functions.evidence import Stretch
from finx_sync.functions.exchange import Cancel
from finx_sync.functions.fetch import Progress
from finx_sync.functions.inputs import checked_pair, checked_timeout
from finx_sync.functions.paging import windows
from finx_sync.functions.progress import ProgressBar
from finx_sync.functions.source import Found, Source
from finx_sync.messages import Tick
from finx_sync.moments import EARLIEST_SECONDS, UTC, Moment, TimeOfDay, on_day, read_any, read_start
from finx_sync.ticks import TickHistory
from finx_sync.ticks.columns import MILLISECOND, Columns, micros
from finx_sync.ticks.spans import Span, read_span

__all__ = ["DEFAULT_WORKERS", "CacheFolder", "End", "HistoryRequest", "Report", "fetch_history", "stream_history"]

logger = logging.getLogger("finx_sync")

DEFAULT_WORKERS: Final = 8
"""Connections at once."""
MAX_WORKERS: Final = 64
DAY_TIMEOUT: Final = 120.0
"""Seconds for each day, where the caller does not say how long it may take."""

End = Moment | TimeOfDay
"""A time of the same day, a later day, or a moment; as text, or in Python's own types."""
Report = bool | Callable[[Progress], object]
CacheFolder = str | os.PathLike[str]


@dataclass(frozen=True)
class HistoryRequest:
    """What is wanted, checked.

    Attributes:
        pair: like "BTC:USD".
        first, last: milliseconds since the epoch, both in it.
        limit: rows at most.
        every: microseconds; only the first row of each such stretch.
        exchange: only this one's rows.
        workers: connections at once.
        strict: whether a history that is not proven complete is an error.
        cache: where past days are kept.
        timeout: seconds.
    """

    pair: str
    first: int
    last: int
    limit: int | None
    every: int | None
    exchange: str | None
    workers: int
    strict: bool
    cache: CacheFolder | None
    timeout: float

    @classmethod
    def checked(
        cls,
        pair: str,
        date: Moment,
        time: TimeOfDay | None,
        end: End | None,
        *,
        limit: int | None = None,
        every: Span | None = None,
        exchange: str | None = None,
        workers: int = DEFAULT_WORKERS,
        strict: bool = False,
        cache: CacheFolder | None = None,
        timeout: float | None = None,
    ) -> HistoryRequest:
        """Check everything, before any I/O.

        Raises:
            InvalidInputError: what cannot be right.
        """
        day, after = read_start(date, time)
        midnight = _millisecond(day)
        # Nothing of the day is before its midnight: who begins there wants the tick of that moment too.
        first = midnight if after is None else _after(_millisecond(day, after), midnight)
        last = midnight + DAY_MS - 1 if end is None else _end(end, date, day)
        if last < first:
            raise InvalidInputError(f"the end {end!r} lies before the beginning")
        for name, value, most in (("limit", limit, None), ("workers", workers, MAX_WORKERS)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InvalidInputError(f"{name} is a whole number above 0, not {value!r}")
            if value is not None and most is not None and value > most:
                raise InvalidInputError(f"{name} is at most {most}: a server would take more for an attack")
        if exchange is not None and (not isinstance(exchange, str) or not exchange):
            raise InvalidInputError(f"{exchange!r} is no exchange; it looks like 'COINBASE'")
        _check_cache(cache)
        days = (last - midnight) // DAY_MS + 1
        return cls(
            checked_pair(pair),
            first,
            last,
            limit,
            None if every is None else read_span(every),
            exchange,
            workers,
            strict,
            cache,
            DAY_TIMEOUT * days if timeout is None else checked_timeout(timeout),
        )

    @classmethod
    def between(cls, pair: str, first: int, last: int, timeout: float) -> HistoryRequest:
        """All ticks from one millisecond since the epoch to another, both in it.

        Raises:
            InvalidInputError: what cannot be right.
        """
        return cls(
            pair=checked_pair(pair),
            first=first,
            last=last,
            limit=None,
            every=None,
            exchange=None,
            workers=DEFAULT_WORKERS,
            strict=False,
            cache=None,
            timeout=checked_timeout(timeout),
        )


def fetch_history(
    backend: Backend, request: HistoryRequest, report: Report = False, *, cancel: Cancel | None = None
) -> TickHistory:
    """All that is wanted, by several connections at once. On the caller's thread, until it is there.

    Args:
        backend: where.
        request: what.
        report: progress.
        cancel: ends it from another thread; it is used up then.

    Raises:
        ConnectionLostError: it was cancelled.
        IncompleteHistoryError: it is not proven complete, and `strict` was asked for.
        FunctionTimeoutError, FinxSyncError: as `Fetch.run`; what was fetched is the error's `history`.
    """
    bar = ProgressBar(request.pair) if report is True else None
    notify = bar or (report if callable(report) else None)
    source = Source(backend, request, cancel)
    try:
        rows, unproven = source.fetch(_days(request), notify)
    except FinxSyncError as error:
        error.history = source.interrupted()
        raise
    finally:
        if bar is not None:
            bar.end()
    if request.limit is None or len(rows) < request.limit:
        unproven += _to_come(request)
    return _strict(request, source.history(rows, unproven))


def stream_history(backend: Backend, request: HistoryRequest) -> Iterator[Tick]:
    """The same, one tick after the other, with so much in memory as a stretch of time needs.

    Raises:
        IncompleteHistoryError: a stretch is not proven complete, and `strict` was asked for.
        FunctionTimeoutError, FinxSyncError: as `Fetch.run`, for one stretch.
    """
    source = Source(backend, request)
    left, count = request.limit, 0
    for day in _days(request):
        stretches = source.stretches(day, left)
        while (found := _next_stretch(source, stretches)) is not None:
            history = _strict(request, source.history(*found, is_all=False))
            _warn(history)
            yield from history
            count += len(history)
            if left is not None:
                left -= len(history)
                if left <= 0:
                    return
    rest = source.history(Columns(source.names), _to_come(request), is_all=count == 0)
    _warn(_strict(request, rest))


def _next_stretch(source: Source, stretches: Iterator[Found]) -> Found | None:
    try:
        return next(stretches, None)
    except FinxSyncError as error:
        error.history = source.interrupted()
        raise


def _warn(history: TickHistory) -> None:
    left_out = "".join(f"; {count} rows of {reason} were left out" for reason, count in history.discarded.items())
    for interval in history.unproven:
        logger.warning("the history of %s is not proven complete in %s%s", history.pair, interval, left_out)


def _days(request: HistoryRequest) -> list[Window]:
    """What is wanted of each day; of today, what has happened: a day that goes on has no end that could be proven."""
    now = round(clock.time() * 1000)
    return windows(request.first, min(request.last, now) if request.first <= now else request.last)


def _to_come(request: HistoryRequest) -> list[Stretch]:
    """What has not happened yet, and is therefore not complete."""
    now = round(clock.time() * 1000)
    return [(max(request.first, now + 1), request.last)] if request.last > now else []


def _strict(request: HistoryRequest, history: TickHistory) -> TickHistory:
    if request.strict and not history.complete:
        raise IncompleteHistoryError(history)
    return history


def _check_cache(cache: CacheFolder | None) -> None:
    try:
        folder = None if cache is None else os.fspath(cache)
    except TypeError:
        folder = ""
    if folder is not None and (not isinstance(folder, str) or not folder or Path(folder).is_file()):
        raise InvalidInputError(f"{cache!r} is no folder for a cache; it looks like 'ticks' or Path.home() / 'ticks'")


def _millisecond(day: dt.date, clock: dt.time = dt.time()) -> int:
    return micros(dt.datetime.combine(day, clock, UTC)) // MILLISECOND


def _after(position: int, midnight: int) -> int:
    return midnight if position == midnight else position + 1


def _end(end: End, date: Moment, day: dt.date) -> int:
    """The last millisecond that is wanted; of the beginning, as it was given, and of its day in UTC."""
    found = read_any(end, EARLIEST_SECONDS)
    if isinstance(found, dt.time):
        given = read_any(date)
        # A time with a zone is of the day that was named, not of the one that this is in UTC.
        local = given if isinstance(given, dt.date) and not isinstance(given, dt.datetime) else day
        return _millisecond(*on_day(day if found.tzinfo is None else local, found))
    if isinstance(found, dt.datetime):
        return micros(found) // MILLISECOND
    return _millisecond(found) + DAY_MS - 1
