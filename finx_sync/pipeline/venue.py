"""Drives a venue's state: hands it what happens, in order, and has done what it says. On the dispatch thread only.

A live session and a replay differ only in where the events come from, and in what becomes of the commands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from finx_sync.events import Connection
from finx_sync.messages import Message
from finx_sync.pipeline.handlers import Handlers
from finx_sync.venues.base import Command, Outcome, Request, Subscription, VenueState

__all__ = ["VenueDriver"]


class VenueDriver:
    """Hands a run's `VenueState` what happens; see `finx_sync.venues.base` for the order.

    Args:
        state: the run's own; None where the venue has none.
        handlers: who wants what.

    Attributes:
        is_idle: whether there is no state.
        kinds: the user's messages that the state takes.
        answers: the other decoded types that it takes.
        now: when what is being handled happened, in seconds on a clock that only goes forward.
        obey: does what the state says; given the connection whose message it follows from, None where there is none.
            Set before the first event.
    """

    obey: Callable[[Command, Connection | None], object]

    def __init__(self, state: VenueState | None, handlers: Handlers) -> None:
        self.is_idle = state is None
        self._state = VenueState() if state is None else state
        self._take = self._state.take
        self.now = 0.0
        self._handlers = handlers
        self.kinds = frozenset(kind for kind in self._state.takes if issubclass(kind, Message))
        self.answers = self._state.takes - self.kinds

    def expand(self, message: Message) -> Outcome:
        """Take in a message of one of `kinds`; what is to be done is done when this returns."""
        outcome = self._take(message, None, self.now, self._handlers.wanted)
        if outcome.commands:
            self._obey(outcome)
        return outcome

    def withheld(self, messages: Sequence[Any]) -> None:
        """What `expand` has returned was not handed on, since the stream stops."""
        self._state.withheld(messages)

    def answer(self, message: object, connection: Connection) -> Outcome:
        """Take in one of `answers`; what is to be done about it is the caller's."""
        return self._take(message, connection, self.now, self._handlers.wanted)

    def added(self, subscription: Subscription) -> None:
        """A subscription is about to be asked for."""
        self._obey(self._state.added(subscription, self.now))

    def removed(self, subscription: Subscription) -> None:
        """A subscription is wanted no more, or was refused."""
        self._obey(self._state.removed(subscription, self.now))

    def requested(self, connection: Connection, request: Request) -> None:
        """A request is about to be sent."""
        self._state.requested(connection, request)

    def opened(self, connection: Connection) -> None:
        """A connection is open."""
        self._obey(self._state.opened(connection, connection.endpoint, self.now))

    def closed(self, connection: Connection) -> None:
        """A connection is gone."""
        self._obey(self._state.closed(connection, connection.endpoint, self.now))

    def unreadable(self, endpoint: str) -> None:
        """A message of an endpoint could not be read."""
        self._obey(self._state.unreadable(endpoint, self.now))

    def missed(self, reason: str) -> None:
        """Messages were lost."""
        self._obey(self._state.missed(reason, self.now))

    def round(self) -> None:
        """Time has passed."""
        self._obey(self._state.round(self.now))

    def _obey(self, outcome: Outcome) -> None:
        for command in outcome.commands:
            self.obey(command, None)
