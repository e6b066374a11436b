"""What is wanted of a day, and what a server is asked for it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from finx_sync.functions.evidence import DAY_MS

if TYPE_CHECKING:
    from finx_sync.functions.day import Day
    from finx_sync.functions.reading import Segment

__all__ = ["Question", "Window"]


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
        attempt: how often it was answered wrongly.
    """

    kind: Literal["page", "snap"]
    date: str
    position: int
    day: Day
    segment: Segment | None = None
    attempt: int = 0

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
