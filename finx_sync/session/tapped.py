"""What a tap is told besides batches; a `StateChange` is told as it is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from finx_sync.notices import GapReason
from finx_sync.pipeline.queue import Connection
from finx_sync.venues.base import Request, Subscription

__all__ = [
    "Asked",
    "LineCancelled",
    "LineClosed",
    "LineOpened",
    "LineReplacing",
    "LineSucceeded",
    "Look",
    "Wish",
]


@dataclass(frozen=True)
class LineOpened:
    """A connection is open.

    Attributes:
        connection: which.
        secrets: what must never be written down.
    """

    connection: Connection
    secrets: tuple[str, ...] = dataclasses.field(repr=False)


@dataclass(frozen=True)
class Asked:
    """A request is about to be sent, whose answer this venue ties to it by its order or its id.

    Attributes:
        connection: that it goes to.
        request: what it is; its text may hold a key.
    """

    connection: Connection
    request: Request = dataclasses.field(repr=False)


@dataclass(frozen=True)
class LineClosed:
    """A connection is gone; see `Session.line_closed`.

    Attributes:
        connection, covered_until, reason: as there.
        by_stop: whether the stream was stopping, so that no gap follows.
    """

    connection: Connection
    covered_until: float
    reason: GapReason
    by_stop: bool


@dataclass(frozen=True)
class LineReplacing:
    """Another connection of a line is being opened, to replace the present one.

    Attributes:
        line: its name.
        owner: who opens it, the `owner` of the `Connection` to come.
    """

    line: str
    owner: object


@dataclass(frozen=True)
class LineCancelled:
    """The connection that `owner` was to open could not be opened."""

    owner: object


@dataclass(frozen=True)
class LineSucceeded:
    """A connection has replaced an older one.

    Attributes:
        connection: which.
        looked: the time of the `Look` at which that was decided, monotonic; 0 where the older one's end decided it.
    """

    connection: Connection
    looked: float


@dataclass(frozen=True)
class Look:
    """The dispatch thread looks at what is due, in its place among the messages."""


@dataclass(frozen=True)
class Wish:
    """A subscription is wanted, or no more.

    Attributes:
        subscription: which.
        wanted: whether it is.
        line: the name of the connection that serves it.
    """

    subscription: Subscription
    wanted: bool
    line: str
