"""Run in an interpreter that has finx-io 0.1.31: the old SDK against a sandbox, unchanged but for its endpoint.

Usage: ``python sdk_session.py ws://HOST:PORT http://HOST:PORT KEY``. Prints one JSON object, on its last line.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any
from unittest import mock


def main(url: str, http_url: str, key: str) -> None:
    """Call what the SDK offers and print what it returned."""
    os.environ["FINX_API_KEY"] = key
    asyncio.set_event_loop(asyncio.new_event_loop())
    # The SDK touches the event loop when it is imported.
    from finx.finx_rest import FinXRest
    from finx.finx_streamer import Streamer
    from finx.tick_client import TickPlant

    seen: dict[str, object] = {}
    plant = TickPlant(key)
    plant.endpoint, plant.rest_endpoint = f"{url}/streamer/{key}", f"{http_url}/backend/"
    plant.connect()
    seen["contracts"] = json.loads(plant.list_deribit_contracts())
    seen["history"] = json.loads(plant.tick_history("BTC:USD", "2022-06-15", "21:27"))
    seen["reference"] = json.loads(plant.get_reference_data("BTC-26AUG22-20000-C"))
    seen["snap"] = plant.tick_snap("BTC:USDC")
    seen["snap_then"] = plant.tick_snap("BTC:USD", "1655328460", "60")
    slice_ = plant.get_timeslice("1655328460", "10", "BTC")
    seen["slice_columns"] = list(slice_.columns)
    seen["slice_rows"] = len(slice_)

    rest = FinXRest(key)
    rest.endpoint, rest.rest_endpoint = plant.endpoint, plant.rest_endpoint
    rest.connect()
    seen["pairs"] = rest.list_pairs()
    seen["rest_contracts"] = rest.list_deribit_contracts()
    seen["rest_reference"] = rest.get_reference_data("BTC-PERPETUAL")
    seen["quote"] = rest.pair_quote("ETH:USD")
    seen["time_slice_rows"] = len(rest.get_options_timeslice("1655328460", "10", "ETH"))

    streamer = Streamer({"pair": "BTC:USDC"})
    streamer.endpoint = f"{url}/streamer/{key}/BTC:USDC"
    streamer.connect()
    seen["stream"] = listen(streamer, frames=5)
    print(json.dumps(seen))


def listen(streamer: Any, frames: int) -> list[object]:
    """Let ``Streamer.listen`` run, which has no end of its own, until it has printed `frames` frames."""
    heard: list[object] = []

    def capture(*args: object) -> None:
        if isinstance(args[0], str) and args[0].startswith("{"):
            heard.append(json.loads(args[0]))
        if len(heard) == frames:
            raise RuntimeError("enough")

    try:
        with mock.patch("builtins.print", capture):
            streamer.listen()
    except (RuntimeError, TypeError):
        # The SDK's own except clause is no exception class, so ours comes out as a TypeError.
        if len(heard) < frames:
            raise
    return heard


if __name__ == "__main__":
    main(*sys.argv[1:])
