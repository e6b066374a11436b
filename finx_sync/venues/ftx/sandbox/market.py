"""The simulated market in FTX's format: tickers, books, trades and markets at a given time.

Everything is a pure function of the simulated market and the time. The best bid and ask of a perpetual are those of
FinX's contract; those of a spot market enclose FinX's index at the same millisecond. It shares no code with the client,
not even for the checksum.

Sources: FTX documentation, *Websocket API*; frames captured in July 2021.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, Final

from finx_sync.sandbox.account import Quote, TradingTerms
from finx_sync.sandbox.market import Market
from finx_sync.sandbox.prices import unit_noise

__all__ = ["MARKETS", "FtxMarket", "FtxProduct", "ServedBook", "checksum", "dumps", "iso"]

Row = dict[str, Any]
Side = dict[float, float]
"""Sizes by price, best first."""

DEPTH: Final = 100
SIZE_LIFE: Final = 5000
"""Milliseconds between two changes of a level's size; most levels have their own phase."""


@dataclass(frozen=True, slots=True)
class FtxProduct:
    """A market.

    Attributes:
        name: FTX's name.
        base: the coin's name in the simulated market.
        perpetual: the contract's name in the simulated market; None for a spot market.
        tick: the smallest step of a price.
        lot: the smallest step of a size.
    """

    name: str
    base: str
    perpetual: str | None
    tick: float
    lot: float

    def terms(self) -> TradingTerms:
        """Return the terms for an account's trades in this market; values are in dollars."""
        return TradingTerms(
            lambda price: price, lambda worth: worth, maker_fee=0.0002, taker_fee=0.0007, initial_margin=0.1
        )

    def row(self) -> Row:
        """Return the market's object in the channel `markets`."""
        is_spot = self.perpetual is None
        return {
            "name": self.name,
            "enabled": True,
            "postOnly": False,
            "priceIncrement": self.tick,
            "sizeIncrement": self.lot,
            "type": "spot" if is_spot else "future",
            "baseCurrency": self.base if is_spot else None,
            "quoteCurrency": "USD" if is_spot else None,
            "underlying": None if is_spot else self.base,
            "restricted": False,
            "future": None if is_spot else self._future(),
            "highLeverageFeeExempt": True,
        }

    def _future(self) -> Row:
        return {
            "name": self.name,
            "underlying": self.base,
            "description": f"{self.base} Perpetual Futures",
            "type": "perpetual",
            "expiry": None,
            "perpetual": True,
            "expired": False,
            "enabled": True,
            "postOnly": False,
            "imfFactor": 0.002,
            "underlyingDescription": self.base,
            "expiryDescription": "Perpetual",
            "moveStart": None,
            "positionLimitWeight": 1.0,
            "group": "perpetual",
        }


MARKETS: Final = {
    product.name: product
    for product in (
        FtxProduct("BTC-PERP", "BTC", "BTC-PERPETUAL", 0.5, 0.0001),
        FtxProduct("ETH-PERP", "ETH", "ETH-PERPETUAL", 0.05, 0.001),
        FtxProduct("SOL-PERP", "SOL", "SOL-PERPETUAL", 0.01, 0.01),
        FtxProduct("BTC/USD", "BTC", None, 1.0, 0.00001),
        FtxProduct("ETH/USD", "ETH", None, 0.1, 0.001),
        FtxProduct("SOL/USD", "SOL", None, 0.0025, 0.01),
    )
}


@dataclass(frozen=True, slots=True)
class ServedBook:
    """The best hundred levels of each side at a given time."""

    bids: Side
    asks: Side

    def rows(self) -> Row:
        """Return the levels in the format of an image."""
        return {"bids": [[*level] for level in self.bids.items()], "asks": [[*level] for level in self.asks.items()]}

    def changes_from(self, before: ServedBook) -> Row:
        """Return an update from `before`: levels that are new or have another size, and size 0 for removed ones."""
        return {"bids": _changes(before.bids, self.bids), "asks": _changes(before.asks, self.asks)}

    def grouped(self, step: float) -> ServedBook:
        """Return the book with levels grouped by price steps: bids are rounded down, asks up."""
        return ServedBook(_grouped(self.bids, step, 0), _grouped(self.asks, step, 1))


def checksum(book: ServedBook) -> int:
    """Return the CRC-32 over alternating levels, with numbers as Python floats (FTX documentation, *Order books*)."""
    bids, asks = list(book.bids.items()), list(book.asks.items())
    numbers: list[float] = []
    for level in range(DEPTH):
        for side in (bids, asks):
            if level < len(side):
                numbers.extend(side[level])
    return zlib.crc32(":".join(map(str, numbers)).encode("ascii"))


