"""A server that speaks Kraken's WebSocket v2: a market, and books with right checksums, unless a test asks for more.

It shares nothing with the client's codec: numbers are written as the texts that they have here, and the checksum is
made of these texts.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from aiohttp import web

from finx_sync.sandbox.host import SandboxHost, SandboxVenue

__all__ = ["KrakenControls", "serve"]

BASES = {"BTC/USD": "BTC", "ETH/USD": "ETH", "SOL/USD": "SOL"}
CHECKED = 10


class Book:
    """One client's book of a symbol: rows of (price, quantity), as texts, the best first."""

    def __init__(self, price: float, depth: int) -> None:
        tick = 0.1
        self.bids = [[f"{price - (row + 1) * tick:.1f}", f"{1 + row / 7:.8f}"] for row in range(depth)]
        self.asks = [[f"{price + (row + 1) * tick:.1f}", f"{1 + row / 9:.8f}"] for row in range(depth)]
        self.changes = 0

    def change(self) -> tuple[list[list[str]], list[list[str]]]:
        """The next change of each side; the best level goes now and then, and another one comes at the far end."""
        self.changes += 1
        changed = []
        for side, step in ((self.bids, -0.1), (self.asks, 0.1)):
            if self.changes % 5 == 0:
                gone = side.pop(0)
                side.append([f"{float(side[-1][0]) + step:.1f}", f"{0.5 + self.changes % 11:.8f}"])
                changed.append([[gone[0], "0.00000000"], side[-1]])
            else:
                level = side[self.changes % len(side)]
                level[1] = f"{0.1 + self.changes % 13:.8f}"
                changed.append([level])
        return changed[0], changed[1]

    def checksum(self) -> int:
        """As Kraken's guide has it."""
        levels = self.asks[:CHECKED] + self.bids[:CHECKED]
        text = "".join(digits.replace(".", "").lstrip("0") for level in levels for digits in level)
        return zlib.crc32(text.encode())


class KrakenControls:
    """What tests may ask of the server, from any thread."""

    def __init__(self) -> None:
        self.wrong_checksums = 0
        """So many of the next images and changes of books have a wrong one."""


class Session:
    """One client."""

    def __init__(self, host: SandboxHost, connection: Any, controls: KrakenControls) -> None:
        self._host = host
        self._connection = connection
        self._controls = controls
        self._trades: dict[str, int] = {}

    def opened(self) -> None:
        """The server greets."""
        self._send({"channel": "status", "type": "update", "data": [{"api_version": "v2", "system": "online"}]})

    def received(self, text: str) -> None:
        """A request."""
        request = json.loads(text)
        self._host.hub.note_request(self._connection, request)
        method, number = request.get("method"), request.get("req_id")
        if method == "ping":
            self._send({"method": "pong", **_numbered(number)})
        elif method in ("subscribe", "unsubscribe"):
            for symbol in request["params"]["symbol"]:
                self._asked(method, request["params"], symbol, number)
        else:
            self._send({"method": method, "success": False, "error": "Unsupported method", **_numbered(number)})
        self._host.hub.note_subscriptions(self._connection)

    def _asked(self, method: str, params: dict[str, Any], symbol: str, number: int | None) -> None:
        channel = params["channel"]
        if symbol not in BASES or channel not in ("ticker", "trade", "book"):
            error = f"Currency pair not supported {symbol}"
            self._send({"error": error, "method": method, "success": False, "symbol": symbol, **_numbered(number)})
            return
        name = f"{channel} {symbol}"
        self._connection.leave(name)
        self._send(
            {"method": method, "result": {"channel": channel, "symbol": symbol}, "success": True, **_numbered(number)}
        )
        if method == "subscribe":
            emit = self._emitter(channel, symbol, params.get("depth", 10))
            self._connection.subscribe(name, self._host.exchange_interval, emit)

    def _emitter(self, channel: str, symbol: str, depth: int) -> Callable[[], None]:
        if channel == "ticker":
            return lambda: self._ticker(symbol)
        if channel == "trade":
            return lambda: self._trade(symbol)
        book: list[Book] = []
        return lambda: self._book(symbol, depth, book)

    def _price(self, symbol: str) -> float:
        return self._host.market.path.price(BASES[symbol], self._host.now())

    def _ticker(self, symbol: str) -> None:
        last = self._price(symbol)
        row = {"symbol": symbol, "bid": last - 0.1, "bid_qty": 1.5, "ask": last + 0.1, "ask_qty": 2.5, "last": last}
        self._send({"channel": "ticker", "type": "update", "data": [row]}, f"ticker {symbol}")

    def _trade(self, symbol: str) -> None:
        now = self._host.now()
        when = datetime.fromtimestamp(now / 1000, timezone.utc)
        row = {
            "symbol": symbol,
            "side": "buy",
            "price": self._price(symbol),
            "qty": 0.25,
            "ord_type": "limit",
            "trade_id": now,  # grows, also from one connection to the next
            "timestamp": f"{when:%Y-%m-%dT%H:%M:%S.%f}Z",
        }
        kind = "update" if symbol in self._trades else "snapshot"
        self._trades[symbol] = now
        self._send({"channel": "trade", "type": kind, "data": [row]}, f"trade {symbol}")

    def _book(self, symbol: str, depth: int, kept: list[Book]) -> None:
        if kept:
            kind, (bids, asks) = "update", kept[0].change()
        else:
            kept.append(Book(self._price(symbol), depth))
            kind, bids, asks = "snapshot", kept[0].bids, kept[0].asks
        checksum = kept[0].checksum()
        if self._controls.wrong_checksums:
            self._controls.wrong_checksums -= 1
            checksum ^= 1
        # By hand: the texts of the numbers matter, which JSON's own numbers would not keep.
        rows = [",".join(f'{{"price":{price},"qty":{qty}}}' for price, qty in side) for side in (bids, asks)]
        data = f'{{"symbol":"{symbol}","bids":[{rows[0]}],"asks":[{rows[1]}],"checksum":{checksum}}}'
        self._connection.send(f'{{"channel":"book","type":"{kind}","data":[{data}]}}', f"book {symbol}")

    def _send(self, frame: dict[str, Any], name: str | None = None) -> None:
        self._connection.send(json.dumps(frame, separators=(",", ":")), name)


def _numbered(number: int | None) -> dict[str, int]:
    return {} if number is None else {"req_id": number}


def serve(host: SandboxHost) -> SandboxVenue:
    """Kraken's half of the sandbox, at the path /v2."""
    controls = KrakenControls()

    async def connect(request: web.Request) -> web.StreamResponse:
        connection, response = await host.hub.accept(request, request.path)
        await host.hub.serve(connection, Session(host, connection, controls))
        return response

    def add_to(app: web.Application) -> None:
        app.router.add_get("/v2", connect)

    return SandboxVenue(add_to, controls)
