"""Kraken's part of the sandbox: tickers, trades and books of the simulated market, on ``/v2``.

Source: docs.kraken.com, *WebSocket API v2*. It shares no code with the client's part, not even for the checksum: here
prices and quantities are integer multiples of the pair's smallest step, and the checksum is computed from their digits.

The documentation does not give the texts of refusals, nor how often trades happen; both were chosen for the sandbox.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, Final

from aiohttp import web

from finx_sync.sandbox.connection import ClientConnection
from finx_sync.sandbox.host import SandboxHost, SandboxVenue, dumps
from finx_sync.sandbox.prices import unit_noise

__all__ = ["serve"]

Row = dict[str, Any]
Steps = dict[int, int]
"""Quantities by price, best first; both are multiples of the pair's smallest step."""

PRICE_DECIMALS: Final = {"BTC/USD": 1, "ETH/USD": 2, "SOL/USD": 2}
QTY_DECIMALS: Final = 8
CHANNELS: Final = ("ticker", "trade", "book")
DEPTHS: Final = (10, 25, 100, 500, 1000)
HEARTBEAT: Final = "heartbeat"
TRADE_MS: Final = 100
"""Milliseconds between two trades."""
SNAPSHOT_TRADES: Final = 50
QTY_MS: Final = 2000
"""Milliseconds for which a quantity stays the same; each price changes at a different time."""


class KrakenRefusal(Exception):  # noqa: N818 - it becomes an answer, not an error
    """A request that is answered with an error."""


@dataclass(frozen=True)
class ServedBook:
    """A book at one time."""

    symbol: str
    bids: Steps
    asks: Steps

    def checksum(self) -> int:
        """Return the CRC-32 of the best ten asks and bids."""
        levels = [*list(self.asks.items())[:10], *list(self.bids.items())[:10]]
        return zlib.crc32("".join(f"{price}{qty}" for price, qty in levels).encode())

    def frame(self, kind: str, bids: Steps, asks: Steps, checksum: int, now: int) -> str:
        """Return a message with some levels. Its numbers have their trailing zeros, which `json` does not write."""
        about = [f'"symbol":"{self.symbol}"', f'"bids":{self._rows(bids)}', f'"asks":{self._rows(asks)}']
        about += [f'"checksum":{checksum}'] + ([f'"timestamp":"{_iso(now)}"'] if kind == "update" else [])
        return f'{{"channel":"book","type":"{kind}","data":[{{{",".join(about)}}}]}}'

    def _rows(self, side: Steps) -> str:
        decimals = PRICE_DECIMALS[self.symbol]
        rows = (f'{{"price":{_text(price, decimals)},"qty":{_text(qty, QTY_DECIMALS)}}}' for price, qty in side.items())
        return f"[{','.join(rows)}]"


