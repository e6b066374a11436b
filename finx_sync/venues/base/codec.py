"""A venue's codec: pure functions between payloads and messages.

The codec (`Codec`) keeps no state: decoding the same bytes always gives the same result, on any thread. What a venue
has to remember (open requests, order books, tables, events already delivered) is in its `VenueState`. Each run has its
own: a live session, a replay or a conversion. Neither the codec nor the state does I/O or uses a clock, a thread or a
socket; they are passed what they need. The code that keeps a stream alive is shared by all venues and is in
`finx_sync.session` and `finx_sync.pipeline`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from finx_sync.messages import Message
from finx_sync.venues.base.columns import TableFormat, of_message
from finx_sync.venues.base.commands import Decoded, Request, Subscription
from finx_sync.venues.base.state import VenueState

__all__ = ["MAIN_ENDPOINT", "Codec", "Periodic"]

MAIN_ENDPOINT = ""
"""The name of the endpoint if one endpoint serves all subscriptions."""


@dataclass(frozen=True)
class Periodic:
    """A message that the venue expects at regular intervals.

    Attributes:
        interval: seconds between two messages.
        text: the message.
    """

    interval: float
    text: str


class Codec(abc.ABC):
    """The codec of one venue's protocol. Pure, except for the server's address and the spelling of subscriptions.

    The argument `key` holds the account's credentials: a string, or an object of the venue's own if one string is not
    enough. `now` is the time of the connection attempt, UNIX seconds, for venues that require a signed timestamp.

    Attributes:
        venue: the venue's name in messages.
        message_types: the message types that `decode` can return. They go to handlers, or to the venue's state, which
            turns them into what handlers get.
        kinds: maps a message type to the kind of subscription that it comes from, if the message's `name` is the
            subscription's. The first such message proves that the subscription works.
        can_overlap: whether two connections may carry the same messages for a moment, so that duplicates can be found
            by comparing payloads.
        asks_by_url: whether the URL names the subscriptions, so that a new subscription needs a new connection. The new
            one is opened before the old one is closed. See `url_for`.
        idle_ping: seconds without a message from the server, and the text to send after them; None for no ping.
        reflex: called with every batch on the io thread; returns texts to send at once, for a server that requires
            an answer even while handlers are slow. It must be cheap. None, the usual case, costs nothing.
        base_url: the server's address, without a trailing slash.
    """

    venue: ClassVar[str]
    message_types: ClassVar[tuple[type[Message], ...]]
    kinds: ClassVar[dict[type, str]] = {}
    idle_ping: ClassVar[tuple[float, str] | None] = None
    can_overlap: ClassVar[bool] = False
    asks_by_url: ClassVar[bool] = False
    reflex: Callable[[Sequence[bytes]], Sequence[str]] | None = None

    def __init__(self, base_url: str = "") -> None:
        self.go_to(base_url)

    def go_to(self, url: str) -> None:
        """Connect to `url` from now on. The embedded sandbox only has an address once it is running."""
        self.base_url = url.rstrip("/")

    def endpoint_of(self, subscription: Subscription) -> str:
        """The name of the endpoint that serves `subscription`; by default, one endpoint serves all."""
        return MAIN_ENDPOINT

    @property
    def has_main_endpoint(self) -> bool:
        """Whether to connect even if there is no subscription."""
        return True

    def covers(self, wanted: Collection[Subscription], subscription: Subscription) -> bool:
        """Whether messages of `subscription` may belong to one of `wanted`; override it if names can overlap."""
        return subscription in wanted

    @abc.abstractmethod
    def url(self, key: Any, endpoint: str) -> str:
        """The URL of the endpoint named `endpoint`."""

    def url_for(self, key: Any, endpoint: str, subscriptions: Sequence[Subscription]) -> str:
        """Like `url`, but naming the subscriptions, for venues with `asks_by_url`."""
        return self.url(key, endpoint)

    def headers(self, key: Any, endpoint: str, now: float) -> dict[str, str]:
        """Additional HTTP headers for the handshake."""
        return {}

    def opening(self, key: Any, now: float) -> Sequence[str]:
        """The messages to send first on a new connection, such as a login; subscriptions follow."""
        return []

    def subscribe(self, key: Any, subscription: Subscription) -> str | None:
        """The message that requests a subscription; None if the URL does that."""
        return None

    def subscribe_all(self, key: Any, subscriptions: Sequence[Subscription], first: int) -> list[Request]:
        """The requests for several subscriptions of one connection. Override it if one message can request many.

        Args:
            key: the credentials; see `Codec`.
            subscriptions: the subscriptions to request.
            first: how many such requests the connection has sent before, for venues that number them.
        """
        texts = [(self.subscribe(key, one), one) for one in subscriptions]
        return [Request(text, "subscribe", (one,)) for text, one in texts if text is not None]

    def unsubscribe(self, key: Any, subscription: Subscription) -> str | None:
        """The message that ends a subscription; None if the venue has no such message."""
        return None

    def probe(self, key: Any) -> str | None:
        """A message that the server answers with `KeepAliveReply`; None if the venue has no such message."""
        return None

    def periodic(self, key: Any) -> Sequence[Periodic]:
        """The messages to send at regular intervals while a connection is open."""
        return []

    @abc.abstractmethod
    def decode(self, payloads: Sequence[bytes]) -> list[Decoded]:
        """Decode payloads into messages, one for each, in order. Never raises, and keeps no state. Any thread."""

    def begins_state(self, message: Message) -> bool:
        """Whether a message is the image that later messages of its name change, such as a whole order book.

        Whoever begins to read there needs nothing before it. Override it for venues that send such images.
        """
        return False

    def formats(self, decoded: Iterable[Decoded]) -> Sequence[TableFormat]:
        """The tables that a recording is converted to; their rows are made from what handlers get.

        Args:
            decoded: all messages of the recording, for venues whose messages determine the tables and columns; other
                venues do not consume them.
        """
        return [of_message(kind) for kind in self.message_types]

    def new_state(
        self,
        lock: AbstractContextManager[Any] | None = None,
        after: VenueState | None = None,
        *,
        everything: bool = False,
    ) -> VenueState | None:
        """Create the venue's state for one run; None if the venue has nothing to remember.

        Args:
            lock: guards what other threads read of the state; None if there are no other threads. It is reentrant.
            after: the state of the previous run of the same live stream, whose events must not be delivered again;
                None for the first run, and for a replay or a conversion.
            everything: also return what handlers only get on request, such as deleted rows; for conversions.
        """
        return None
