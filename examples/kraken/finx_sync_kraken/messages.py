"""Kraken's messages: what handlers get, and what the stream keeps to itself.

Source: docs.kraken.com, *WebSocket API v2*, channels ticker, trade and book.
"""

from __future__ import annotations

import datetime as dt
import operator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from finx_sync.messages import Message, Name, Number, Text, unix_seconds, wire_fields
from finx_sync.venues.base import RequestAnswer, Subscription

__all__ = ["BookGranted", "BookUpdate", "ExactLevel", "KrakenOrderBook", "KrakenTicker", "KrakenTrade", "Trades"]

Level = tuple[float, float]
"""Price and quantity."""
ExactLevel = tuple[Decimal, Decimal]
"""The same with the digits that the server wrote, which the checksum is of."""


def _moment(text: str) -> dt.datetime:
    # fromisoformat does not take "Z" before Python 3.11.
    return dt.datetime.fromisoformat(text.replace("Z", "+00:00"))


@wire_fields
class KrakenTicker(Message, frozen=True, kw_only=True, gc=False):
    """A pair's best prices, and its last 24 hours.

    Attributes:
        symbol: like "BTC/USD".
        bid, ask: best prices; bid_qty, ask_qty: what stands there.
        last: price of the last trade.
        volume, vwap, low, high: of the last 24 hours.
        change: of the price in 24 hours; change_pct: the same in percent.
    """

    symbol: Name
    bid: Number = None
    bid_qty: Number = None
    ask: Number = None
    ask_qty: Number = None
    last: Number = None
    volume: Number = None
    vwap: Number = None
    low: Number = None
    high: Number = None
    change: Number = None
    change_pct: Number = None

    name_of = state_of = operator.attrgetter("symbol")
    is_state = True

    @property
    def name(self) -> str:
        """The pair."""
        return self.symbol


@wire_fields
class KrakenTrade(Message, frozen=True, kw_only=True, gc=False):
    """One trade.

    Attributes:
        symbol: like "BTC/USD".
        side: of the one who took.
        price, qty: as traded.
        ord_type: "limit" or "market".
        trade_id: a sequence of the pair's.
        timestamp: ISO 8601 with microseconds.
    """

    symbol: Name
    side: Literal["buy", "sell"]
    price: Number
    qty: Number
    ord_type: Text = None
    trade_id: int
    timestamp: Text = None

    name_of = operator.attrgetter("symbol")

    @property
    def name(self) -> str:
        """The pair."""
        return self.symbol

    @property
    def venue_time(self) -> float | None:
        """`timestamp` in UNIX seconds."""
        return unix_seconds(lambda: None if self.timestamp is None else _moment(self.timestamp))


@wire_fields
class KrakenOrderBook(Message, frozen=True, kw_only=True, gc=False):
    """A pair's order book as it stood at one moment; nobody changes it afterwards.

    Attributes:
        symbol: like "BTC/USD".
        bids: (price, quantity), highest price first.
        asks: (price, quantity), lowest price first.
        checksum: the server's, which this book was found to have.
        timestamp: ISO 8601 with microseconds; None where the server sent none, as in a snapshot.
    """

    symbol: str
    bids: list[Level]
    asks: list[Level]
    checksum: int
    timestamp: str | None = None

    name_of = operator.attrgetter("symbol")

    @property
    def name(self) -> str:
        """The pair."""
        return self.symbol

    @property
    def venue_time(self) -> float | None:
        """`timestamp` in UNIX seconds."""
        return unix_seconds(lambda: None if self.timestamp is None else _moment(self.timestamp))


@wire_fields
class BookUpdate(Message, frozen=True, kw_only=True, gc=False):
    """What the server says about a book; the stream merges it.

    Attributes:
        symbol: whose.
        is_snapshot: whether it is the whole book, which updates build on.
        bids, asks: the levels, or those that changed; quantity 0 removes one.
        checksum: of the book with this update.
        timestamp: see `KrakenOrderBook`.
    """

    symbol: str
    is_snapshot: bool
    bids: list[ExactLevel]
    asks: list[ExactLevel]
    checksum: int
    timestamp: str | None = None

    name_of = operator.attrgetter("symbol")

    @property
    def name(self) -> str:
        """The pair."""
        return self.symbol


@wire_fields
class Trades(Message, frozen=True, kw_only=True, gc=False):
    """A frame of trades; the stream hands them on one by one.

    Attributes:
        symbol: of the trades.
        trades: in the order of the wire.
    """

    symbol: str
    trades: list[KrakenTrade]

    name_of = operator.attrgetter("symbol")

    @property
    def name(self) -> str:
        """The pair."""
        return self.symbol


@dataclass(frozen=True)
class BookGranted(RequestAnswer):
    """The server granted a book.

    Attributes:
        subscription: which.
        depth: levels a side that the server keeps us informed of.
    """

    subscription: Subscription
    depth: int
