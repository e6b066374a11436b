"""One day of tick history while it is fetched, until it is proven as `evidence` says. Pure: no thread, no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from finx_sync.functions.disputes import Disputes
from finx_sync.functions.evidence import (
    DAY_MS,
    PAGE_ROWS,
    ROUNDS,
    SNAP_ANSWERS,
    Known,
    Server,
    Snap,
    Stretch,
    patched,
    united,
)
from finx_sync.functions.questions import Question, RowFilter, Window
from finx_sync.functions.reading import DayReading, Segment
from finx_sync.ticks.columns import MILLISECOND, Columns
from finx_sync.ticks.page import BadRow, DayPage

__all__ = ["DAY_MS", "PAGE_ROWS", "Day", "Question", "Saved", "Window"]

Saved = tuple[int, int, int, Columns]
"""A part of an interrupted reading: the reading's number, first and last millisecond, and the rows so far."""


class Day:
    """One day's rows while they are fetched, and the proof that none is missing; `evidence` says what counts as proof.

    Args:
        window: the part of the day to fetch.
        wanted: the rows to keep.
        server: what is known about the server.
        eager: whether the second reading may begin before the first has ended.
    """

    def __init__(self, window: Window, wanted: RowFilter, server: Server, *, eager: bool = True) -> None:
        self.window = window
        self.unproven: set[Stretch] = set()
        self.questions: list[Question] = []
        self.finished: Columns | None = None
        self.bad: dict[str, BadRow] = {}
        self.discarded: Counter[str] = Counter()
        self.spelling: str | None = None
        self._wanted = wanted
        self._server = server
        self._eager = eager
        self._known = Known()
        # Where the second reading is split: after the first row, so that no page of it has the same rows as the first
        # page, and in the middle of that page, so that the pages after it end elsewhere.
        self._splits: list[int] = []
        self._disputes: Disputes | None = None
        self._settled: Columns | None = None
        self._asked: int | None = None  # the time of the snap before the first row
        self._snap_is_open = False
        self._snaps = 0  # answers to the open snap that had no tick
        self._probes = False  # whether the open snap is at the first row, and so has to return it
        self._begins = self._ends = False  # whether the beginning, and the end, have been judged
        self._restarts = 0
        self._is_wrong = False
        self.readings: list[DayReading] = []
        self.readings.append(self._reading(window.first, window.last))

    def _reading(self, first: int, last: int, splits: Sequence[int] = ()) -> DayReading:
        return DayReading(
            first,
            last,
            wanted=self._wanted,
            server=self._server,
            known=self._known,
            asks_from=self._own_question(first) if first == self.window.first else first,
            splits=splits,
        )

    def _own_question(self, first: int) -> int:
        """Return where a reading begins: each at another millisecond, so that no two ask the same question.

        Otherwise an answer that is always wrong would be in two readings, which would agree on it.
        """
        number, known = len(self.readings), self._known.first
        if first % DAY_MS:
            return max(first // DAY_MS * DAY_MS, first - number)
        if number == 0 or first in (known, self.window.last):
            return first  # no other question returns ticks of midnight
        return first + 1 if number == 1 or known is None else known

    # Answers

    def take(self, segment: Segment, page: DayPage) -> None:
        """Take the answer to a segment's question."""
        self._server.note(page.count, page.columns)
        position = segment.position
        self._note(position, page)
        segment.reading.take(segment, page)
        stamps = page.columns.between(self.window.first * MILLISECOND, 2**62).stamps
        if not self._splits and stamps and segment.reading is self.readings[0]:
            first, last = (stamps[place] // MILLISECOND for place in (0, -1))
            self._splits = [first, (first + last) // 2]

    def _note(self, position: int, page: DayPage) -> None:
        rows = page.columns.between(self.window.first * MILLISECOND, 2**62)
        if rows.stamps:
            self._known.note(rows.stamps[0] // MILLISECOND, rows.stamps[-1] // MILLISECOND)
        self.spelling = self.spelling or page.spelling
        for reason, count in (("another pair", page.other_pair), ("another day", page.other_day)):
            if count:
                self.discarded[reason] += count
        self._is_wrong = self._is_wrong or page.other_pair > 0 or page.earlier
        for bad in page.bad:
            last = page.last_from(position)
            if bad.stamp is None:  # it may be from any time within this page
                self.unproven.add((position, self.window.last if last is None else min(last, self.window.last)))
            elif self.window.first <= (at := bad.stamp // MILLISECOND) <= self.window.last:
                self._known.note(at, at)
                self.unproven.add((at, at))
            self.bad.setdefault(repr(bad.row), bad)

    def take_snap(self, question: Question, snap: Snap) -> None:
        """Take the answer to a snap."""
        self._snap_is_open = False
        if self._begins:
            self._judge_end(snap)
        else:
            self._judge_beginning(question.position, snap)

    def go_on(self) -> None:
        """Prepare the remaining questions; if there are none, put the day together."""
        if self.finished is not None:
            return
        if len(self.readings) == 1 and (self.readings[0].done or (self._eager and self._splits)):
            self.readings.append(self._reading(self.window.first, self.window.last, self._splits))
        for reading in self.readings:
            reading.ask_again()
        if not all(reading.done for reading in self.readings):
            return
        if self._settled is None and not self._compare():
            return
        if not (self._snap_is_open or self._begins):
            self._look_before()
        if not self._snap_is_open and self._begins and not self._ends:
            self._look_after()
        if self._begins and self._ends and not self._snap_is_open:
            self._finish()

    # Evidence: two readings that agree

    def _compare(self) -> bool:
        """Whether the readings agree, or their differences are settled."""
        one, other = (self._wanted.thin(reading.rows()) for reading in self.readings[:2])
        if self._disputes is None:
            labelled = [stretch for reading in self.readings for stretch in reading.unproven] + list(self.unproven)
            self._disputes = Disputes(one, other, labelled, self._again)
        else:
            self._disputes.weigh(lambda reading: self._wanted.thin(reading.rows()))
        if not self._disputes.are_over:
            return False
        self._settled = self._disputes.outcome()
        self._is_wrong = self._is_wrong or self._disputes.are_hopeless
        return True

    def _again(self, begin: int, last: int) -> DayReading:
        """Begin another reading of a part."""
        reading = self._reading(max(self._wanted.start(begin), self.window.first), last)
        self.readings.append(reading)
        return reading

    # Evidence: snaps

    def _ask_snap(self, position: int) -> None:
        self._snap_is_open = True
        self.questions.append(Question("snap", self.window.date, position, self, attempt=self._snaps))

    def _look_before(self) -> None:
        """Ask for the tick before the first row, unless the pages prove that there is none."""
        window, first = self.window, self._first
        from_midnight = window.first % DAY_MS == 0
        silent = first is None and any(reading.silent for reading in self.readings)
        if self._is_wrong or first == window.first or not (from_midnight or silent or not self._server.in_order):
            self._begins = True
            return
        self._ask_snap(window.last if first is None else first if self._probes else first - 1)

    @property
    def _first(self) -> int | None:
        """The millisecond of the first row within the window."""
        first = self._known.first
        return first if first is not None and first <= self.window.last else None

    def _judge_beginning(self, asked: int, snap: Snap) -> None:
        window, first, at = self.window, self._first, snap.at
        silent = first is None and any(reading.silent for reading in self.readings)
        midnight = window.first // DAY_MS * DAY_MS
        if at is not None and at >= midnight + DAY_MS:
            snap, at = Snap(failed=True), None  # of a later day: the server ignores the date
        if at is None and not snap.failed and (self._snaps + 1 < SNAP_ANSWERS):
            self._snaps += 1
            return
        if self._probes:
            self._begins = True
            if at is None or at != first:
                self._believe_pages()
            return
        if at is None and not snap.failed and not silent and (self._may_be_newest or midnight == window.first):
            self._probes, self._snaps = True, 0  # does a snap return the tick that a page has?
            return
        self._begins = True
        if at is None:
            if silent:
                self._is_wrong = True
            elif snap.failed:
                self._believe_pages()
        elif at == midnight == window.first and at <= asked:
            assert snap.row is not None
            self._add_midnight(snap.row)
        elif window.first <= at <= asked or (silent and at > asked):
            self._contradicted(at)

    @property
    def _may_be_newest(self) -> bool:
        """Whether the single full page may have had the newest rows instead of the first."""
        return not self._server.in_order and self._server.biggest >= PAGE_ROWS

    def _believe_pages(self) -> None:
        """Label what only snaps could have proven."""
        window, first = self.window, self._first
        if self._may_be_newest:
            self.unproven.add((window.first, window.last if first is None else first - 1))
        elif window.first % DAY_MS == 0:
            self.unproven.add((window.first, window.first))

    def _add_midnight(self, row: Columns) -> None:
        """Add a tick that no page has: the server takes "00:00" as exclusive. There may be more at the same time."""
        assert self._settled is not None
        self.unproven.add((self.window.first, self.window.first))
        whole = patched(self._settled, self.window.first, self.window.first, self._wanted.keep(row))
        self._settled = self._wanted.thin(whole)

    def _contradicted(self, at: int) -> None:
        """Handle a tick at a time where the pages have none."""
        if self._first is not None or self._restarts == ROUNDS:
            self._is_wrong = True
            return
        self._restarts += 1
        self._known.note(at, at)
        self.readings, self._settled, self._disputes = [], None, None
        self.readings.append(self._reading(self.window.first, self.window.last))
        self._begins, self._snaps = False, 0

    def _look_after(self) -> None:
        """Ask for the last tick if the pages do not prove the end."""
        if self._doubtful is None or self._is_wrong:
            self._ends = True
        else:
            self._ask_snap(self.window.last)

    @property
    def _doubtful(self) -> int | None:
        return min((one.doubtful for one in self.readings if one.doubtful is not None), default=None)

    def _judge_end(self, snap: Snap) -> None:
        doubtful, at = self._doubtful, snap.at
        assert doubtful is not None
        self._ends = True
        if at is None or not self.window.first <= at <= doubtful or self._known.has_from(doubtful + 1):
            self.unproven.add((doubtful + 1, self.window.last))

    def _finish(self) -> None:
        window, rows = self.window, self._settled
        assert rows is not None
        for reading in self.readings:
            self.unproven.update(reading.unproven)
        # The second reading asks from before the window.
        self.unproven = {
            (max(first, window.first), last)
            for first, last in self.unproven
            if first <= window.last and last >= window.first
        }
        if not rows.stamps and self.discarded:
            self._is_wrong = True
        if self._is_wrong:
            self.unproven = {(window.first, window.last)}
        self.finished = self._wanted.thin(rows)
        self.readings, self._disputes = [], None

    # Sharing, and the result so far

    @property
    def segments(self) -> list[Segment]:
        """All segments of all readings."""
        return [segment for reading in self.readings for segment in reading.segments]

    def cut_at(self, last: int) -> None:
        """Drop the rows after a millisecond; only while there is one reading."""
        self.window = Window(self.window.date, self.window.first, last)
        self.readings[0].cut_at(last)

    @property
    def is_first_reading(self) -> bool:
        """Whether the second reading has not begun."""
        return self.finished is None and len(self.readings) == 1

    def left_of(self, segment: Segment) -> float:
        """Return how many rows a segment probably has left after the page in flight."""
        if segment.rate is None or segment.done:
            return 0.0
        return segment.rate * (segment.end - segment.position) - self.page_rows

    @property
    def page_rows(self) -> int:
        """How many rows a page from this server probably has."""
        return min(PAGE_ROWS, self._server.biggest)

    def rows(self) -> Columns:
        """The rows so far, in order."""
        if self.finished is not None:
            return self.finished
        rows = Columns(self._wanted.names)
        for reading in self.readings[:2]:
            rows = united(rows, reading.rows())
        return rows

    def saved(self) -> list[Saved]:
        """The parts of an unfinished day, for a later call to continue with; none if anything is in doubt."""
        if self.finished is not None or self.unproven or self.bad or self.discarded or self._is_wrong:
            return []
        readings = self.readings[:2]
        if any(reading.unproven for reading in readings):
            return []
        return [(number, *piece) for number, reading in enumerate(readings) for piece in reading.pieces()]

    def resume(self, saved: Sequence[Saved]) -> None:
        """Continue with the parts that an earlier call had fetched."""
        for number in (0, 1):
            pieces = [(first, last, rows) for one, first, last, rows in saved if one == number]
            ends = [self.window.first - 1, *(last for _, last, _ in pieces)]
            if not pieces or [first - 1 for first, *_ in pieces] != ends[:-1] or ends[-1] != self.window.last:
                return
            if number == len(self.readings):
                self.readings.append(self._reading(self.window.first, self.window.last, self._splits))
            self.readings[number].resume(pieces)

    @property
    def fraction(self) -> float:
        """How much of the day has been fetched, 0 to 1."""
        if self.finished is not None:
            return 1.0
        return sum(reading.fraction for reading in self.readings[:2]) / 2
