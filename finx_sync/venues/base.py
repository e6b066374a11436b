"""What a venue is: a codec, pure functions between payloads and messages, and a state for each run.

The codec (`Dialect`) remembers nothing of what it has decoded or encoded: the same bytes mean the same, on any thread,
however often they are read. What a venue has to remember (which requests are open, books, tables, what was handed on
before) is in its `VenueState`. One is made for each run: for a live session, for a replay, for a conversion. Neither of
the two does I/O or knows a clock, a thread or a socket; what they need of these is handed in. Everything that keeps a
stream alive is the same for all venues and lives in `session` and `dispatch`.

How the state is driven, whoever drives it (`finx_sync.pipeline.venue`), on the dispatch thread and in this order:

1. `added` before a subscription is asked for, `removed` before it is taken back.
2. `requested` before a request is sent, with the connection that it goes to.
3. `opened` and `closed` where the connection's messages begin and end.
4. `take` for each decoded message of a type that is in `takes`, after duplicates of two connections have been sorted
   out and before any handler. The other types reach handlers, or `finx_sync.pipeline.controls`, as they were decoded.
5. `unreadable`, `missed` and `round` when a message could not be read, when messages were lost, and now and then.

Each returns an `Outcome`: what handlers are given, and what is to be done.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Container, Hashable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, NamedTuple

import msgspec

from finx_sync.errors import LONGEST_COMPLAINT, FinxSyncError, UnreadableMessageError
from finx_sync.messages import Message
from finx_sync.venues.columns import TableFormat, of_message

__all__ = [
    "MAIN_ENDPOINT",
    "NOTHING",
    "Answer",
    "Authentication",
    "Changed",
    "Command",
    "Confirmed",
    "Decoded",
    "Dialect",
    "Ignored",
    "KeepAliveReply",
    "Operation",
    "Outcome",
    "Periodic",
    "Postponed",
    "Reconnect",
    "Refused",
    "Report",
    "Request",
    "Resubscribe",
    "ServerError",
    "Several",
    "Subscription",
    "Topic",
    "Unknown",
    "Unreadable",
    "VenueState",
    "words",
]

MAIN_ENDPOINT = ""
"""The name of a venue's connection where one serves all subscriptions."""


class Subscription(NamedTuple):
    """One wish: a kind of stream and what of it. A tuple, since it is looked up for each message after a connect.

    Attributes:
        kind: the venue's word, such as "contract" or "spot".
        name: the instrument or pair.
    """

    kind: str
    name: str


Operation = Literal["open", "subscribe", "unsubscribe"]
"""What a request is for: "open" is what a connection begins with, such as a login."""


@dataclass(frozen=True)
class Request:
    """A message to the server that it may answer.

    Attributes:
        text: what is sent. It may hold a key, and is never shown or written down.
        op: what it is for.
        subscriptions: what it is about.
        number: its id, where this venue's requests have ids.
    """

    text: str = field(repr=False)
    op: Operation
    subscriptions: tuple[Subscription, ...] = ()
    number: int | None = None


@dataclass(frozen=True)
class Periodic:
    """A message that the venue wants again and again.

    Attributes:
        interval: seconds.
        text: what to send.
    """

    interval: float
    text: str


@dataclass(frozen=True)
class Authentication:
    """The server's verdict on the key.

    Attributes:
        accepted: what it is.
        said: the server's words where it refused, not yet redacted.
    """

    accepted: bool
    said: str = ""


@dataclass(frozen=True)
class KeepAliveReply:
    """The server's answer to the application-level keep-alive."""


@dataclass(frozen=True)
class ServerError:
    """An error frame.

    Attributes:
        said: the server's words, not yet redacted.
    """

    said: str


@dataclass(frozen=True)
class Confirmed:
    """The server granted a subscription."""

    subscription: Subscription


@dataclass(frozen=True)
class Refused:
    """The server refused a subscription: it is asked for no more.

    Attributes:
        subscription: which.
        said: the server's words, not yet redacted.
    """

    subscription: Subscription
    said: str


@dataclass(frozen=True)
class Postponed:
    """The server cannot take a subscription now: it is asked for again.

    Attributes:
        subscription: which.
        seconds: to wait before.
        said: the server's words, not yet redacted.
    """

    subscription: Subscription
    seconds: float
    said: str


@dataclass(frozen=True)
class Reconnect:
    """The server wants us to come back on a new connection.

    Attributes:
        said: the server's words, not yet redacted.
    """

    said: str


@dataclass(frozen=True)
class Ignored:
    """A message of the protocol's own that asks for nothing."""


