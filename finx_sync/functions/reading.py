"""One reading of a stretch of a day, page by page. Pure: no thread, no I/O.

A page is what the server returns for a time: the first 1000 rows *after* it, of that day, unsorted (FinX
documentation, page *Functions*, "Tick History"). So a page is complete up to its last millisecond, where rows may have
been cut off. That millisecond is requested again, from the one before it, so pages are never joined by guessing which
rows are the same. Exact repetitions are kept. A reading ends with an answer that has nothing after the requested
millisecond; the size of a page need not be known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from finx_sync.functions.evidence import EMPTY_ANSWERS, Known, Server, Stretch, between, united
from finx_sync.functions.questions import RowFilter
from finx_sync.ticks.columns import MILLISECOND, Columns
from finx_sync.ticks.page import DayPage

__all__ = ["DayReading", "Segment"]


@dataclass(eq=False)
class Segment:
    """A stretch that is fetched page after page. Milliseconds since the epoch."""

    start: int
    end: int
    position: int
    reading: DayReading
    parts: list[Columns] = field(default_factory=list)
    rate: float | None = None
    """Rows per millisecond in the last page."""
    busy: bool = False
    done: bool = False
    cut: Columns | None = None
    """The last answer's rows at `position`, where it may have been cut off; the next answer must have them as well."""
    tail: tuple[int, Columns] | None = None
    """The last millisecond of the last answer, and its rows."""
    ended: bool = False
    """Whether an answer with rows has proven that the day has no more."""
    crowd: bool = False
    """Whether the millisecond before `position` filled an answer, so that more of its rows may be out of reach."""
    empties: int = 0
    """The number of consecutive answers that lacked known rows."""
    stride: int = 1


