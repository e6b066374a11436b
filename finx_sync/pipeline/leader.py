"""Decides which thread reads a connection: its own io thread, or the dispatch thread (leader/followers pattern).

By default the io thread reads and the dispatch thread handles what it queues. While the messages of one connection
come in quick succession, a few at a time, and each is handled before the next one arrives, the dispatch thread is the
leader: it reads the socket itself, which saves waking a thread for each message. In a flood, two threads are faster,
because one reads from the kernel while the other decodes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Final, Protocol

__all__ = ["LeaderElection", "Leadership", "Source"]

QUICK: Final = 0.02
"""The maximum number of seconds between two batches in quick succession."""
STREAK: Final = 8
"""The number of such batches after which the dispatch thread becomes the leader."""
FLOOD: Final = 64
"""The number of messages in one batch from which on it counts as a flood."""


class Leadership(Protocol):
    """The right to read one connection, given to another thread than its io thread."""

    def turn(self) -> bool:
        """Wait a moment for data and queue it. Returns whether this thread is still the leader."""

    def interrupt(self) -> None:
        """End the wait in `turn`. Any thread."""


class Source(Protocol):
    """A connection whose reading can be paused and handed over. All methods may be called from any thread."""

    def pause_reading(self) -> None:
        """Read nothing more until `resume_reading`."""

    def resume_reading(self) -> None:
        """Continue reading after `pause_reading`."""

    def hand_over_reading(self, promote: Callable[[Leadership], object] | None) -> None:
        """Offer the reading to `promote`; None takes it back. Called while a batch of any source is being queued."""


class LeaderElection:
    """Decides who reads. `came` runs on the threads that fill the queue.

    Several io threads may call `came` at once, without a lock. Mixing up their batches can only change who reads, never
    what is read: a connection's own lock ensures that one thread at a time reads it (`finx_sync.transport.leadership`).

    Args:
        offer: queues an offered leadership for the dispatch thread.

    Attributes:
        leadership: what the dispatch thread reads as the leader; None while the io threads read. Written by the
            dispatch thread only; other threads read it once and then use their copy.
    """

    def __init__(self, offer: Callable[[Leadership], object]) -> None:
        self._offer = offer
        self.leadership: Leadership | None = None
        # An id and a weak reference, so that neither keeps an ended connection alive:
        self._source = 0  # the id of the source of the last batch
        self._offered_by: weakref.ref[Source] | None = None  # the source of the last offer
        self._arrived = 0.0
        self._streak = 0

    def came(self, source: Source, count: int, arrived: float, *, alone: bool) -> None:
        """Take note of a queued batch, and offer the reading or take it back.

        Args:
            source: the connection that it came from.
            count: the number of its messages.
            arrived: when it was read, monotonic seconds.
            alone: whether no other message was waiting.
        """
        before, self._source = self._source, id(source)
        quick = arrived - self._arrived < QUICK
        self._arrived = arrived
        if not (alone and quick and self._source == before and count < FLOOD):
            self._streak = 0
            self._take_back()
        elif self.leadership is None:
            self._streak += 1
            if self._streak >= STREAK:
                self._offered_by = weakref.ref(source)
                source.hand_over_reading(self._offer)
        elif (
            self._offered_by is not None and source is not self._offered_by()
        ):  # another connection brings messages, while the leader waits for the one it reads
            self._take_back()

    def _take_back(self) -> None:
        source = None if self._offered_by is None else self._offered_by()
        if self.leadership is not None and source is not None:
            source.hand_over_reading(None)
            self.interrupt()

    def interrupt(self) -> None:
        """End the leader's wait, because something else has been queued. Any thread."""
        if (leadership := self.leadership) is not None:
            leadership.interrupt()