@dataclass(frozen=True)
class Several:
    """More than one of these in one payload, such as the answer to a request for many streams.

    Attributes:
        parts: in order.
    """

    parts: tuple[Control, ...]


@dataclass(frozen=True)
class Unknown:
    """Readable JSON of a shape that this venue's dialect does not know."""


@dataclass(frozen=True)
class Answer:
    """What the server says to a request, where its meaning depends on what was asked: the venue's state knows."""


@dataclass(frozen=True)
class Unreadable:
    """A payload that is no message.

    Attributes:
        error: why, with a redacted excerpt.
    """

    error: UnreadableMessageError


Control = (
    Authentication | KeepAliveReply | ServerError | Confirmed | Refused | Postponed | Reconnect | Ignored | Several
)
Decoded = Message | Control | Answer | Unknown | Unreadable


@dataclass(frozen=True)
class Resubscribe:
    """Take subscriptions back and ask for them again: what the server has sent of them is wrong or incomplete.

    A replay has no server to ask. There, what was asked anew when it was recorded follows by itself.

    Attributes:
        subscriptions: which.
        why: for the log; empty where another command has reported it.
    """

    subscriptions: tuple[Subscription, ...]
    why: str = ""


@dataclass(frozen=True)
class Report:
    """Pass an error to `on_error`."""

    error: FinxSyncError


@dataclass(frozen=True)
class Changed:
    """Something that other threads may be waiting for has changed in the state: wake them."""


