"""The order books that are subscribed: kept up to date, and asked for anew when they have gone wrong."""

from __future__ import annotations

from typing import Final

from finx_sync.venues.base import Subscription
from finx_sync.venues.ftx.book import FtxBook
from finx_sync.venues.ftx.messages import BookUpdate, FtxGroupedOrderBook, FtxOrderBook, GroupedBookUpdate
from finx_sync.venues.ftx.repair import Repairs
from finx_sync.venues.ftx.requests import subscription_to

__all__ = ["BOOKS", "CHANNELS", "Books"]

Kind = type[FtxOrderBook]

BOOKS: Final[dict[type, Kind]] = {BookUpdate: FtxOrderBook, GroupedBookUpdate: FtxGroupedOrderBook}
"""Which book an update is of."""
CHANNELS: Final[dict[str, Kind]] = {"orderbook": FtxOrderBook, "orderbookGrouped": FtxGroupedOrderBook}
"""Which book a channel is of."""
_CHANNEL_OF: Final = {kind: channel for channel, kind in CHANNELS.items()}


class Books:
    """The books of one run. Not safe from several threads at once. Times are seconds on any clock that goes forward."""

    def __init__(self) -> None:
        self._books: dict[tuple[Kind, str], FtxBook] = {}
        self._repairs: Repairs[tuple[Kind, str]] = Repairs()

    def want(self, subscription: Subscription, now: float) -> None:
        """Keep a market's book, if that is what the subscription is of; its image is about to be asked for."""
        kind = CHANNELS.get(subscription.kind)
        if kind is not None and (what := (kind, subscription.name)) not in self._books:
            self._books[what] = FtxBook()
            self._repairs.expected(what, now)

    def forget(self, subscription: Subscription) -> None:
        """Drop that book."""
        kind = CHANNELS.get(subscription.kind)
        if kind is not None:
            self._books.pop((kind, subscription.name), None)
            self._repairs.forget((kind, subscription.name))

    def picture(self, kind: Kind, market: str) -> FtxOrderBook | None:
        """A book as it stands; None where there is none that can be trusted."""
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

    def merge(self, update: BookUpdate, now: float) -> tuple[bool, bool]:
        """Merge what the server says about a book.

        Returns:
            Whether the book agrees with the server's checksum (False also makes it wait for an image); and whether it
            can be trusted now.
        """
        what = (BOOKS[type(update)], update.market)
        book = self._books.get(what)
        if book is None:  # not wanted any more
            return True, False
        fits = book.apply(update)
        if not fits:
            self._repairs.broken(what, now)
        return fits, book.is_valid

    def distrust(self, now: float) -> None:
        """Something was lost, nobody knows what: a book whose updates have no checksum would stay wrong."""
        for what, book in self._books.items():
            if book.is_valid and book.expected is None:
                book.drop()
                self._repairs.broken(what, now)

    def drop(self, now: float) -> None:
        """The connection that kept them is gone; a new one sends their images."""
        for what, book in self._books.items():
            book.drop()
            self._repairs.expected(what, now)

    def due_of(self, update: BookUpdate, now: float) -> tuple[Subscription, ...]:
        """The book that an update is of, if it waits for an image, and that is to be asked for now."""
        what = (BOOKS[type(update)], update.market)
        book = self._books.get(what)
        return self._due(what, now) if book is not None and not book.is_valid else ()

    def due(self, now: float) -> tuple[Subscription, ...]:
        """The books whose images are to be asked for now: they are wrong, and were not asked for just before."""
        return tuple(one for what in list(self._repairs.waiting) for one in self._due(what, now))

    def _due(self, what: tuple[Kind, str], now: float) -> tuple[Subscription, ...]:
        kind, market = what
        return (subscription_to(_CHANNEL_OF[kind], market),) if self._repairs.is_due(what, now) else ()
