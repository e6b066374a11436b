"""What of a recording cannot be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from finx_sync.recorder.format import BlockHeader

__all__ = ["Damage"]


@dataclass(frozen=True)
class Damage:
    """A part of a recording that is damaged or missing. Its times are UNIX seconds.

    Attributes:
        path: which file.
        offset, length: where in it, and how many bytes are no sound block; 0 bytes where they are not there at all.
        at_end: whether nothing sound follows in this recording, as after a crash.
        what: a sentence for people.
        start: when the last record before it was written down, or the recording began.
        end: when the first record after it was; as `start` where none follows.
        missed: how many messages are missing; None where that is not known.
        follows: the header of the first sound block after it; None in a recording of version 1, and at the end.
        is_last: whether a sound record follows directly; several damages may come together, and share their times.
    """

    path: Path
    offset: int
    length: int
    at_end: bool
    what: str
    start: float
    end: float
    missed: int | None = None
    follows: BlockHeader | None = field(default=None, repr=False)
    is_last: bool = True

    def __str__(self) -> str:
        count = "" if self.missed is None else f"; {self.missed} messages are missing"
        return f"{self.path.name}: {self.what}{count}"