Command = Control | Resubscribe | Report | Changed
Topic = type[Message] | str
"""What handlers are registered for: a type of message, or the name of an event."""


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What follows from what a venue state was handed.

    Attributes:
        messages: for the user's handlers, in order, each with the topic that they are registered for.
        commands: what is to be done, in order, before the messages are handed on.
        is_duplicate: whether the message brought nothing but what was handed on before.
        names: further names under which the message is the newest one.
    """

    messages: Sequence[tuple[Topic, Any]] = ()
    commands: Sequence[Command] = ()
    is_duplicate: bool = False
    names: Sequence[str] = ()


NOTHING: Final = Outcome()


class VenueState:
    """What a venue remembers in one run; see the module's text for who calls what, and when.

    All methods are for one thread at a time, the dispatch thread, unless a venue says otherwise of its own. Whatever
    other threads read (books, tables) is guarded by the lock that the state was made with. `now` is seconds on a clock
    that only goes forward: a live session's, or the recording's.

    Attributes:
        takes: the decoded types that `take` wants.
    """

    takes: ClassVar[frozenset[type]] = frozenset()

    def added(self, subscription: Subscription, now: float) -> Outcome:
        """A subscription is about to be asked for, now or when its connection opens; it may be wanted already."""
        return NOTHING

    def removed(self, subscription: Subscription, now: float) -> Outcome:
        """A subscription is wanted no more, or the server has refused it."""
        return NOTHING

    def requested(self, connection: Hashable, request: Request) -> None:
        """A request is about to be sent on a connection; it may be the first that is heard of the connection."""

    def opened(self, connection: Hashable, endpoint: str, now: float) -> Outcome:
        """A connection is open; what `take` is given of it follows."""
        return NOTHING

    def closed(self, connection: Hashable, endpoint: str, now: float) -> Outcome:
        """It is gone, and what was read on it has been handed over before."""
        return NOTHING

    def take(self, message: Any, connection: Hashable | None, now: float, wanted: Container[Topic]) -> Outcome:
        """Take in a decoded message.

        Args:
            message: of one of the types in `takes`; a `Message` has its `received_at`.
            connection: that brought it; None for a `Message`, whose meaning must not depend on it.
            now: see above.
            wanted: the topics that have handlers: what is of no other use need not be made for the rest.
        """
        return NOTHING

    def withheld(self, messages: Sequence[Any]) -> None:
        """These of what `take` has returned were not handed on, since the stream stops."""

    def unreadable(self, endpoint: str, now: float) -> Outcome:
        """A message of a line could not be read: nobody knows what it said."""
        return NOTHING

    def missed(self, reason: str, now: float) -> Outcome:
        """Messages were lost; `reason` is that of the gap (see `finx_sync.notices.GapReason`)."""
        return NOTHING

    def round(self, now: float) -> Outcome:
        """Time has passed. Called about twice a second."""
        return NOTHING


def words(value: Any) -> str:
    """What a server says, as text: it may be any JSON value, of any size and depth."""
    try:
        return str(value)[:LONGEST_COMPLAINT]
    except (RecursionError, ValueError):  # ValueError: an integer of thousands of digits
        return f"({type(value).__name__} that is too deep or too long to show)"


class Dialect(abc.ABC):
    """One venue's protocol: the codec. Pure, but for where it connects to and what subscriptions are spelled as.

    `key` stands for the account's credentials: a string, or the venue's own object where one string is not enough.
    `now` is the time of the connect, UNIX seconds, for venues that want it signed.

    Attributes:
        venue: its name in texts.
        message_types: the messages that `decode` can return: for handlers, or for the venue's state, which makes of
            them what handlers get.
        kinds: the kind of subscription that each message type comes from, where its `name` is the subscription's: the
            first such message proves that the subscription flows.
        can_overlap: whether a second connection may carry the same messages for a moment, and comparing payloads tells
            which came twice.
        asks_by_url: whether the URL names the subscriptions, so that another one needs another connection; it is
            opened before the old one goes. See `url_for`.
        idle_ping: seconds without a message from the server, and the text to send then; None for none.
        reflex: given every batch on the io thread, returns texts to send at once, for a server that wants an answer
            however slow the handlers are; must be cheap. None, the usual case, costs nothing.
    """

    venue: ClassVar[str]
    message_types: ClassVar[tuple[type[Message], ...]]
    kinds: ClassVar[dict[type, str]] = {}
    idle_ping: ClassVar[tuple[float, str] | None] = None
    can_overlap: ClassVar[bool] = False
    asks_by_url: ClassVar[bool] = False
    reflex: Callable[[Sequence[bytes]], Sequence[str]] | None = None

    def endpoint_of(self, subscription: Subscription) -> str:
        """The name of the connection that serves `subscription`; one for all unless the venue needs more."""
        return MAIN_ENDPOINT

    @property
    def has_main_endpoint(self) -> bool:
        """Whether there is a connection even without any subscription."""
        return True

    @abc.abstractmethod
    def url(self, key: Any, endpoint: str) -> str:
        """Where the connection named `endpoint` goes."""

    def url_for(self, key: Any, endpoint: str, subscriptions: Sequence[Subscription]) -> str:
        """The same, for venues with `asks_by_url`: with what is to be streamed."""
        return self.url(key, endpoint)

    def headers(self, key: Any, endpoint: str, now: float) -> dict[str, str]:
        """HTTP headers of the handshake."""
        return {}

    @abc.abstractmethod
    def opening(self, key: Any, now: float) -> Sequence[str]:
        """What to send first on a new connection; subscriptions follow."""

    @abc.abstractmethod
    def subscribe(self, key: Any, subscription: Subscription) -> str | None:
        """The message that asks for a stream; None where the URL asks for it."""

    def subscribe_all(self, key: Any, subscriptions: Sequence[Subscription], first: int) -> list[Request]:
        """The requests for several streams of one connection; for venues that take many in one message.

        Args:
            key: see above.
            subscriptions: what to ask for.
            first: how many of these requests were made on the connection before, for venues that number them.
        """
        texts = [(self.subscribe(key, one), one) for one in subscriptions]
        return [Request(text, "subscribe", (one,)) for text, one in texts if text is not None]

    @abc.abstractmethod
    def unsubscribe(self, key: Any, subscription: Subscription) -> str | None:
        """The message that ends a stream; None where the venue knows none."""

    def probe(self, key: Any) -> str | None:
        """A message that the server answers with `KeepAliveReply`; None where the venue knows none."""
        return None

    @abc.abstractmethod
    def periodic(self, key: Any) -> Sequence[Periodic]:
        """What to send regularly while a connection is open."""

    @abc.abstractmethod
    def decode(self, payloads: Sequence[bytes]) -> list[Decoded]:
        """Turn payloads into messages, one for each, in order; never raises, and remembers nothing. Any thread."""

    def formats(self, decoded: Iterable[Decoded]) -> Sequence[TableFormat]:
        """The tables that a recording becomes; their rows are made of what handlers get.

        Args:
            decoded: all messages of the recording, for venues whose messages say which tables and columns there are;
                the others leave them alone.
        """
        return [of_message(kind) for kind in self.message_types]

    def new_state(
        self,
        lock: AbstractContextManager[Any] | None = None,
        after: VenueState | None = None,
        *,
        everything: bool = False,
    ) -> VenueState | None:
        """What the venue remembers in one run; None where it need not remember anything.

        Args:
            lock: guards what other threads read of it; None where there are no others. It may be entered again by the
                thread that holds it.
            after: the state of the same live stream's run before, whose events are not to be handed on again; None for
                the first, and for a replay or a conversion.
            everything: return also what handlers get only where it is asked for, such as deleted rows: for conversions.
        """
        return None
