"""What a venue remembers in one run, and how it is driven.

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

from collections.abc import Container, Hashable, Sequence
from typing import Any, ClassVar

from finx_sync.venues.base.commands import NOTHING, Outcome, Request, Subscription, Topic

__all__ = ["VenueState"]


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
