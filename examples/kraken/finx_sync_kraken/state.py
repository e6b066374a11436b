"""What Kraken's protocol has to remember in one run: order books, and which trades were handed on.

Source of the checksum: docs.kraken.com, *Spot WebSocket book checksum (v2)*, guide "spot-ws-book-v2": the best ten
asks, lowest first, then the best ten bids, highest first; of each the price and the quantity as the server wrote them,
without the point and without zeros in front; CRC-32 of all that.
"""

from __future__ import annotations

import math
import zlib
from bisect import bisect_left, insort
from collections.abc import Container, Hashable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal
from typing import Any, ClassVar, Final

from finx_sync.errors import ChecksumError
from finx_sync.messages import Message
from finx_sync.venues.base import (
    NOTHING,
    Command,
    Confirmed,
    Outcome,
    Report,
    Resubscribe,
    Subscription,
    Topic,
    VenueState,
)
from finx_sync_kraken.messages import BookGranted, BookUpdate, ExactLevel, KrakenOrderBook, KrakenTrade, Trades

__all__ = ["KrakenBook", "KrakenState"]

SUMMED: Final = 10
"""Levels a side that the checksum is of."""
REPAIR_INTERVAL: Final = 5.0
"""Seconds between two requests for the same book: a server whose checksums are wrong is not to be hammered."""
DROPPED: Final = frozenset({"slow consumer", "damaged recording"})
"""Reasons of gaps in which updates were lost on a connection that goes on."""

_set_received_at: Final = Message.__dict__["received_at"].__set__
"""Past `frozen`: trades are completed here, before anyone sees them."""


class _Side:
    """One side's levels, best first: a rank, which rises, is the price for asks, and its negative for bids."""

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._order: list[Decimal] = []
        self._levels: dict[Decimal, ExactLevel] = {}

    def clear(self) -> None:
        self._order.clear()
        self._levels.clear()

    def apply(self, levels: Iterable[ExactLevel], depth: int) -> None:
        """Merge what has changed, and forget what is deeper than `depth`, of which the server says no more."""
        order, known = self._order, self._levels
        for level in levels:
            price, qty = level
            rank = price * self._sign
            if qty:
                if rank not in known:
                    insort(order, rank)
                known[rank] = level
            elif known.pop(rank, None) is not None:
                del order[bisect_left(order, rank)]
        for rank in order[depth:]:
            del known[rank]
        del order[depth:]

    def best(self, count: int | None = None) -> list[ExactLevel]:
        return [self._levels[rank] for rank in self._order[:count]]


class KrakenBook:
    """One pair's book; not safe from several threads at once.

    Args:
        now: seconds on a clock that only goes forward; its snapshot is about to be asked for.

    Attributes:
        depth: levels a side that the server keeps us informed of.
        is_valid: whether it has had its snapshot, and every checksum since was right.
        is_broken: whether it was wrong, and has not been asked for since.
        newest: the last update.
    """

    def __init__(self, now: float = 0.0) -> None:
        self._bids, self._asks = _Side(-1), _Side(1)
        self.depth = SUMMED
        self.is_valid = False
        self.newest: BookUpdate | None = None
        self._repaired_at = -math.inf
        self.expect(now)

    def apply(self, update: BookUpdate) -> bool:
        """Merge a snapshot or an update; one that comes before the snapshot is ignored.

        Returns:
            False when the book does not have the update's checksum: then it is dropped, and waits for a snapshot.
        """
        if update.is_snapshot:
            self.drop()
            self.is_valid, self.is_broken = True, False
        elif not self.is_valid:
            return True
        self._bids.apply(update.bids, self.depth)
        self._asks.apply(update.asks, self.depth)
        self.newest = update
        if update.checksum != self.checksum():
            self.distrust()
            return False
        return True

    def drop(self) -> None:
        """Forget everything; updates are ignored until the next snapshot."""
        self._bids.clear()
        self._asks.clear()
        self.is_valid = False
        self.newest = None

    def expect(self, now: float) -> None:
        """Its snapshot has just been asked for in the usual way; it has an interval's time to come."""
        self.drop()
        self.is_broken = False
        self._due_at = now + REPAIR_INTERVAL

    def distrust(self) -> None:
        """It is wrong: due as soon as an interval has gone by since it was last asked for again."""
        self.drop()
        self.is_broken = True
        self._due_at = self._repaired_at + REPAIR_INTERVAL

    def checksum(self) -> int:
        """CRC-32 of the book as it stands."""
        levels = [*self._asks.best(SUMMED), *self._bids.best(SUMMED)]
        return zlib.crc32("".join(_digits(number) for level in levels for number in level).encode())

    def picture(self) -> KrakenOrderBook | None:
        """The book as it stands; None where it cannot be trusted."""
        update = self.newest
        if update is None:
            return None
        return KrakenOrderBook(
            received_at=update.received_at,
            symbol=update.symbol,
            bids=[(float(price), float(qty)) for price, qty in self._bids.best()],
            asks=[(float(price), float(qty)) for price, qty in self._asks.best()],
            checksum=update.checksum,
            timestamp=update.timestamp,
        )

    def is_due(self, now: float) -> bool:
        """Whether to ask for it again now; then it counts as asked for."""
        if self.is_valid or now < self._due_at:
            return False
        self._repaired_at = now
        self.expect(now)
        return True


