"""A bot that was written for websocket-client; only its import has changed.

`finx_sync.WebSocketApp` has the same constructor, callbacks and `run_forever` as `websocket.WebSocketApp`. It is
strict about the protocol, and reads many times faster.
"""

import json

from finx_sync import WebSocketApp  # was: from websocket import WebSocketApp
from finx_sync.sandbox import Sandbox

prices: list[float] = []


def on_open(ws: WebSocketApp) -> None:
    """Subscribe to a spot rate."""
    ws.send(json.dumps({"APIKey": "sandbox-key", "functionName": "getSpotRates", "pair": "BTC:USDC"}))


def on_message(ws: WebSocketApp, message: str) -> None:
    """Print a price. Called on the thread of `run_forever`, as with websocket-client."""
    prices.append(float(json.loads(message)["price"]))
    print("BTC:USDC", prices[-1])
    if len(prices) == 5:
        ws.close()


def on_error(ws: WebSocketApp, error: Exception) -> None:
    """Print an error; exceptions in the other callbacks arrive here too."""
    print("error:", error)


def on_close(ws: WebSocketApp, code: int | None, reason: str | None) -> None:
    """Print the close code and the reason."""
    print("closed", code, reason)


with Sandbox() as sandbox:
    app = WebSocketApp(
        f"{sandbox.url}/streaming/sandbox-key",
        on_open=on_open,
        on_message=on_message,
        on_error=on_error,
        on_close=on_close,
    )
    app.run_forever(ping_interval=15, ping_timeout=10)
