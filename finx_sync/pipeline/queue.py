"""Between the threads: batches go in on the io threads and come out on the dispatch thread.

Bounded, and what happens at the bound is the overflow rule's: as a rule the connection that brought the last batch
stops reading, the kernel's buffers fill, and TCP makes the server wait. `drop_oldest` reads on instead and throws away
what has waited longest; `error` ends the stream.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Final, Literal

from finx_sync.pipeline.borrowing import Borrowing, Source
from finx_sync.pipeline.counters import MessageCounter
from finx_sync.pipeline.tap import Taps

__all__ = ["Batch", "Connection", "Dropped", "Event", "Inbox", "Item", "Ordered", "Overflow"]

Overflow = Literal["auto", "block", "drop_oldest", "latest", "error"]

MAX_WAITING_BYTES: Final = 256 * 1024 * 1024
"""Bytes that may wait: the limit of messages alone would let large ones fill the memory."""

MAX_BATCH: Final = 4096
"""Messages of one batch: one read may bring half a million, and whatever is done to a batch must be done soon."""


@dataclass(frozen=True, slots=True, eq=False)
class Connection:
    """One open connection, from its opening to its end; the next one of the same line is another.

    Attributes:
        line: the name of the line that it serves.
        is_given_up: whether another connection serves the line instead; any thread.
        owner: who opened it; nothing to those who only carry it about.
    """

    line: str
    is_given_up: Callable[[], bool] = field(default=lambda: False, repr=False)
    owner: object = field(default=None, repr=False)


class Batch:
    """What one read of a connection brought. Not a dataclass, since making one is part of each message's latency.

    Attributes:
        payloads: complete messages, valid UTF-8, in order.
        received_at: when they were read, UNIX seconds (wall clock).
        arrived: the same on the monotonic clock.
        connection: which brought them.
        size: bytes of all payloads.
    """

    __slots__ = ("arrived", "connection", "payloads", "received_at", "size")

    def __init__(self, payloads: list[bytes], received_at: float, arrived: float, connection: Connection) -> None:
        self.payloads = payloads
        self.received_at = received_at
        self.arrived = arrived
        self.connection = connection
        self.size = sum(map(len, payloads))

    def parts(self, size: int) -> Iterator[Batch]:
        """The same in batches of at most `size` payloads."""
        for begin in range(0, len(self.payloads), size):
            part = self.payloads[begin : begin + size]
            yield Batch(part, self.received_at, self.arrived, self.connection)


@dataclass(slots=True, eq=False)
class Dropped:
    """Messages that were thrown away unread, in their place.

    Attributes:
        start, end: when the first and the last of them were received, UNIX seconds.
        count: how many.
    """

    start: float
    end: float
    count: int


Event = Callable[[], object]
"""Something for the dispatch thread to do, in its place between the batches."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """An event that must not overtake any message before it, not even while the dispatch thread catches up."""

    event: Event


Item = Batch | Dropped | Ordered | Event


class Inbox:
    """A queue of batches and events.

    `put`, `post`, `close` and the properties are for any thread; the rest for the dispatch thread.

    Args:
        limit: messages that may wait.
        ledger: the books.
        overflow: what happens when more come.
        on_overflow: called on the io thread at every batch beyond the limit, where the rule is "error".
        taps: who listens in on every batch.
    """

    def __init__(
        self,
        limit: int,
        counter: MessageCounter,
        overflow: Overflow = "block",
        on_overflow: Callable[[], object] | None = None,
        taps: Taps | None = None,
    ) -> None:
        self._taps = taps or Taps()
        self._limit = limit
        self._low_water = limit // 2
        self._counter = counter
        # SimpleQueue is one C call on either side; a Condition would double the latency.
        self._queue: SimpleQueue[Item | None] | DroppingQueue = (
            DroppingQueue() if overflow == "drop_oldest" else SimpleQueue()
        )
        self._on_overflow = on_overflow if overflow == "error" else None
        self._lock = threading.Lock()  # guards _held and _bytes_dropped
        self._bytes_taken = 0  # the dispatch thread's
        self._bytes_dropped = 0
        self._held: set[Source] = set()
        self._borrowing = Borrowing(self.post)

    def forked(self) -> None:
        """In the child of a fork: whoever held the lock has not come along."""
        self._lock = threading.Lock()
        self._taps.forked()

    def put(self, batch: Batch, source: Source) -> None:
        """Queue a batch; makes room by the overflow rule when too much waits."""
        if len(batch.payloads) > MAX_BATCH:
            for part in batch.parts(MAX_BATCH):
                self.put(part, source)
            return
        count = len(batch.payloads)
        waiting = self._counter.receive(count, batch.size)
        if (tap := self._taps.tap) is None:
            self._queue.put(batch)
        else:
            with self._taps.order:  # or what other threads put at this moment would come first there, and second here
                tap.received(batch)
                self._queue.put(batch)
        if waiting >= self._limit:
            self._overflow(waiting - self._limit, source)
        elif waiting > count and self._waiting_bytes() >= MAX_WAITING_BYTES:
            self._overflow(count, source)
        self._borrowing.came(source, count, batch.arrived, alone=waiting == count)

    def _overflow(self, surplus: int, source: Source) -> None:
        if isinstance(self._queue, DroppingQueue):
            count, size = self._queue.drop_oldest(surplus)
            with self._lock:
                self._bytes_dropped += size
            self._counter.drop_waiting(count)
        elif self._on_overflow is not None:
            self._on_overflow()
        else:
            self._hold(source)

    def _hold(self, source: Source) -> None:
        with self._lock:
            self._held.add(source)
            source.pause_reading()
        # The dispatch thread may have emptied the queue before the line above: then nobody else would let it go on.
        self._release(self._counter.waiting)

    def _release(self, waiting: int) -> None:
        if not self._held or waiting > self._low_water or self._waiting_bytes() > MAX_WAITING_BYTES // 2:
            return
        with self._lock:
            held, self._held = self._held, set()
            for source in held:
                source.resume_reading()

    def post(self, event: Event | Ordered) -> None:
        """Queue something to be called on the dispatch thread after all that waits now."""
        self._queue.put(event)
        self._borrowing.interrupt()

    def close(self) -> None:
        """Make `get` return None once all that waits now has been taken."""
        self._queue.put(None)
        self._borrowing.interrupt()

    def get(self) -> Item | None:
        """Wait for the next item; None means the end."""
        while (reading := self._borrowing.reading) is not None and self._queue.empty():
            if not reading.turn():
                self._borrowing.reading = None
        item = self._queue.get()
        if isinstance(item, Batch):
            self._bytes_taken += item.size
        return item

    def get_waiting(self) -> Item | None:
        """The next item if there is one now; None also at the end, which `get` still tells."""
        try:
            item = self._queue.get_nowait()
        except Empty:
            return None
        if item is None:
            self._queue.put(None)
        elif isinstance(item, Batch):
            self._bytes_taken += item.size
        return item

    def _waiting_bytes(self) -> int:
        return self._counter.bytes_received - self._bytes_taken - self._bytes_dropped

    def take(self, count: int) -> None:
        """`count` messages are in hand now; lets held readers go on when little waits."""
        waiting = self._counter.take(count)
        if self._held:
            self._release(waiting)

    @property
    def is_holding(self) -> bool:
        """Whether a reader is held back now."""
        return bool(self._held)

    def holds(self, source: Source) -> bool:
        """Whether `source` is held back now."""
        return source in self._held

    def throw_away(self) -> list[Event]:
        """Drop the batches that wait, counted; returns the events among them, which are not dropped."""
        events: list[Event] = []
        while True:
            try:
                item = self._queue.get_nowait()
            except Empty:
                self._release(self._counter.waiting)
                return events
            if isinstance(item, Batch):
                self._bytes_taken += item.size
                self._counter.drop_waiting(len(item.payloads))
            elif isinstance(item, Ordered):
                events.append(item.event)
            elif item is not None and not isinstance(item, Dropped):
                events.append(item)


class DroppingQueue:
    """A queue that can lose its oldest messages. Safe from any thread; slower than SimpleQueue, which cannot.

    It has no Condition, whose lock an interrupt of the main thread could leave held.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # guards _items; re-entrant for signal handlers
        self._items: deque[Item | None] = deque()
        self._tokens: SimpleQueue[None] = SimpleQueue()  # at least one for each item

    def put(self, item: Item | None) -> None:
        """Add an item; None is the end."""
        with self._lock:
            self._tokens.put(None)  # first, so that an interrupt leaves no item that nobody looks for
            self._items.append(item)

    def empty(self) -> bool:
        """Whether nothing is in it."""
        return not self._items

    def get(self) -> Item | None:
        """Wait for the oldest item."""
        while True:
            self._tokens.get()
            with self._lock:
                if self._items:
                    return self._items.popleft()

    def get_nowait(self) -> Item | None:
        """The oldest item.

        Raises:
            queue.Empty: there is none.
        """
        while True:
            self._tokens.get_nowait()
            with self._lock:
                if self._items:
                    return self._items.popleft()

    def drop_oldest(self, surplus: int) -> tuple[int, int]:
        """Throw the oldest messages away; what is no message stays, in its order. Returns how many, and their bytes.

        Args:
            surplus: how many should go; fewer go when the dispatch thread has taken some meanwhile.
        """
        with self._lock:
            kept: deque[Item | None] = deque()
            left, size = surplus, 0
            while left and self._items:
                item = self._items.popleft()
                if not isinstance(item, Batch):
                    kept.append(item)
                    continue
                count = min(left, len(item.payloads))
                left -= count
                size += sum(map(len, item.payloads[:count]))
                _note_dropped(kept, Dropped(item.received_at, item.received_at, count))
                if count < len(item.payloads):
                    kept.append(Batch(item.payloads[count:], item.received_at, item.arrived, item.connection))
            self._items.extendleft(reversed(kept))
            self._fit_tokens()
            return surplus - left, size

    def _fit_tokens(self) -> None:
        """As many as there are items, whose number a drop has changed; one more while the dispatch thread holds one."""
        surplus = self._tokens.qsize() - len(self._items)
        for _ in range(-surplus):
            self._tokens.put(None)
        with suppress(Empty):  # the dispatch thread may have taken one just now
            for _ in range(surplus):
                self._tokens.get_nowait()


def _note_dropped(kept: deque[Item | None], more: Dropped) -> None:
    """One note for drops in a row: the earlier one grows."""
    last = kept[-1] if kept else None
    if isinstance(last, Dropped):
        kept[-1] = Dropped(last.start, more.end, last.count + more.count)
    else:
        kept.append(more)
