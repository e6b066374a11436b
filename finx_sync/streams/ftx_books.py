"""The order books of an `FtxStream`: merged on the dispatch thread, looked at from any."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from finx_sync.venues.base import Subscription
from finx_sync.venues.ftx.book import Book
from finx_sync.venues.ftx.messages import BookUpdate, FtxGroupedOrderBook, FtxOrderBook, GroupedBookUpdate
from finx_sync.venues.ftx.repair import Repairs
from finx_sync.venues.ftx.requests import wish

__all__ = ["BOOKS", "Books"]

Kind = type[FtxOrderBook]

BOOKS: Final[dict[type[BookUpdate], Kind]] = {BookUpdate: FtxOrderBook, GroupedBookUpdate: FtxGroupedOrderBook}
"""Which book an update is of."""
CHANNELS: Final[dict[Kind, str]] = {FtxOrderBook: "orderbook", FtxGroupedOrderBook: "orderbookGrouped"}


class Books:
    """The books that are subscribed. `want`, `forget` and `picture` are for any thread.

    Args:
        resubscribe: takes a subscription back and asks for it again.
    """

    def __init__(self, resubscribe: Callable[[Subscription], object]) -> None:
        self._resubscribe = resubscribe
        self._lock = threading.Lock()  # guards _books and _repairs, never held while asking
        self._books: dict[tuple[Kind, str], Book] = {}
        self._repairs: Repairs[tuple[Kind, str]] = Repairs()

    def want(self, kind: Kind, markets: Iterable[str]) -> None:
        """Keep the books of markets; their images are about to be asked for."""
        with self._lock:
            for what in ((kind, market) for market in markets):
                if what not in self._books:
                    self._books[what] = Book()
                    self._repairs.expected(what, time.monotonic())

    def forget(self, kind: Kind, markets: Iterable[str]) -> None:
        """Keep the books of markets no more."""
        with self._lock:
            for market in markets:
                self._books.pop((kind, market), None)

    def picture(self, kind: Kind, market: str) -> FtxOrderBook | None:
        """A book as it stands; None where there is none that can be trusted."""
        with self._lock:
            book = self._books.get((kind, market))
            if book is None or not book.is_valid:
                return None
            return kind(
                received_at=book.received_at,
                market=market,
                bids=book.bids(),
                asks=book.asks(),
                time=book.time,
                checksum=book.expected,
            )

    # On the dispatch thread.

    def merge(self, update: BookUpdate) -> bool:
        """Merge what the server says about a book; returns False where it does not have the server's checksum."""
        what, now = (BOOKS[type(update)], update.market), time.monotonic()
        with self._lock:
            book = self._books.get(what)
            if book is None:  # not wanted any more
                return True
            fits = book.apply(update)
            if not fits:
                self._repairs.broken(what, now)
        if not book.is_valid:
            self._repair(what, now)
        return fits

    def distrust(self) -> None:
        """Something was lost, nobody knows what: a book whose updates have no checksum would stay wrong."""
        now = time.monotonic()
        with self._lock:
            for what, book in self._books.items():
                if book.is_valid and book.expected is None:
                    book.drop()
                    self._repairs.broken(what, now)
        self.repair()

    def repair(self) -> None:
        """Ask for the images of books that are wrong, as far as their time has come."""
        now = time.monotonic()
        for what in list(self._repairs.waiting):
            self._repair(what, now)

    def drop(self) -> None:
        """The connection that kept them is gone; a new one sends their images."""
        now = time.monotonic()
        with self._lock:
            for what, book in self._books.items():
                book.drop()
                self._repairs.expected(what, now)

    def _repair(self, what: tuple[Kind, str], now: float) -> None:
        """Ask for an image, unless that was done just now: then the next update or round asks again."""
        with self._lock:
            due = self._repairs.is_due(what, now)
        if due:
            kind, market = what
            self._resubscribe(wish(CHANNELS[kind], market))
