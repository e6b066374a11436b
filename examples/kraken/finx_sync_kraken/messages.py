"""What handlers are given, and the frames that it comes in.

Fields: Kraken's API documentation, WebSocket v2, channels *ticker*, *trade* and *book*.
"""

from __future__ import annotations

import datetime as dt
import operator
from decimal import Decimal
from typing import Literal

import msgspec

from finx_sync.messages import Integer, Message, Name, Number, Text, wire_fields
from finx_sync.venues.base import RequestAnswer

__all__ = [
    "BookData",
    "BookFrame",
    "KrakenAnswer",
    "KrakenBook",
    "KrakenTicker",
    "KrakenTrade",
    "Level",
    "TickerFrame",
    "TradeFrame",
]


@wire_fields
class KrakenTicker(Message, frozen=True, kw_only=True, gc=False):
    """The best prices of a symbol, and its day. Prices in the quote currency, quantities in the base currency."""

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


@wire_fields
class KrakenTrade(Message, frozen=True, kw_only=True, gc=False):
    """A trade; `timestamp` is ISO 8601 in UTC, `trade_id` counts the trades of a symbol."""

    symbol: Name
    side: Text = None
    price: Number = None
    qty: Number = None
    ord_type: Text = None
    trade_id: Integer = None
    timestamp: Text = None

    name_of = operator.attrgetter("symbol")

    @property
    def venue_time(self) -> float | None:
        """When the trade was, UNIX seconds."""
        if self.timestamp is None:
            return None
        return dt.datetime.fromisoformat(self.timestamp.replace("Z", "+00:00")).timestamp()


Side = tuple[tuple[float, float], ...]


@wire_fields
class KrakenBook(Message, frozen=True, kw_only=True, gc=False):
    """A symbol's order book, verified by its checksum: price and quantity of each level, the best first."""

    symbol: Name
    bids: Side = ()
    asks: Side = ()
    checksum: int = 0

    name_of = state_of = operator.attrgetter("symbol")
    is_state = True


class Level(msgspec.Struct, frozen=True, gc=False):
    """A price and what is there. Decimals, since the checksum is of the digits that were sent."""

    price: Decimal
    qty: Decimal


class BookData(msgspec.Struct, frozen=True, gc=False):
    """A book's image, or the levels that have changed."""

    symbol: Name
    checksum: int
    bids: tuple[Level, ...] = ()
    asks: tuple[Level, ...] = ()


class _Frame(Message, frozen=True, kw_only=True, gc=False):
    """What comes in one payload: `kind` says whether it is an image or a change."""

    symbol: str
    kind: Literal["snapshot", "update"] = "update"

    name_of = operator.attrgetter("symbol")


class TickerFrame(_Frame, frozen=True, kw_only=True, gc=False):
    """Tickers; a newer one makes an older one of the same symbol worthless."""

    data: tuple[KrakenTicker, ...]

    state_of = operator.attrgetter("symbol")
    is_state = True


class TradeFrame(_Frame, frozen=True, kw_only=True, gc=False):
    """Trades, the oldest first."""

    data: tuple[KrakenTrade, ...]


class BookFrame(_Frame, frozen=True, kw_only=True, gc=False):
    """A book's image or change."""

    data: tuple[BookData, ...]


class KrakenAnswer(RequestAnswer):
    """The answer to a request: a refusal names the symbol and the request's number, but not the channel."""

    def __init__(self, number: int | None, symbol: str, error: str | None) -> None:
        self.number = number
        self.symbol = symbol
        self.error = error
