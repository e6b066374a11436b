"""The types that connect the parts of a venue: what a message means, and the commands that follow from it."""

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
    """One subscription: a kind of stream, and an instrument.

    It is a tuple, which hashes fast, because after a connect it is looked up for each message.

    Attributes:
        kind: the kind of stream in the venue's own words, such as "contract" or "spot".
        name: the instrument or currency pair.
    """

    kind: str
    name: str


Operation = Literal["open", "subscribe", "unsubscribe"]
"""What a request does. "open" is for the first requests on a connection, such as a login."""


@dataclass(frozen=True)
class Request:
    """A message to the server that it may answer.

    Attributes:
        text: the message. It may contain a key, and is never shown or recorded.
        op: what the request does.
        subscriptions: the subscriptions that it concerns.
        number: its id, if the venue's requests have ids.
    """

    text: str = field(repr=False)
    op: Operation
    subscriptions: tuple[Subscription, ...] = ()
    number: int | None = None


@dataclass(frozen=True)
class Authentication:
    """The server has accepted or refused the key.

    Attributes:
        accepted: whether it has accepted the key.
        said: the server's words if it refused, not yet redacted.
    """

    accepted: bool
    said: str = ""


@dataclass(frozen=True)
class KeepAliveReply:
    """The server's answer to an application-level keep-alive message."""


@dataclass(frozen=True)
class ServerError:
    """An error message from the server.

    Attributes:
        said: the server's words, not yet redacted.
    """

    said: str


@dataclass(frozen=True)
class Confirmed:
    """The server has confirmed a subscription."""

    subscription: Subscription


@dataclass(frozen=True)
class Refused:
    """The server has refused a subscription, which is not requested again.

    Attributes:
        subscription: the subscription.
        said: the server's words, not yet redacted.
    """

    subscription: Subscription
    said: str


@dataclass(frozen=True)
class Postponed:
    """The server cannot accept a subscription now, so it is requested again later.

    Attributes:
        subscription: the subscription.
        seconds: how long to wait before the next request.
        said: the server's words, not yet redacted.
    """

    subscription: Subscription
    seconds: float
    said: str


@dataclass(frozen=True)
class Reconnect:
    """The server asks the client to reconnect.

    Attributes:
        said: the server's words, not yet redacted.
    """

    said: str


@dataclass(frozen=True)
class Ignored:
    """A protocol message that requires no action."""


@dataclass(frozen=True)
class Several:
    """Several control messages in one payload, such as the answer to a request for many subscriptions.

    Attributes:
        parts: the control messages, in order.
    """

    parts: tuple[Control, ...]


@dataclass(frozen=True)
class Unknown:
    """Valid JSON whose structure the venue's codec does not know."""


@dataclass(frozen=True)
class RequestAnswer:
    """The answer to a request, if its meaning depends on the request. The venue's state interprets it."""


@dataclass(frozen=True)
class Unreadable:
    """A payload that could not be decoded.

    Attributes:
        error: the reason, with a redacted excerpt.
    """

    error: UnreadableMessageError


Control = (
    Authentication | KeepAliveReply | ServerError | Confirmed | Refused | Postponed | Reconnect | Ignored | Several
)
Decoded = Message | Control | RequestAnswer | Unknown | Unreadable


@dataclass(frozen=True)
class Resubscribe:
    """Unsubscribe and subscribe again, because the data that the server has sent is wrong or incomplete.

    A replay ignores this command: the recording already contains what the live stream received after it.

    Attributes:
        subscriptions: the subscriptions to renew.
        why: the reason, for the log; empty if another command has reported it.
    """

    subscriptions: tuple[Subscription, ...]
    why: str = ""


@dataclass(frozen=True)
class Report:
    """Pass an error to `on_error`."""

    error: FinxSyncError


@dataclass(frozen=True)
class Notify:
    """Wake the threads that wait for a change of the venue's state."""


Command = Control | Resubscribe | Report | Notify
Topic = type[Message] | str
"""What a handler is registered for: a message type, or the name of an event."""


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """The result of a call of a venue's state.

    Attributes:
        messages: messages for the user's handlers, in order, each with its topic.
        commands: the commands to execute, in order, before the messages are delivered.
        is_duplicate: whether everything in the message had been delivered before.
        names: additional names under which the message is stored as the latest one.
    """

    messages: Sequence[tuple[Topic, Any]] = ()
    commands: Sequence[Command] = ()
    is_duplicate: bool = False
    names: Sequence[str] = ()


NOTHING: Final = Outcome()


def words(value: Any) -> str:
    """Convert what a server says to text. It may be any JSON value, of any size and depth."""
    try:
        return str(value)[:LONGEST_COMPLAINT]
    except (RecursionError, ValueError):  # ValueError: an integer of thousands of digits
        return f"({type(value).__name__} that is too deep or too long to show)"
