"""Between the threads: batches go in on the io threads and come out on the dispatch thread.

Bounded by holding the readers back, never by dropping: when too many messages wait, the connection that brought the
last batch stops reading, the kernel's buffers fill, and TCP makes the server wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Protocol

from finx_sync.dispatch.ledger import Ledger

__all__ = ["Batch", "Connection", "Event", "Inbox", "Source"]


class Source(Protocol):
    """A connection that can be told to wait. Both methods are safe from any thread."""

    def pause_reading(self) -> None:
        """Read nothing more until `resume_reading`."""

    def resume_reading(self) -> None:
        """Read on."""


@dataclass(frozen=True, slots=True, eq=False)
class Connection:
    """One open connection, from its opening to its end; the next one of the same line is another.

    Attributes:
        line: the name of the line that it serves.
    """

    line: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What one read of a connection brought.

    Attributes:
        payloads: complete messages, valid UTF-8, in order.
        received_at: when they were read, UNIX seconds (wall clock).
        connection: which brought them.
    """

    payloads: list[memoryview]
    received_at: float
    connection: Connection


Event = Callable[[], object]
"""Something else for the dispatch thread to do, in its place between the batches."""


class Inbox:
    """A queue of batches and events.

    `put`, `post` and `close` are for any thread; `get`, `take` and `throw_away` for the dispatch thread.

    Args:
        limit: messages that may wait before readers are held back.
        ledger: the books.
    """

    def __init__(self, limit: int, ledger: Ledger) -> None:
        self._limit = limit
        self._low_water = limit // 2
        self._ledger = ledger
        # SimpleQueue is one C call on either side; a Condition would double the latency.
        self._queue: SimpleQueue[Batch | Event | None] = SimpleQueue()
        self._lock = threading.Lock()  # guards _held
        self._held: set[Source] = set()

    def put(self, batch: Batch, source: Source) -> None:
        """Queue a batch; holds `source` back when too much waits."""
        waiting = self._ledger.receive(len(batch.payloads))
        self._queue.put(batch)
        if waiting >= self._limit:
            self._hold(source)

    def _hold(self, source: Source) -> None:
        with self._lock:
            self._held.add(source)
            source.pause_reading()
        # The dispatch thread may have emptied the queue before the line above: then nobody else would let it go on.
        self._release(self._ledger.waiting)

    def _release(self, waiting: int) -> None:
        if not self._held or waiting > self._low_water:
            return
        with self._lock:
            held, self._held = self._held, set()
            for source in held:
                source.resume_reading()

    def post(self, event: Event) -> None:
        """Queue something to be called on the dispatch thread after all that waits now."""
        self._queue.put(event)

    def close(self) -> None:
        """Make `get` return None once all that waits now has been taken."""
        self._queue.put(None)

    def get(self) -> Batch | Event | None:
        """Wait for the next batch or event; None means the end."""
        return self._queue.get()

    def take(self, count: int) -> None:
        """`count` messages of the last batch are in hand now; lets held readers go on when little waits."""
        self._release(self._ledger.take(count))

    def throw_away(self) -> list[Event]:
        """Drop the batches that wait, counted; returns the events among them, which are not dropped."""
        events: list[Event] = []
        while True:
            try:
                item = self._queue.get_nowait()
            except Empty:
                return events
            if isinstance(item, Batch):
                self.take(len(item.payloads))
                self._ledger.settle(dropped=len(item.payloads))
            elif item is not None:
                events.append(item)
