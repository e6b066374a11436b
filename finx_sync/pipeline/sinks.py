"""Whoever follows a stream beside its own handlers: a recorder, a relay. From one run of the stream to the next."""

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
    """The sinks of a stream, and what there is at this moment: a sink that comes later begins with that.

    Attributes:
        all: the sinks; replaced by any thread. Costs one look a batch while there is none.
        order: held while an event is given to the sinks and queued, so that all have the events in the same order.
            Reentrant, since a signal handler may stop the stream in the midst of it.
    """

    def __init__(self) -> None:
        self.all: tuple[Sink, ...] = ()
        self.order = threading.RLock()
        # Guarded by `order`:
        self._subscriptions: dict[Subscription, SubscriptionAdded] = {}
        self._connections: dict[Connection, ConnectionOpened] = {}
        self._state: StateChanged | None = None

    def reset_after_fork(self) -> None:
        """In the child of a fork: whoever held the lock has not come along."""
        self.order = threading.RLock()

    def add(self, sink: Sink) -> None:
        """Give all events from now on to a sink, after those that say what there is already."""
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
        """Give it nothing more."""
        with self.order:
            self.all = tuple(one for one in self.all if one is not sink)

    def begin(self) -> None:
        """A run begins, in which there is nothing yet."""
        with self.order:
            self._subscriptions.clear()
            self._connections.clear()
            self._state = None

    def put(self, event: Event) -> None:
        """Give an event to every sink; the caller holds `order`."""
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
