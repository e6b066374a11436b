"""The events of a stream, which pass from the connections' threads to the dispatch thread.

All events go through one bounded queue, in order, and `finx_sync.pipeline.pipeline.Pipeline` handles them one after
the other. Nothing else determines what handlers see. A recording is therefore these events written to a file, and a
replay is the same events read back. A recorder or a relay follows a stream as a `Sink`.

Events are immutable. The flags of a `Connection` do change, but a `Connection` is not an event.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from finx_sync.errors import FinxSyncError
from finx_sync.notices import Gap, GapReason
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
    "GapReported",
    "HistoryFetched",
    "LastValuesRead",
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
    """One open connection, from its opening to its end. A reconnect makes a new `Connection`.

    Each flag changes from False to True at most once, in a single assignment, so any thread may read it without a lock.

    Attributes:
        endpoint: the name of the endpoint that it is connected to.
        owner: an object that identifies who opened it; it has no other use.
        is_confirmed: whether the server has accepted the key, or the time in which it would refuse it has passed.
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
    """The messages from one read of a connection.

    It is not a dataclass because the time to create one adds to the latency of each message.

    Attributes:
        payloads: complete messages, valid UTF-8, in order.
        at: when they were read, UNIX seconds (wall clock).
        arrived: when they were read, monotonic seconds.
        connection: the connection that they were read from.
        size: bytes of all payloads together.
    """

    __slots__ = ("arrived", "at", "connection", "payloads", "size")

    def __init__(self, payloads: list[bytes], at: float, arrived: float, connection: Connection) -> None:
        self.payloads = payloads
        self.at = at
        self.arrived = arrived
        self.connection = connection
        self.size = sum(map(len, payloads))

    def parts(self, size: int) -> Iterator[Batch]:
        """Split the batch into batches of at most `size` payloads."""
        for begin in range(0, len(self.payloads), size):
            yield self.since(begin, begin + size)

    def since(self, begin: int, end: int | None = None) -> Batch:
        """The payloads from index `begin` up to, but not including, `end`, as a new batch."""
        return Batch(self.payloads[begin:end], self.at, self.arrived, self.connection)


@dataclass(frozen=True, slots=True)
class _Happened:
    """The base of all events except `Batch`.

    Attributes:
        arrived: when it happened, monotonic seconds.
        at: when it happened, UNIX seconds.
    """

    arrived: float
    at: float


@dataclass(frozen=True, slots=True)
class ConnectionOpened(_Happened):
    """A connection is open and all its subscriptions have been requested; its batches follow.

    Attributes:
        connection: the connection.
        secrets: the credentials that it logs in with, which must never be recorded.
    """

    connection: Connection
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class ConnectionClosed(_Happened):
    """A connection has ended; no batch of it follows.

    Attributes:
        connection: the connection.
        covered_until: UNIX seconds; everything sent on it before this time has been received.
        reason: the reason given for the gap that follows.
        by_stop: whether it ended because the stream was stopping; no gap follows then.
    """

    connection: Connection
    covered_until: float
    reason: GapReason
    by_stop: bool = False


@dataclass(frozen=True, slots=True)
class RequestSent(_Happened):
    """A request is about to be sent. Some venues' answers can only be understood together with the request.

    Attributes:
        connection: the connection that it is sent on.
        request: the request; its text may contain a key.
    """

    connection: Connection
    request: Request = field(repr=False)


@dataclass(frozen=True, slots=True)
class SubscriptionAdded(_Happened):
    """A subscription is about to be requested, either now or when its connection opens.

    Attributes:
        subscription: the subscription.
        endpoint: the name of the endpoint that serves it.
    """

    subscription: Subscription
    endpoint: str


@dataclass(frozen=True, slots=True)
class SubscriptionRemoved(_Happened):
    """A subscription is no longer wanted, or the server has refused it."""

    subscription: Subscription
    endpoint: str


class Candidate(Protocol):
    """The opener of a connection that is to replace another one. Its methods may be called from any thread."""

    @property
    def is_confirmed(self) -> bool:
        """Whether the new connection is open and the server has accepted its key."""

    def owns(self, connection: Connection) -> bool:
        """Whether `connection` is the new connection."""

    def carried(self) -> Iterable[Subscription]:
        """The subscriptions that have been requested on the connection that serves the endpoint."""

    def take_over(self, new: Connection, timer: float) -> bool:
        """Let `new` serve the endpoint from now on, and close the old connection.

        Args:
            new: the new connection.
            timer: the `timer` of the `ReplacementTookOver` that follows.

        Returns:
            False if the new connection has just failed.
        """

    def give_up(self) -> None:
        """Report that the old connection ended before the new one was open."""


