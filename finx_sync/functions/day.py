"""One day of tick history as it comes in, page by page, with the evidence that it is all. Pure: no thread, no I/O.

A page is what the server returns for a moment: the first 1000 rows *after* it, of that day, unsorted (FinX
documentation, page *Functions*, "Tick History"). So a full page is complete up to its last millisecond, where rows may
have been cut off: that millisecond is asked for again, from the one before it, and nothing is ever joined by guessing
which rows are the same. Rows that are repeated exactly stay.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Literal

from finx_sync.ticks.columns import MILLISECOND, Columns, ExchangeNames, stretch_start, thinned
from finx_sync.ticks.page import DayPage

__all__ = ["DAY_MS", "PAGE_ROWS", "Day", "Question", "Segment", "Stretch", "Window"]

PAGE_ROWS: Final = 1000
"""At most this many rows a page (FinX documentation, *Functions*)."""
LONG_WAIT: Final = 50
"""Times the usual time between two rows, before the first row of the first full page: worth a check."""
DAY_MS: Final = 86_400_000

Stretch = tuple[int, int]
"""First and last millisecond, since the epoch."""


@dataclass(frozen=True)
class Window:
    """What is wanted of one day; milliseconds since the epoch, both ends in it."""

    date: str
    first: int
    last: int


@dataclass(frozen=True, eq=False)
class Question:
    """What to ask the server next.

    Attributes:
        kind: "page" for tickHistory, "snap" for tickSnap.
        date: the day.
        position: the first millisecond that is wanted, since the epoch; of a snap, the moment.
        day, segment: whose it is; not for the asker.
    """

    kind: Literal["page", "snap"]
    date: str
    position: int
    day: Day
    segment: Segment | None = None

    @property
    def after(self) -> str | None:
        """The `time` to ask with: a page's is exclusive, so one millisecond earlier; None for the whole day."""
        within = self.position % DAY_MS
        if self.kind == "page":
            if within == 0:
                return None
            within -= 1
        seconds, milliseconds = divmod(within, 1000)
        return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{milliseconds:03d}"


@dataclass(eq=False)
class Segment:
    """A stretch of a day that one asks for, page after page. Milliseconds since the epoch."""

    start: int
    end: int
    position: int
    rate: float | None = None
    """Rows a millisecond, as the last page had them."""
    busy: bool = False
    done: bool = False
    parts: list[Columns] = field(default_factory=list)
    tail: Columns | None = None
    """The last rows of a page that was not full: true unless more rows follow, which would prove a smaller page."""
    tail_page: int = 0
    cut: Columns | None = None
    """Rows at the last millisecond of a full page; the next page must have them too."""
    stride: int = 1
    full: bool = False
    """Whether the last page with rows was a full one."""


