"""What a stream consists of: the events that cross from the connections' threads to the dispatch thread.

All of them go through one bounded queue, in order, and `finx_sync.pipeline.pipeline.Pipeline` handles them one after
the other. Nothing else decides what handlers see, so the events written down are a recording, and the same events read
back are its replay; whoever wants to follow a stream (a recorder, a relay) is given them as a `Sink`.

Events never change once they have been made. Only the flags of a `Connection` do, which is not an event itself.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from finx_sync.errors import FinxSyncError
from finx_sync.notices import GapReason
from finx_sync.state import StateChange
from finx_sync.venues.base import Request, Subscription

__all__ = [
    "Batch",
    "Candidate",
    "Connection",
    "ConnectionClosed",
    "ConnectionOpened",
    "ErrorOccurred",
    "Event",
    "FailureOccurred",
    "HistoryFetched",
    "MessagesDropped",
    "NoticeGiven",
    "Reached",
    "RecordingDamaged",
    "ReplacementBegan",
    "ReplacementCancelled",
    "ReplacementTookOver",
    "RequestSent",
    "Sink",
    "StateChanged",
    "SubscriptionAdded",
    "SubscriptionRemoved",
    "TimerFired",
]


class Connection:
    """One open connection, from its opening to its end; the next one of the same endpoint is another.

    The flags are single assignments by the thread that owns the connection, and may be read by any.

    Attributes:
        endpoint: the name of the endpoint that it goes to.
        owner: identifies whoever opened it, and nothing else.
        is_confirmed: whether the server has taken the key, or has had its time to refuse it.
        is_given_up: whether another connection serves the endpoint instead.
        is_over: whether it has ended.
    """

    __slots__ = ("__weakref__", "endpoint", "is_confirmed", "is_given_up", "is_over", "owner")

    def __init__(self, endpoint: str, owner: object = None) -> None:
        self.endpoint = endpoint
        self.owner = owner
        self.is_confirmed = False
        self.is_given_up = False
        self.is_over = False

    def __repr__(self) -> str:
        return f"<Connection {self.endpoint!r}>"


class Batch:
    """What one read of a connection brought. Not a dataclass, since making one is part of each message's latency.

    Attributes:
        payloads: complete messages, valid UTF-8, in order.
        at: when they were read, UNIX seconds (wall clock).
        arrived: the same on the monotonic clock.
        connection: which brought them.
        size: bytes of all payloads.
    """

    __slots__ = ("arrived", "at", "connection", "payloads", "size")

    def __init__(self, payloads: list[bytes], at: float, arrived: float, connection: Connection) -> None:
        self.payloads = payloads
        self.at = at
        self.arrived = arrived
        self.connection = connection
        self.size = sum(map(len, payloads))

    def parts(self, size: int) -> Iterator[Batch]:
        """The same in batches of at most `size` payloads."""
        for begin in range(0, len(self.payloads), size):
            yield self.since(begin, begin + size)

    def since(self, begin: int, end: int | None = None) -> Batch:
        """The payloads from `begin` on, as a batch of their own."""
        return Batch(self.payloads[begin:end], self.at, self.arrived, self.connection)


@dataclass(frozen=True, slots=True)
class _Happened:
    """Every event but a batch.

    Attributes:
        arrived: when it happened, monotonic seconds.
        at: the same as UNIX seconds.
    """

    arrived: float
    at: float


@dataclass(frozen=True, slots=True)
class ConnectionOpened(_Happened):
    """A connection is open, and has been asked for all that is wanted of it; its batches follow.

    Attributes:
        connection: which.
        secrets: what it logs in with, which must never be written down.
    """

    connection: Connection
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class ConnectionClosed(_Happened):
    """A connection has ended; no batch of it follows.

    Attributes:
        connection: which.
        covered_until: everything up to then has been received on it, UNIX seconds.
        reason: what the gap that follows is called.
        by_stop: whether the stream was stopping, so that no gap follows.
    """

    connection: Connection
    covered_until: float
    reason: GapReason
    by_stop: bool = False


@dataclass(frozen=True, slots=True)
class RequestSent(_Happened):
    """A request is about to be sent, for venues whose answers mean nothing without it.

    Attributes:
        connection: that it goes to.
        request: what it is; its text may hold a key.
    """

    connection: Connection
    request: Request = field(repr=False)


@dataclass(frozen=True, slots=True)
class SubscriptionAdded(_Happened):
    """A subscription is about to be asked for, now or when its connection opens.

    Attributes:
        subscription: which.
        endpoint: the name of the endpoint that serves it.
    """

    subscription: Subscription
    endpoint: str


@dataclass(frozen=True, slots=True)
class SubscriptionRemoved(_Happened):
    """A subscription is no longer wanted, or the server does not grant it."""

    subscription: Subscription
    endpoint: str


class Candidate(Protocol):
    """Whoever opens the connection that is to replace another one. Any thread."""

    @property
    def is_confirmed(self) -> bool:
        """Whether the new connection is open and its key has been taken."""

    def owns(self, connection: Connection) -> bool:
        """Whether this is the new connection."""

    def carried(self) -> Iterable[Subscription]:
        """What the connection that serves the endpoint has been asked for."""

    def take_over(self, new: Connection, timer: float) -> bool:
        """Serve the endpoint by `new` from now on, and close the old connection; False if it has just failed.

        `timer` is that of `ReplacementTookOver`.
        """

    def give_up(self) -> None:
        """The old connection ended before the new one was open."""


@dataclass(frozen=True, slots=True)
class ReplacementBegan(_Happened):
    """A second connection of an endpoint is being opened, to replace the one that serves it.

    Attributes:
        old: the connection that serves the endpoint.
        owner: identifies whoever opens it: the `owner` of the connection to come.
        candidate: the same, to ask and to tell; the one thing that the pipeline asks while it handles events.
    """

    old: Connection
    owner: object
    candidate: Candidate = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReplacementCancelled(_Happened):
    """The connection that was to replace another one could not be opened.

    Attributes:
        endpoint: whose.
        owner: see `ReplacementBegan`.
        candidate: likewise.
    """

    endpoint: str
    owner: object
    candidate: Candidate = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReplacementTookOver(_Happened):
    """A connection has replaced an older one: written down a little later than the pipeline decided it.

    Attributes:
        connection: which serves the endpoint now.
        timer: the `arrived` of the timer at which that was decided; 0 where the older one's end decided it.
    """

    connection: Connection
    timer: float


@dataclass(frozen=True, slots=True)
class StateChanged(_Happened):
    """The stream's state has changed."""

    change: StateChange


