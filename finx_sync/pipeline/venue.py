"""Drives a venue's state: hands it what happens, in order, and has done what it says. On the dispatch thread only.

A live session and a replay differ only in who calls this, and in what they do about a `Resubscribe`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from finx_sync.messages import Message
from finx_sync.pipeline.handlers import Handlers
from finx_sync.pipeline.queue import Connection
from finx_sync.venues.base import Command, Outcome, Request, Subscription, VenueState

__all__ = ["VenueDriver"]


class VenueDriver:
    """Hands a run's `VenueState` what happens; see `finx_sync.venues.base` for the order.

    Args:
        state: the run's own; None where the venue has none.
        now: tells when what is being handled happened, in seconds on a clock that only goes forward.
        handlers: who wants what.
        do: does what the state says; given the connection whose message it follows from, None where there is none.

    Attributes:
        is_idle: whether there is no state.
        kinds: the user's messages that the state takes.
        answers: the other decoded types that it takes.
    """

    def __init__(
        self,
        state: VenueState | None,
        now: Callable[[], float],
        handlers: Handlers,
        do: Callable[[Command, Connection | None], object],
    ) -> None:
        self.is_idle = state is None
        self._state = VenueState() if state is None else state
        self._take, self._now = self._state.take, now
        self._handlers = handlers
        self._do = do
        self.kinds = frozenset(kind for kind in self._state.takes if issubclass(kind, Message))
        self.answers = self._state.takes - self.kinds

    def expand(self, message: Message) -> Outcome:
        """Take in a message of one of `kinds`; what is to be done is done when this returns."""
        outcome = self._take(message, None, self._now(), self._handlers.wanted)
        if outcome.commands:
            self._obey(outcome)
        return outcome

    def withheld(self, messages: Sequence[Any]) -> None:
        """What `expand` has returned was not handed on, since the stream stops."""
        self._state.withheld(messages)

    def answer(self, message: object, connection: Connection) -> None:
        """Take in one of `answers`."""
        self._obey(self._state.take(message, connection, self._now(), self._handlers.wanted), connection)

    def added(self, subscription: Subscription) -> None:
        """A subscription is about to be asked for."""
        self._obey(self._state.added(subscription, self._now()))

    def removed(self, subscription: Subscription) -> None:
        """A subscription is wanted no more, or was refused."""
        self._obey(self._state.removed(subscription, self._now()))

    def requested(self, connection: Connection, request: Request) -> None:
        """A request is about to be sent."""
        self._state.requested(connection, request)

    def opened(self, connection: Connection) -> None:
        """A connection is open."""
        self._obey(self._state.opened(connection, connection.line, self._now()))

    def closed(self, connection: Connection) -> None:
        """A connection is gone."""
        self._obey(self._state.closed(connection, connection.line, self._now()))

    def unreadable(self, line: str) -> None:
        """A message of a line could not be read."""
        self._obey(self._state.unreadable(line, self._now()))

    def missed(self, reason: str) -> None:
        """Messages were lost."""
        self._obey(self._state.missed(reason, self._now()))

    def round(self) -> None:
        """Time has passed."""
        self._obey(self._state.round(self._now()))

    def _obey(self, outcome: Outcome, connection: Connection | None = None) -> None:
        for command in outcome.commands:
            self._do(command, connection)