class DayReading:
    """One reading.

    Args:
        start, end: the first and last millisecond to read.
        wanted: the rows to keep.
        server, known: the facts known so far; see `evidence`.
        asks_from: the position of the first question if it is not `start`.
        splits: the last millisecond of each segment but the final one.
    """

    def __init__(
        self,
        start: int,
        end: int,
        *,
        wanted: RowFilter,
        server: Server,
        known: Known,
        asks_from: int | None = None,
        splits: Sequence[int] = (),
    ) -> None:
        self.start = start
        self.end = end
        self._asks_from = start if asks_from is None else asks_from
        ends = [*sorted({one for one in splits if start <= one < end}), end]
        begins = [start, *(one + 1 for one in ends[:-1])]
        self.segments = [self._segment(*stretch) for stretch in zip(begins, ends, strict=True)]
        self.unproven: list[Stretch] = []
        self.silent = False
        """Whether the only evidence for no row from its start on is an answer without rows."""
        self.doubtful: int | None = None
        """The millisecond after which the only evidence for no more rows is an answer without rows."""
        self._wanted = wanted
        self._server = server
        self._known = known

    def _segment(self, first: int, last: int) -> Segment:
        return Segment(first, last, self._asks_from if first == self.start else first, self)

    @property
    def done(self) -> bool:
        """Whether nothing is left to ask."""
        return all(segment.done for segment in self.segments)

    def take(self, segment: Segment, page: DayPage) -> None:
        """Take the answer to a segment's question."""
        position = segment.position
        rows = page.columns.between(max(position, segment.start) * MILLISECOND, 2**62)
        last = page.last_from(position)
        if last is None:
            self._nothing(segment, page)
            return
        if segment.crowd:
            self.unproven.append((position - 1, position - 1))
            segment.crowd = False
        if last > position or page.beyond:
            self._go_on(segment, rows, last, page.beyond)
            segment.rate = len(rows) / (last - position + 1)
        else:
            self._lease(segment, rows, page.count)

    def _go_on(self, segment: Segment, rows: Columns, last: int, is_all: bool) -> None:
        """Take a page with later rows, so that nothing before its last millisecond is missing."""
        position, segment.empties = segment.position, 0
        if segment.cut is not None:
            if position < last <= self.end:
                self._server.in_order = True
            again = united(segment.cut, between(rows, position, position))
            again.extend(rows.between((position + 1) * MILLISECOND, 2**62))
            rows = again
        if is_all:
            self._keep(segment, rows)
            segment.done = segment.ended = True
            return
        whole = rows.between(0, last * MILLISECOND)
        self._keep(segment, whole)
        segment.tail, segment.stride = (last, between(rows, last, last)), 1
        segment.position = self._wanted.next_wanted(whole, last)
        segment.cut = segment.tail[1] if segment.position == last else None
        segment.done = segment.position > segment.end

    def _lease(self, segment: Segment, rows: Columns, count: int) -> None:
        """Take a page with rows on the requested millisecond only: the end, or more rows than fit in a page."""
        position = segment.position
        rows = rows if segment.cut is None else united(segment.cut, rows)
        may_be_cut_off = self._server.may_be_cut_off(count)
        if not may_be_cut_off and self._known.has_from(position + 1):
            segment.cut = rows
            self._ask_again(segment)
            return
        self._keep(segment, rows)
        segment.tail, segment.cut, segment.empties = (position, rows), None, 0
        if not may_be_cut_off:
            segment.done = segment.ended = True
            return
        if count > 1:
            self.unproven.append((position, position))
        segment.crowd = True
        segment.position += 1
        segment.done = segment.position > segment.end

    def _nothing(self, segment: Segment, page: DayPage) -> None:
        position = segment.position
        stamps = page.columns.stamps
        if stamps and stamps[0] // MILLISECOND < position - 1:
            # Rows, but earlier ones: the server does not respect the time to the millisecond. Skip ahead in growing
            # strides, so that this ends, and label what was skipped.
            self.unproven.append((position, min(position + segment.stride - 1, segment.end)))
            segment.position, segment.cut, segment.crowd = position + segment.stride, None, False
            segment.stride *= 2
            segment.done = segment.position > segment.end
        elif self._known.has_from(position):
            self._ask_again(segment)
        elif segment.crowd:
            self.doubtful = position - 1 if self.doubtful is None else min(self.doubtful, position - 1)
            segment.done = True
        elif segment.tail is not None:  # rows were skipped: ask for the last one that was seen
            segment.position, segment.cut = segment.tail
        elif (before := self._before(segment)) is not None:
            self._give_back(segment, before)
        else:
            self.silent = segment.done = True

    def _ask_again(self, segment: Segment) -> None:
        """Handle an answer that lacks known rows."""
        segment.empties += 1
        if segment.empties < EMPTY_ANSWERS:
            return
        self.unproven.append((segment.position, segment.end))
        if segment.cut is not None:
            self._keep(segment, segment.cut)
        segment.done = True

    def _before(self, segment: Segment) -> Segment | None:
        return next((one for one in self.segments if one.end == segment.start - 1), None)

    def _give_back(self, segment: Segment, before: Segment) -> None:
        """Join a segment to the one before it, which has to find the end: an answer without rows proves nothing."""
        self.segments.remove(segment)
        before.end = segment.end
        before.rate = None  # it was wrong
        if before.done and not before.ended and not self.silent:
            before.done = before.position > before.end

    def ask_again(self) -> None:
        """Ask again if rows are now known where the only evidence for none was an answer without rows."""
        first = min(self.segments, key=lambda segment: segment.start)
        if self.silent and first.done and self._known.has_from(first.position):
            self.silent = first.done = False

    def _keep(self, segment: Segment, rows: Columns) -> None:
        rows = self._wanted.keep(rows.between(0, (segment.end + 1) * MILLISECOND))
        if rows.stamps:
            segment.parts.append(rows)

    def split(self, segment: Segment, page_rows: int) -> Segment | None:
        """Split off the later half of what a busy segment has left; None if it cannot be halved."""
        assert segment.rate
        soon = segment.position + round(page_rows / segment.rate)
        middle = (soon + segment.end) // 2
        if not segment.position < middle < segment.end:
            return None
        later = self._segment(middle + 1, segment.end)
        segment.end = middle
        self.segments.append(later)
        return later

    def cut_at(self, last: int) -> None:
        """Drop the rows after a millisecond."""
        self.end = min(self.end, last)
        self.segments = [segment for segment in self.segments if segment.start <= last]
        for segment in self.segments:
            segment.end = min(segment.end, last)
            segment.done = segment.done or segment.position > segment.end

    def rows(self) -> Columns:
        """Return the rows so far, in order."""
        rows = Columns(self._wanted.names)
        for _, _, piece in self.pieces():
            rows.extend(piece)
        return rows

    def pieces(self) -> list[tuple[int, int, Columns]]:
        """Return the rows so far by segment: first and last millisecond, and the rows."""
        found = []
        for segment in sorted(self.segments, key=lambda segment: segment.start):
            rows = Columns(self._wanted.names)
            for part in segment.parts:
                rows.extend(part)
            if segment.cut is not None and not segment.done:
                rows.extend(self._wanted.keep(segment.cut))
            found.append((segment.start, segment.end, rows))
        return found

    def resume(self, pieces: Sequence[tuple[int, int, Columns]]) -> None:
        """Continue from the pieces of an earlier reading. The last millisecond of each is requested again."""
        self.segments = []
        for first, last, rows in pieces:
            segment = self._segment(first, last)
            if rows.stamps:
                segment.position = rows.stamps[-1] // MILLISECOND
                segment.parts = [rows.between(0, segment.position * MILLISECOND)]
                segment.cut = between(rows, segment.position, segment.position)
                self._known.note(rows.stamps[0] // MILLISECOND, segment.position)
            self.segments.append(segment)

    @property
    def fraction(self) -> float:
        """How much of the stretch has been read, 0 to 1."""
        left = sum(max(0, one.end + 1 - one.position) for one in self.segments if not one.done)
        return 1.0 - left / (self.end + 1 - self.start)
