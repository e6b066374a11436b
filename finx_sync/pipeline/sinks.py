"""The sinks that follow a stream besides its handlers, such as a recorder or a relay. They outlast single runs."""

from __future__ import annotations

import threading

from finx_sync.events import (
    Batch,
    Connection,
    ConnectionClosed,
    ConnectionOpened,
    Event,
    Sink,
    StateChanged,
    SubscriptionAdded,
    SubscriptionRemoved,
)
from finx_sync.state import State, StateChange
from finx_sync.venues.base import Subscription

__all__ = ["Sinks"]


class Sinks:
    """The sinks of a stream, and the current subscriptions, connections and state for sinks that are added later.

    Attributes:
        all: the sinks. A tuple that is replaced as a whole under `order`, so `EventQueue.put` may check it without the
            lock; a batch queued while the first sink is being added may or may not reach that sink.
        order: held while an event is given to the sinks and queued, so that all get the events in the same order.
            Reentrant, since a signal handler may stop the stream while its thread holds it.
    """

    def __init__(self) -> None:
        self.all: tuple[Sink, ...] = ()
        self.order = threading.RLock()
        # Guarded by `order`:
        self._subscriptions: dict[Subscription, SubscriptionAdded] = {}
        self._connections: dict[Connection, ConnectionOpened] = {}
        self._state: StateChanged | None = None

    def reset_after_fork(self) -> None:
        """Replace the lock in a forked child: the thread that held it does not exist there."""
        self.order = threading.RLock()

    def add(self, sink: Sink) -> None:
        """Add a sink. It first gets the events that describe the current situation, then all new ones."""
        with self.order:
            for added in self._subscriptions.values():
                sink.put(added)
            for opened in self._connections.values():
                sink.put(opened)
            if self._state is not None:
                last = self._state
                sink.put(StateChanged(last.arrived, last.at, StateChange(State.NEW, last.change.new)))
            self.all = (*self.all, sink)

    def remove(self, sink: Sink) -> None:
        """Remove a sink; it gets no more events."""
        with self.order:
            self.all = tuple(one for one in self.all if one is not sink)

    def begin(self) -> None:
        """Begin a new run, which has no subscriptions and connections yet."""
        with self.order:
            self._subscriptions.clear()
            self._connections.clear()
            self._state = None

    def put(self, event: Event) -> None:
        """Give an event to every sink. The caller holds `order`."""
        if not isinstance(event, Batch):
            self._follow(event)
        for sink in self.all:
            sink.put(event)

    def _follow(self, event: Event) -> None:
        match event:
            case SubscriptionAdded():
                self._subscriptions[event.subscription] = event
            case SubscriptionRemoved():
                self._subscriptions.pop(event.subscription, None)
            case ConnectionOpened():
                self._connections[event.connection] = event
            case ConnectionClosed():
                self._connections.pop(event.connection, None)
            case StateChanged():
                self._state = event
