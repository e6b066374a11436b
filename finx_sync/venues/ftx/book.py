"""An order book that is updated incrementally and verified by checksums.

Source of the checksum: FTX documentation, *Order books*, with the number format of the live service. It is the CRC-32
of the prices and sizes of the best hundred bids and asks, alternating between bids and asks and joined by colons.
Numbers have the format of Python's floats; the documentation's examples lack the ``.0`` that the service writes.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left, insort
from collections.abc import Iterable
from itertools import chain, islice
from typing import Final

from finx_sync.venues.ftx.messages import BookUpdate, Level

__all__ = ["DEPTH", "FtxBook"]

DEPTH: Final = 100
"""The number of levels per side that the server sends and that the checksum covers."""
MAX_LEVELS: Final = 10_000
"""The maximum number of levels per side that are kept, and that one message may change. It limits the memory and time
that a server can use up."""


class _Side:
    """The levels of one side, best first.

    Levels are sorted by `rank` in ascending order: the price for asks, and the negated price for bids. The text of each
    level is kept too, because an update changes a few levels, but the checksum needs the texts of all.
    """

    __slots__ = ("_order", "_sign", "_sizes", "_texts")

    def __init__(self, sign: float) -> None:
        self._sign = sign
        self._order: list[float] = []
        self._sizes: dict[float, float] = {}
        self._texts: dict[float, str] = {}

    def clear(self) -> None:
        self._order.clear()
        self._sizes.clear()
        self._texts.clear()

    def apply(self, levels: Iterable[Level]) -> None:
        order, sizes, texts, sign = self._order, self._sizes, self._texts, self._sign
        for price, size in islice(levels, MAX_LEVELS):
            rank = price * sign
            if size:
                if rank not in sizes:
                    insort(order, rank)
                sizes[rank] = size
                texts[rank] = f"{price!r}:{size!r}"
            elif rank in sizes:
                del sizes[rank], texts[rank], order[bisect_left(order, rank)]
        for rank in order[MAX_LEVELS:]:
            del sizes[rank], texts[rank]
        del order[MAX_LEVELS:]

    def levels(self) -> list[Level]:
        return [(rank * self._sign, self._sizes[rank]) for rank in self._order[:DEPTH]]

    def texts(self) -> list[str]:
        return [self._texts[rank] for rank in self._order[:DEPTH]]

    @property
    def best(self) -> float | None:
        return self._order[0] * self._sign if self._order else None


class FtxBook:
    """The order book of one market. Not thread-safe.

    Attributes:
        is_valid: whether the image has been received and every checksum since then was correct.
        time: the server's time of the last update, UNIX seconds; None if it sent none.
        expected: the last checksum from the server; None if it sent none.
        received_at: when the last update was received, UNIX seconds.
    """

    def __init__(self) -> None:
        self._bids, self._asks = _Side(-1.0), _Side(1.0)
        self.is_valid = False
        self.time: float | None = None
        self.expected: int | None = None
        self.received_at = 0.0

    def apply(self, update: BookUpdate) -> bool:
        """Merge an image or an update; updates before the image are ignored.

        Returns:
            False if the checksum of the book differs from the update's. The book is then dropped until the next image.
        """
        if update.action == "partial":
            self.drop()
            self.is_valid = True
        elif not self.is_valid:
            return True
        self._bids.apply(update.bids)
        self._asks.apply(update.asks)
        self.time, self.expected, self.received_at = update.time, update.checksum, update.received_at
        if update.checksum is not None and update.checksum != self.checksum():
            self.drop()
            return False
        return True

    def drop(self) -> None:
        """Remove all levels; updates are ignored until the next image."""
        self._bids.clear()
        self._asks.clear()
        self.is_valid = False
        self.time = self.expected = None

    def checksum(self) -> int:
        """Return the CRC-32 of the current book."""
        bids, asks = self._bids.texts(), self._asks.texts()
        both = min(len(bids), len(asks))
        parts = [*chain.from_iterable(zip(bids, asks, strict=False)), *bids[both:], *asks[both:]]
        return zlib.crc32(":".join(parts).encode())

    def bids(self) -> list[Level]:
        """Return (price, size) of the best bids, highest price first."""
        return self._bids.levels()

    def asks(self) -> list[Level]:
        """Return (price, size) of the best asks, lowest price first."""
        return self._asks.levels()

    @property
    def is_crossed(self) -> bool:
        """Whether the best bid is at or above the best ask, which is never true of a consistent book."""
        bid, ask = self._bids.best, self._asks.best
        return bid is not None and ask is not None and bid >= ask