@dataclass(frozen=True, slots=True)
class MessagesDropped(_Happened):
    """Messages were dropped unread, in this place: by the overflow rule, or by a recorder that could not keep up.

    Attributes:
        start, end: when the first and the last of them were received, UNIX seconds.
        count: how many.
    """

    start: float
    end: float
    count: int


@dataclass(frozen=True, slots=True)
class TimerFired(_Happened):
    """Time has passed: what is due is to be looked at.

    Attributes:
        handled: set when it has been handled; None where nobody waits for that.
        clock_stepped: whether the wall clock was set, or the machine slept, since the last one.
        is_held: whether a connection's reading is held back, so that what waits gets old because of us.
    """

    handled: threading.Event | None = None
    clock_stepped: bool = False
    is_held: bool = False


@dataclass(frozen=True, slots=True)
class NoticeGiven(_Happened):
    """Something to be reported to the handlers of a topic.

    Attributes:
        topic: such as "lag".
        value: what they are given.
    """

    topic: str
    value: Any


@dataclass(frozen=True, slots=True)
class ErrorOccurred(_Happened):
    """An error that does not end the stream: for the handlers of errors, or the log where there are none.

    Attributes:
        error: which.
        what: what the log calls it.
    """

    error: FinxSyncError
    what: str


@dataclass(frozen=True, slots=True)
class FailureOccurred(_Happened):
    """The stream is to end with an error once everything before it has been handed on."""

    error: FinxSyncError


@dataclass(frozen=True, slots=True)
class HistoryFetched(_Happened):
    """History has been asked for what a gap is missing; see `finx_sync.pipeline.backfill`.

    Attributes:
        filling: which gap of which subscription.
        fetched: what there was.
    """

    filling: Any
    fetched: Any


@dataclass(frozen=True, slots=True)
class Reached(_Happened):
    """Set once everything before it has been handed on, for a thread that waits for that."""

    event: threading.Event


@dataclass(frozen=True, slots=True)
class RecordingDamaged(_Happened):
    """A part of a recording is missing: only what is known to have gone on is relied on after it.

    Attributes:
        start, end: of the part, UNIX seconds.
        missed: messages in it; None where that is not known.
        subscriptions: what is wanted after it, with its endpoint; None where nothing says so.
        surviving: the connections that served their endpoints alone before it, and still do.
        lost: the other connections that were open before it.
    """

    start: float
    end: float
    missed: int | None
    subscriptions: dict[Subscription, str] | None
    surviving: frozenset[Connection]
    lost: tuple[Connection, ...]


Event = (
    Batch
    | ConnectionOpened
    | ConnectionClosed
    | RequestSent
    | SubscriptionAdded
    | SubscriptionRemoved
    | ReplacementBegan
    | ReplacementCancelled
    | ReplacementTookOver
    | StateChanged
    | MessagesDropped
    | TimerFired
    | NoticeGiven
    | ErrorOccurred
    | FailureOccurred
    | HistoryFetched
    | Reached
    | RecordingDamaged
)


class Sink(Protocol):
    """Follows a stream. Called on whichever thread an event comes from, in order; must not block."""

    def put(self, event: Event) -> None:
        """An event, which is queued for the handlers at the same moment."""
