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
from typing import Final

from finx_sync.errors import IncompleteHistoryError, InvalidInputError
from finx_sync.functions.backend import Backend
from finx_sync.functions.cache import DayCache
from finx_sync.functions.day import DAY_MS, Window
from finx_sync.functions.exchange import Cancel
from finx_sync.functions.fetch import Asker, Fetch, Progress
from finx_sync.functions.inputs import checked_pair, checked_timeout
from finx_sync.functions.paging import Plan, windows
from finx_sync.functions.progress import ProgressBar
from finx_sync.messages import Tick
from finx_sync.moments import EARLIEST_SECONDS, UTC, Moment, TimeOfDay, on_day, read_any, read_start
from finx_sync.ticks import TickHistory, Unproven
from finx_sync.ticks.columns import MILLISECOND, Columns, ExchangeNames, micros, moment, thinned
from finx_sync.ticks.spans import Span, read_span

__all__ = ["DEFAULT_WORKERS", "CacheFolder", "End", "HistoryRequest", "Report", "fetch_history", "stream_history"]

logger = logging.getLogger("finx_sync")

DEFAULT_WORKERS: Final = 8
"""Connections at once."""
MAX_WORKERS: Final = 64
DAY_TIMEOUT: Final = 120.0
"""Seconds for each day, where the caller does not say how long it may take."""
SETTLED_AFTER: Final = 3_600_000
"""Milliseconds after a day's end from which on it is kept: late rows have come by then, and clocks may differ."""
STRETCH_ROWS: Final = 50_000
"""Rows that a stream has in memory at a time."""
FIRST_STRETCH: Final = 300_000
"""Milliseconds; from then on, as many as bring about so many rows."""

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


def fetch_history(backend: Backend, request: HistoryRequest, report: Report = False) -> TickHistory:
    """All that is wanted, by several connections at once. On the caller's thread, until it is there.

    Raises:
        IncompleteHistoryError: it is not proven complete, and `strict` was asked for.
        FunctionTimeoutError, FinxSyncError: as `Fetch.run`.
    """
    bar = ProgressBar(request.pair) if report is True else None
    tell = bar or (report if callable(report) else None)
    try:
        rows, unproven = _Source(backend, request).fetch(_days(request), tell)
    finally:
        if bar is not None:
            bar.end()
    return _history(request, rows, unproven)


def stream_history(backend: Backend, request: HistoryRequest) -> Iterator[Tick]:
    """The same, one tick after the other, with so much in memory as a stretch of time needs.

    Raises:
        IncompleteHistoryError: a stretch is not proven complete, and `strict` was asked for.
        FunctionTimeoutError, FinxSyncError: as `Fetch.run`, for one stretch.
    """
    source = _Source(backend, request)
    left = request.limit
    for day in _days(request):
        for rows, unproven in source.stretches(day, left):
            history = _history(request, rows, unproven)
            for interval in history.unproven:
                logger.warning("the history of %s is not proven complete in %s", request.pair, interval)
            yield from history
            if left is not None:
                left -= len(history)
                if left <= 0:
                    return


def _days(request: HistoryRequest) -> list[Window]:
    """What is wanted of each day; of today, what has happened: a day that goes on has no end that could be proven."""
    now = round(clock.time() * 1000)
    return windows(request.first, min(request.last, now) if request.first <= now else request.last)


def _history(request: HistoryRequest, rows: Columns, unproven: list[tuple[int, int]]) -> TickHistory:
    intervals = [Unproven(moment(first * MILLISECOND), moment(last * MILLISECOND)) for first, last in unproven]
    history = TickHistory(request.pair, rows, intervals)
    if intervals and request.strict:
        raise IncompleteHistoryError(history)
    return history


