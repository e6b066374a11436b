"""An order book, kept up to date, and the checksum that proves it.

Source of the checksum: FTX documentation, *Order books*, with the number format of the live service: the best hundred
bids and asks, taken in turn, each as price and size, all joined by colons, CRC-32 of it. Numbers are written as Python
writes floats, in the documentation's examples without the ``.0`` that the service has.
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
"""Levels a side that the server sends, and that the checksum is of."""
MAX_LEVELS: Final = 10_000
"""Levels a side that are kept, and that one message may change: a server can neither fill the memory nor hold us up."""


class _Side:
    """One side's levels, best first.

    The order is kept as prices rise, so `rank` is the price itself for asks and its negative for bids. Each level's
    text is kept too: an update changes a few of them, and the checksum wants all.
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
    """One market's book; not safe from several threads at once.

    Attributes:
        is_valid: whether it has had its image, and every checksum since was right.
        time: of the last update, the server's UNIX seconds; None where it sent none.
        expected: the server's last checksum.
        received_at: of the last update, UNIX seconds.
    """

    def __init__(self) -> None:
        self._bids, self._asks = _Side(-1.0), _Side(1.0)
        self.is_valid = False
        self.time: float | None = None
        self.expected: int | None = None
        self.received_at = 0.0

    def apply(self, update: BookUpdate) -> bool:
        """Merge an image or an update; one that comes before the image is ignored.

        Returns:
            False when the book does not have the update's checksum: then it is dropped, and waits for an image.
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
        """Forget everything; updates are ignored until the next image."""
        self._bids.clear()
        self._asks.clear()
        self.is_valid = False
        self.time = self.expected = None

    def checksum(self) -> int:
        """CRC-32 of the book as it stands."""
        bids, asks = self._bids.texts(), self._asks.texts()
        both = min(len(bids), len(asks))
        parts = [*chain.from_iterable(zip(bids, asks, strict=False)), *bids[both:], *asks[both:]]
        return zlib.crc32(":".join(parts).encode())

    def bids(self) -> list[Level]:
        """(price, size), highest price first."""
        return self._bids.levels()

    def asks(self) -> list[Level]:
        """(price, size), lowest price first."""
        return self._asks.levels()

    @property
    def is_crossed(self) -> bool:
        """Whether a bid is as high as an ask, which a book at rest never is."""
        bid, ask = self._bids.best, self._asks.best
        return bid is not None and ask is not None and bid >= ask
