"""Records for each name what was received and what is missing.

Pure: it reads no clock. All times are passed in, UNIX seconds like `received_at`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from finx_sync.notices import Interval

__all__ = ["Coverage"]

MAX_HOLES: Final = 1000
"""The number of holes kept for one name; beyond this, the two oldest are merged."""
NEAR: Final = 1.0
"""Seconds: holes with the same reason that are closer are merged, since a slow handler makes hundreds a second."""


@dataclass
class _Record:
    """The record of one name. Times are UNIX seconds.

    Attributes:
        begin: when it was first received.
        holes: the intervals in which messages were missed, in order, not overlapping.
        down: since when it has not been received, and the reason; None while it is received.
        ended: when it was unsubscribed; None while it is wanted.
    """

    begin: float
    holes: list[Interval] = field(default_factory=list)
    down: tuple[float, str] | None = None
    ended: float | None = None


class Coverage:
    """The records of all names. Not thread-safe: the caller holds a lock.

    `begin` is called when the first message of a name arrives, `lose` and `regain` around an interruption, and `hole`
    when messages are missed without one.
    """

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}

    def begin(self, name: str, now: float) -> None:
        """Note that `name` is received from `now` on. Has no effect if it was received already."""
        record = self._records.get(name)
        if record is None or record.ended is not None:
            self._records[name] = _Record(now)

    def has(self, name: str) -> bool:
        """Whether `name` has ever been received."""
        return name in self._records

    def lose(self, name: str, since: float, reason: str) -> None:
        """Note that `name` has been received up to `since`, and not after it."""
        record = self._records.get(name)
        if record is not None and record.down is None and record.ended is None:
            known = record.holes[-1].end if record.holes else record.begin
            record.down = (max(since, known), reason)

    def regain(self, name: str, now: float) -> None:
        """Note that `name` is received again."""
        record = self._records.get(name)
        if record is None or record.down is None:
            return
        since, reason = record.down
        record.down = None
        self._add(record, Interval(since, max(since, now), "missing", reason))

    def fill(self, name: str, start: float, end: float) -> None:
        """Note that the messages missing from `start` to `end` have been fetched."""
        record = self._records.get(name)
        if record is not None:
            record.holes = [part for hole in record.holes for part in _filled(hole, start, end)]

    def hole(self, hole: Interval, *names: str) -> None:
        """Note an interval in which messages of `names` are missing or were backfilled."""
        for name in names:
            record = self._records.get(name)
            if record is not None:
                limit = float("inf") if record.down is None else record.down[0]  # its messages came before the loss
                start, end = min(hole.start, limit), min(hole.end, limit)
                self._add(record, Interval(start, end, hole.kind, hole.reason, hole.missed))

    def end(self, name: str, now: float) -> None:
        """Note that `name` is no longer wanted."""
        record = self._records.get(name)
        if record is not None and record.ended is None:
            record.ended = now

    def of(self, name: str, now: float) -> list[Interval]:
        """The contiguous intervals from the beginning to `now`; an empty list for an unknown name."""
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
        # The stream may stop at the very message that ended a gap. An interval of zero length shows that it ended.
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
        if last is not None and start < last.end:  # they overlap: the later hole gets the rest
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
    """Split a hole whose part from `start` to `end` has been fetched."""
    begin, stop = max(hole.start, start), min(hole.end, end)
    if hole.kind != "missing" or begin >= stop:
        return [hole]
    parts = [Interval(begin, stop, "backfilled", hole.reason)]
    if hole.start < begin:
        parts.insert(0, Interval(hole.start, begin, "missing", hole.reason, hole.missed))
    if stop < hole.end:
        parts.append(Interval(stop, hole.end, "missing", hole.reason, hole.missed))
    return parts
