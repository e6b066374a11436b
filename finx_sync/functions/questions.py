"""The part of a day to fetch, the rows to keep, and the questions to the server. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from finx_sync.functions.evidence import DAY_MS
from finx_sync.ticks.columns import MILLISECOND, Columns, ExchangeNames, stretch_start, thinned

if TYPE_CHECKING:
    from finx_sync.functions.day import Day
    from finx_sync.functions.reading import Segment

__all__ = ["Question", "RowFilter", "Window"]


@dataclass(frozen=True)
class Window:
    """The part of one day to fetch; milliseconds since the epoch, both ends included."""

    date: str
    first: int
    last: int


class RowFilter:
    """Keeps the rows that a query wants. Not thread-safe: the caller holds a lock.

    Args:
        names: of exchanges.
        every: microseconds; keep only the first row of each such period. None keeps all.
        exchange: keep only rows of this one; the name's case does not matter. None keeps all.

    Attributes:
        others: the number of rows of other exchanges.
    """

    def __init__(self, names: ExchangeNames, every: int | None = None, exchange: str | None = None) -> None:
        self.names = names
        self.others = 0
        self._every = every
        self._exchange = None if exchange is None else exchange.casefold()

    def keep(self, rows: Columns) -> Columns:
        """Return the wanted rows."""
        if self._exchange is not None:
            names = enumerate(list(self.names))  # a copy, because other threads add names meanwhile
            codes = {code for code, name in names if name is not None and name.casefold() == self._exchange}
            chosen = rows.chosen(map(codes.__contains__, rows.codes))
            self.others += len(rows) - len(chosen)
            rows = chosen
        return self.thin(rows)

    def thin(self, rows: Columns) -> Columns:
        """Return the first row of each period; all rows if there is no period."""
        return rows if self._every is None else thinned(rows, self._every)

    def start(self, position: int) -> int:
        """Return the first millisecond of a millisecond's period; the same millisecond if there is no period."""
        if self._every is None:
            return position
        return stretch_start(position * MILLISECOND, self._every) // MILLISECOND

    def next_wanted(self, whole: Columns, last: int) -> int:
        """Return where to continue after rows that are complete before their `last` millisecond."""
        start, kept = self.start(last), self.keep(whole)
        if self._every is None or not kept.stamps or kept.stamps[-1] < start * MILLISECOND:
            return last
        return start + self._every // MILLISECOND


@dataclass(frozen=True, eq=False)
class Question:
    """A question to the server.

    Attributes:
        kind: "page" for tickHistory, "snap" for tickSnap.
        date: the day.
        position: the first millisecond to fetch, since the epoch; for a snap, its time.
        day, segment: the objects that take the answer.
        attempt: how many answers to this question were wrong.
    """

    kind: Literal["page", "snap"]
    date: str
    position: int
    day: Day
    segment: Segment | None = None
    attempt: int = 0

    @property
    def after(self) -> str | None:
        """The `time` of the request; for a page it is exclusive, so a millisecond earlier. None for the whole day."""
        within = self.position % DAY_MS
        if self.kind == "page":
            if within == 0:
                return None
            within -= 1
        seconds, milliseconds = divmod(within, 1000)
        return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{milliseconds:03d}"
