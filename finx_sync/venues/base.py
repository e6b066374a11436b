"""What a venue is: a dialect, pure functions between payloads and messages.

A dialect does no I/O and knows no clock, no thread and no socket; what it needs of these is handed in. Everything that
keeps a stream alive is the same for all venues and lives in `session` and `dispatch`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from finx_sync.errors import LONGEST_COMPLAINT, UnreadableMessageError
from finx_sync.messages import Message

__all__ = [
    "MAIN_LINE",
    "Authentication",
    "Confirmed",
    "Dialect",
    "Ignored",
    "KeepAliveReply",
    "Periodic",
    "Postponed",
    "Reconnect",
    "Refused",
    "ServerError",
    "Several",
    "Subscription",
    "Unknown",
    "Unreadable",
    "words",
]

MAIN_LINE = ""
"""The name of a venue's connection where one serves all subscriptions."""


class Subscription(NamedTuple):
    """One wish: a kind of stream and what of it. A tuple, since it is looked up for each message after a connect.

    Attributes:
        kind: the venue's word, such as "contract" or "spot".
        name: the instrument or pair.
    """

    kind: str
    name: str


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
class Unreadable:
    """A payload that is no message.

    Attributes:
        error: why, with a redacted excerpt.
    """

    error: UnreadableMessageError


Control = (
    Authentication | KeepAliveReply | ServerError | Confirmed | Refused | Postponed | Reconnect | Ignored | Several
)
Decoded = Message | Control | Unknown | Unreadable


def words(value: Any) -> str:
    """What a server says, as text: it may be any JSON value, of any size and depth."""
    try:
        return str(value)[:LONGEST_COMPLAINT]
    except (RecursionError, ValueError):  # ValueError: an integer of thousands of digits
        return f"({type(value).__name__} that is too deep or too long to show)"


class Dialect(abc.ABC):
    """One venue's protocol.

    `key` stands for the account's credentials: a string, or the venue's own object where one string is not enough.
    `now` is the time of the connect, UNIX seconds, for venues that want it signed.

    Attributes:
        venue: its name in texts.
        message_types: what `decode` can return for handlers.
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

    def line_of(self, subscription: Subscription) -> str:
        """The name of the connection that serves `subscription`; one for all unless the venue needs more."""
        return MAIN_LINE

    @property
    def has_main_line(self) -> bool:
        """Whether there is a connection even without any subscription."""
        return True

    @abc.abstractmethod
    def url(self, key: Any, line: str) -> str:
        """Where the connection named `line` goes."""

    def url_for(self, key: Any, line: str, wishes: Sequence[Subscription]) -> str:
        """The same, for venues with `asks_by_url`: with what is to be streamed."""
        return self.url(key, line)

    def headers(self, key: Any, line: str, now: float) -> dict[str, str]:
        """HTTP headers of the handshake."""
        return {}

    @abc.abstractmethod
    def opening(self, key: Any, now: float) -> Sequence[str]:
        """What to send first on a new connection; subscriptions follow."""

    @abc.abstractmethod
    def subscribe(self, key: Any, subscription: Subscription) -> str | None:
        """The message that asks for a stream; None where the URL asks for it."""

    def subscribe_all(self, key: Any, subscriptions: Sequence[Subscription]) -> list[str]:
        """The messages that ask for several streams of one connection; for venues that take many in one message."""
        texts = [self.subscribe(key, subscription) for subscription in subscriptions]
        return [text for text in texts if text is not None]

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
        """Turn payloads into messages, one for each, in order; never raises."""
