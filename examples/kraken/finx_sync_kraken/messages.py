"""Kraken's messages: those that handlers get, and those that only the state uses.

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
"""Price and quantity with the digits that the server sent; the checksum is computed from them."""


def _moment(text: str) -> dt.datetime:
    # fromisoformat does not take "Z" before Python 3.11.
    return dt.datetime.fromisoformat(text.replace("Z", "+00:00"))


@wire_fields
class KrakenTicker(Message, frozen=True, kw_only=True, gc=False):
    """A pair's best prices, and statistics of the last 24 hours.

    Attributes:
        symbol: like "BTC/USD".
        bid, ask: best prices; bid_qty, ask_qty: the quantities at these prices.
        last: price of the last trade.
        volume, vwap, low, high: values for the last 24 hours.
        change: the change of the price in 24 hours; change_pct: the same in percent.
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
        side: the taker's side.
        price, qty: the traded price and quantity.
        ord_type: "limit" or "market".
        trade_id: counts up for each pair.
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
    """A snapshot of a pair's order book; it is never changed.

    Attributes:
        symbol: like "BTC/USD".
        bids: (price, quantity), highest price first.
        asks: (price, quantity), lowest price first.
        checksum: the server's checksum, which this book was verified with.
        timestamp: ISO 8601 with microseconds; None if the server sent none, as in a snapshot.
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
    """A snapshot or an update of a book, which the state merges.

    Attributes:
        symbol: like "BTC/USD".
        is_snapshot: whether this is the whole book; updates follow.
        bids, asks: the levels of a snapshot, or the changed levels; quantity 0 removes a level.
        checksum: the checksum of the book after this update.
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
    """A frame with several trades, which handlers get one by one.

    Attributes:
        symbol: like "BTC/USD".
        trades: the trades in the order of the frame.
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
    """The server has granted the subscription to a book.

    Attributes:
        subscription: the subscription.
        depth: the number of levels on each side that the server sends.
    """

    subscription: Subscription
    depth: int
