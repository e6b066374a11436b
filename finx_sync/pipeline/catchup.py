"""Catching up when handlers are slower than the feed: newer states replace older ones; events are all kept."""

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
        message: the decoded message.
        payload: the bytes that it was decoded from.
        received_at: when it was read, UNIX seconds.
        arrived: when it was read, monotonic seconds.
    """

    message: Message
    payload: bytes
    received_at: float
    arrived: float


@dataclass(slots=True)
class Conflated:
    """The messages that were replaced by newer ones.

    Attributes:
        start, end: when the first and the last of them were received, UNIX seconds.
        names: their names.
        count: how many there were.
    """

    start: float
    end: float
    names: set[str]
    count: int


class Backlog:
    """The messages and events that wait for the handlers while the dispatch thread catches up. Dispatch thread only.

    A newer state replaces the older one of the same type and key and takes its position. So a busy name cannot starve
    the others, and no name waits longer than one pass through the backlog.

    Attributes:
        conflated: the messages replaced since this was last set to None.
        size: bytes of all waiting payloads.
    """

    def __init__(self) -> None:
        # An OrderedDict finds its first item in constant time. A dict skips every slot that was freed before, so that
        # emptying it from the front takes quadratic time.
        self._items: OrderedDict[Any, Waiting | Event] = OrderedDict()
        self.size = 0
        self._numbers = count()
        self.conflated: Conflated | None = None

    def __len__(self) -> int:
        return len(self._items)

    def add(self, waiting: Waiting) -> int:
        """Add a message. Returns how many older ones it replaced, 0 or 1."""
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
        """Add an event, which keeps its position among the messages."""
        self._items[next(self._numbers)] = event

    def pop(self) -> Waiting | Event:
        """Remove and return the first item."""
        _, item = self._items.popitem(last=False)
        if isinstance(item, Waiting):
            self.size -= len(item.payload)
        return item

    def newest(self) -> dict[tuple[type, str], float]:
        """When the newest waiting message of each type and name was received, UNIX seconds."""
        found: dict[tuple[type, str], float] = {}
        for item in self._items.values():
            if isinstance(item, Waiting):
                key = type(item.message), item.message.name_of(item.message)
                found[key] = max(item.received_at, found.get(key, 0.0))
        return found

    def messages(self) -> int:
        """The number of waiting messages."""
        return sum(isinstance(item, Waiting) for item in self._items.values())

    def events(self) -> list[Event]:
        """The waiting events, in order."""
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
