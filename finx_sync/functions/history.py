"""Whole days and spans of days of tick history, put together from pages."""

from __future__ import annotations

import logging
import time as clock
from collections.abc import Callable, Iterator

from finx_sync.errors import FinxSyncError, IncompleteHistoryError
from finx_sync.functions.backend import Backend
from finx_sync.functions.day import Window
from finx_sync.functions.evidence import Stretch
from finx_sync.functions.exchange import Cancel
from finx_sync.functions.fetch import Progress
from finx_sync.functions.paging import windows
from finx_sync.functions.progress import ProgressBar
from finx_sync.functions.query import HistoryQuery
from finx_sync.functions.source import DaySource, Found
from finx_sync.messages import Tick
from finx_sync.ticks import TickHistory
from finx_sync.ticks.columns import Columns

__all__ = ["Report", "fetch_history", "stream_history"]

logger = logging.getLogger("finx_sync")

Report = bool | Callable[[Progress], object]


def fetch_history(
    backend: Backend, query: HistoryQuery, report: Report = False, *, cancel: Cancel | None = None
) -> TickHistory:
    """Fetch a history over several connections at once. Blocks the caller's thread.

    Args:
        backend: the server.
        query: what to fetch.
        report: True draws a bar, a function is called with each `Progress`.
        cancel: ends the call from another thread; it cannot be reused.

    Raises:
        ConnectionLostError: the call was cancelled.
        IncompleteHistoryError: it is not proven complete, and `strict` was requested.
        FunctionTimeoutError, FinxSyncError: as `Fetch.run`; the error's `history` has the rows fetched so far.
    """
    bar = ProgressBar(query.pair) if report is True else None
    notify = bar or (report if callable(report) else None)
    source = DaySource(backend, query, cancel)
    try:
        rows, unproven = source.fetch(_days(query), query.limit, notify)
    except FinxSyncError as error:
        error.history = source.interrupted()
        raise
    finally:
        if bar is not None:
            bar.end()
    if query.limit is None or len(rows) < query.limit:
        unproven += _to_come(query)
    return _strict(query, source.history(rows, unproven))


def stream_history(backend: Backend, query: HistoryQuery) -> Iterator[Tick]:
    """As `fetch_history`, one tick after the other, with the rows of a stretch of time in memory.

    Raises:
        IncompleteHistoryError: a stretch is not proven complete, and `strict` was requested.
        FunctionTimeoutError, FinxSyncError: as `Fetch.run`, for one stretch.
    """
    source = DaySource(backend, query)
    left, count = query.limit, 0
    for day in _days(query):
        stretches = source.stretches(day, left)
        while (found := _next_stretch(source, stretches)) is not None:
            history = _strict(query, source.history(*found, is_all=False))
            _warn(history)
            yield from history
            count += len(history)
            if left is not None:
                left -= len(history)
                if left <= 0:
                    return
    rest = source.history(Columns(source.names), _to_come(query), is_all=count == 0)
    _warn(_strict(query, rest))


def _next_stretch(source: DaySource, stretches: Iterator[Found]) -> Found | None:
    try:
        return next(stretches, None)
    except FinxSyncError as error:
        error.history = source.interrupted()
        raise


def _warn(history: TickHistory) -> None:
    left_out = "".join(f"; {count} rows of {reason} were left out" for reason, count in history.discarded.items())
    for interval in history.unproven:
        logger.warning("the history of %s is not proven complete in %s%s", history.pair, interval, left_out)


def _days(query: HistoryQuery) -> list[Window]:
    """Return the windows of all days; today's ends now, because the end of a day in progress cannot be proven."""
    now = round(clock.time() * 1000)
    return windows(query.first, min(query.last, now) if query.first <= now else query.last)


def _to_come(query: HistoryQuery) -> list[Stretch]:
    """Return the part of the query that lies in the future, and so is not complete."""
    now = round(clock.time() * 1000)
    return [(max(query.first, now + 1), query.last)] if query.last > now else []


def _strict(query: HistoryQuery, history: TickHistory) -> TickHistory:
    if query.strict and not history.complete:
        raise IncompleteHistoryError(history)
    return history
