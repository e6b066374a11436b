"""What the parts of a venue say to each other: what a message asked for, and what is to be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

import msgspec

from finx_sync.errors import LONGEST_COMPLAINT, FinxSyncError, UnreadableMessageError
from finx_sync.messages import Message

__all__ = [
    "NOTHING",
    "Authentication",
    "Command",
    "Confirmed",
    "Control",
    "Decoded",
    "Ignored",
    "KeepAliveReply",
    "Notify",
    "Operation",
    "Outcome",
    "Postponed",
    "Reconnect",
    "Refused",
    "Report",
    "Request",
    "RequestAnswer",
    "Resubscribe",
    "ServerError",
    "Several",
    "Subscription",
    "Topic",
    "Unknown",
    "Unreadable",
    "words",
]


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
    """Readable JSON of a shape that this venue's codec does not know."""


@dataclass(frozen=True)
class RequestAnswer:
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
Decoded = Message | Control | RequestAnswer | Unknown | Unreadable


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
class Notify:
    """Something that other threads may be waiting for has changed in the state: wake them."""


Command = Control | Resubscribe | Report | Notify
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


def words(value: Any) -> str:
    """What a server says, as text: it may be any JSON value, of any size and depth."""
    try:
        return str(value)[:LONGEST_COMPLAINT]
    except (RecursionError, ValueError):  # ValueError: an integer of thousands of digits
        return f"({type(value).__name__} that is too deep or too long to show)"
