"""What proves a history complete. This is the one place that defines it. Pure: no thread, no I/O.

A server is trusted as far as two of its answers to different questions agree, each over its own connection:

- Rows: a day is read twice, by different questions, so that an answer that is always wrong is in one reading only: the
  second asks from another millisecond, again from just after the first row, and again from the middle of the first
  page. Where the two readings differ, that part is read again, by yet another question, until two readings agree on it;
  if none do, the server chooses its rows arbitrarily, and nothing of the day is proven. Both readings ask the one
  question that returns ticks at 00:00:00.000, and the one that begins with the last row, which earlier pages have too.
  If several hundred rows share one millisecond, pages of both may end there, so that their next questions are the same.
- Absence: an answer without rows proves nothing, however often it comes. The end of a day is proven by an answer that
  begins with the last row and has no later one, in both readings; an empty stretch, by a later row of the same day.
  If a day shows no row at all, a tick snap must return a tick from before it.
- The beginning: pages cannot show what comes before their first row if the server takes "00:00" as exclusive, or if it
  returns the newest rows. A tick snap from just before the first row returns an earlier tick, or none. The latter
  counts only if the server answers so twice, and its snap at the first row returns that row.
- Rows that no page can reach (more on one millisecond than fit in a page), and rows that are not ticks, are labelled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from finx_sync.ticks.columns import MILLISECOND, Columns

__all__ = [
    "DAY_MS",
    "EMPTY_ANSWERS",
    "PAGE_ROWS",
    "ROUNDS",
    "SNAP_ANSWERS",
    "Known",
    "Server",
    "Snap",
    "Stretch",
    "between",
    "clusters",
    "differing",
    "patched",
    "same",
    "united",
]

PAGE_ROWS: Final = 1000
"""At most this many rows a page (FinX documentation, *Functions*)."""
DAY_MS: Final = 86_400_000
ROUNDS: Final = 3
"""The number of further readings of a part on which two differ."""
EMPTY_ANSWERS: Final = 6
"""How many answers in a row may lack known rows before the part is labelled as unproven."""
SNAP_ANSWERS: Final = 2
"""How many snaps must answer that there is no tick."""

Stretch = tuple[int, int]
"""First and last millisecond, since the epoch."""


@dataclass
class Server:
    """What the answers have shown about a server; shared by all days of a call.

    Attributes:
        biggest: the largest number of different rows in one answer. An answer with fewer was not cut off.
        in_order: whether an answer that was cut off had the first rows, as documented: later rows followed.
    """

    biggest: int = 0
    in_order: bool = False

    def note(self, count: int, rows: Columns) -> None:
        """Take an answer into account; repeated rows show nothing about how many an answer can have."""
        if count > self.biggest:
            self.biggest = max(self.biggest, len(set(_rows(rows))))

    def may_be_cut_off(self, count: int) -> bool:
        """Return whether an answer with this many rows may have been full."""
        return count >= min(PAGE_ROWS, self.biggest)


@dataclass
class Known:
    """The first and last row of a day that any answer had, good or bad; milliseconds since the epoch."""

    first: int | None = None
    last: int | None = None

    def note(self, first: int, last: int) -> None:
        """Take an answer into account."""
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)

    def has_from(self, position: int) -> bool:
        """Return whether rows are known from a millisecond on, in which case an answer without any is wrong."""
        return self.last is not None and self.last >= position


class Snap(NamedTuple):
    """The answer to a snap.

    Attributes:
        row: the tick; None if the server answers that there is none.
        failed: whether there was no answer at all, which proves nothing.
    """

    row: Columns | None = None
    failed: bool = False

    @property
    def at(self) -> int | None:
        """The tick's millisecond, since the epoch."""
        return self.row.stamps[0] // MILLISECOND if self.row is not None and self.row.stamps else None


def _rows(columns: Columns) -> Iterable[tuple[int, int, float | None]]:
    """Return rows for comparison; a missing price equals another missing price, unlike NaN."""
    prices = [price if price == price else None for price in columns.prices]  # noqa: PLR0124
    return zip(columns.stamps, columns.codes, prices, strict=True)


def between(rows: Columns, first: int, last: int) -> Columns:
    """Return the rows from one millisecond to another, both included."""
    return rows.between(first * MILLISECOND, (last + 1) * MILLISECOND)


def same(one: Columns, other: Columns) -> bool:
    """Return whether two sorted answers have the same rows."""
    if len(one) != len(other):
        return False
    if one.stamps == other.stamps and one.codes == other.codes and one.prices.tobytes() == other.prices.tobytes():
        return True
    return not differing(one, other)


def differing(one: Columns, other: Columns) -> list[int]:
    """Return the milliseconds on which two answers differ, in order."""
    left, right = Counter(_rows(one)), Counter(_rows(other))
    return sorted({row[0] // MILLISECOND for row in ((left - right) | (right - left))})


def united(one: Columns, other: Columns) -> Columns:
    """Return each row as often as the answer has it that has it more often."""
    if same(one, other):
        return one
    names = list(one.names)
    rows = Counter(_rows(one)) | Counter(_rows(other))
    return Columns.of(((stamp, names[code], price) for stamp, code, price in rows.elements()), one.names)


def patched(rows: Columns, first: int, last: int, piece: Columns) -> Columns:
    """Return the rows, with those from one millisecond to another (both included) replaced."""
    whole = rows.between(0, first * MILLISECOND)
    whole.extend(piece)
    whole.extend(rows.between((last + 1) * MILLISECOND, 2**62))
    return whole


def clusters(stamps: list[int], rows: Columns, apart: int = PAGE_ROWS) -> list[Stretch]:
    """Group milliseconds into stretches with more than `apart` rows between them."""
    found: list[Stretch] = []
    for stamp in stamps:
        if found and len(between(rows, found[-1][1], stamp)) <= apart:
            found[-1] = (found[-1][0], stamp)
        else:
            found.append((stamp, stamp))
    return found
