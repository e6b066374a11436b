"""One direction of a proxied connection: takes bytes, and returns the pieces that may leave. No I/O, no clock.

The order of bytes never changes. Held bytes count towards a limit, above which the source is not read and TCP makes
it wait, as behind a real black hole.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

__all__ = ["HELD_LIMIT", "TrafficShaper"]

HELD_LIMIT: Final = 16 * 1024 * 1024
"""Bytes that one direction holds before its source has to wait."""
THROTTLE_STEP: Final = 0.05
"""Seconds; a throttled direction sends as many bytes at once as it may send in this time."""


class TrafficShaper:
    """Takes bytes with `put` and returns them with `take` when they are due. Times are seconds of any one clock."""

    def __init__(self, limit: int = HELD_LIMIT) -> None:
        self._limit = limit
        self._queue: deque[tuple[float, memoryview]] = deque()
        self._size = 0
        self._ready_at = -math.inf  # when the pause between two pieces ends
        self._last_due = -math.inf
        self._held_until = -math.inf
        self._delay, self._delayed_until = 0.0, -math.inf
        self._rate, self._throttled_until = math.inf, -math.inf
        self._piece, self._pause, self._split_left = 0, 0.0, 0.0

    # Shaping

    def hold(self, until: float) -> None:
        """Send nothing before `until`; infinity means until `clear`."""
        self._held_until = until

    def delay(self, seconds: float, until: float) -> None:
        """Send bytes that arrive before `until` with a delay of `seconds`."""
        self._delay, self._delayed_until = seconds, until

    def throttle(self, rate: float, until: float) -> None:
        """Send at most `rate` bytes a second before `until`."""
        self._rate, self._throttled_until = rate, until

    def split(self, piece: int, pause: float, count: float) -> None:
        """Send the next `count` bytes in pieces of `piece` bytes, `pause` seconds apart."""
        self._piece, self._pause, self._split_left = piece, pause, count

    def clear(self) -> None:
        """End all shaping; what was held may leave at once."""
        self._held_until = self._delayed_until = self._throttled_until = -math.inf
        self._ready_at = self._last_due = -math.inf
        self._split_left = 0.0
        self._queue = deque((-math.inf, data) for _, data in self._queue)

    # Bytes

    def put(self, data: bytes, now: float) -> None:
        """Take bytes that arrived at `now`."""
        if not data:
            return
        due = now + self._delay if now < self._delayed_until else now
        self._last_due = max(due, self._last_due)  # when the delay ends, later bytes must not overtake earlier ones
        self._queue.append((self._last_due, memoryview(data)))
        self._size += len(data)

    def take(self, now: float) -> memoryview | None:
        """The bytes that may leave now; None if there are none. They stay here until `sent` reports how many left."""
        when = self.next_at(now)
        if when is None or when > now:
            return None
        data = self._queue[0][1]
        if self._split_left > 0:
            return data[: self._piece]
        if now < self._throttled_until:
            return data[: max(1, int(self._rate * THROTTLE_STEP))]
        return data

    def sent(self, count: int, now: float) -> None:
        """Report how many of the bytes that `take` returned have left."""
        due, data = self._queue.popleft()
        if count < len(data):
            self._queue.appendleft((due, data[count:]))
        self._size -= count
        if self._split_left > 0:
            self._split_left -= count
            self._ready_at = now + self._pause
        if now < self._throttled_until:
            self._ready_at = max(self._ready_at, min(now + count / self._rate, self._throttled_until))

    def drop(self) -> None:
        """Discard what is held."""
        self._queue.clear()
        self._size = 0

    def next_at(self, now: float) -> float | None:
        """When the next bytes may leave: a time in the past means now; None means not until something else happens."""
        if not self._queue:
            return None
        when = max(self._queue[0][0], self._ready_at, self._held_until)
        return None if when == math.inf else when

    def is_held(self, now: float) -> bool:
        """Whether nothing may leave at `now`."""
        return now < self._held_until

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held."""
        return not self._queue

    @property
    def is_full(self) -> bool:
        """Whether the source has to wait."""
        return self._size >= self._limit
