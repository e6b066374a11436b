"""What a stream reports about itself: gaps, silence, lag. Times are UNIX seconds (wall clock) as of `received_at`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Drift", "Gap", "GapReason", "Interval", "Lag", "Stale"]

GapReason = Literal[
    "connection lost",
    "server",
    "slow consumer",
    "conflated",
    "suspend",
    "rotation",
    "stale",
    "reconnect",
    "drift",
    "damaged recording",
    "trimmed",
    "relay lost",
]
"""Why messages are missing; `Gap` says what each means."""


@dataclass(frozen=True)
class Gap:
    """Messages that were, or may have been, missed.

    It is reported before the first message after it. Its times are those at which messages were received: everything up
    to `start` came, and everything from `end` on.

    Attributes:
        start: the last moment up to which everything is known to have been received, UNIX seconds.
        end: the first moment from which on everything is received again.
        names: whose messages; sorted.
        reason: "connection lost" (an outage); "server" (it closed, or asked for a new connection); "stale" (it answered
            no keep-alive); "suspend" (the machine slept); "reconnect" and "rotation" (a new connection that the user
            asked for); "drift" (a new connection, since the feed of the old one fell behind); "slow consumer" (handlers
            fell behind, and the oldest messages were dropped); "conflated" (handlers fell behind, and newer states
            replaced older ones: nothing that still holds is missing); "damaged recording" (on a replay: a part of the
            recording cannot be read, or is not there); and of a feed that is read from Redis: "trimmed" (Redis had no
            room any more for what this reader had not read yet, or has lost it) and "relay lost" (another relay took
            over and cannot tell what the one before it had received).
        missed: how many messages, where that is known; None where it is not, which may mean none at all.
    """

    start: float
    end: float
    names: tuple[str, ...]
    reason: GapReason
    missed: int | None = None

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.end - self.start


@dataclass(frozen=True)
class Interval:
    """A stretch of time in the coverage of one name.

    Attributes:
        start, end: UNIX seconds.
        kind: "received", "backfilled" or "missing".
        reason: of what is missing or was; "" for what was received.
        missed: how many messages are missing, where that is known.
    """

    start: float
    end: float
    kind: Literal["received", "backfilled", "missing"]
    reason: str = ""
    missed: int | None = None


@dataclass(frozen=True)
class Stale:
    """A subscription that has gone quiet: no message for longer than its `stale_after`.

    Attributes:
        name: whose.
        age: seconds since its last message, or since it was subscribed on this connection where none came.
        connected: whether its connection is open; the peer answers pings.
    """

    name: str
    age: float
    connected: bool


@dataclass(frozen=True)
class Lag:
    """Handlers that fall behind, or have caught up.

    Attributes:
        seconds: age of the oldest message that waits.
        waiting: how many wait.
        dropped: how many were dropped in this run so far.
        held: whether the reader is held back, so that the server has to wait.
    """

    seconds: float
    waiting: int
    dropped: int
    held: bool

    def __str__(self) -> str:
        if not self.held and not self.seconds:
            return f"the handlers have caught up; {self.dropped} messages were dropped so far"
        held = "; the server has to wait" if self.held else ""
        return f"the handlers are {self.seconds:.1f} s behind: {self.waiting} messages wait{held}"


@dataclass(frozen=True)
class Drift:
    """A feed that falls behind while data flows, or has caught up: what arrives gets older, by the venue's own times.

    Attributes:
        kind: the message type, such as "ContractTick".
        lag: seconds by which what arrives now is older than what arrived when the feed was at its freshest.
        growth: seconds by which that grows each second; 0.2 for a feed at 0.8 of its speed.
        since: when it began, UNIX seconds.
        caught_up: whether it is over.
    """

    kind: str
    lag: float
    growth: float
    since: float
    caught_up: bool = False

    def __str__(self) -> str:
        if self.caught_up:
            return f"the feed of {self.kind} has caught up"
        return (
            f"the feed of {self.kind} falls behind: what arrives is {self.lag:.1f} s older than it was, and "
            f"{self.growth:.2f} s more each second"
        )
