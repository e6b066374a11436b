"""A client's queue, bounded in bytes: states are conflated, events are kept, and what is left out is a gap."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from finx_sync.gateway.items import Form, Item, gap_item, payload_frame

__all__ = ["Client", "ClientLimits", "Transport"]

INTERRUPTED: Final = 1012
"""The close code for clients of a venue's own protocol, which has no word for a gap: they connect again, and know."""
OVERHEAD: Final = 64
"""Bytes that an item takes in a queue beside its text."""


class Transport(Protocol):
    """The part of `asyncio.Transport` that a client needs."""

    def write(self, data: bytes) -> None:
        """Send."""

    def get_write_buffer_size(self) -> int:
        """Bytes that have not been taken by the kernel."""

    def is_closing(self) -> bool:
        """Whether it has been closed."""


@dataclass(frozen=True)
class ClientLimits:
    """What a client may cost.

    Attributes:
        written: bytes handed to the transport that the kernel has not taken; beyond, the client is slow.
        queue: bytes that wait for a slow client before its states are conflated.
        longest_queue: bytes beyond which it is closed with 1013, since what waits cannot be conflated.
        patience: seconds that a client may go without reading anything that waits, before it is closed with 1008.
    """

    written: int = 64 * 1024
    queue: int = 256 * 1024
    longest_queue: int = 8 * 1024 * 1024
    patience: float = 30.0


class Client:
    """One client. Every method belongs to the event loop's thread.

    Args:
        transport: of its connection.
        form: how items are encoded for it.
        limits: what it may cost.
        close: ends its connection with a websocket close code and a reason.
        name: the name of its key, for the metrics.

    Attributes:
        tags: what it has subscribed to.
        is_slow: whether its transport's buffer is full.
        is_paused: whether nothing is written, since what it has missed is being fetched; see `resume`.
        sent, conflated: how many items were written, and how many were replaced by newer ones.
    """

    __slots__ = (
        "_close",
        "_dropped",
        "_form",
        "_last_read",
        "_limits",
        "_queue",
        "_size",
        "_stuck_size",
        "_transport",
        "conflated",
        "is_closed",
        "is_dirty",
        "is_paused",
        "is_slow",
        "name",
        "sent",
        "tags",
    )

    def __init__(
        self,
        transport: Transport,
        form: Form,
        limits: ClientLimits,
        close: Callable[[int, str], object],
        name: str = "",
    ) -> None:
        self._transport = transport
        self._form = form
        self._limits = limits
        self._close = close
        self.name = name
        self.tags: set[str] = set()
        self._queue: deque[Item] = deque()
        self._size = 0
        self._dropped: tuple[set[str], int, float] | None = None  # names, how many, since when
        self._stuck_size = 0
        self._last_read = 0.0
        self.is_slow = self.is_dirty = self.is_paused = self.is_closed = False
        self.sent = self.conflated = 0

    @property
    def waiting(self) -> int:
        """Bytes that wait."""
        return self._size

    def offer(self, item: Item) -> None:
        """Queue an item. `flush` follows before the loop turns."""
        if item.kind == "gap" and self._form is payload_frame:
            self.end(INTERRUPTED, "messages are missing")
            return
        self._queue.append(item)
        self._size += len(item.payload) + OVERHEAD
        if (self.is_slow or self.is_paused) and self._size > self._limits.queue:
            self._conflate()

    def resume(self, missed: Iterable[Item]) -> None:
        """Write what it has missed, and then what has come meanwhile."""
        items = list(missed)
        self._queue.extendleft(reversed(items))
        self._size += sum(len(item.payload) + OVERHEAD for item in items)
        self.is_paused = False
        self.flush()

    def flush(self) -> None:
        """Write what waits, unless the client is slow."""
        self.is_dirty = False
        if self.is_paused:
            return
        if self.is_closed or self._transport.is_closing():
            self._queue.clear()
            self._size = 0
            return
        form, limits = self._form, self._limits
        if self._transport.get_write_buffer_size() > limits.written:
            self._wait()
            return
        self.is_slow = False
        queue = self._queue
        while queue:
            parts: list[bytes] = []
            size = 0
            if self._dropped is not None:
                parts.append(self._gap(queue[0]).encoded(form))
            while queue and size <= limits.written:
                item = queue.popleft()
                self._size -= len(item.payload) + OVERHEAD
                text = item.encoded(form)
                parts.append(text)
                size += len(text)
            self.sent += len(parts)
            self._transport.write(b"".join(parts))
            if queue and self._transport.get_write_buffer_size() > limits.written:
                self._wait()
                return

    def _wait(self) -> None:
        """The client does not read as fast as messages come; `look` comes back to it."""
        if not self.is_slow:
            self.is_slow = True
            self._stuck_size, self._last_read = self._transport.get_write_buffer_size(), time.monotonic()

    def look(self, now: float) -> None:
        """Called several times a second while the client is slow.

        Args:
            now: monotonic seconds.
        """
        size = self._transport.get_write_buffer_size()
        if size < self._stuck_size:
            self._stuck_size, self._last_read = size, now
        if now - self._last_read > self._limits.patience:
            self.end(1008, "the client does not read")
        else:
            self.flush()

    def end(self, code: int, reason: str) -> None:
        """Close the client; what waits for it is discarded."""
        if not self.is_closed:
            self.is_closed = True
            self._queue.clear()
            self._size = 0
            self._close(code, reason)

    def _conflate(self) -> None:
        """Keep the newest state of each tag and all events, in order."""
        newest = {item.tag: item for item in self._queue if item.is_state}
        kept: deque[Item] = deque()
        names, count, since = self._dropped or (set(), 0, self._queue[0].at)
        for item in self._queue:
            if item.is_state and newest[item.tag] is not item:
                names.add(item.tag)
                count += 1
            else:
                kept.append(item)
        self.conflated += len(self._queue) - len(kept)
        self._queue = kept
        self._size = sum(len(item.payload) + OVERHEAD for item in kept)
        if count and self._form is payload_frame:
            self.end(INTERRUPTED, "the client reads too slowly, and messages were left out")
            return
        if count:
            self._dropped = names, count, since
        if self._size > self._limits.longest_queue:
            self.end(1013, "the client reads too slowly")
        elif self._size > self._limits.queue // 2:
            # Conflating after each message would cost the others: next time when as much again has come.
            self._limits = ClientLimits(
                self._limits.written,
                min(self._limits.longest_queue, 2 * self._size),
                self._limits.longest_queue,
                self._limits.patience,
            )

    def _gap(self, following: Item) -> Item:
        assert self._dropped is not None
        names, count, since = self._dropped
        self._dropped = None
        return gap_item(
            following.token,
            following.at,
            start=since,
            end=following.at,
            names=sorted(names),
            reason="conflated",
            missed=count,
        )
