"""Drives a venue's state: passes it the events in order and executes its commands. Runs on the dispatch thread only.

A live session and a replay differ only in where the events come from, and in whether commands reach connections.
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
    """Calls the `VenueState` of a run; see `finx_sync.venues.base.state` for the order of the calls.

    Args:
        state: the state of this run; None if the venue has none.
        handlers: the registered handlers.

    Attributes:
        is_idle: whether there is no state.
        kinds: the user's message types that the state takes.
        answers: the other decoded types that it takes.
        now: the time of the event being handled, monotonic seconds.
        obey: executes a command of the state. Its second argument is the connection whose message caused the command,
            or None. Set before the first event.
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
        """Pass on a message of one of `kinds`, and execute the commands that follow from it."""
        outcome = self._take(message, None, self.now, self._handlers.wanted)
        if outcome.commands:
            self._obey(outcome)
        return outcome

    def withheld(self, messages: Sequence[Any]) -> None:
        """These messages from `expand` were not delivered, because the stream is stopping."""
        self._state.withheld(messages)

    def answer(self, message: object, connection: Connection) -> Outcome:
        """Pass on a message of one of `answers`. The caller executes the commands that follow from it."""
        return self._take(message, connection, self.now, self._handlers.wanted)

    def added(self, subscription: Subscription) -> None:
        """A subscription is about to be requested."""
        self._obey(self._state.added(subscription, self.now))

    def removed(self, subscription: Subscription) -> None:
        """A subscription is no longer wanted, or was refused."""
        self._obey(self._state.removed(subscription, self.now))

    def granted(self, subscription: Subscription) -> None:
        """A relay's feed contains this subscription."""
        self._obey(self._state.granted(subscription, self.now))

    def requested(self, connection: Connection, request: Request) -> None:
        """A request is about to be sent."""
        self._state.requested(connection, request)

    def opened(self, connection: Connection) -> None:
        """A connection is open."""
        self._obey(self._state.opened(connection, connection.endpoint, self.now))

    def closed(self, connection: Connection) -> None:
        """A connection has ended."""
        self._obey(self._state.closed(connection, connection.endpoint, self.now))

    def unreadable(self, endpoint: str) -> None:
        """A message from an endpoint could not be decoded."""
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
