"""The subscribed order books: they are kept up to date, and requested again if they become invalid."""

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
"""The kind of book that each type of update belongs to."""
CHANNELS: Final[dict[str, Kind]] = {"orderbook": FtxOrderBook, "orderbookGrouped": FtxGroupedOrderBook}
"""The kind of book of each channel."""
_CHANNEL_OF: Final = {kind: channel for channel, kind in CHANNELS.items()}


class Books:
    """The books of one run. Not thread-safe. `now` is seconds on a monotonic clock."""

    def __init__(self) -> None:
        self._books: dict[tuple[Kind, str], FtxBook] = {}
        self._repairs: Repairs[tuple[Kind, str]] = Repairs()

    def want(self, subscription: Subscription, now: float) -> None:
        """Add a market's book if the subscription is for one; its image is about to be requested."""
        kind = CHANNELS.get(subscription.kind)
        if kind is not None and (what := (kind, subscription.name)) not in self._books:
            self._books[what] = FtxBook()
            self._repairs.expected(what, now)

    def forget(self, subscription: Subscription) -> None:
        """Remove the book of a subscription."""
        kind = CHANNELS.get(subscription.kind)
        if kind is not None:
            self._books.pop((kind, subscription.name), None)
            self._repairs.forget((kind, subscription.name))

    def picture(self, kind: Kind, market: str) -> FtxOrderBook | None:
        """Return the current state of a book; None if there is no valid book."""
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
        """Merge an update from the server.

        Returns:
            Whether the book has the server's checksum (if not, it waits for an image), and whether it is valid now.
        """
        what = (BOOKS[type(update)], update.market)
        book = self._books.get(what)
        if book is None:  # no longer subscribed
            return True, False
        fits = book.apply(update)
        if not fits:
            self._repairs.broken(what, now)
        return fits, book.is_valid

    def distrust(self, now: float) -> None:
        """Drop the books whose updates have no checksum, because lost messages would leave them wrong for ever."""
        for what, book in self._books.items():
            if book.is_valid and book.expected is None:
                book.drop()
                self._repairs.broken(what, now)

    def drop(self, now: float) -> None:
        """Drop all books, because their connection was lost or replaced; a new one sends their images."""
        for what, book in self._books.items():
            book.drop()
            self._repairs.expected(what, now)

    def due_of(self, update: BookUpdate, now: float) -> tuple[Subscription, ...]:
        """Return the subscription of an update's book if the book is invalid and must be requested again now."""
        what = (BOOKS[type(update)], update.market)
        book = self._books.get(what)
        return self._due(what, now) if book is not None and not book.is_valid else ()

    def due(self, now: float) -> tuple[Subscription, ...]:
        """Return the subscriptions of the invalid books that must be requested again now; see `Repairs`."""
        return tuple(one for what in list(self._repairs.waiting) for one in self._due(what, now))

    def _due(self, what: tuple[Kind, str], now: float) -> tuple[Subscription, ...]:
        kind, market = what
        return (subscription_to(_CHANNEL_OF[kind], market),) if self._repairs.is_due(what, now) else ()
