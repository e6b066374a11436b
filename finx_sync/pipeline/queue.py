"""The queue between the connections' threads, which put events in, and the dispatch thread, which takes them out.

It is bounded, and the overflow rule decides what happens at the limit. By default, the connection that brought the last
batch stops reading, the kernel's buffers fill, and TCP makes the server wait. With `drop_oldest`, reading goes on and
the oldest messages are dropped. With `error`, the stream ends.
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
"""Bytes that may wait. A limit on the number of messages alone would let large messages fill the memory."""

MAX_BATCH: Final = 4096
"""Messages in one batch at most. One read may bring half a million, and each step on a batch must be short."""


class _Offer:
    """Offers the reading of a connection to the dispatch thread. It is not an event of the stream."""

    __slots__ = ("leadership",)

    def __init__(self, leadership: Leadership) -> None:
        self.leadership = leadership


_Item = Event | _Offer | None
"""An item of the queue; None marks the end."""


class EventQueue:
    """The event queue of a run.

    `put`, `emit`, `close`, `holds` and `is_holding` may be called from any thread, the other methods only from the
    dispatch thread.

    Args:
        limit: the number of messages that may wait.
        counter: counts the messages.
        clock: gives events their times.
        overflow: what happens beyond the limit.
        sinks: the sinks that follow the stream.
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
        # SimpleQueue needs one C call to put and one to get, both atomic; a Condition would double the latency.
        self._queue: SimpleQueue[_Item] | DroppingQueue = (
            DroppingQueue() if overflow == "drop_oldest" else SimpleQueue()
        )
        self._ends = overflow == "error"
        self._lock = threading.Lock()  # guards _held and _bytes_dropped
        # Other threads read it without a lock: an old value only makes them pause reading a little early.
        self._bytes_taken = 0  # written by the dispatch thread only
        self._bytes_dropped = 0
        self._held: set[Source] = set()
        self._election = LeaderElection(partial(_offer, self._queue))

    def reset_after_fork(self) -> None:
        """Replace the locks in a forked child: the thread that held them does not exist there."""
        self._lock = threading.Lock()
        self._sinks.reset_after_fork()

    def put(self, batch: Batch, source: Source) -> bool:
        """Queue a batch, and apply the overflow rule if too much is waiting.

        Returns:
            Whether the stream goes on; False beyond the limit if the overflow rule is "error".
        """
        if len(batch.payloads) > MAX_BATCH:
            outcomes = [self.put(part, source) for part in batch.parts(MAX_BATCH)]  # a list: put every part
            return all(outcomes)
        count, goes_on = len(batch.payloads), True
        # Counted before it is queued, so the dispatch thread cannot take a batch that is not counted as waiting yet.
        waiting = self._counter.receive(count, batch.size)
        if not self._sinks.all:
            self._queue.put(batch)
        else:
            with self._sinks.order:  # so that the sinks and the queue get concurrent events in the same order
                self._sinks.put(batch)
                self._queue.put(batch)
        if waiting >= self._limit:
            goes_on = self._overflow(waiting - self._limit, source)
        elif waiting > count and self._waiting_bytes() >= MAX_WAITING_BYTES:
            goes_on = self._overflow(count, source)
        self._election.came(source, count, batch.arrived, alone=waiting == count)
        return goes_on

    def emit(self, kind: Callable[Concatenate[float, float, P], Event], *args: P.args, **kwargs: P.kwargs) -> None:
        """Make an event with the current time and queue it.

        The time is read under the lock that orders the sinks and the queue, so times never decrease along the queue.
        """
        with self._sinks.order:
            now = self._clock.monotonic()
            event = kind(now, now + self._clock.offset, *args, **kwargs)
            self._sinks.put(event)
            self._queue.put(event)
        # After the put: a leader that looks at the queue from now on finds the event; one that found it empty is woken.
        self._election.interrupt()

    def close(self) -> None:
        """Make `get` return None once everything queued so far has been taken."""
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
        # The dispatch thread may have emptied the queue before `source` was added, and then finds no further reason to
        # release it. So check once more here. If both threads do so, the lock lets only one of them resume it.
        self._release(self._counter.waiting)

    def _release(self, waiting: int) -> None:
        # `_held` is read without the lock, since this runs for every slice; `_hold` checks again after it added one.
        if not self._held or waiting > self._low_water or self._waiting_bytes() > MAX_WAITING_BYTES // 2:
            return
        with self._lock:
            held, self._held = self._held, set()
            for source in held:
                source.resume_reading()

    def get(self) -> Event | None:
        """Wait for the next event. None means the end."""
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
        """The next event, without waiting; None if there is none or at the end.

        `keep_end` puts the end back into the queue, so that `get` returns it later.
        """
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
        """Count `count` messages as in flight, and resume paused readers if few messages are waiting."""
        waiting = self._counter.take(count)
        if self._held:
            self._release(waiting)

    @property
    def is_holding(self) -> bool:
        """Whether the reading of any connection is paused now."""
        return bool(self._held)

    def holds(self, source: Source) -> bool:
        """Whether the reading of `source` is paused now."""
        return source in self._held

    def drain(self) -> list[Event]:
        """Drop the waiting batches and count them as dropped. Returns the other events, in order."""
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
    """A queue that can drop its oldest messages. Safe to use from any thread. Slower than SimpleQueue, which cannot.

    It uses no Condition, because an interrupt of the main thread could leave a Condition's lock held.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # guards _items; reentrant for signal handlers
        self._items: deque[_Item] = deque()
        self._tokens: SimpleQueue[None] = SimpleQueue()  # at least one for each item; `get` waits for one

    def put(self, item: _Item) -> None:
        """Add an item; None marks the end."""
        with self._lock:
            self._tokens.put(None)  # first, so that an interrupt cannot leave an item without a token
            self._items.append(item)

    def empty(self) -> bool:
        """Whether the queue is empty."""
        return not self._items

    def get(self) -> _Item:
        """Wait for the oldest item, and remove it."""
        while True:
            self._tokens.get()  # waits without the lock, so that others can put and drop meanwhile
            with self._lock:
                if self._items:
                    return self._items.popleft()

    def get_nowait(self) -> _Item:
        """Remove and return the oldest item.

        Raises:
            queue.Empty: the queue is empty.
        """
        while True:
            self._tokens.get_nowait()
            with self._lock:
                if self._items:
                    return self._items.popleft()

    def drop_oldest(self, surplus: int) -> tuple[int, int]:
        """Drop the oldest messages. Other events stay, in order.

        Args:
            surplus: how many to drop; fewer are dropped if the dispatch thread has taken some meanwhile.

        Returns:
            How many messages were dropped, and their bytes.
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
        """Make the number of tokens match the number of items, which a drop has changed. The caller holds the lock.

        If the dispatch thread has taken a token but not yet its item, there is one token too many afterwards. That is
        harmless: `get` finds no item for it and waits again.
        """
        surplus = self._tokens.qsize() - len(self._items)
        for _ in range(-surplus):
            self._tokens.put(None)
        with suppress(Empty):  # the dispatch thread may take tokens at the same time, without the lock
            for _ in range(surplus):
                self._tokens.get_nowait()


def _note_dropped(kept: deque[_Item], batch: Batch, count: int) -> None:
    """Record a drop in `kept`. Consecutive drops become one event."""
    last, start = kept[-1] if kept else None, batch.at
    if isinstance(last, MessagesDropped):
        kept.pop()
        start, count = last.start, last.count + count
    kept.append(MessagesDropped(batch.arrived, batch.at, start, batch.at, count))