class FtxMarket:
    """FTX's markets at a given time; `now` is milliseconds since 1970.

    Args:
        market: the simulated market that all venues share.
    """

    def __init__(self, market: Market) -> None:
        self._market = market
        self._size = lru_cache(maxsize=65_536)(self._make_size)

    def quote(self, name: str, now: int) -> Quote:
        """Return the best prices and their sizes."""
        product = MARKETS[name]
        if product.perpetual is not None:
            ticker: Any = self._market.ticker(product.perpetual, now)
            bid, mark = ticker["best_bid_price"], ticker["mark_price"]
        else:
            mark = round(self._market.path.price(product.base, now), 6)
            bid = round(mark // product.tick * product.tick, 6)
        ask = round(bid + product.tick, 6)
        sizes = [self._best_size(product, side, now) for side in ("bid", "ask")]
        return Quote(bid=bid, bid_size=sizes[0], ask=ask, ask_size=sizes[1], mark=mark)

    def last(self, name: str, now: int) -> float:
        """Return the price of the latest trade."""
        quote = self.quote(name, now // 500 * 500)
        return quote.bid if unit_noise("last", name, now // 500) < 0.5 else quote.ask

    def ticker(self, name: str, now: int) -> Row:
        """Return the data of the channel `ticker`."""
        quote = self.quote(name, now)
        return {
            "bid": quote.bid,
            "ask": quote.ask,
            "bidSize": quote.bid_size,
            "askSize": quote.ask_size,
            "last": self.last(name, now),
            "time": now / 1000,
        }

    def book(self, name: str, now: int) -> ServedBook:
        """Return the order book."""
        quote, step = self.quote(name, now), MARKETS[name].tick
        return ServedBook(
            {quote.bid: quote.bid_size, **self._behind(name, quote.bid, -step, now)},
            {quote.ask: quote.ask_size, **self._behind(name, quote.ask, step, now)},
        )

    def trades(self, name: str, now: int) -> list[Row]:
        """Return the trades at a given time, at most two, without ids."""
        quote, product = self.quote(name, now), MARKETS[name]
        rows = []
        for number in range(int(2.2 * unit_noise("ftx trades", name, now))):
            side = "buy" if unit_noise("ftx side", name, now, number) < 0.5 else "sell"
            size = _in_lots(5 * unit_noise("ftx traded", name, now, number) ** 3, product.lot)
            rows.append(
                {
                    "price": quote.ask if side == "buy" else quote.bid,
                    "size": size,
                    "side": side,
                    "liquidation": unit_noise("ftx liquidation", name, now, number) < 0.01,
                    "time": iso(now),
                }
            )
        return rows

    def _behind(self, name: str, best: float, step: float, now: int) -> Side:
        """Return the levels behind the best one; some prices have no level."""
        levels: Side = {}
        distance = 0
        while len(levels) < DEPTH - 1:
            distance += 1
            price = round(best + distance * step, 6)
            if price <= 0:
                break
            phase = int(SIZE_LIFE * unit_noise("phase", name, price)) if distance % 7 else 0
            if (size := self._size(name, price, (now + phase) // SIZE_LIFE)) > 0:
                levels[price] = size
        return levels

    def _make_size(self, name: str, price: float, when: int) -> float:
        noise = unit_noise("ftx size", name, price, when)
        return _in_lots(60 * noise**6, MARKETS[name].lot) if noise > 0.05 else 0.0

    def _best_size(self, product: FtxProduct, side: str, now: int) -> float:
        return _in_lots(5 * unit_noise("ftx best", product.name, side, now // 200) ** 4, product.lot)


def dumps(frame: Row) -> str:
    """Encode a frame like the service, in Python's JSON format: with spaces, and with a decimal point in floats."""
    return json.dumps(frame, allow_nan=False)


def iso(timestamp: int) -> str:
    """Convert milliseconds since 1970 to FTX's time format."""
    moment = datetime.fromtimestamp(timestamp // 1000, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{timestamp % 1000:03d}000+00:00"


def _in_lots(size: float, lot: float) -> float:
    return round(max(round(size / lot), 1) * lot, 6)


def _changes(before: Side, after: Side) -> list[list[float]]:
    gone = [[price, 0.0] for price in before if price not in after]
    return gone + [[price, size] for price, size in after.items() if before.get(price) != size]


def _grouped(side: Side, step: float, up: int) -> Side:
    levels: Side = {}
    for price, size in side.items():
        whole = -(-price // step) if up else price // step
        group = round(whole * step, 6)
        levels[group] = round(levels.get(group, 0.0) + size, 6)
    return levels
