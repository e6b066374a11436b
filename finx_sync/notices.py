"""Reports of a stream about itself: gaps, silence, lag. Times are UNIX seconds of the same clock as `received_at`."""

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
"""Why messages are missing; `Gap` describes each reason."""


@dataclass(frozen=True)
class Gap:
    """A period in which messages were, or may have been, missed.

    It is reported before the first message after it. Its times are times of receipt: all messages up to `start` and
    from `end` on have been received.

    Attributes:
        start: the last time up to which all messages are known to have been received, UNIX seconds.
        end: the first time from which all messages are received again, UNIX seconds.
        names: the names of which messages may be missing; sorted.
        reason: "connection lost" (an outage); "server" (the server closed the connection, or requested a new one);
            "stale" (the server did not answer a keep-alive); "suspend" (the machine slept); "reconnect" and "rotation"
            (the user requested a new connection); "drift" (a new connection, because the feed of the old one fell
            behind); "slow consumer" (handlers fell behind, and the oldest messages were dropped); "conflated" (handlers
            fell behind, and newer states replaced older ones: no current state is missing); "damaged recording" (on a
            replay: a part of the recording is missing or cannot be read); "trimmed" (of a feed on Redis: messages were
            removed before this reader had read them, or Redis lost them); "relay lost" (of a feed on Redis: another
            relay took over, and cannot know what the one before it had received).
        missed: the number of missing messages; None if it is unknown, in which case there may be none.
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
    """An interval in the coverage of one name.

    Attributes:
        start, end: UNIX seconds.
        kind: "received", "backfilled" or "missing".
        reason: the reason of the gap, even if it was backfilled; "" for "received".
        missed: the number of missing messages; None if it is unknown.
    """

    start: float
    end: float
    kind: Literal["received", "backfilled", "missing"]
    reason: str = ""
    missed: int | None = None


@dataclass(frozen=True)
class Stale:
    """A subscription without a message for longer than its `stale_after`.

    Attributes:
        name: the name that is subscribed.
        age: seconds since its last message, or, if it has had none, since it was subscribed.
        connected: whether its connection is open and the peer answers pings.
    """

    name: str
    age: float
    connected: bool


@dataclass(frozen=True)
class Lag:
    """The handlers have fallen behind, or have caught up.

    Attributes:
        seconds: the age of the oldest waiting message.
        waiting: the number of waiting messages.
        dropped: the number of messages dropped in this run so far.
        held: whether reading is paused, so that the server has to wait.
    """

    seconds: float
    waiting: int
    dropped: int
    held: bool

    def __str__(self) -> str:
        if not self.held and not self.seconds:
            return f"the handlers have caught up; {self.dropped} messages have been dropped so far"
        held = "; reading is paused, so the server has to wait" if self.held else ""
        return f"the handlers are {self.seconds:.1f} s behind: {self.waiting} messages are waiting{held}"


@dataclass(frozen=True)
class Drift:
    """A feed falls behind while data flows, or has caught up: messages arrive ever older, by the venue's own times.

    Attributes:
        kind: the message type, such as "ContractTick".
        lag: seconds by which messages now arrive older than when the feed was at its freshest.
        growth: seconds by which the lag grows each second; 0.2 for a feed at 0.8 of its speed.
        since: when the drift began, UNIX seconds.
        caught_up: whether the drift is over.
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
            f"the feed of {self.kind} is falling behind: messages arrive {self.lag:.1f} s older than they did, and "
            f"{self.growth:.2f} s older each second"
        )
