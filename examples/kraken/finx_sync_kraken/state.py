"""What has to be remembered in one run: open requests, order books, the newest trade of each symbol."""

from __future__ import annotations

import zlib
from collections.abc import Container, Hashable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal
from typing import Any

import msgspec

from finx_sync.errors import ChecksumError
from finx_sync.venues.base import (
    NOTHING,
    Command,
    Outcome,
    Refused,
    Report,
    Request,
    Resubscribe,
    ServerError,
    Subscription,
    Topic,
    VenueState,
)
from finx_sync_kraken.messages import (
    BookData,
    BookFrame,
    KrakenAnswer,
    KrakenBook,
    KrakenTicker,
    KrakenTrade,
    Level,
    TickerFrame,
    TradeFrame,
)

__all__ = ["KrakenState", "OrderBook", "checksum"]

CHECKED = 10
"""Levels of each side that the checksum is of."""
PAUSE = 10.0
"""Seconds between two requests for the image of one book: a server whose checksums are all wrong is not flooded."""


def checksum(asks: Iterable[tuple[Decimal, Decimal]], bids: Iterable[tuple[Decimal, Decimal]]) -> int:
    """The CRC-32 of the ten best asks, then bids: the digits of each price and quantity without leading zeros.

    Source: Kraken's guide *Book checksum (v2)*.
    """
    digits = [f"{number:f}".replace(".", "").lstrip("0") for level in (*asks, *bids) for number in level]
    return zlib.crc32("".join(digits).encode())


class OrderBook:
    """A symbol's book.

    Args:
        depth: levels of each side that are kept, as the server keeps them.
    """

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._bids: dict[Decimal, Decimal] = {}
        self._asks: dict[Decimal, Decimal] = {}

    def change(self, data: BookData) -> bool:
        """Take an image or a change in; returns whether the checksum is right."""
        self._bids = self._changed(self._bids, data.bids, best_first=True)
        self._asks = self._changed(self._asks, data.asks, best_first=False)
        return self.checksum() == data.checksum

    def _changed(self, side: dict[Decimal, Decimal], levels: Iterable[Level], *, best_first: bool) -> dict[Any, Any]:
        for level in levels:
            side.pop(level.price, None)  # also the digits of the old price
            if level.qty:
                side[level.price] = level.qty
        return dict(sorted(side.items(), reverse=best_first)[: self._depth])

    def checksum(self) -> int:
        """Of the book as it stands."""
        return checksum(list(self._asks.items())[:CHECKED], list(self._bids.items())[:CHECKED])

    def message(self, data: BookData, received_at: float) -> KrakenBook:
        """The book as it stands, for handlers."""
        sides = [tuple((float(price), float(qty)) for price, qty in one.items()) for one in (self._bids, self._asks)]
        return KrakenBook(
            received_at=received_at, symbol=data.symbol, bids=sides[0], asks=sides[1], checksum=data.checksum
        )


