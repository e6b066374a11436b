"""The part of a day to fetch, and the questions to the server. Pure."""

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
    """The part of one day to fetch; milliseconds since the epoch, both ends included."""

    date: str
    first: int
    last: int


@dataclass(frozen=True, eq=False)
class Question:
    """A question to the server.

    Attributes:
        kind: "page" for tickHistory, "snap" for tickSnap.
        date: the day.
        position: the first millisecond to fetch, since the epoch; for a snap, the moment.
        day, segment: those that take the answer.
        attempt: how many answers to it were wrong.
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
