"""What waits between the dispatch thread, which only appends, and the relay's writer. Bounded in bytes.

A relay that is on standby keeps what it received lately here, so that it can go on where the active one ended.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from finx_sync.relay import wire

__all__ = ["Backlog", "Counts", "Item", "Notice", "Overflow", "Received"]

Overflow = Literal["block", "drop"]
CHECK: Final = 0.05
"""Seconds after which a dispatch thread that waits for room looks whether its stream is stopping."""


class Received:
    """Payloads that were received together.

    Attributes:
        tags: the tag of each.
        payloads: the payloads.
        at: when they were received, UNIX seconds.
        arrived: when the relay got them, monotonic seconds.
        begins: the indexes of those that begin a state; see `Codec.begins_state`.
        size: bytes of all payloads.
    """

    __slots__ = ("arrived", "at", "begins", "payloads", "size", "tags")

    def __init__(
        self, tags: Sequence[bytes], payloads: Sequence[bytes], at: float, arrived: float, begins: Sequence[int] = ()
    ) -> None:
        self.tags = tags
        self.payloads = payloads
        self.at = at
        self.arrived = arrived
        self.begins = begins
        self.size = sum(map(len, payloads))

    def without(self, leave_out: Callable[[bytes], bool]) -> Received:
        """The same without those whose tag `leave_out` is true of; it is called once for each, in order."""
        kept = [index for index, tag in enumerate(self.tags) if not leave_out(tag)]
        begins = set(self.begins)
        return Received(
            [self.tags[index] for index in kept],
            [self.payloads[index] for index in kept],
            self.at,
            self.arrived,
            [place for place, index in enumerate(kept) if index in begins],
        )


@dataclass(frozen=True)
class Notice:
    """An event that has its place among the payloads.

    Attributes:
        name: of the record, like ``@gap``.
        content: of the record.
        at: when it happened, UNIX seconds.
        arrived: when the relay got it, monotonic seconds.
        missing: for a gap, the tags that it concerns, and how many payloads of each are missing (0: unknown).
    """

    name: bytes
    content: Mapping[str, Any]
    at: float
    arrived: float
    missing: Mapping[bytes, int] = field(default_factory=dict)


Item = Received | Notice


@dataclass(frozen=True)
class Counts:
    """What became of the messages that a relay was given: received = written + dropped + unneeded + waiting.

    Attributes:
        received: messages that the stream delivered.
        written: messages that are on Redis.
        dropped: messages that were left out since too many waited; a gap names them.
        unneeded: messages that another relay has written, or will.
        waiting: messages that are to be written, or that a relay on standby keeps.
        waiting_bytes: bytes of these.
    """

    received: int = 0
    written: int = 0
    dropped: int = 0
    unneeded: int = 0
    waiting: int = 0
    waiting_bytes: int = 0


class Backlog:
    """The items that wait. The dispatch thread puts them in, the writer takes them out; any thread may count.

    Args:
        limit: bytes that may wait.
        overflow: what happens beyond: the dispatch thread waits, or the oldest messages are dropped.
        is_stopping: whether the stream is stopping, so that the dispatch thread must not wait.
        monotonic: the clock.
    """

    def __init__(
        self,
        limit: int,
        overflow: Overflow,
        is_stopping: Callable[[], bool] = lambda: False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._overflow = overflow
        self._is_stopping = is_stopping
        self._monotonic = monotonic
        # Re-entrant: a signal handler may count while it interrupts a thread that holds it. It guards all below.
        self._changed = threading.Condition(threading.RLock())
        self._items: deque[Item] = deque()
        self._size = self._in_flight = 0  # bytes
        self._received = self._written = self._dropped = self._unneeded = 0
        self._keep: float | None = None
        self._complete_since = monotonic()
        self._lost: Counter[bytes] = Counter()
        self._lost_span = (0.0, 0.0)
        self._closed = self._woken = False

    # The dispatch thread

    def put(self, item: Item) -> None:
        """Add an item; waits for room if that is the rule."""
        with self._changed:
            if isinstance(item, Received):
                self._received += len(item.tags)
                if self._closed:
                    self._unneeded += len(item.tags)
                    return
                self._size += item.size
                self._items.append(item)
                self._make_room()
            elif not self._closed:
                self._items.append(item)
            self._changed.notify_all()

    def _make_room(self) -> None:
        if self._keep is not None:
            self._forget_old()
            return
        while self._overflow == "block" and self._must_wait() and not (self._closed or self._is_stopping()):
            if self._keep is not None:  # another relay leads now
                return
            self._changed.notify_all()
            self._changed.wait(CHECK)
        if self._is_full() and not self._closed:
            self._drop_oldest()

    def _must_wait(self) -> bool:
        return self._is_full() or (self._in_flight > 0 and self._size + self._in_flight > self._limit)

    def _is_full(self) -> bool:
        """Whether more waits than may, besides the newest item."""
        return self._size + self._in_flight > self._limit and len(self._items) > 1

    def _forget_old(self) -> None:
        """Forget what a relay on standby need not keep any more."""
        assert self._keep is not None
        oldest = self._monotonic() - self._keep
        while self._items and (self._items[0].arrived < oldest or self._is_full()):
            item = self._items.popleft()
            if isinstance(item, Received):
                self._size -= item.size
                self._unneeded += len(item.tags)
            self._complete_since = max(self._complete_since, item.arrived)

    def _drop_oldest(self) -> None:
        notices: list[Item] = []
        while self._is_full():
            item = self._items.popleft()
            if isinstance(item, Notice):
                notices.append(item)
                continue
            self._size -= item.size
            self._dropped += len(item.tags)
            start = self._lost_span[0] if self._lost else item.at
            self._lost_span = (start, item.at)
            self._lost.update(item.tags)
        self._items.extendleft(reversed(notices))

    # The writer's thread

    def take(self, records: int, size: int) -> list[Item]:
        """Remove and return items of about so many records and bytes; they are in flight until `settle`."""
        taken: list[Item] = []
        with self._changed:
            if self._lost:
                taken.append(self._gap())
            while self._items and records > 0 and size > 0:
                item = self._items.popleft()
                taken.append(item)
                if isinstance(item, Received):
                    records -= len(item.tags)
                    size -= item.size
                    self._size -= item.size
                    self._in_flight += item.size
        return taken

    def _gap(self) -> Notice:
        (start, end), missing = self._lost_span, dict(self._lost)
        self._lost.clear()
        content = {"start": start, "end": end, "reason": "slow consumer"}
        return Notice(wire.GAP, content, end, self._monotonic(), missing)

    def settle(self, count: int, *, written: bool = True) -> None:
        """All items in flight are done: `count` messages were written, or are not needed."""
        with self._changed:
            self._in_flight = 0
            if written:
                self._written += count
            else:
                self._unneeded += count
            self._changed.notify_all()

    def wait(self, timeout: float) -> None:
        """Wait until there is something to take, `wake` is called, or `timeout` seconds have passed."""
        with self._changed:
            self._changed.wait_for(lambda: (self._items and self._keep is None) or self._woken, timeout)
            self._woken = False

    def pause(self, timeout: float) -> None:
        """Wait until `wake` is called, or `timeout` seconds have passed."""
        with self._changed:
            self._changed.wait_for(lambda: self._woken, timeout)
            self._woken = False

    def wake(self) -> None:
        """End a `wait` or a `pause`. Any thread."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def stand_by(self, seconds: float, *, has_gap: bool) -> None:
        """Keep what was received in the last `seconds`, and forget what is older.

        Args:
            seconds: how long.
            has_gap: whether something that was received up to now is not here any more.
        """
        with self._changed:
            self._keep = seconds
            if has_gap:
                self._complete_since = self._monotonic()
            self._lost.clear()
            self._forget_old()
            self._changed.notify_all()

    def stop_forgetting(self) -> None:
        """Keep everything from now on, since this relay is about to lead."""
        with self._changed:
            self._keep = None

    def memory(self) -> tuple[list[Item], float]:
        """What waits, and since when nothing of it is missing, monotonic seconds."""
        with self._changed:
            return list(self._items), self._complete_since

    def incomplete(self) -> None:
        """Something is missing up to now: the upstream was not open."""
        with self._changed:
            self._complete_since = self._monotonic()

    def leave_out(self, skip: Mapping[bytes, int], wants: Callable[[Notice], bool]) -> None:
        """Remove the first payloads of each tag, as many as `skip` says, and the notices that are not wanted."""
        left = dict(skip)

        def is_skipped(tag: bytes) -> bool:
            if not left.get(tag):
                return False
            left[tag] -= 1
            return True

        with self._changed:
            items, self._items = self._items, deque()
            for item in items:
                if isinstance(item, Notice):
                    if wants(item):
                        self._items.append(item)
                    continue
                kept = item.without(is_skipped) if any(left.values()) else item
                self._unneeded += len(item.tags) - len(kept.tags)
                self._size += kept.size - item.size
                if kept.tags:
                    self._items.append(kept)

    def close(self) -> None:
        """Nothing is written any more: what waits is not needed, and nobody waits for room."""
        with self._changed:
            self._closed = True
            self._unneeded = self._received - self._written - self._dropped
            self._items.clear()
            self._size = self._in_flight = 0
            self._changed.notify_all()

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits to be taken."""
        return not self._items

    def counts(self) -> Counts:
        """The counters at this moment; they balance. Any thread."""
        with self._changed:
            done = self._written + self._dropped + self._unneeded
            return Counts(
                received=self._received,
                written=self._written,
                dropped=self._dropped,
                unneeded=self._unneeded,
                waiting=self._received - done,
                waiting_bytes=self._size + self._in_flight,
            )