class KrakenState(VenueState):
    """One run's memory.

    Args:
        depth: levels of each side of a book.
        lock: guards the books, which any thread may ask for.
        after: the run before, whose trades are not handed on again.
    """

    takes = frozenset({TickerFrame, TradeFrame, BookFrame, KrakenAnswer})

    def __init__(
        self, depth: int, lock: AbstractContextManager[Any] | None = None, after: KrakenState | None = None
    ) -> None:
        self._depth = depth
        self._lock = nullcontext() if lock is None else lock
        self._requests: dict[Hashable, dict[int, Request]] = {}
        self._books: dict[str, OrderBook] = {}
        self._shown: dict[str, KrakenBook] = {}
        self._due: dict[str, float] = {}  # when a distrusted book is asked for again
        self._asked_at: dict[str, float] = {}  # when it was asked for last
        self._newest: dict[str, int] = {} if after is None else dict(after._newest)  # trade_id

    def book(self, symbol: str) -> KrakenBook | None:
        """A book that can be trusted now; any thread."""
        with self._lock:
            return self._shown.get(symbol)

    def requested(self, connection: Hashable, request: Request) -> None:
        """Its answers repeat its number."""
        if request.number is not None:
            self._requests.setdefault(connection, {})[request.number] = request

    def closed(self, connection: Hashable, endpoint: str, now: float) -> Outcome:
        """No book can be trusted before the next image."""
        self._requests.pop(connection, None)
        with self._lock:
            self._books.clear()
            self._shown.clear()
        return NOTHING

    def removed(self, subscription: Subscription, now: float) -> Outcome:
        """Its book goes; what still comes of it is no longer shown."""
        if subscription.kind == "book":
            self._forget(subscription.name)
            self._due.pop(subscription.name, None)
        return NOTHING

    def _forget(self, symbol: str) -> None:
        with self._lock:
            self._books.pop(symbol, None)
            self._shown.pop(symbol, None)

    def take(self, message: Any, connection: Hashable | None, now: float, wanted: Container[Topic]) -> Outcome:
        """Take frames apart."""
        if isinstance(message, KrakenAnswer):
            return Outcome(commands=[self._refusal(message, connection)])
        if isinstance(message, BookFrame):
            return self._book(message, now)
        if isinstance(message, TradeFrame):
            return self._trades(message)
        return Outcome(messages=[(KrakenTicker, _stamped(one, message.received_at)) for one in message.data])

    def _refusal(self, answer: KrakenAnswer, connection: Hashable | None) -> Command:
        said = answer.error or ""
        request = self._requests.get(connection, {}).get(answer.number or 0)
        asked = request.subscriptions if request is not None else ()
        found = next((one for one in asked if one.name == answer.symbol), None)
        return ServerError(said) if found is None else Refused(found, said)

    def _trades(self, frame: TradeFrame) -> Outcome:
        """Those that are newer than all before. The first image is of trades that were made before we asked."""
        newest = self._newest.get(frame.symbol)
        if newest is None and frame.kind == "snapshot":
            new: list[KrakenTrade] = []
        else:
            new = [one for one in frame.data if one.trade_id is None or one.trade_id > (newest or 0)]
        self._newest[frame.symbol] = max(newest or 0, *(one.trade_id or 0 for one in frame.data))
        stamped = [(KrakenTrade, _stamped(one, frame.received_at)) for one in new]
        return Outcome(messages=stamped, is_duplicate=not stamped)

    def withheld(self, messages: Sequence[Any]) -> None:
        """Trades that were not handed on, since the stream stops, are new to the next run."""
        for trade in messages:
            if isinstance(trade, KrakenTrade) and trade.trade_id is not None:
                self._newest[trade.symbol] = min(self._newest.get(trade.symbol, 0), trade.trade_id - 1)

    def unreadable(self, endpoint: str, now: float) -> Outcome:
        """It may have been the change of any book, and the checksum sees the ten best levels only."""
        return self._distrust_all(now)

    def missed(self, reason: str, now: float) -> Outcome:
        """As where a message could not be read; a new connection brings new images by itself."""
        return self._distrust_all(now) if reason in ("slow consumer", "conflated") else NOTHING

    def _distrust_all(self, now: float) -> Outcome:
        commands = [command for symbol in list(self._books) for command in self._distrust(symbol, now)]
        return Outcome(commands=commands)

    def round(self, now: float) -> Outcome:
        """Ask for the books whose time has come."""
        due = [symbol for symbol, moment in self._due.items() if now >= moment]
        return Outcome(commands=[command for symbol in due for command in self._ask(symbol, now)])

    def _book(self, frame: BookFrame, now: float) -> Outcome:
        messages: list[tuple[Topic, Any]] = []
        commands: list[Command] = []
        for data in frame.data:
            if frame.kind == "snapshot":
                self._books[data.symbol] = OrderBook(self._depth)
            book = self._books.get(data.symbol)
            if book is None:  # its image is still to come
                continue
            if book.change(data):
                shown = book.message(data, frame.received_at)
                with self._lock:
                    self._shown[data.symbol] = shown
                messages.append((KrakenBook, shown))
            else:
                commands += [Report(ChecksumError(data.symbol)), *self._distrust(data.symbol, now)]
        return Outcome(messages=messages, commands=commands)

    def _distrust(self, symbol: str, now: float) -> list[Command]:
        """Show a book no longer, and ask for its image: at once, or when enough time has passed since the last time."""
        self._forget(symbol)
        self._due.setdefault(symbol, max(now, self._asked_at.get(symbol, now - PAUSE) + PAUSE))
        return self._ask(symbol, now) if now >= self._due[symbol] else []

    def _ask(self, symbol: str, now: float) -> list[Command]:
        del self._due[symbol]
        self._asked_at[symbol] = now
        return [Resubscribe((Subscription("book", symbol),))]


def _stamped(message: Any, received_at: float) -> Any:
    """With the time at which its frame was received, which is how a decoded message is completed."""
    msgspec.structs.force_setattr(message, "received_at", received_at)
    return message
