"""The state that a venue keeps during one run.

`finx_sync.pipeline.venue` calls its methods on the dispatch thread, in this order:

1. `added` before a subscription is requested, `removed` before it is cancelled.
2. `requested` before a request is sent, with the connection that it is sent on.
3. `opened` before the first message of a connection, `closed` after the last one.
4. `take` for each decoded message whose type is in `takes`, after duplicates between two connections have been removed
   and before any handler is called. Messages of other types go unchanged to handlers or `finx_sync.pipeline.controls`.
5. `unreadable` when a message could not be decoded, `missed` when messages were lost, and `round` at regular intervals.

Most of them return an `Outcome`: messages for the handlers, and commands to execute.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Sequence
from typing import Any, ClassVar

from finx_sync.venues.base.commands import NOTHING, Outcome, Request, Subscription, Topic

__all__ = ["VenueState"]


class VenueState:
    """The state that a venue keeps during one run; the module's docstring says when each method is called.

    Only the dispatch thread calls these methods, unless a venue documents otherwise. Data that other threads read
    (order books, tables) is guarded by the lock passed to `Codec.new_state`. `now` is seconds on a monotonic clock:
    that of the live session, or that of the recording.

    Attributes:
        takes: the types of decoded messages that are passed to `take`.
    """

    takes: ClassVar[frozenset[type]] = frozenset()

    def added(self, subscription: Subscription, now: float) -> Outcome:
        """A subscription is about to be requested, now or when its connection opens. It may have been added before."""
        return NOTHING

    def removed(self, subscription: Subscription, now: float) -> Outcome:
        """A subscription is no longer wanted, or the server has refused it."""
        return NOTHING

    def granted(self, subscription: Subscription, now: float) -> Outcome:
        """A subscription is read from a relay's feed, which contains it; nobody requests it here."""
        return NOTHING

    def requested(self, connection: Hashable, request: Request) -> None:
        """A request is about to be sent on a connection, for which `opened` may not have been called yet."""

    def opened(self, connection: Hashable, endpoint: str, now: float) -> Outcome:
        """A connection is open; `take` is called with its messages from now on."""
        return NOTHING

    def closed(self, connection: Hashable, endpoint: str, now: float) -> Outcome:
        """A connection has ended; `take` has been called with all its messages."""
        return NOTHING

    def take(self, message: Any, connection: Hashable | None, now: float, wanted: Container[Topic]) -> Outcome:
        """Process a decoded message.

        Args:
            message: a message of one of the types in `takes`; the `received_at` of a `Message` is set.
            connection: the connection that it was received on; None for a `Message`, whose meaning must not depend on
                the connection.
            now: see `VenueState`.
            wanted: the topics that have handlers. Results for other topics may be left out if nothing else needs them.
        """
        return NOTHING

    def withheld(self, messages: Sequence[Any]) -> None:
        """These messages from `take` were not delivered, because the stream is stopping."""

    def unreadable(self, endpoint: str, now: float) -> Outcome:
        """A message from an endpoint could not be decoded, so its content is unknown."""
        return NOTHING

    def missed(self, reason: str, now: float) -> Outcome:
        """Messages were lost; `reason` is the reason of the gap (see `finx_sync.notices.GapReason`)."""
        return NOTHING

    def round(self, now: float) -> Outcome:
        """Time has passed. Called about twice a second."""
        return NOTHING
