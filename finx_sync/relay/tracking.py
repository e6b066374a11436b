"""What the entries of a feed say, and what is missing between them. Pure: no I/O, no clock.

`Tracker` takes the entries of one partition in order. It keeps the position of the last record, so a hole is found by
subtraction, and an entry that was read before, wholly or in part, is not handed on again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from finx_sync.notices import GapReason
from finx_sync.relay.wire import START, TERM, TIME, Position, pairs_of, read_notice

__all__ = ["Hole", "Notice", "Read", "Records", "Tracker"]


class Records(NamedTuple):
    """Payloads that the relay received at one moment, in order.

    Attributes:
        position: of the last of them; the one before it is one offset lower, and so on.
        at: when the relay received them, UNIX seconds.
        tags: of each payload, what it belongs to; see `finx_sync.relay.wire.read_tag`.
        payloads: exactly as they were received.
    """

    position: Position
    at: float
    tags: list[bytes]
    payloads: list[bytes]


class Notice(NamedTuple):
    """Something that the relay says about the feed.

    Attributes:
        position: of this record.
        at: the time of the payloads around it, UNIX seconds.
        name: like ``@gap``. A future version of the relay may write names that this one does not know.
        content: its JSON object; empty if it is damaged.
    """

    position: Position
    at: float
    name: bytes
    content: dict[str, Any]


class Hole(NamedTuple):
    """Records that are missing; it comes before the first record after them.

    Attributes:
        before: the last record that was read.
        after: the entry that was read next.
        missed: how many records are missing, notices included; None if nobody can tell, which may mean none.
        start, end: when the records before and after the hole were received by the relay, UNIX seconds.
        reason: "trimmed", or "relay lost" if another relay took over and cannot tell what was written before it.
    """

    before: Position
    after: Position
    missed: int | None
    start: float
    end: float
    reason: GapReason


Read = Records | Notice | Hole

_NOTICE: Final = b"@"
MAX_NAMES: Final = 100_000
"""Names that are remembered as no notices; whoever writes a feed may make up any number."""


class Tracker:
    """Turns the entries of one partition into records, notices and holes.

    Args:
        position: the last record that was read before; None or `START` to take whatever comes first.
        at: the time of that record, or when reading began, UNIX seconds.

    Attributes:
        position: the last record so far; None before the first.
        at: when the relay received it, UNIX seconds.
    """

    def __init__(self, position: Position | None = None, at: float = 0.0) -> None:
        self.position = None if position == START else position
        self.at = at
        self._plain: set[bytes] = {TIME}  # names that are known to be no notices

    def take(self, key: bytes, fields: list[bytes]) -> list[Read]:
        """Read one entry.

        Args:
            key: its ID.
            fields: its pairs as a flat list.

        Returns:
            What is new in it, in order; nothing if it was read before.
        """
        after, before = Position.read(key), self.position
        if before is not None and after <= before:
            return []
        names, values = fields[::2], fields[1::2]
        begin = after.offset - len(names) + names.count(TIME)
        at = self._time(values[0]) if names[0] == TIME else self.at
        found = self._missing(before, after, begin, at, fields)
        known = _known(before, after, begin)
        offset, place = begin, 0
        for cut in (*self._cuts(names), len(names)):
            if cut > place:  # payloads up to here
                offset += cut - place
                new = max(place, cut - max(0, offset - begin - known))
                if new < cut:
                    found.append(Records(Position(after.term, offset), at, names[new:cut], values[new:cut]))
            if cut < len(names):
                if names[cut] == TIME:
                    at = self._time(values[cut])
                else:
                    offset += 1
                    if offset - begin > known:
                        found.append(Notice(Position(after.term, offset), at, names[cut], read_notice(values[cut])))
            place = cut + 1
        self.position, self.at = after, at
        return found

    def _cuts(self, names: list[bytes]) -> list[int]:
        """Where there are times and notices among the names."""
        new = set(names) - self._plain  # each name is looked at once; later ones cost a look into a set
        if any(name.startswith(_NOTICE) for name in new):
            return [place for place, name in enumerate(names) if name.startswith(_NOTICE)]
        if len(self._plain) > MAX_NAMES:
            self._plain = {TIME}
        self._plain |= new
        cuts, place = [], -1
        for _ in range(names.count(TIME)):
            place = names.index(TIME, place + 1)
            cuts.append(place)
        return cuts

    def _time(self, value: bytes) -> float:
        """The value of a time; the time before it if it is damaged."""
        try:
            at = float(value)
        except ValueError:
            return self.at
        return at if math.isfinite(at) else self.at

    def _missing(
        self, before: Position | None, after: Position, begin: int, at: float, fields: Sequence[bytes]
    ) -> list[Read]:
        """The hole before an entry whose first record follows the offset `begin`, if there is one."""
        if before is None:
            return []
        missed: int | None
        if before.term == after.term:
            missed, reason = max(0, begin - before.offset), "trimmed"
        elif begin > 0:  # where the new term began is missing, too
            missed, reason = None, "trimmed"
        else:
            missed, reason = _missing_at_term(before, fields)
        if missed == 0:
            return []
        return [Hole(before, after, missed, self.at, max(self.at, at), reason)]  # type: ignore[arg-type]


def _known(before: Position | None, after: Position, begin: int) -> int:
    """How many of an entry's first records were read before."""
    return max(0, before.offset - begin) if before is not None and before.term == after.term else 0


def _missing_at_term(before: Position, fields: Sequence[bytes]) -> tuple[int | None, str]:
    """How many records are missing between the last one read and the first entry of a new term, and why."""
    name, value = next((pair for pair in pairs_of(fields) if pair[0] != TIME), (b"", b""))
    said = read_notice(value).get("previous") if name == TERM else None
    try:
        previous = Position.read(said) if isinstance(said, str) else START
    except ValueError:
        previous = START
    if previous <= before:
        return (0 if previous == before else None), "relay lost"
    return (previous.offset - before.offset if previous.term == before.term else None), "trimmed"
