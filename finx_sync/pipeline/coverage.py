"""What was received, and what is missing, by name. Pure: times are handed in, UNIX seconds as of `received_at`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from finx_sync.notices import Interval

__all__ = ["Coverage"]

MAX_HOLES: Final = 1000
"""Holes that are kept for one name; beyond it the oldest neighbours become one."""
NEAR: Final = 1.0
"""Seconds between two holes of one reason that are shown as one: a slow handler makes hundreds a second."""


@dataclass
class _Record:
    """One name's.

    Attributes:
        begin: since when it is received.
        holes: what was missed, in order, never overlapping.
        down: since when nothing is known to be received, and why; None while it flows.
        ended: when it was given up; None while it is wanted.
    """

    begin: float
    holes: list[Interval] = field(default_factory=list)
    down: tuple[float, str] | None = None
    ended: float | None = None


class Coverage:
    """The record of each name. For one thread at a time.

    A name is *begun* when it first flows; then it is *lost* and *regained*, or a *hole* is noted while it flows.
    """

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}

    def begin(self, name: str, now: float) -> None:
        """`name` flows from now on; nothing happens where it did before."""
        record = self._records.get(name)
        if record is None or record.ended is not None:
            self._records[name] = _Record(now)

    def has(self, name: str) -> bool:
        """Whether `name` has ever flowed."""
        return name in self._records

    def lose(self, name: str, since: float, reason: str) -> None:
        """`name` flows no more; it has been received up to `since`."""
        record = self._records.get(name)
        if record is not None and record.down is None and record.ended is None:
            known = record.holes[-1].end if record.holes else record.begin
            record.down = (max(since, known), reason)

    def regain(self, name: str, now: float) -> None:
        """`name` flows again."""
        record = self._records.get(name)
        if record is None or record.down is None:
            return
        since, reason = record.down
        record.down = None
        self._add(record, Interval(since, max(since, now), "missing", reason))

    def fill(self, name: str, start: float, end: float) -> None:
        """What was missing from `start` to `end` has been fetched."""
        record = self._records.get(name)
        if record is not None:
            record.holes = [part for hole in record.holes for part in _filled(hole, start, end)]

    def hole(self, hole: Interval, *names: str) -> None:
        """Note what is missing, or was filled in, while `names` flow."""
        for name in names:
            record = self._records.get(name)
            if record is not None:
                limit = float("inf") if record.down is None else record.down[0]  # what it is of was received before
                start, end = min(hole.start, limit), min(hole.end, limit)
                self._add(record, Interval(start, end, hole.kind, hole.reason, hole.missed))

    def end(self, name: str, now: float) -> None:
        """`name` is wanted no more."""
        record = self._records.get(name)
        if record is not None and record.ended is None:
            record.ended = now

    def of(self, name: str, now: float) -> list[Interval]:
        """The intervals from the beginning to `now`, without a break between them; none for an unknown name."""
        record = self._records.get(name)
        if record is None:
            return []
        until = now if record.ended is None else record.ended
        holes = list(record.holes)
        if record.down is not None:
            since, reason = record.down
            holes.append(Interval(since, max(since, until), "missing", reason))
        intervals: list[Interval] = []
        position = record.begin
        for hole in holes:
            if hole.start > position:
                intervals.append(Interval(position, hole.start, "received"))
            intervals.append(hole)
            position = hole.end
        # A stop may come with the very message that ended a gap: an interval of no length shows that it had ended.
        if until > position or (until == position and holes and record.down is None):
            intervals.append(Interval(position, until, "received"))
        return intervals

    @staticmethod
    def _add(record: _Record, hole: Interval) -> None:
        holes = record.holes
        start = max(hole.start, record.begin)
        end = max(start, hole.end)
        missed = hole.missed
        last = holes[-1] if holes else None
        if last is not None and start < last.end:  # two causes at one time: the later one takes the rest
            start, end = last.end, max(last.end, end)
        if (
            last is not None
            and (last.kind, last.reason) == (hole.kind, hole.reason)
            and (start - last.end < NEAR or len(holes) >= MAX_HOLES)
        ):
            start = last.start
            missed = None if missed is None or last.missed is None else missed + last.missed
            holes.pop()
        elif len(holes) >= MAX_HOLES:
            first, second = holes[0], holes[1]
            holes[:2] = [Interval(first.start, second.end, "missing", second.reason)]
        holes.append(Interval(start, end, hole.kind, hole.reason, missed))


def _filled(hole: Interval, start: float, end: float) -> list[Interval]:
    """A hole, of which the part from `start` to `end` is missing no more."""
    begin, stop = max(hole.start, start), min(hole.end, end)
    if hole.kind != "missing" or begin >= stop:
        return [hole]
    parts = [Interval(begin, stop, "backfilled", hole.reason)]
    if hole.start < begin:
        parts.insert(0, Interval(hole.start, begin, "missing", hole.reason, hole.missed))
    if stop < hole.end:
        parts.append(Interval(stop, hole.end, "missing", hole.reason, hole.missed))
    return parts
