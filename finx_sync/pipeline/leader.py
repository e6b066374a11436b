"""Which thread reads a connection: its own io thread, or the dispatch thread (leader and followers).

As a rule the io thread reads and the dispatch thread follows. While one connection's messages come in quick succession,
few at a time, each handled before the next is there, the dispatch thread leads: it reads the socket itself, which saves
one wake-up a message. In a flood two threads are faster, since one copies out of the kernel while the other decodes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Final, Protocol

__all__ = ["LeaderElection", "Leadership", "Source"]

QUICK: Final = 0.02
"""Seconds between two batches that follow in quick succession."""
STREAK: Final = 8
"""Batches that do, before the dispatch thread leads."""
FLOOD: Final = 64
"""Messages of one batch that make a flood."""


class Leadership(Protocol):
    """The reading of one connection, handed over to another thread."""

    def turn(self) -> bool:
        """Wait a moment for data and queue it; returns whether the leadership goes on."""

    def interrupt(self) -> None:
        """End that wait. Any thread."""


class Source(Protocol):
    """A connection that can be made to wait, from any thread, and to have its reading done by another."""

    def pause_reading(self) -> None:
        """Read nothing more until `resume_reading`."""

    def resume_reading(self) -> None:
        """Read on."""

    def hand_over_reading(self, promote: Callable[[Leadership], object] | None) -> None:
        """Offer the reading to `promote`; None takes it back. Called while a batch of any source is put."""


class LeaderElection:
    """Decides, on the threads that fill the queue; the dispatch thread leads while it holds `leadership`.

    Args:
        offer: queues an offered leadership for the dispatch thread.

    Attributes:
        leadership: what the dispatch thread reads; None where the io threads read. Written by the dispatch thread.
    """

    def __init__(self, offer: Callable[[Leadership], object]) -> None:
        self._offer = offer
        self.leadership: Leadership | None = None
        # Neither keeps a connection that has ended:
        self._source = 0  # identifies that of the last batch
        self._offered_by: weakref.ref[Source] | None = None  # of the last offer
        self._arrived = 0.0
        self._streak = 0

    def came(self, source: Source, count: int, arrived: float, *, alone: bool) -> None:
        """A batch of `count` messages is queued since `arrived` (monotonic); `alone`: no other message waits."""
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
        ):  # the leadership is on its way back, and the leader waits there
            self._take_back()

    def _take_back(self) -> None:
        source = None if self._offered_by is None else self._offered_by()
        if self.leadership is not None and source is not None:
            source.hand_over_reading(None)
            self.interrupt()

    def interrupt(self) -> None:
        """Something else is queued. Any thread."""
        if (leadership := self.leadership) is not None:
            leadership.interrupt()
