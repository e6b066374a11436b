"""Catching up: when handlers are slower than the feed, old states make way for newer ones; events never do."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import count
from typing import Any

from finx_sync.events import Event
from finx_sync.messages import Message

__all__ = ["Backlog", "Conflated", "Waiting"]


@dataclass(slots=True, eq=False)
class Waiting:
    """A message on its way to the handlers.

    Attributes:
        message: decoded.
        payload: its bytes.
        received_at, arrived: when it was read, UNIX seconds and monotonic.
    """

    message: Message
    payload: bytes
    received_at: float
    arrived: float


@dataclass(slots=True)
class Conflated:
    """What was replaced: between which receive times (UNIX seconds), whose, how many."""

    start: float
    end: float
    names: set[str]
    count: int


class Backlog:
    """What waits for the handlers while the dispatch thread catches up.

    A newer state takes the place of the older one of the same type and key, and its position: so a busy name cannot
    starve the others, and each name is at most as late as one round through all that wait.

    Attributes:
        conflated: what was replaced since it was last set to None.
        size: bytes of all payloads that wait.
    """

    def __init__(self) -> None:
        # Its first item is found in one step. A dictionary looks at every place that was freed before, so that taking
        # out all of them takes the square of the time.
        self._items: OrderedDict[Any, Waiting | Event] = OrderedDict()
        self.size = 0
        self._numbers = count()
        self.conflated: Conflated | None = None

    def __len__(self) -> int:
        return len(self._items)

    def add(self, waiting: Waiting) -> int:
        """Add a message; returns how many others it replaced, 0 or 1."""
        message = waiting.message
        self.size += len(waiting.payload)
        kind = type(message)
        if not kind.is_state:
            self._items[next(self._numbers)] = waiting
            return 0
        key = (kind, kind.state_of(message))
        old = self._items.get(key)
        self._items[key] = waiting
        if not isinstance(old, Waiting):
            return 0
        self.size -= len(old.payload)
        self._note(old, kind.name_of(message))
        return 1

    def add_event(self, event: Event) -> None:
        """Add something that must keep its place among the messages."""
        self._items[next(self._numbers)] = event

    def pop(self) -> Waiting | Event:
        """Take what has waited longest."""
        _, item = self._items.popitem(last=False)
        if isinstance(item, Waiting):
            self.size -= len(item.payload)
        return item

    def messages(self) -> int:
        """How many messages wait."""
        return sum(isinstance(item, Waiting) for item in self._items.values())

    def events(self) -> list[Event]:
        """The events that wait."""
        return [item for item in self._items.values() if not isinstance(item, Waiting)]

    def _note(self, old: Waiting, name: str) -> None:
        if self.conflated is None:
            self.conflated = Conflated(old.received_at, old.received_at, {name}, 1)
            return
        noted = self.conflated
        noted.start = min(noted.start, old.received_at)
        noted.end = max(noted.end, old.received_at)
        noted.names.add(name)
        noted.count += 1
