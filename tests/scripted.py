"""A server that does as it is told, on the websocket implementation of the `websockets` project, not ours."""

from __future__ import annotations

import json
import queue
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

CONTRACT = {
    "redis_key": "BTC-26AUG22-20000-C",
    "underlying_price": "23227.53",
    "underlying_index": "BTC-26AUG22",
    "timestamp": "1659760300724",
    "state": "open",
    "settlement_price": "0.15522931",
    "open_interest": "846.5",
    "min_price": "0.1205",
    "max_price": "0.197",
    "mark_price": "0.1553",
    "mark_iv": "72.12",
    "last_price": "0.1535",
    "interest_rate": "0",
    "instrument_name": "BTC-26AUG22-20000-C",
    "index_price": "23199.76",
    "estimated_delivery_price": "23199.76",
    "bid_iv": "0",
    "best_bid_price": "0.125",
    "best_bid_amount": "5",
    "best_ask_price": "0.19",
    "best_ask_amount": "5",
    "ask_iv": "122.66",
    "vega": "13.62974",
    "theta": "-24.39797",
    "rho": "8.69414",
    "gamma": "0.00006",
    "delta": "0.83341",
    "volume": "3.3",
    "price_change": "-3.2258",
    "low": "0.15",
    "high": "0.162",
}
"""The contract message of FinX's documentation."""

SPOT = {
    "pair": "BTC:USDC",
    "unixDate": 1659897295,
    "UTCDate": "2022-08-07T18:34:55.000Z",
    "exchange": "COINBASE",
    "price": "23233.684999999998",
}
TICK = {
    "pair": "BTC:USD",
    "date": "2022-06-15",
    "time": "21:27:40.453Z",
    "exchange": "COINBASE",
    "price": "21865.010000000002",
}


GREEKS = ("vega", "theta", "rho", "gamma", "delta")


def text(**fields: Any) -> str:
    """A contract message with some fields changed, as compact JSON."""
    return json.dumps({**CONTRACT, **fields}, separators=(",", ":"))


Script = Callable[[ServerConnection], None]


class ScriptedServer:
    """Runs `script(connection)` for each connection; `connections` has them in order, `received` what they sent."""

    def __init__(self, script: Script | None = None, ssl_context: ssl.SSLContext | None = None) -> None:
        self._script = script
        self.connections: queue.Queue[ServerConnection] = queue.Queue()
        self.received: queue.Queue[dict[str, Any]] = queue.Queue()
        self.kept_alive: queue.Queue[dict[str, Any]] = queue.Queue()
        self.paths: list[str] = []
        self.process_request: Callable[[ServerConnection, Any], Any] = lambda connection, request: None
        self._server = serve(
            self._serve,
            "127.0.0.1",
            0,
            ssl=ssl_context,
            compression=None,
            max_queue=None,  # else a script that only sends, to a client that has sent much and left, waits ten seconds
            process_request=self._process_request,
        )
        self.port: int = self._server.socket.getsockname()[1]
        self.url = f"{'wss' if ssl_context else 'ws'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="scripted server")

    def _process_request(self, connection: ServerConnection, request: Any) -> Any:
        return self.process_request(connection, request)

    def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.paths.append(connection.request.path)
        self.connections.put(connection)
        try:
            if self._script is not None:
                self._script(connection)
            for message in connection:
                self._take(connection, json.loads(message))
        except ConnectionClosed:
            pass

    def _take(self, connection: ServerConnection, message: dict[str, Any]) -> None:
        if message.get("functionName") == "keepAlive":  # not what most tests look for
            self.kept_alive.put(message)
        else:
            self.received.put(message)
        self.answer(connection, message)

    def answer(self, connection: ServerConnection, message: dict[str, Any]) -> None:
        """Take every key, and live."""
        if message.get("functionName") == "keepAlive":
            connection.send('{"keepAlive":true}')
        if message.get("functionName") == "authenticate":
            connection.send('{"isAuth":true}')

    def next_connection(self) -> ServerConnection:
        """The next connection that was opened."""
        return self.connections.get(timeout=10)

    def next_call(self, function: str) -> dict[str, Any]:
        """The next message that calls `function`; others before it are skipped."""
        while True:
            message = self.received.get(timeout=10)
            if message.get("functionName") == function:
                return message

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join(10)
        while not self.connections.empty():
            self.connections.get().close_socket()
