"""When the dispatch thread reads a connection itself, instead of waiting for the io thread to hand its messages over.

It does while one connection's messages come in quick succession, few at a time, each handled before the next is there.
In a flood two threads are faster, since one copies out of the kernel while the other decodes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

__all__ = ["Borrowing", "Reading", "Source"]

QUICK: Final = 0.02
"""Seconds between two batches that follow in quick succession."""
STREAK: Final = 8
"""Batches that do, before the reading is borrowed."""
FLOOD: Final = 64
"""Messages of one batch that make a flood."""


class Reading(Protocol):
    """The reading of one connection, on loan."""

    def turn(self) -> bool:
        """Wait a moment for data and put it into the inbox; returns whether the loan goes on."""

    def interrupt(self) -> None:
        """End that wait. Any thread."""


class Source(Protocol):
    """A connection that can be told to wait, from any thread, and to have its reading done by another."""

    def pause_reading(self) -> None:
        """Read nothing more until `resume_reading`."""

    def resume_reading(self) -> None:
        """Read on."""

    def lend_reading(self, borrow: Callable[[Reading], object] | None) -> None:
        """Hand the reading to `borrow` on loan; None calls it back. Called while a batch of any source is put."""


class Borrowing:
    """Decides, on the threads that fill the inbox, and holds the loan, on the dispatch thread.

    Args:
        post: has something done on the dispatch thread.

    Attributes:
        reading: what is on loan; None where the io threads read. Written by the dispatch thread.
    """

    def __init__(self, post: Callable[[Callable[[], object]], object]) -> None:
        self._post = post
        self.reading: Reading | None = None
        self._source: Source | None = None  # of the last batch
        self._lender: Source | None = None  # of the last offer
        self._arrived = 0.0
        self._streak = 0

    def came(self, source: Source, count: int, arrived: float, *, alone: bool) -> None:
        """A batch of `count` messages is in the inbox since `arrived` (monotonic); `alone`: no other message waits."""
        before, self._source = self._source, source
        quick = arrived - self._arrived < QUICK
        self._arrived = arrived
        if not (alone and quick and source is before and count < FLOOD):
            self._streak = 0
            self._call_back()
        elif self.reading is None:
            self._streak += 1
            if self._streak >= STREAK:
                self._lender = source
                source.lend_reading(self._offered)
        elif source is not self._lender:  # the loan is on its way back, and the borrower waits there
            self._call_back()

    def _call_back(self) -> None:
        if self.reading is not None and self._lender is not None:
            self._lender.lend_reading(None)
            self.interrupt()

    def _offered(self, reading: Reading) -> None:
        self._post(lambda: self._borrow(reading))

    def _borrow(self, reading: Reading) -> None:
        self.reading = reading

    def interrupt(self) -> None:
        """Something else is in the inbox. Any thread."""
        if (reading := self.reading) is not None:
            reading.interrupt()
