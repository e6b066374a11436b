"""The plan by which several workers fetch a span of days, page by page. Pure: no thread, no socket, no clock.

An idle worker takes over the later half of what the busiest segment has left. `reading` and `evidence` define what a
page is, and whether a server behaves as documented.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

from finx_sync.functions.day import DAY_MS, PAGE_ROWS, Day, Question, Window
from finx_sync.functions.evidence import Server, Snap, Stretch
from finx_sync.functions.questions import RowFilter
from finx_sync.functions.reading import Segment
from finx_sync.ticks.columns import MILLISECOND, Columns, moment
from finx_sync.ticks.page import DayPage

__all__ = ["Plan", "windows"]

WORTH_SHARING: Final = 2 * PAGE_ROWS
"""The number of rows that a segment must probably have left to be halved."""


class Plan:
    """The remaining questions, and where their answers go. Not thread-safe: the caller holds a lock.

    Args:
        windows: the days, in order.
        wanted: the rows to keep.
        limit: rows after which nothing more is requested; questions then come one after the other.
        server: what is known about the server.
    """

    def __init__(
        self,
        windows: Sequence[Window],
        wanted: RowFilter,
        *,
        limit: int | None = None,
        server: Server | None = None,
    ) -> None:
        server = Server() if server is None else server
        self.days = [Day(window, wanted, server, eager=limit is None) for window in windows]
        self._limit = limit
        self._names = wanted.names
        self._asked = 0
        self._rest: Stretch | None = None  # the part of a day that the limit cuts off
        self.pages = 0
        self.rows = 0

    def use(self, day: Day, rows: Columns) -> None:
        """Take a day's rows that are already proven complete, as from the cache."""
        day.finished = rows
        self.rows += len(rows)

    def next(self) -> Question | None:
        """Return the next question; None if all are in flight, or none is left."""
        if self.done or (self._limit is not None and self._asked):
            return None
        question = self._waiting() or (self._shared() if self._limit is None else None)
        if question is not None:
            self._asked += 1
        return question

    def _waiting(self) -> Question | None:
        for day in self.days:
            if day.finished is None:
                if day.questions:
                    return day.questions.pop()
                for segment in day.segments:
                    if not segment.busy and not segment.done:
                        return self._ask(day, segment)
        return None

    def _shared(self) -> Question | None:
        candidates = [(day.left_of(one), day, one) for day in self.days for one in day.segments]
        left, day, segment = max(candidates, key=lambda candidate: candidate[0], default=(0.0, None, None))
        if day is None or segment is None or left < WORTH_SHARING:
            return None
        later = segment.reading.split(segment, day.page_rows)
        return None if later is None else self._ask(day, later)

    def _ask(self, day: Day, segment: Segment) -> Question:
        segment.busy = True
        return Question("page", day.window.date, segment.position, day, segment, segment.empties)

    def answer_page(self, question: Question, page: DayPage) -> None:
        """Take the answer to a "page" question."""
        day, segment = question.day, question.segment
        assert segment is not None
        self._asked -= 1
        self.pages += 1
        segment.busy = False
        is_first = segment.reading is day.readings[0]
        before = sum(map(len, segment.parts))
        day.take(segment, page)
        if is_first:
            self.rows += sum(map(len, segment.parts)) - before
        if self._limit is not None and day.is_first_reading and self.rows >= self._limit:
            self._cut(day)
        day.go_on()

    def answer_snap(self, question: Question, snap: Snap) -> None:
        """Take the answer to a "snap" question."""
        self._asked -= 1
        question.day.take_snap(question, snap)
        question.day.go_on()

    def _cut(self, day: Day) -> None:
        """Cut off the rest of a day once its first reading has all rows up to the limit."""
        assert self._limit is not None
        rows, left = day.rows(), self._limit - self._settled()
        if self._rest is None and len(rows) >= left:
            self._rest = (rows.stamps[left - 1] // MILLISECOND + 1, day.window.last)
            day.cut_at(self._rest[0] - 1)

    @property
    def done(self) -> bool:
        """Whether nothing is left to ask."""
        if all(day.finished is not None for day in self.days):
            return True
        if self._limit is None:
            return False
        return self._settled() >= self._limit

    def _settled(self) -> int:
        """The number of rows before the first day that is not finished."""
        finished = itertools.takewhile(lambda rows: rows is not None, (day.finished for day in self.days))
        return sum(len(rows or ()) for rows in finished)

    def result(self) -> tuple[Columns, list[Stretch]]:
        """Return the rows in order (at most `limit`), and where they are not proven complete; also before the end."""
        rows = Columns(self._names)
        unproven: list[Stretch] = []
        for day in self.days:
            rows.extend(day.rows())
            unproven += day.unproven if day.finished is not None else {(day.window.first, day.window.last)}
        if self._rest is not None and self._rest[0] <= self._rest[1]:
            unproven.append(self._rest)
        if self._limit is not None and len(rows) >= self._limit:
            rows = rows.part(0, self._limit)
            last = rows.stamps[-1] // MILLISECOND
            unproven = [one for one in unproven if one[0] <= last]
        return rows, sorted(unproven)

    @property
    def fraction(self) -> float:
        """How much of the work is done, 0 to 1."""
        if self._limit is not None:
            return min(1.0, self.rows / self._limit)
        return sum(day.fraction for day in self.days) / len(self.days) if self.days else 1.0


def windows(first: int, last: int) -> list[Window]:
    """Return the days, or parts of them, from one millisecond to another, both included."""
    found = []
    for midnight in range(first // DAY_MS * DAY_MS, last + 1, DAY_MS):
        date = moment(midnight * MILLISECOND).date().isoformat()
        found.append(Window(date, max(first, midnight), min(last, midnight + DAY_MS - 1)))
    return found
