"""If two readings of a day differ, further readings decide; `evidence` says why. Pure: no thread, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from finx_sync.functions.evidence import ROUNDS, Stretch, between, clusters, differing, patched, same, united
from finx_sync.functions.reading import DayReading
from finx_sync.ticks.columns import MILLISECOND, Columns

__all__ = ["Disputes"]

MARGIN: Final = 300
"""Rows before a disputed part that are read again with it, so that other pages than before contain it."""

Again = Callable[[int, int], DayReading]
"""Begins another reading, from one millisecond to another."""


@dataclass(eq=False)
class _Dispute:
    """A part on which two readings differ."""

    first: int
    last: int
    versions: list[Columns]
    reading: DayReading
    rounds: int = 1
    settled: Columns | None = None
    is_over: bool = False


class Disputes:
    """The disputes of a day.

    Args:
        one, other: the rows of the two readings.
        labelled: the parts where nothing can be proven, and so nothing is disputed.
        again: begins another reading of a part.
    """

    def __init__(self, one: Columns, other: Columns, labelled: Sequence[Stretch], again: Again) -> None:
        self.are_hopeless = False
        """Whether the server chooses its rows arbitrarily, so that any of its answers may be wrong."""
        self._one = one
        self._other = other
        self._again = again
        self._open: list[_Dispute] = []
        if same(one, other):
            return
        real = [at for at in differing(one, other) if not any(first <= at <= last for first, last in labelled)]
        for first, last in clusters(real, united(one, other)):
            versions = [between(rows, first, last) for rows in (one, other)]
            self._open.append(_Dispute(first, last, versions, self._read(first, last, 1)))

    def _read(self, first: int, last: int, rounds: int) -> DayReading:
        before = self._one.between(0, first * MILLISECOND).stamps
        margin = rounds * MARGIN
        if len(before) >= margin:
            return self._again(before[-margin] // MILLISECOND, last)
        # Not from the first row, where both readings began: this would agree with a page that is always wrong.
        behind = [stamp // MILLISECOND for stamp in before if stamp > before[0]]
        return self._again([*behind, first][len(behind) // (rounds + 1)], last)

    @property
    def are_over(self) -> bool:
        """Whether nothing is left to read."""
        return all(dispute.is_over for dispute in self._open)

    def weigh(self, rows_of: Callable[[DayReading], Columns]) -> None:
        """Compare the further readings, which are done, with the earlier ones."""
        for dispute in self._open:
            if not dispute.is_over:
                self._weigh(dispute, rows_of(dispute.reading))

    def _weigh(self, dispute: _Dispute, found: Columns) -> None:
        version = between(found, dispute.first, dispute.last)
        margin, agreed = (between(of, dispute.reading.start, dispute.first - 1) for of in (found, self._one))
        if same(margin, agreed):
            if any(same(version, other) for other in dispute.versions):
                dispute.settled, dispute.is_over = version, True
                return
            dispute.versions.append(version)
        # If it has rows that the two readings agreed do not exist, any other answer may be wrong as well.
        if dispute.rounds == ROUNDS or not same(united(margin, agreed), agreed):
            self.are_hopeless = dispute.is_over = True
            return
        dispute.rounds += 1
        dispute.reading = self._read(dispute.first, dispute.last, dispute.rounds)

    def outcome(self) -> Columns:
        """Return the rows that the readings agree on, and elsewhere all rows that either of them has."""
        rows = united(self._one, self._other)
        for dispute in self._open:
            if dispute.settled is not None:
                rows = patched(rows, dispute.first, dispute.last, dispute.settled)
        return rows
