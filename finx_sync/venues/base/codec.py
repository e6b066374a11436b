"""A venue's codec: pure functions between payloads and messages.

The codec (`Codec`) remembers nothing of what it has decoded or encoded: the same bytes mean the same, on any thread,
however often they are read. What a venue has to remember (which requests are open, books, tables, what was handed on
before) is in its `VenueState`. One is made for each run: for a live session, for a replay, for a conversion. Neither of
the two does I/O or knows a clock, a thread or a socket; what they need of these is handed in. Everything that keeps a
stream alive is the same for all venues and lives in `session` and `dispatch`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from finx_sync.messages import Message
from finx_sync.venues.base.columns import TableFormat, of_message
from finx_sync.venues.base.commands import Decoded, Request, Subscription
from finx_sync.venues.base.state import VenueState

__all__ = ["MAIN_ENDPOINT", "Codec", "Periodic"]

MAIN_ENDPOINT = ""
"""The name of a venue's connection where one serves all subscriptions."""


@dataclass(frozen=True)
class Periodic:
    """A message that the venue wants again and again.

    Attributes:
        interval: seconds.
        text: what to send.
    """

    interval: float
    text: str


class Codec(abc.ABC):
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
        base_url: the server's address, without a slash at its end.
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
        """Connect there from now on; the embedded sandbox has an address once it runs."""
        self.base_url = url.rstrip("/")

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

    def opening(self, key: Any, now: float) -> Sequence[str]:
        """What to send first on a new connection, such as a login; subscriptions follow."""
        return []

    def subscribe(self, key: Any, subscription: Subscription) -> str | None:
        """The message that asks for a stream; None where the URL asks for it."""
        return None

    def subscribe_all(self, key: Any, subscriptions: Sequence[Subscription], first: int) -> list[Request]:
        """The requests for several streams of one connection; for venues that take many in one message.

        Args:
            key: see above.
            subscriptions: what to ask for.
            first: how many of these requests were made on the connection before, for venues that number them.
        """
        texts = [(self.subscribe(key, one), one) for one in subscriptions]
        return [Request(text, "subscribe", (one,)) for text, one in texts if text is not None]

    def unsubscribe(self, key: Any, subscription: Subscription) -> str | None:
        """The message that ends a stream; None where the venue knows none."""
        return None

    def probe(self, key: Any) -> str | None:
        """A message that the server answers with `KeepAliveReply`; None where the venue knows none."""
        return None

    def periodic(self, key: Any) -> Sequence[Periodic]:
        """What to send regularly while a connection is open."""
        return []

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