class Day:
    """One day's rows as they come in, and the evidence that they are all.

    A server is believed as far as its pages agree. Each page claims all rows of a stretch; where two overlap they must
    be equal. Neighbouring segments overlap by themselves. Two pages are asked for only as a check: from the middle
    of the first and of the last full page. A day that ends exactly with a full page, or whose first one begins late, is
    what a server would look like that returns the *newest* rows: then a tick snap from before the first row must not
    know of an earlier one.

    Args:
        window: what is wanted.
        names: of exchanges.
        every: microseconds; keep only the first row of each such stretch. None keeps all.
        exchange: keep only rows of this one, by its number. None keeps all.
        check: whether to gather evidence.
    """

    def __init__(
        self, window: Window, names: ExchangeNames, every: int | None, exchange: int | None, check: bool
    ) -> None:
        self.window = window
        self.segments = [Segment(window.first, window.last, window.first)]
        self.unproven: list[Stretch] = []
        self.questions: list[Question] = []
        self.open_checks = 0
        self.finished: Columns | None = None
        self._names = names
        self._every = every
        self._exchange = exchange
        self._check = check
        self._page_rows = PAGE_ROWS
        self._claims: list[tuple[int, int, Columns]] = []
        self._full: list[tuple[int, int, int]] = []  # first asked for, first row, last row of the first and last full
        self._checked = False
        self._ends_full = False

    # Answers

    def take(self, segment: Segment, position: int, page: DayPage) -> None:
        """The answer to a segment's question from `position` on."""
        rows = page.columns.between(position * MILLISECOND, 2**62)
        full = page.count >= self._page_rows and not page.beyond
        if segment.cut is not None:
            self._compare_cut(segment.cut, rows, position)
            segment.cut = None
        if segment.tail is not None and not self._settle_tail(segment, rows):
            return
        if not rows.stamps:
            self._nothing(segment, full)
            return
        last = rows.stamps[-1] // MILLISECOND
        if full:
            self._take_full(segment, position, rows, last)
        else:
            self._take_rest(segment, position, rows, last, page.count)
        segment.rate = len(rows) / (last - position + 1)
        segment.done = segment.position > segment.end
        if segment.done and segment.tail is not None:
            self._keep(segment, segment.tail)
            segment.tail = None

    def _take_full(self, segment: Segment, position: int, rows: Columns, last: int) -> None:
        segment.full, segment.stride = True, 1
        if last == position:  # all on one millisecond: perhaps there are more, which nothing can tell
            self._keep(segment, rows)
            self.unproven.append((position, position))
            segment.position = position + 1
            return
        whole = rows.between(0, last * MILLISECOND)
        self._keep(segment, whole)
        self._claim(max(position, segment.end + 1), last, whole)
        self._note_full(position, rows.stamps[0] // MILLISECOND, last)
        segment.cut = rows.between(last * MILLISECOND, 2**62)
        segment.position = self._next_wanted(whole, last)

    def _take_rest(self, segment: Segment, position: int, rows: Columns, last: int, count: int) -> None:
        """Not a full page: the rest of the day, if pages are as large as documented."""
        segment.full, segment.stride = segment.full and last == position, 1
        whole = rows.between(0, last * MILLISECOND)
        self._keep(segment, whole)
        self._claim(max(position, segment.end + 1), last, whole)
        segment.tail, segment.tail_page = rows.between(last * MILLISECOND, 2**62), count
        segment.position = last + 1

    def _settle_tail(self, segment: Segment, rows: Columns) -> bool:
        """After a page that was not full nothing should follow; returns False if the answer has been dealt with."""
        tail, segment.tail = segment.tail, None
        assert tail is not None
        last = tail.stamps[0] // MILLISECOND
        if not rows.stamps or segment.tail_page < 2:
            self._keep(segment, tail)
            return True
        # This server's pages are smaller than documented: what was taken for the rest was cut off at its end.
        self._page_rows = min(self._page_rows, segment.tail_page)
        segment.position = last
        segment.cut = tail
        return False

    def _nothing(self, segment: Segment, full: bool) -> None:
        if not full:
            segment.done = True
            self._ends_full = self._ends_full or (segment.full and segment.end >= self.window.last)
            return
        # Rows, but from before: the server does not heed the time to the millisecond. Go on in growing strides, so that
        # this ends, and say so.
        position = segment.position
        self.unproven.append((position, min(position + segment.stride - 1, segment.end)))
        segment.position += segment.stride
        segment.stride *= 2
        segment.done = segment.position > segment.end

    def _keep(self, segment: Segment, rows: Columns) -> None:
        rows = self._wanted(rows.between(0, (segment.end + 1) * MILLISECOND))
        if rows.stamps:
            segment.parts.append(rows if self._every is None else thinned(rows, self._every))

    def _wanted(self, rows: Columns) -> Columns:
        return rows if self._exchange is None else rows.of_exchange(self._exchange)

    def _next_wanted(self, whole: Columns, last: int) -> int:
        """Where to go on after a page that is complete before its `last` millisecond."""
        if self._every is None:
            return last
        kept = self._wanted(whole)
        stretch = stretch_start(last * MILLISECOND, self._every)
        if not kept.stamps or kept.stamps[-1] < stretch:
            return last
        return (stretch + self._every) // MILLISECOND

    # Evidence

    def _compare_cut(self, cut: Columns, rows: Columns, position: int) -> None:
        """The rows that a page was cut off in must come again with the next one."""
        at = rows.between(position * MILLISECOND, (position + 1) * MILLISECOND)
        if cut.stamps[0] // MILLISECOND == position and Counter(cut.rows()) - Counter(at.rows()):
            self.unproven.append((position, position))

    def _claim(self, first: int, end: int, rows: Columns) -> None:
        """A page had all rows with first <= millisecond < end."""
        end = min(end, self.window.last + 1)
        if self._check and first < end:
            claimed = self._wanted(rows.between(first * MILLISECOND, end * MILLISECOND))
            self._claims.append((first, end, claimed))

    def _note_full(self, asked: int, first: int, last: int) -> None:
        full = self._full
        full.append((asked, first, last))
        full.sort()
        del full[1:-1]

    def _ask_for_checks(self) -> None:
        checks: list[tuple[Literal["page", "snap"], int]] = [
            ("page", (max(asked, first) + last) // 2) for asked, first, last in dict.fromkeys(self._full)
        ]
        if self._full:
            asked, first, last = self._full[0]
            long_wait = (first - asked) * PAGE_ROWS > LONG_WAIT * (last - first + 1)
            if first > asked and (self._ends_full or long_wait):
                checks.append(("snap", min(first - 1, self.window.last)))
        self.questions = [
            Question(kind, self.window.date, position, self)
            for kind, position in checks
            if position <= self.window.last
        ]
        self.open_checks = len(self.questions)

    def take_check(self, question: Question, page: DayPage) -> None:
        """The answer to a page that was asked for as a check."""
        self.open_checks -= 1
        rows = page.columns.between(question.position * MILLISECOND, 2**62)
        full = page.count >= self._page_rows and not page.beyond
        end = rows.stamps[-1] // MILLISECOND if full and rows.stamps else self.window.last + 1
        self._claim(question.position, end, rows)

    def take_snap(self, question: Question, stamp: int | None) -> None:
        """The answer to a snap: when it was, microseconds since the epoch; None if the server gave none."""
        self.open_checks -= 1
        asked = self._full[0][0]
        # Failing an earlier tick a server may give the day's first, which is no earlier than ours.
        if stamp is None or asked * MILLISECOND <= stamp < (question.position + 1) * MILLISECOND:
            self.unproven.append((asked, question.position))

    def go_on(self) -> None:
        """When all segments are done, ask for the checks; when these are too, put the day together."""
        if self.finished is not None or not all(segment.done for segment in self.segments):
            return
        if self._check and not self._checked:
            self._checked = True
            self._ask_for_checks()
        if not self.open_checks:
            self._finish()

    def _finish(self) -> None:
        rows = self.rows()
        for first, end, claimed in self._claims:
            if Counter(rows.between(first * MILLISECOND, end * MILLISECOND).rows()) != Counter(claimed.rows()):
                # One of two answers was wrong; if the server picks rows as it likes, any other may be too.
                self.unproven = [(self.window.first, self.window.last)]
                break
        self.finished = rows if self._every is None else thinned(rows, self._every)
        self.segments, self._claims = [], []

    # Sharing

    def idle_segment(self) -> Segment | None:
        """One that nobody asks for at the moment."""
        return next((one for one in self.segments if not one.busy and not one.done), None)

    def left_of(self, segment: Segment) -> float:
        """How many rows somebody probably has left, beside the page that is on its way."""
        if segment.rate is None or segment.done:
            return 0.0
        return segment.rate * (segment.end - segment.position) - self._page_rows

    def split(self, segment: Segment) -> Segment | None:
        """Take the later half of what a busy segment has left; None where it cannot be halved."""
        assert segment.rate is not None
        soon = segment.position + round(self._page_rows / segment.rate)
        middle = (soon + segment.end) // 2
        if not segment.position < middle < segment.end:
            return None
        later = Segment(middle + 1, segment.end, middle + 1)
        segment.end = middle
        self.segments.append(later)
        return later

    def rows(self) -> Columns:
        """What is there of it so far, in order."""
        if self.finished is not None:
            return self.finished
        rows = Columns(self._names)
        for segment in sorted(self.segments, key=lambda segment: segment.start):
            for part in segment.parts:
                rows.extend(part)
        return rows

    @property
    def fraction(self) -> float:
        """How much of the day is there, 0 to 1."""
        if self.finished is not None:
            return 1.0
        left = sum(max(0, one.end + 1 - one.position) for one in self.segments if not one.done)
        return 1.0 - left / (self.window.last + 1 - self.window.first)