@dataclass(frozen=True, slots=True)
class ReplacementBegan(_Happened):
    """A second connection of an endpoint is being opened, to replace the one that serves it.

    Attributes:
        old: the connection that serves the endpoint.
        owner: the `owner` of the new connection.
        candidate: the opener of the new connection. It is the only object outside the pipeline that the pipeline
            queries while it handles events.
    """

    old: Connection
    owner: object
    candidate: Candidate = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReplacementCancelled(_Happened):
    """The connection that was to replace another one could not be opened.

    Attributes:
        endpoint: the name of the endpoint.
        owner: see `ReplacementBegan`.
        candidate: see `ReplacementBegan`.
    """

    endpoint: str
    owner: object
    candidate: Candidate = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReplacementTookOver(_Happened):
    """A connection has replaced an older one. It is recorded shortly after the pipeline made the decision.

    Attributes:
        connection: the connection that serves the endpoint now.
        timer: the `arrived` of the timer event at which the pipeline decided it; 0 if it did so because the older
            connection ended.
    """

    connection: Connection
    timer: float


@dataclass(frozen=True, slots=True)
class StateChanged(_Happened):
    """The stream's state has changed."""

    change: StateChange


@dataclass(frozen=True, slots=True)
class MessagesDropped(_Happened):
    """Messages were dropped at this position, by the overflow rule or by a recorder that could not keep up.

    Attributes:
        start, end: when the first and the last of them were received, UNIX seconds.
        count: the number of messages dropped.
    """

    start: float
    end: float
    count: int


@dataclass(frozen=True, slots=True)
class GapReported(_Happened):
    """A relay's feed says, or shows, that messages are missing at this position. Its connection stays open.

    Attributes:
        gap: the gap; without names it concerns all wanted subscriptions, else those of them that it names.
    """

    gap: Gap


@dataclass(frozen=True, slots=True)
class LastValuesRead(_Happened):
    """A relay's feed is read for some subscriptions from this position on.

    Attributes:
        payloads: the newest messages that the relay had received until then. They become the last values; handlers do
            not get them.
        times: when the relay received each of them, UNIX seconds.
        granted: the subscriptions that the feed contains.
    """

    payloads: tuple[bytes, ...]
    times: tuple[float, ...]
    granted: tuple[Subscription, ...]


@dataclass(frozen=True, slots=True)
class TimerFired(_Happened):
    """Time has passed, so the pipeline checks what is due.

    Attributes:
        handled: set by the dispatch thread once it has handled the event; None if no thread waits for that.
        clock_stepped: whether the wall clock was set, or the machine slept, since the last timer event.
        is_held: whether back-pressure has paused the reading of a connection, so that waiting messages grow old
            through no fault of the server.
    """

    handled: threading.Event | None = None
    clock_stepped: bool = False
    is_held: bool = False


@dataclass(frozen=True, slots=True)
class NoticeGiven(_Happened):
    """A notice for the handlers of a topic.

    Attributes:
        topic: the topic, such as "lag".
        value: the argument that the handlers are called with.
    """

    topic: str
    value: Any


@dataclass(frozen=True, slots=True)
class ErrorOccurred(_Happened):
    """An error that does not end the stream. It goes to the error handlers, or to the log if there are none.

    Attributes:
        error: the error.
        what: a description for the log.
    """

    error: FinxSyncError
    what: str


@dataclass(frozen=True, slots=True)
class FailureOccurred(_Happened):
    """The stream ends with an error once all earlier events have been handled."""

    error: FinxSyncError


@dataclass(frozen=True, slots=True)
class HistoryFetched(_Happened):
    """History has been fetched to fill a gap; see `finx_sync.pipeline.backfill`.

    Attributes:
        filling: the gap, and the subscription that it belongs to.
        fetched: the result.
    """

    filling: Any
    fetched: Any


@dataclass(frozen=True, slots=True)
class Reached(_Happened):
    """A marker: the dispatch thread sets `event` once it has handled all earlier events, for a thread that waits."""

    event: threading.Event


@dataclass(frozen=True, slots=True)
class RecordingDamaged(_Happened):
    """A part of a recording is missing. Only connections that are known to have stayed open are relied on after it.

    Attributes:
        start, end: the bounds of the missing part, UNIX seconds.
        missed: the number of messages in it; None if unknown.
        subscriptions: the subscriptions wanted after it, each with its endpoint; None if unknown.
        surviving: the connections that were the only ones of their endpoints before it, and still are.
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
    | GapReported
    | LastValuesRead
    | TimerFired
    | NoticeGiven
    | ErrorOccurred
    | FailureOccurred
    | HistoryFetched
    | Reached
    | RecordingDamaged
)


class Sink(Protocol):
    """Follows a stream. It is called in order, on the thread that each event comes from, and must not block."""

    def put(self, event: Event) -> None:
        """Take an event, which is put into the queue at the same moment."""
