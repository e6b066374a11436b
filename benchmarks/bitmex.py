"""BitMEX's tables: decode and merge, beside BitMEX's own connector on the same frames, on one core.

``python -m benchmarks.bitmex [--rounds N] [--out FOLDER]``; a part of ``python -m benchmarks.run``. Both get complete
text frames: 128 at a time for us, as from one read of a socket, and one by one for the connector, which has no other
way. Its column stays empty where it is not installed (``pip install --no-deps bitmex-ws==1.5.0``).
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from typing import Any

from finx_sync.venues.bitmex import BitmexCodec, Storage

ROOT = pathlib.Path(__file__).parent.parent
BATCH = 128
SECONDS = 0.5
"""Of each measurement, about."""
GOALS = {"quotes": 300_000, "L2 updates": 100_000}
"""Messages a second on one core."""
BOOKS = (100, 1_000, 10_000)

Frames = tuple[str, list[str]]
"""A partial, and what follows it again and again."""


def quotes() -> Frames:
    """Quotes as captured in July 2021, one row a message."""
    row = {"timestamp": "2021-07-22T22:36:09.757Z", "symbol": "XBTUSD", "bidSize": 1046200, "bidPrice": 32180}
    rows = [{**row, "bidSize": 100 * n, "askPrice": 32180.5, "askSize": 161000 - n} for n in range(BATCH)]
    return _partial("quote", [], []), [_frame("quote", "insert", one) for one in rows]


def updates(levels: int) -> Frames:
    """Changes of sizes in a book of so many levels, one row a message, all over the book."""
    rows = [
        {
            "symbol": "XBTUSD",
            "id": 8_800_000_000 - 3_218_000 - 50 * n,
            "side": "Buy" if n < levels // 2 else "Sell",
            "size": 1000,
            "price": 32180 + n / 2,
        }
        for n in range(levels)
    ]
    places = [n * 37 * levels // 1000 % levels for n in range(8 * BATCH)]
    changes = [
        {"symbol": "XBTUSD", "id": rows[place]["id"], "side": rows[place]["side"], "size": 100 * n}
        for n, place in enumerate(places)
    ]
    keys = ["symbol", "id", "side"]
    return _partial("orderBookL2", keys, rows), [_frame("orderBookL2", "update", one) for one in changes]


def _partial(table: str, keys: list[str], rows: list[Any]) -> str:
    image = {"table": table, "action": "partial", "keys": keys, "types": {}, "filter": {"symbol": "XBTUSD"}}
    return json.dumps({**image, "data": rows}, separators=(",", ":"))


def _frame(table: str, action: str, row: Any) -> str:
    return json.dumps({"table": table, "action": action, "data": [row]}, separators=(",", ":"))


def ours(frames: Frames) -> Callable[[int], None]:
    """Feeds so many frames to the codec and the storage, as the dispatch thread does."""
    partial, following = frames
    codec, storage = BitmexCodec("wss://host"), Storage(threading.Lock())

    def feed(payloads: list[bytes]) -> None:
        now = time.monotonic()
        for message in codec.decode(payloads):
            storage.apply(message, now)  # type: ignore[arg-type]

    feed([partial.encode()])
    payloads = cycle([text.encode() for text in following])

    def run(count: int) -> None:
        for _ in range(0, count, BATCH):
            feed(list(islice(payloads, BATCH)))
        assert not storage.lost

    return run


def theirs(frames: Frames) -> Callable[[int], None] | None:
    """Feeds so many frames to the official connector's own handler; None where it is not installed."""
    try:
        import logging

        from bitmex_websocket import BitMEXWebsocket
    except ImportError:
        return None
    partial, following = frames
    connector = object.__new__(BitMEXWebsocket)  # without its constructor, which connects
    connector.data, connector.keys, connector.logger = {}, {}, logging.getLogger("bitmex_websocket")
    handle = connector._BitMEXWebsocket__on_message
    handle(None, partial)
    texts = cycle(following)

    def run(count: int) -> None:
        for text in islice(texts, count):
            handle(None, text)

    return run


def rate(run: Callable[[int], None]) -> float:
    """Messages a second."""
    count = BATCH
    while True:
        begun = time.perf_counter()
        run(count)
        taken = time.perf_counter() - begun
        if taken > SECONDS / 2:
            return count / taken
        count = BATCH * max(count // BATCH * 2, int(SECONDS / max(taken, 1e-6) * count / BATCH))


def cases() -> Iterator[tuple[str, Frames]]:
    """What is measured."""
    yield "quotes", quotes()
    for levels in BOOKS:
        yield f"L2 updates, {levels:,} levels", updates(levels)


def measure(rounds: int, out: pathlib.Path) -> str:
    """Measure, interleaved; writes bitmex.json and bitmex.md, and returns the latter's text."""
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for title, frames in cases():
            for name, client in (("finx_sync", ours(frames)), ("bitmex-ws", theirs(frames))):
                if client is not None:
                    found.setdefault(title, {}).setdefault(name, []).append(rate(client))
    medians = {
        title: {name: statistics.median(rates) for name, rates in clients.items()} for title, clients in found.items()
    }
    lines = [
        "### BitMEX: decoding and merging on one core",
        "",
        "| Messages | finx_sync k/s | Target k/s | bitmex-ws 1.5.0 k/s | × |",
        "|---|---:|---:|---:|---:|",
    ]
    for title, clients in medians.items():
        mine, other = clients["finx_sync"], clients.get("bitmex-ws")
        goal = next(goal for name, goal in GOALS.items() if title.startswith(name))
        beside = f"{other / 1000:,.1f} | {mine / other:,.0f}" if other else " | "
        lines.append(f"| {title} | {mine / 1000:,.0f} | {goal / 1000:,.0f} | {beside} |")
    text = "\n".join([*lines, ""])
    out.mkdir(parents=True, exist_ok=True)
    (out / "bitmex.json").write_text(json.dumps(found, indent=1))
    (out / "bitmex.md").write_text(text)
    return text


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs" / "benchmarks")
    options = parser.parse_args()
    print(measure(options.rounds, options.out))


if __name__ == "__main__":
    main()