def _digits(number: Decimal) -> str:
    return f"{number:f}".replace(".", "").lstrip("0")


class KrakenState(VenueState):
    """Merges order books, and hands each trade on once. `book` is for any thread.

    Args:
        lock: guards the books.
        after: the state of the stream's run before.
    """

    takes: ClassVar[frozenset[type]] = frozenset({Trades, BookUpdate, BookGranted})

    def __init__(self, lock: AbstractContextManager[Any] | None = None, after: KrakenState | None = None) -> None:
        self._lock = nullcontext() if lock is None else lock
        self._books: dict[str, KrakenBook] = {}
        self._newest: dict[str, int] = {} if after is None else dict(after._newest)  # the last trade of each pair

    def book(self, symbol: str) -> KrakenOrderBook | None:
        """A pair's book as it stands; None where there is none that can be trusted."""
        with self._lock:
            book = self._books.get(symbol)
            return None if book is None else book.picture()

    # For the dispatch thread

    def added(self, subscription: Subscription, now: float) -> Outcome:
        if subscription.kind == "book":
            with self._lock:
                self._books.setdefault(subscription.name, KrakenBook(now))
        return NOTHING

    def removed(self, subscription: Subscription, now: float) -> Outcome:
        if subscription.kind == "trade":
            self._newest.pop(subscription.name, None)
        elif subscription.kind == "book":
            with self._lock:
                self._books.pop(subscription.name, None)
        return NOTHING

    def opened(self, connection: Hashable, endpoint: str, now: float) -> Outcome:
        return self._drop_all(now)

    def closed(self, connection: Hashable, endpoint: str, now: float) -> Outcome:
        return self._drop_all(now)

    def _drop_all(self, now: float) -> Outcome:
        """The connection that kept the books is gone; a new one sends their snapshots."""
        with self._lock:
            for book in self._books.values():
                book.expect(now)
        return NOTHING

    def take(self, message: Any, connection: Hashable | None, now: float, wanted: Container[Topic]) -> Outcome:
        if isinstance(message, Trades):
            return self._take_apart(message, wanted)
        with self._lock:
            if isinstance(message, BookUpdate):
                return self._merge(message, now, wanted)
            granted = self._books.get(message.subscription.name)
            if granted is not None:
                granted.depth = message.depth
            return Outcome(commands=(Confirmed(message.subscription),))

    def _merge(self, update: BookUpdate, now: float, wanted: Container[Topic]) -> Outcome:
        """Merge what the server says about a book; the whole book is made only for whoever wants it."""
        book = self._books.get(update.symbol)
        if book is None:  # not wanted any more
            return NOTHING
        fits = book.apply(update)
        if book.is_valid:
            messages: list[tuple[Topic, Any]] = [(BookUpdate, update)] if BookUpdate in wanted else []
            if KrakenOrderBook in wanted:
                messages.append((KrakenOrderBook, book.picture()))
            return Outcome(messages)
        commands: list[Command] = [] if fits else [Report(ChecksumError(update.symbol))]
        if book.is_due(now):
            commands.append(_again(update.symbol))
        return Outcome(commands=commands)

    def _take_apart(self, frame: Trades, wanted: Container[Topic]) -> Outcome:
        """Hand trades on one by one, as they happened, without those that were handed on before."""
        messages: list[tuple[Topic, Any]] = []
        for trade in sorted(frame.trades, key=lambda trade: trade.trade_id):
            if trade.trade_id > self._newest.get(trade.symbol, -1):
                self._newest[trade.symbol] = trade.trade_id
                _set_received_at(trade, frame.received_at)
                messages.append((KrakenTrade, trade))
        is_duplicate = not messages
        if Trades in wanted:
            messages.append((Trades, frame))
        return Outcome(messages, is_duplicate=is_duplicate)

    def withheld(self, messages: Sequence[Any]) -> None:
        for message in messages:
            if isinstance(message, KrakenTrade):
                newest = self._newest.get(message.symbol, -1)
                self._newest[message.symbol] = min(newest, message.trade_id - 1)

    def unreadable(self, endpoint: str, now: float) -> Outcome:
        return self._distrust(now)

    def missed(self, reason: str, now: float) -> Outcome:
        return self._distrust(now) if reason in DROPPED else NOTHING

    def _distrust(self, now: float) -> Outcome:
        """An update may be lost, and nobody would notice where it was of a level that the checksum is not of."""
        with self._lock:
            for book in self._books.values():
                if book.is_valid and book.depth > SUMMED:
                    book.distrust()
        return self.round(now)

    def round(self, now: float) -> Outcome:
        with self._lock:
            due = [symbol for symbol, book in self._books.items() if book.is_broken and book.is_due(now)]
        return Outcome(commands=(_again(*due),)) if due else NOTHING


def _again(*symbols: str) -> Resubscribe:
    return Resubscribe(tuple(Subscription("book", symbol) for symbol in symbols))
