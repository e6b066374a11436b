"""The rows of a history: days from the cache, and the rest from the server."""

from __future__ import annotations

import time as clock
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from finx_sync.functions.backend import Backend
from finx_sync.functions.cache import DayCache
from finx_sync.functions.day import DAY_MS, Day, Window
from finx_sync.functions.evidence import Server, Stretch, between
from finx_sync.functions.exchange import Cancel
from finx_sync.functions.fetch import Asker, Fetch, Progress
from finx_sync.functions.paging import Plan
from finx_sync.functions.query import HistoryQuery
from finx_sync.functions.questions import RowFilter
from finx_sync.ticks import Rejected, TickHistory, Unproven
from finx_sync.ticks.columns import MILLISECOND, Columns, ExchangeNames, moment

__all__ = ["DaySource", "Found"]

SETTLED_AFTER: Final = 3_600_000
"""Milliseconds after its end from which a day is kept: late rows have arrived by then, and clocks may differ."""
STRETCH_ROWS: Final = 50_000
"""The number of rows that an iterator keeps in memory at a time."""
FIRST_STRETCH: Final = 300_000
"""Milliseconds of the first stretch; later ones are as long as that many rows take."""

Found = tuple[Columns, list[Stretch]]
"""Rows, and where they are not proven complete."""


class DaySource:
    """Fetches days from the cache, and the rest from the server."""

    def __init__(self, backend: Backend, query: HistoryQuery, cancel: Cancel | None = None) -> None:
        self._cancel = cancel
        self._backend = backend.with_one_key()
        self._query = query
        self.names = ExchangeNames([None])
        self._wanted = RowFilter(self.names, query.period, query.exchange)
        self._cache = None if query.cache is None else DayCache(query.cache, backend.host, query.pair)
        self._server = Server()
        self._spelling: str | None = None
        self._rejected: dict[str, Rejected] = {}
        self._discarded: Counter[str] = Counter()
        self._so_far: Callable[[], Found] = lambda: (Columns(self.names), [])

    def history(self, rows: Columns, unproven: list[Stretch], *, is_all: bool = True) -> TickHistory:
        """Return the history that the caller gets.

        Args:
            rows: sorted.
            unproven: the intervals in which they are not proven complete.
            is_all: whether the caller gets no other rows.
        """
        query, discarded = self._query, dict(self._discarded)
        if is_all and not rows.stamps and self._wanted.others:
            # All rows are of other exchanges, so this one's name may be misspelled.
            discarded["another exchange"] = self._wanted.others
            unproven = [(query.first, query.last)]
        return TickHistory(
            self._spelling or query.pair,
            rows,
            [Unproven(moment(first * MILLISECOND), moment(last * MILLISECOND)) for first, last in unproven],
            rejected=list(self._rejected.values()),
            discarded=discarded,
        )

    def interrupted(self) -> TickHistory:
        """Return what was fetched before an error ended the call."""
        rows, unproven = self._so_far()
        return self.history(rows, unproven or [(self._query.first, self._query.last)], is_all=False)

    def fetch(self, days: list[Window], limit: int | None, notify: Callable[[Progress], object] | None = None) -> Found:
        """Return the rows of some days, and where they are not proven complete."""
        plan = self._plan(days, limit)
        self._so_far = plan.result
        if not plan.done:
            self._run(plan, notify)
        return plan.result()

    def stretches(self, day: Window, limit: int | None) -> Iterator[Found]:
        """Yield a day in pieces, each with the intervals in which it is not proven complete."""
        if (found := self._cached(day)) is not None:
            yield found.part(0, limit), []
            return
        if limit is None and self._is_kept(day):  # in one piece, since only whole days are kept
            yield self.fetch([day], None)
            return
        first, length = day.first, FIRST_STRETCH
        while first <= day.last:
            if (every := self._query.period) is not None:  # a period is not divided
                whole = -(-(first % DAY_MS + length) * MILLISECOND // every) * every // MILLISECOND
                length = whole - first % DAY_MS
            last = min(day.last, first + length - 1)
            rows, unproven = self.fetch([Window(day.date, first, last)], limit)
            yield rows, unproven
            first = last + 1
            if limit is not None:
                limit -= len(rows)
                if limit <= 0:
                    return
            length = round(length * min(4.0, max(0.25, STRETCH_ROWS / max(1, len(rows)))))

    def _plan(self, days: list[Window], limit: int | None) -> Plan:
        plan = Plan(days, self._wanted, limit=limit, server=self._server)
        if self._cache is None:
            return plan
        for day in plan.days:
            if plan.done:  # the limit is reached, so later days are not needed
                break
            if (rows := self._cached(day.window)) is not None:
                plan.use(day, rows)
            elif limit is None and self._is_kept(day.window):
                day.resume(self._cache.read_part(day.window.date, self.names))
        return plan

    def _run(self, plan: Plan, notify: Callable[[Progress], object] | None) -> None:
        query = self._query
        cancel = self._cancel or Cancel()
        missing = [day for day in plan.days if day.finished is None]
        asker = Asker(self._backend, query.pair, self.names, cancel)
        try:
            Fetch(
                plan,
                asker,
                cancel,
                workers=1 if query.limit is not None else query.workers,
                deadline=clock.monotonic() + query.time_limit,
                timeout=query.time_limit,
            ).run(notify)
        finally:  # keep what was fetched, even if something failed
            self._note(missing)
            self._keep(missing)

    def _note(self, days: list[Day]) -> None:
        for day in days:
            self._spelling = self._spelling or day.spelling
            self._discarded += day.discarded
            self._rejected |= {text: Rejected(bad.row, bad.reason) for text, bad in day.bad.items()}

    def _is_kept(self, window: Window) -> bool:
        """Whether the cache may hold a day."""
        query = self._query
        if self._cache is None or query.period is not None or query.exchange is not None:
            return False
        is_whole = window.first % DAY_MS == 0 and window.last - window.first == DAY_MS - 1
        return is_whole and window.last < clock.time() * 1000 - SETTLED_AFTER

    def _keep(self, days: list[Day]) -> None:
        for day in days:
            if self._cache is None or not self._is_kept(day.window):
                continue
            if day.finished is None:
                if saved := day.saved():
                    self._cache.write_part(day.window.date, saved, self.names)
            elif not day.unproven:
                self._cache.write(day.window.date, day.finished, day.spelling or self._query.pair)

    def _cached(self, day: Window) -> Columns | None:
        found = None if self._cache is None else self._cache.read(day.date, self.names)
        if found is None:
            return None
        rows, spelling = found
        self._spelling = self._spelling or spelling
        return self._wanted.keep(between(rows, day.first, day.last))
