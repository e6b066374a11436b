"""Between the threads: events go in on the connections' threads and come out on the dispatch thread.

Bounded, and what happens at the bound is the overflow rule's: as a rule the connection that brought the last batch
stops reading, the kernel's buffers fill, and TCP makes the server wait. `drop_oldest` reads on instead and drops what
has waited longest; `error` ends the stream.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Concatenate, Final, Literal, ParamSpec

from finx_sync.clock import Clock
from finx_sync.events import Batch, Event, MessagesDropped
from finx_sync.pipeline.counters import MessageCounter
from finx_sync.pipeline.leader import LeaderElection, Leadership, Source
from finx_sync.pipeline.sinks import Sinks

__all__ = ["DroppingQueue", "EventQueue", "Overflow"]

P = ParamSpec("P")

Overflow = Literal["auto", "block", "drop_oldest", "latest", "error"]

MAX_WAITING_BYTES: Final = 256 * 1024 * 1024
"""Bytes that may wait: the limit of messages alone would let large ones fill the memory."""

MAX_BATCH: Final = 4096
"""Messages of one batch: one read may bring half a million, and whatever is done to a batch must be done soon."""


class _Offer:
    """A connection's reading, offered to the dispatch thread; no event of the stream's."""

    __slots__ = ("leadership",)

    def __init__(self, leadership: Leadership) -> None:
        self.leadership = leadership


_Item = Event | _Offer | None
"""What is queued; None is the end."""


class EventQueue:
    """The one queue of a run.

    `put`, `emit`, `close` and the properties are for any thread; the rest for the dispatch thread.

    Args:
        limit: messages that may wait.
        counter: counts them.
        clock: stamps events.
        overflow: what happens when more come.
        sinks: who follows the stream.
    """

    def __init__(
        self,
        limit: int,
        counter: MessageCounter,
        clock: Clock | None = None,
        overflow: Overflow = "block",
        sinks: Sinks | None = None,
    ) -> None:
        self._sinks = sinks or Sinks()
        self._clock = clock or Clock()
        self._limit = limit
        self._low_water = limit // 2
        self._counter = counter
        # SimpleQueue is one C call on either side; a Condition would double the latency.
        self._queue: SimpleQueue[_Item] | DroppingQueue = (
            DroppingQueue() if overflow == "drop_oldest" else SimpleQueue()
        )
        self._ends = overflow == "error"
        self._lock = threading.Lock()  # guards _held and _bytes_dropped
        self._bytes_taken = 0  # the dispatch thread's
        self._bytes_dropped = 0
        self._held: set[Source] = set()
        self._election = LeaderElection(partial(_offer, self._queue))

    def reset_after_fork(self) -> None:
        """In the child of a fork: whoever held the lock has not come along."""
        self._lock = threading.Lock()
        self._sinks.reset_after_fork()

    def put(self, batch: Batch, source: Source) -> bool:
        """Queue a batch; makes room by the overflow rule when too much waits.

        Returns:
            Whether the stream goes on, which it does not beyond the limit where the rule is "error".
        """
        if len(batch.payloads) > MAX_BATCH:
            outcomes = [self.put(part, source) for part in batch.parts(MAX_BATCH)]  # every one, whatever the first says
            return all(outcomes)
        count, goes_on = len(batch.payloads), True
        waiting = self._counter.receive(count, batch.size)
        if not self._sinks.all:
            self._queue.put(batch)
        else:
            with self._sinks.order:  # or what other threads put at this moment would come first there, and second here
                self._sinks.put(batch)
                self._queue.put(batch)
        if waiting >= self._limit:
            goes_on = self._overflow(waiting - self._limit, source)
        elif waiting > count and self._waiting_bytes() >= MAX_WAITING_BYTES:
            goes_on = self._overflow(count, source)
        self._election.came(source, count, batch.arrived, alone=waiting == count)
        return goes_on

    def emit(self, kind: Callable[Concatenate[float, float, P], Event], *args: P.args, **kwargs: P.kwargs) -> None:
        """Make an event and queue it after all that waits now; it has happened at this moment.

        It is stamped under the lock that keeps the sinks and the queue in one order, so times never go back there.
        """
        with self._sinks.order:
            now = self._clock.monotonic()
            event = kind(now, now + self._clock.offset, *args, **kwargs)
            self._sinks.put(event)
            self._queue.put(event)
        self._election.interrupt()

    def close(self) -> None:
        """Make `get` return None once all that waits now has been taken."""
        self._queue.put(None)
        self._election.interrupt()

    def _overflow(self, surplus: int, source: Source) -> bool:
        if isinstance(self._queue, DroppingQueue):
            count, size = self._queue.drop_oldest(surplus)
            with self._lock:
                self._bytes_dropped += size
            self._counter.drop_waiting(count)
        elif self._ends:
            return False
        else:
            self._hold(source)
        return True

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

    def get(self) -> Event | None:
        """Wait for the next event; None means the end."""
        while True:
            while (leadership := self._election.leadership) is not None and self._queue.empty():
                if not leadership.turn():
                    self._election.leadership = None
            item = self._queue.get()
            if isinstance(item, Batch):
                self._bytes_taken += item.size
            elif isinstance(item, _Offer):
                self._election.leadership = item.leadership
                continue
            return item

    def get_waiting(self, *, keep_end: bool = True) -> Event | None:
        """The next event if there is one now; None also at the end, which `get` still reports if it is kept."""
        while True:
            try:
                item = self._queue.get_nowait()
            except Empty:
                return None
            if isinstance(item, Batch):
                self._bytes_taken += item.size
            elif isinstance(item, _Offer):
                self._election.leadership = item.leadership
                continue
            elif item is None and keep_end:
                self._queue.put(None)
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

    def drain(self) -> list[Event]:
        """Drop the batches that wait, counted; returns the other events, which are not dropped."""
        events: list[Event] = []
        while (event := self.get_waiting(keep_end=False)) is not None or not self._queue.empty():
            if isinstance(event, Batch):
                self._counter.drop_waiting(len(event.payloads))
            elif event is not None and not isinstance(event, MessagesDropped):
                events.append(event)
        self._release(self._counter.waiting)
        return events


def _offer(queue: SimpleQueue[_Item] | DroppingQueue, leadership: Leadership) -> None:
    queue.put(_Offer(leadership))


class DroppingQueue:
    """A queue that can lose its oldest messages. Safe from any thread; slower than SimpleQueue, which cannot.

    It has no Condition, whose lock an interrupt of the main thread could leave held.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # guards _items; re-entrant for signal handlers
        self._items: deque[_Item] = deque()
        self._tokens: SimpleQueue[None] = SimpleQueue()  # at least one for each item

    def put(self, item: _Item) -> None:
        """Add an item; None is the end."""
        with self._lock:
            self._tokens.put(None)  # first, so that an interrupt leaves no item that nobody looks for
            self._items.append(item)

    def empty(self) -> bool:
        """Whether nothing is in it."""
        return not self._items

    def get(self) -> _Item:
        """Wait for the oldest item."""
        while True:
            self._tokens.get()
            with self._lock:
                if self._items:
                    return self._items.popleft()

    def get_nowait(self) -> _Item:
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
            kept: deque[_Item] = deque()
            left, size = surplus, 0
            while left and self._items:
                item = self._items.popleft()
                if not isinstance(item, Batch):
                    kept.append(item)
                    continue
                count = min(left, len(item.payloads))
                left -= count
                size += sum(map(len, item.payloads[:count]))
                _note_dropped(kept, item, count)
                if count < len(item.payloads):
                    kept.append(item.since(count))
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


def _note_dropped(kept: deque[_Item], batch: Batch, count: int) -> None:
    """One event for drops in a row: the earlier one grows."""
    last, start = kept[-1] if kept else None, batch.at
    if isinstance(last, MessagesDropped):
        kept.pop()
        start, count = last.start, last.count + count
    kept.append(MessagesDropped(batch.arrived, batch.at, start, batch.at, count))
