"""The parts of a recording that cannot be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from finx_sync.recorder.format import BlockHeader

__all__ = ["Damage"]


@dataclass(frozen=True)
class Damage:
    """A part of a recording that is damaged or missing. Its times are UNIX seconds.

    Attributes:
        path: the file.
        offset, length: the position and the number of the damaged bytes in the file; a length of 0 if they are missing.
        at_end: whether nothing readable follows in this recording, as after a crash.
        what: a description for users.
        start: the time of the last record before it, or the beginning of the recording.
        end: the time of the first record after it; the same as `start` if none follows.
        missed: the number of missing messages; None if unknown.
        follows: the header of the first readable block after it; None in a recording of version 1, and at the end.
        is_last: whether a readable record follows directly. Several damages in a row share their times.
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