class _Source:
    """Days from the cache, and the rest from the server."""

    def __init__(self, backend: Backend, request: HistoryRequest) -> None:
        self._backend = backend.with_one_key()
        self._request = request
        self._names = ExchangeNames([None])
        self._exchange = None if request.exchange is None else self._names[request.exchange]
        self._cache = None if request.cache is None else DayCache(request.cache, backend.host, request.pair)

    def fetch(
        self, days: list[Window], tell: Callable[[Progress], object] | None
    ) -> tuple[Columns, list[tuple[int, int]]]:
        """The rows of some days, and where they are not proven complete."""
        request = self._request
        if self._cache is None:
            return self._ask(days, request.limit, tell)
        cached = {day.date: self._cached(day) for day in days}
        if request.limit is not None:
            # One after the other, so that nothing is asked for that the limit cuts off.
            return self._one_by_one(days, cached, request.limit, tell)
        missing = [day for day in days if cached[day.date] is None]
        plan = self._plan(missing, None)
        if missing:
            self._run(plan, tell)
        fetched = {day.window.date: day for day in plan.days}
        rows, unproven = Columns(self._names), []
        for day in days:
            found = cached[day.date]
            if found is None:
                done = fetched[day.date]
                found = done.rows()
                unproven += done.unproven
            rows.extend(found)
        return rows, unproven

    def _one_by_one(
        self,
        days: list[Window],
        cached: dict[str, Columns | None],
        limit: int,
        tell: Callable[[Progress], object] | None,
    ) -> tuple[Columns, list[tuple[int, int]]]:
        rows, unproven = Columns(self._names), []
        for day in days:
            found = cached[day.date]
            if found is None:
                found, more = self._ask([day], limit - len(rows), tell)
                unproven += more
            rows.extend(found.part(0, limit - len(rows)))
            if len(rows) == limit:
                break
        return rows, unproven

    def stretches(self, day: Window, limit: int | None) -> Iterator[tuple[Columns, list[tuple[int, int]]]]:
        """A day in pieces, each with the intervals in which it is not proven complete."""
        if (found := self._cached(day)) is not None:
            yield found.part(0, limit), []
            return
        first, length = day.first, FIRST_STRETCH
        while first <= day.last:
            if (every := self._request.every) is not None:  # a stretch of theirs is not divided
                whole = -(-(first % DAY_MS + length) * MILLISECOND // every) * every // MILLISECOND
                length = whole - first % DAY_MS
            last = min(day.last, first + length - 1)
            rows, unproven = self._ask([Window(day.date, first, last)], limit, None)
            yield rows, unproven
            first = last + 1
            if limit is not None:
                limit -= len(rows)
                if limit <= 0:
                    return
            length = round(length * min(4.0, max(0.25, STRETCH_ROWS / max(1, len(rows)))))

    def _ask(
        self, days: list[Window], limit: int | None, tell: Callable[[Progress], object] | None
    ) -> tuple[Columns, list[tuple[int, int]]]:
        plan = self._plan(days, limit)
        self._run(plan, tell)
        return plan.result()

    def _plan(self, days: list[Window], limit: int | None) -> Plan:
        return Plan(days, self._names, every=self._request.every, exchange=self._exchange, limit=limit)

    def _run(self, plan: Plan, tell: Callable[[Progress], object] | None) -> None:
        request = self._request
        cancel = Cancel()
        asker = Asker(self._backend, request.pair, self._names, cancel)
        try:
            Fetch(
                plan,
                asker,
                cancel,
                workers=1 if request.limit is not None else request.workers,
                deadline=clock.monotonic() + request.timeout,
                timeout=request.timeout,
            ).run(tell)
        finally:  # whole days are kept also when a later one failed
            self._keep(plan)

    def _keep(self, plan: Plan) -> None:
        request = self._request
        if self._cache is None or request.every is not None or request.exchange is not None:
            return
        settled = clock.time() * 1000 - SETTLED_AFTER
        for day in plan.days:
            window = day.window
            is_whole = window.first % DAY_MS == 0 and window.last - window.first == DAY_MS - 1
            if is_whole and window.last < settled and day.finished is not None and not day.unproven:
                self._cache.write(window.date, day.finished)

    def _cached(self, day: Window) -> Columns | None:
        found = None if self._cache is None else self._cache.read(day.date, self._names)
        if found is None:
            return None
        rows = found.between(day.first * MILLISECOND, (day.last + 1) * MILLISECOND)
        if self._exchange is not None:
            rows = rows.of_exchange(self._exchange)
        return rows if self._request.every is None else thinned(rows, self._request.every)


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
