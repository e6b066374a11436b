"""Kraken's state during one run: order books, and the trades that were already delivered.

Source of the checksum: docs.kraken.com, *Spot WebSocket book checksum (v2)*, guide "spot-ws-book-v2". It is the CRC-32
of the best ten asks, lowest first, and the best ten bids, highest first. Each level contributes the digits of its price
and its quantity as the server sent them, without the decimal point and without leading zeros.
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
"""The number of levels on each side that the checksum covers."""
REPAIR_INTERVAL: Final = 5.0
"""Seconds between two requests for the same book, to spare a server whose checksums are all wrong."""
DROPPED: Final = frozenset({"slow consumer", "damaged recording"})
"""Reasons of gaps after which updates are missing although the connection stays open."""

_set_received_at: Final = Message.__dict__["received_at"].__set__
"""Sets a field of a frozen message; trades are completed here, before they are delivered."""


class _Side:
    """The levels of one side, best first. Their rank ascends: an ask's price, or a bid's negative price."""

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._order: list[Decimal] = []
        self._levels: dict[Decimal, ExactLevel] = {}

    def clear(self) -> None:
        self._order.clear()
        self._levels.clear()

    def apply(self, levels: Iterable[ExactLevel], depth: int) -> None:
        """Merge changed levels, and delete levels deeper than `depth`, for which the server sends no updates."""
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
    """One pair's book; not thread-safe.

    Args:
        now: seconds on a monotonic clock; the snapshot is requested at this time.

    Attributes:
        depth: the number of levels on each side that the server sends.
        is_valid: whether the snapshot has arrived, and every checksum since then was right.
        is_broken: whether the book was wrong, and has not been requested again since then.
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
        """Merge a snapshot or an update; updates before the snapshot are ignored.

        Returns:
            False if the checksum is wrong; then the book is dropped until the next snapshot.
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
        """Delete all levels; updates are ignored until the next snapshot."""
        self._bids.clear()
        self._asks.clear()
        self.is_valid = False
        self.newest = None

    def expect(self, now: float) -> None:
        """Wait for a snapshot that has just been requested; it is due again after `REPAIR_INTERVAL`."""
        self.drop()
        self.is_broken = False
        self._due_at = now + REPAIR_INTERVAL

    def distrust(self) -> None:
        """Drop a wrong book; it is due when `REPAIR_INTERVAL` has passed since it was last requested again."""
        self.drop()
        self.is_broken = True
        self._due_at = self._repaired_at + REPAIR_INTERVAL

    def checksum(self) -> int:
        """Return the CRC-32 of the current book."""
        levels = [*self._asks.best(SUMMED), *self._bids.best(SUMMED)]
        return zlib.crc32("".join(_digits(number) for level in levels for number in level).encode())

    def picture(self) -> KrakenOrderBook | None:
        """Return the current book; None if it is not verified."""
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
        """Return whether the book must be requested again now; if so, it counts as requested."""
        if self.is_valid or now < self._due_at:
            return False
        self._repaired_at = now
        self.expect(now)
        return True


def _digits(number: Decimal) -> str:
    return f"{number:f}".replace(".", "").lstrip("0")


class KrakenState(VenueState):
    """Merges order books, and delivers each trade once. `book` may be called on any thread.

    Args:
        lock: guards the books.
        after: the state of the stream's previous run.
    """

    takes: ClassVar[frozenset[type]] = frozenset({Trades, BookUpdate, BookGranted})

    def __init__(self, lock: AbstractContextManager[Any] | None = None, after: KrakenState | None = None) -> None:
        self._lock = nullcontext() if lock is None else lock
        self._books: dict[str, KrakenBook] = {}
        self._newest: dict[str, int] = {} if after is None else dict(after._newest)  # the last trade of each pair

    def book(self, symbol: str) -> KrakenOrderBook | None:
        """Return a pair's current book; None if there is no verified one."""
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
        """Drop all books: updates come on a single connection, and a new connection begins with snapshots."""
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
        """Merge a snapshot or an update; a `KrakenOrderBook` is only created if a handler gets it."""
        book = self._books.get(update.symbol)
        if book is None:  # no longer subscribed
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
        """Deliver trades one by one, in the order of their ids, without those that were delivered before."""
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
        """Drop books that may lack an update of a level that the checksum does not cover."""
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