class KrakenMarket:
    """Prices, books and trades of Kraken's pairs: pure functions of the sandbox's market and the time."""

    def __init__(self, host: SandboxHost) -> None:
        self._path = host.market.path
        self._qty = lru_cache(maxsize=65_536)(_qty)

    def best(self, symbol: str, now: int) -> int:
        """Return the best bid in steps; the best ask is one step higher."""
        unit: int = 10 ** PRICE_DECIMALS[symbol]
        return math.floor(self._path.price(symbol.partition("/")[0], now) * unit)

    def book(self, symbol: str, depth: int, now: int) -> ServedBook:
        """Return the order book; some prices have no quantity."""
        bid = self.best(symbol, now)
        return ServedBook(symbol, self._side(symbol, bid, -1, depth, now), self._side(symbol, bid + 1, 1, depth, now))

    def _side(self, symbol: str, best: int, step: int, depth: int, now: int) -> Steps:
        levels: Steps = {}
        price = best
        while len(levels) < depth and price > 0:
            phase = price * 137 % QTY_MS
            if (qty := self._qty(symbol, step, price, (now + phase) // QTY_MS)) or price == best:
                levels[price] = qty or 10**6
            price += step
        return levels

    def ticker(self, symbol: str, now: int) -> Row:
        """Return the data of a `ticker` message."""
        book, unit = self.book(symbol, 1, now), 10 ** PRICE_DECIMALS[symbol]
        ((bid, bid_qty),), ((ask, ask_qty),) = book.bids.items(), book.asks.items()
        day = [self.best(symbol, now - hours * 3_600_000) / unit for hours in range(24, -1, -1)]
        last = self.trade(symbol, now // TRADE_MS)["price"]
        return {
            "symbol": symbol,
            "bid": bid / unit,
            "bid_qty": bid_qty / 10**QTY_DECIMALS,
            "ask": ask / unit,
            "ask_qty": ask_qty / 10**QTY_DECIMALS,
            "last": last,
            "volume": round(1000 * (1 + unit_noise("kraken volume", symbol, now // 60_000)), 8),
            "vwap": round(sum(day) / len(day), 2),
            "low": min(*day, last),
            "high": max(*day, last),
            "change": round(last - day[0], 2),
            "change_pct": round(100 * (last / day[0] - 1), 2),
        }

    def trade(self, symbol: str, number: int) -> Row:
        """Return a trade; its number determines its time."""
        now = number * TRADE_MS
        is_buy = unit_noise("kraken side", symbol, number) < 0.5
        return {
            "symbol": symbol,
            "side": "buy" if is_buy else "sell",
            "price": (self.best(symbol, now) + is_buy) / 10 ** PRICE_DECIMALS[symbol],
            "qty": round(0.0001 + unit_noise("kraken traded", symbol, number) ** 3, 8),
            "ord_type": "market" if unit_noise("kraken type", symbol, number) < 0.5 else "limit",
            "trade_id": number,
            "timestamp": _iso(now),
        }


class KrakenServer:
    """The server for all connections. Only on the event loop, except `spoil`.

    Args:
        host: the sandbox.
    """

    def __init__(self, host: SandboxHost) -> None:
        self.host: Final = host
        self.market: Final = KrakenMarket(host)
        self._spoilt: dict[str, int] = {}

    def add_to(self, app: web.Application) -> None:
        """Add the path to the server."""
        app.router.add_get("/v2", self._serve)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        connection, response = await self.host.hub.accept(request, request.path)
        await self.host.hub.serve(connection, KrakenSession(self, connection))
        return response

    def spoil(self, symbol: str, count: int) -> None:
        """Send `count` wrong checksums for a pair's book, beginning with the next one. Call it on another thread."""
        self.host.run(lambda: self._spoilt.update({symbol: count}))

    def checksum(self, book: ServedBook) -> int:
        """Return a book's checksum, or a wrong one after `spoil`."""
        left = self._spoilt.get(book.symbol, 0)
        if left:
            self._spoilt[book.symbol] = left - 1
        return book.checksum() ^ bool(left)


class KrakenSession:
    """One client's session.

    Args:
        server: the server.
        connection: the client's connection.
    """

    def __init__(self, server: KrakenServer, connection: ClientConnection) -> None:
        self._server, self._connection = server, connection
        self._now, self._market = server.host.now, server.market

    def opened(self) -> None:
        """Send the exchange's status."""
        state = {"api_version": "v2", "connection_id": self._connection.number, "system": "online", "version": "2.0.0"}
        self._connection.send(dumps({"channel": "status", "type": "update", "data": [state]}))

    def received(self, text: str) -> None:
        """Answer a request, with one answer for each of its pairs."""
        try:
            request = json.loads(text)
        except (ValueError, RecursionError):
            request = None
        self._server.host.hub.note_request(self._connection, request if isinstance(request, dict) else text)
        if not isinstance(request, dict):
            self._answer({}, error="Malformed request", success=False)
        elif request.get("method") == "ping":
            self._answer({**request, "method": "pong"})
        elif request.get("method") in ("subscribe", "unsubscribe"):
            self._change(request)
        else:
            self._answer(request, error="Method not supported", success=False)

    def _change(self, request: Row) -> None:
        params = request.get("params")
        symbols = params.get("symbol") if isinstance(params, dict) else None
        if not isinstance(params, dict) or not isinstance(symbols, list):
            self._answer(request, error="Symbol(s) not found", success=False)
            return
        for symbol in symbols:
            try:
                self._change_one(request, params, symbol)
            except KrakenRefusal as refusal:
                self._answer(request, error=str(refusal), success=False, symbol=symbol)
        self._server.host.hub.note_subscriptions(self._connection)

    def _change_one(self, request: Row, params: Row, symbol: Any) -> None:
        channel, depth = params.get("channel"), params.get("depth", 10)
        if channel not in CHANNELS:
            raise KrakenRefusal("Channel not supported")
        if symbol not in PRICE_DECIMALS:
            raise KrakenRefusal(f"Currency pair not supported {symbol}")
        if channel == "book" and depth not in DEPTHS:
            raise KrakenRefusal("Subscription depth not supported")
        name = f"{channel}:{symbol}"
        is_subscribed = name in self._connection.subscriptions
        if (request["method"] == "subscribe") == is_subscribed:
            raise KrakenRefusal("Already subscribed" if is_subscribed else "Subscription not found")
        result = {"channel": channel, **({"depth": depth} if channel == "book" else {})}
        if is_subscribed:
            self._connection.leave(name)
            self._answer(request, result={**result, "symbol": symbol}, success=True)
        else:
            self._answer(request, result={**result, "snapshot": True, "symbol": symbol}, success=True)
            self._begin(channel, symbol, depth, name)
        self._keep_alive()

    def _begin(self, channel: str, symbol: str, depth: int, name: str) -> None:
        """Send a channel's snapshot now, and then its updates."""
        emit = {"ticker": self._tickers, "trade": self._trades, "book": self._books}[channel](symbol, depth, name)
        self._connection.subscribe(name, self._server.host.exchange_interval, emit)

    def _keep_alive(self) -> None:
        """Send heartbeats while there is a subscription."""
        if set(self._connection.subscriptions) - {HEARTBEAT}:
            self._connection.subscribe(
                HEARTBEAT, 1.0, lambda: self._connection.send(dumps({"channel": "heartbeat"})), delay=1.0
            )
        else:
            self._connection.leave(HEARTBEAT)

    def _tickers(self, symbol: str, depth: int, name: str) -> Callable[[], None]:
        kind = "snapshot"

        def emit() -> None:
            nonlocal kind
            rows = [self._market.ticker(symbol, self._now())]
            self._connection.send(dumps({"channel": "ticker", "type": kind, "data": rows}), name)
            kind = "update"

        return emit

    def _trades(self, symbol: str, depth: int, name: str) -> Callable[[], None]:
        kind, sent = "snapshot", self._now() // TRADE_MS - SNAPSHOT_TRADES

        def emit() -> None:
            nonlocal kind, sent
            newest = self._now() // TRADE_MS
            rows = [self._market.trade(symbol, number) for number in range(sent + 1, newest + 1)]
            if rows:
                self._connection.send(dumps({"channel": "trade", "type": kind, "data": rows}), name)
            kind, sent = "update", max(sent, newest)

        return emit

    def _books(self, symbol: str, depth: int, name: str) -> Callable[[], None]:
        before: ServedBook | None = None

        def emit() -> None:
            nonlocal before
            now = self._now()
            book = self._market.book(symbol, depth, now)
            kind, bids, asks = "snapshot", book.bids, book.asks
            if before is not None:
                kind, bids, asks = "update", _changes(before.bids, book.bids, 1), _changes(before.asks, book.asks, -1)
            if bids or asks:
                checksum = self._server.checksum(book)
                self._connection.send(book.frame(kind, bids, asks, checksum, now), name)
            before = book

        return emit

    def _answer(self, request: Row, **about: Any) -> None:
        now = _iso(self._now())
        number = {"req_id": request["req_id"]} if "req_id" in request else {}
        method = {"method": request["method"]} if "method" in request else {}
        self._connection.send(dumps({**method, **number, **about, "time_in": now, "time_out": now}))


def serve(host: SandboxHost) -> SandboxVenue:
    """Create Kraken's part of the sandbox; its controls are the `KrakenServer`."""
    server = KrakenServer(host)
    return SandboxVenue(server.add_to, server)


def _qty(symbol: str, step: int, price: int, when: int) -> int:
    """Return the quantity at a price: 0 at one price in ten, and a round number at another one in ten."""
    noise = unit_noise("kraken qty", symbol, step, price, when)
    if noise < 0.1:
        return 0
    return int(5e8 * noise**3) + 1 if noise < 0.9 else round(noise * 100) * 10**6


def _changes(before: Steps, after: Steps, sign: int) -> Steps:
    """Return new and changed levels, and 0 for removed ones, except those that are now deeper than the book."""
    worst = min(price * sign for price in after)
    gone = {price: 0 for price in before if price not in after and price * sign > worst}
    return {**gone, **{price: qty for price, qty in after.items() if before.get(price) != qty}}


def _text(steps: int, decimals: int) -> str:
    whole, rest = divmod(steps, 10**decimals)
    return f"{whole}.{rest:0{decimals}d}"


def _iso(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
