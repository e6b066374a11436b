"""What a tap is told besides batches; a `StateChange` is told as it is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from finx_sync.dispatch.inbox import Connection
from finx_sync.notices import GapReason
from finx_sync.venues.base import Subscription

__all__ = ["LineClosed", "LineOpened", "Wish"]


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
class Wish:
    """A subscription is wanted, or no more."""

    subscription: Subscription
    wanted: bool
