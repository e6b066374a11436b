"""Run in an interpreter that has python-ftx 0.1.2: that client against a sandbox, unchanged but for its URL.

Usage: ``python python_ftx_session.py ws://HOST:PORT/ws/ KEY SECRET``. Prints every frame that its callback is given, as
JSON lines, until its input ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any


class Queue(asyncio.Queue):  # type: ignore[type-arg]
    """What `asyncio.Queue` was until Python 3.9: the client was written for that."""

    def __init__(self, *args: Any, loop: object = None) -> None:
        super().__init__(*args)


def main(url: str, key: str, secret: str) -> None:
    """Log in and subscribe, as the client's own documentation does."""
    asyncio.Queue = Queue  # type: ignore[misc]
    from ftx.streams import FtxSocketManager, ThreadedWebsocketManager

    FtxSocketManager.WS_URL = url
    manager = ThreadedWebsocketManager(key, secret)
    manager.daemon = True
    manager.start()
    manager.start_socket(lambda frame: print(json.dumps(frame), flush=True), socket_name="one")
    manager.subscribe("one", channel="ticker", op="subscribe", market="BTC-PERP")
    manager.subscribe("one", channel="orderbook", op="subscribe", market="BTC-PERP")
    manager.login("one")
    manager.subscribe("one", channel="fills", op="subscribe")
    manager.subscribe("one", channel="orders", op="subscribe")
    manager.subscribe("one", channel="trades", op="subscribe", market="BTCUSDT")
    sys.stdin.read()
    os._exit(0)  # the client has no end of its own that its read loop would notice


if __name__ == "__main__":
    main(*sys.argv[1:])
