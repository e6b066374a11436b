"""What FTX's protocol has to remember in one run: open requests, order books, the events that were handed on."""

from __future__ import annotations

from collections.abc import Container, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Final

import msgspec

from finx_sync.errors import ChecksumError
from finx_sync.messages import Message
from finx_sync.venues.base import (
    NOTHING,
    Command,
    KeepAliveReply,
    Notify,
    Outcome,
    Report,
    Request,
    Resubscribe,
    Subscription,
    Topic,
    VenueState,
)
from finx_sync.venues.ftx.books import BOOKS, Books
from finx_sync.venues.ftx.conversation import FtxConversation
from finx_sync.venues.ftx.messages import (
    BookUpdate,
    Fills,
    FtxAnswer,
    FtxEvents,
    FtxFill,
    FtxOrder,
    FtxOrderBook,
    GroupedBookUpdate,
    Orders,
    Payments,
    Trades,
)
from finx_sync.venues.ftx.repair import Once

__all__ = ["FtxState"]

DROPPED: Final = frozenset({"slow consumer", "damaged recording", "trimmed", "relay lost"})
"""Reasons of gaps in which updates were lost on a connection that goes on."""

_set_received_at: Final = Message.__dict__["received_at"].__set__
"""Past `frozen`: events are completed here, before anyone sees them."""


class FtxState(VenueState):
    """Ties answers to requests, merges order books, and hands each fill and each change of an order on once.

    `book`, `answers` and `expect` are for any thread.

    Args:
        lock: guards the books and the answers.
        seen: the events that were handed on before this run.

    Attributes:
        seen: the events that have been handed on.
        duplicates: events that came again.
    """

    takes: ClassVar[frozenset[type]] = frozenset(
        {Trades, Fills, Orders, Payments, BookUpdate, GroupedBookUpdate, FtxAnswer, KeepAliveReply}
    )

    def __init__(self, lock: AbstractContextManager[Any] | None = None, seen: Once | None = None) -> None:
        self._lock = nullcontext() if lock is None else lock
        self._books = Books()
        self._conversations: dict[Hashable, FtxConversation] = {}
        self._newest = FtxConversation()
        self.seen = Once() if seen is None else seen
        self.duplicates = 0

    # For any thread

    def book(self, kind: type[FtxOrderBook], market: str) -> FtxOrderBook | None:
        """A market's book as it stands; None where there is none that can be trusted."""
        with self._lock:
            return self._books.picture(kind, market)

    def answers(self) -> dict[Subscription, str | None]:
        """What the server has said to each subscription of the newest connection; None for granted."""
        with self._lock:
            return dict(self._newest.answers)

    def expect(self, *subscriptions: Subscription) -> None:
        """These are about to be asked for: what was said to them before is no answer any more."""
        with self._lock:
            for one in subscriptions:
                self._newest.answers.pop(one, None)

    # For the dispatch thread

    def added(self, subscription: Subscription, now: float) -> Outcome:
        with self._lock:
            self._books.want(subscription, now)
        return NOTHING

    def removed(self, subscription: Subscription, now: float) -> Outcome:
        with self._lock:
            self._books.forget(subscription)
        return NOTHING

    def granted(self, subscription: Subscription, now: float) -> Outcome:
        with self._lock:
            self._newest.answers[subscription] = None
        return Outcome(commands=(Notify(),))

    def requested(self, connection: Hashable, request: Request) -> None:
        with self._lock:
            self._conversation(connection).asked(request)

    def opened(self, connection: Hashable, endpoint: str, now: float) -> Outcome:
        with self._lock:
            self._conversation(connection)
            self._books.drop(now)
        return NOTHING

    def closed(self, connection: Hashable, endpoint: str, now: float) -> Outcome:
        self._conversations.pop(connection, None)
        with self._lock:
            self._books.drop(now)
        return NOTHING

    def _conversation(self, connection: Hashable) -> FtxConversation:
        """A connection's; the first word on one makes it the newest."""
        found = self._conversations.get(connection)
        if found is None:
            found = self._newest = self._conversations[connection] = FtxConversation()
        return found

    def take(self, message: Any, connection: Hashable | None, now: float, wanted: Container[Topic]) -> Outcome:
        if isinstance(message, BookUpdate):
            return self._merge(message, now, wanted)
        if isinstance(message, FtxEvents):
            return self._take_apart(message, wanted)
        with self._lock:
            conversation = self._conversation(connection)
            if isinstance(message, FtxAnswer):
                return Outcome(commands=(conversation.answered(message), Notify()))
            conversation.has_ponged = True
            return Outcome(commands=(message,))

    def _merge(self, update: BookUpdate, now: float, wanted: Container[Topic]) -> Outcome:
        """Merge what the server says about a book; the whole book is made only for whoever wants it."""
        kind, own = BOOKS[type(update)], type(update)
        messages: list[tuple[Topic, Any]] = []
        with self._lock:
            fits, is_valid = self._books.merge(update, now)
            if is_valid:
                if own in wanted:
                    messages.append((own, update))
                if kind in wanted:
                    messages.append((kind, self._books.picture(kind, update.market)))
                return Outcome(messages)
            due = self._books.due_of(update, now)
        if fits and not due:
            return NOTHING
        commands: list[Command] = [] if fits else [Report(ChecksumError(update.market))]
        return Outcome(commands=[*commands, Resubscribe(due)] if due else commands)

    def _take_apart(self, frame: FtxEvents, wanted: Container[Topic]) -> Outcome:
        """Hand the events of a frame on one by one; what was handed on before is not handed on again."""
        messages: list[tuple[Topic, Any]] = []
        for event in frame.events:
            if self._is_new(event):
                _set_received_at(event, frame.received_at)
                messages.append((type(event), event))
            else:
                self.duplicates += 1
        is_duplicate = not messages and bool(frame.events)
        if type(frame) in wanted:
            messages.append((type(frame), frame))
        return Outcome(messages, is_duplicate=is_duplicate)

    def withheld(self, messages: Sequence[Any]) -> None:
        for message in messages:
            if (mark := _mark(message)) is not None:
                self.seen.forget(mark)

    def _is_new(self, event: Message) -> bool:
        mark = _mark(event)
        return mark is None or self.seen.is_new(mark)

    def unreadable(self, endpoint: str, now: float) -> Outcome:
        return self._distrust(now)

    def missed(self, reason: str, now: float) -> Outcome:
        return self._distrust(now) if reason in DROPPED else NOTHING

    def _distrust(self, now: float) -> Outcome:
        with self._lock:
            self._books.distrust(now)
        return self.round(now)

    def round(self, now: float) -> Outcome:
        with self._lock:
            due = self._books.due(now)
        return Outcome(commands=(Resubscribe(due),)) if due else NOTHING


def _mark(event: object) -> Hashable | None:
    """What shows whether an event has been handed on before; None for events that may always be handed on."""
    if isinstance(event, FtxFill):
        return event.id
    if isinstance(event, FtxOrder):  # an order changes under its id, so it is the id in this very state
        return msgspec.structs.astuple(event)
    return None
