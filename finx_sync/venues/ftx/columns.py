"""FTX's messages as tables: a row for each ticker, trade, fill, change of an order, market, or level of a book."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, Final

from finx_sync.venues.base.columns import Columns, Row, TableFormat, as_json, of_message
from finx_sync.venues.ftx.messages import (
    BookUpdate,
    FtxFill,
    FtxMarkets,
    FtxOrder,
    FtxPay,
    FtxTicker,
    FtxTrade,
    GroupedBookUpdate,
    Level,
)

__all__ = ["formats"]

MARKET: Final[Columns] = {
    "action": "text",
    "name": "text",
    "type": "text",
    "enabled": "bool",
    "postOnly": "bool",
    "restricted": "bool",
    "priceIncrement": "float",
    "sizeIncrement": "float",
    "baseCurrency": "text",
    "quoteCurrency": "text",
    "underlying": "text",
    "expiry": "text",
    "expired": "bool",
    "perpetual": "bool",
    "rest": "json",
}
OF_FUTURE: Final = ("underlying", "expiry", "expired", "perpetual")
"""The columns that come from a market's "future" object."""
LEVEL: Final[Columns] = {
    "message": "int",
    "market": "text",
    "action": "text",
    "time": "float",
    "checksum": "int",
    "side": "text",
    "price": "float",
    "size": "float",
}


def formats() -> list[TableFormat]:
    """Return the tables for one conversion."""
    plain = [of_message(kind) for kind in (FtxTicker, FtxTrade, FtxFill, FtxOrder)]
    return [
        *plain,
        TableFormat(FtxPay, "ftx_pay", {"data": "json"}, lambda message: ({"data": as_json(message.data)},)),
        TableFormat(FtxMarkets, "ftx_market", MARKET, _markets),
        TableFormat(BookUpdate, "ftx_order_book", LEVEL, _levels()),
        TableFormat(GroupedBookUpdate, "ftx_grouped_order_book", LEVEL, _levels()),
    ]


def _markets(message: FtxMarkets) -> Iterable[Row]:
    """Return a row for each market of a list."""
    return [_market(message.action, name, market) for name, market in message.markets.items()]


def _market(action: str, name: str, market: dict[str, Any]) -> Row:
    future = market.get("future")
    of_future = future if isinstance(future, dict) else {}
    row = {**{one: of_future.get(one) for one in OF_FUTURE}, **{one: market[one] for one in MARKET if one in market}}
    rest = {one: value for one, value in market.items() if one not in MARKET and one != "future"}
    rest |= {f"future.{one}": value for one, value in of_future.items() if one not in OF_FUTURE}
    return {**row, "action": action, "name": name, "rest": as_json(rest) if rest else None}


def _levels() -> Callable[[BookUpdate], Iterable[Row]]:
    """Return a function that makes a row for each level in a message; the rows of one message have the same number."""
    numbers = count()

    def rows(update: BookUpdate) -> Iterable[Row]:
        about = {
            "message": next(numbers),
            "market": update.market,
            "action": update.action,
            "time": update.time,
            "checksum": update.checksum,
        }
        levels: list[tuple[str | None, Level | tuple[None, None]]] = [
            *(("bid", level) for level in update.bids),
            *(("ask", level) for level in update.asks),
        ]
        return [
            {**about, "side": side, "price": price, "size": size}
            for side, (price, size) in levels or [(None, (None, None))]
        ]

    return rows
