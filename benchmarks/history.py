"""A day of 250 000 ticks over a simulated round trip: page after page, and several at once; then with cut connections.

Usage: python -m benchmarks.history [ROWS] [ROUND_TRIP_SECONDS]

The sandbox and the proxy that delays and cuts run in a process of their own, so that the memory is the client's alone.
"""

from __future__ import annotations

import multiprocessing
import random
import sys
import time
from collections import Counter
from typing import Any

from benchmarks.clients import peak_memory

PAIR, DATE = "BTC:USD", "2022-06-15"
DAY_MS = 86_400_000
EXCHANGES = ("COINBASE", "GEMINI", "FTX")
CALLS = 2_000


def table(rows: int) -> list[tuple[int, str, float]]:
    """A day: busy and quiet hours, true repeats, and 2000 rows packed into 20 ms."""
    chance = random.Random(1)
    ticks = []
    while len(ticks) < rows - 2000:
        hour = chance.choices(range(24), [1 + 9 * (8 <= hour <= 20) for hour in range(24)])[0]
        at = hour * 3_600_000 + chance.randrange(3_600_000)
        ticks.append((at, chance.choice(EXCHANGES), round(20_000 + chance.random() * 100, 2)))
        if chance.random() < 0.002:
            ticks.append(ticks[-1])
    ticks += [(43_200_000 + place % 20, EXCHANGES[place % 3], 20_000.0 + place) for place in range(2000)]
    return ticks[:rows]


def serve(rows: int, round_trip: float, pipe: Any) -> None:
    from finx_sync.sandbox import Sandbox
    from finx_sync.testing import Cut, Delay, FaultProxy

    with Sandbox() as sandbox, FaultProxy(sandbox.url) as far, FaultProxy(sandbox.url) as torn:
        sandbox.controls("finx").set_history(PAIR, DATE, table(rows))
        delay = Delay(round_trip / 2)
        far.arm(delay, times=None)
        chance = random.Random(2)
        for _ in range(CALLS):
            torn.arm(*([Cut()] if chance.random() < 0.05 else [delay]))
        pipe.send((far.url, torn.url))
        pipe.recv()


def fetch(url: str, workers: int, expected: Any, pipe: Any) -> None:
    from finx_sync import StreamManager

    retries = 0

    def note(progress: Any) -> None:
        nonlocal retries
        retries = progress.retries

    begin = time.perf_counter()
    history = StreamManager("sandbox-key", url=url).get_tick_history(PAIR, DATE, workers=workers, progress=note)
    seconds = time.perf_counter() - begin
    peak = peak_memory()
    begin_ms = history.timestamps[0] // 1000 // DAY_MS * DAY_MS
    rows = Counter(
        (tick_at // 1000 - begin_ms, history[place].exchange, price)
        for place, (tick_at, price) in enumerate(zip(history.timestamps, history.prices, strict=True))
    )
    pipe.send((seconds, peak, len(history), history.complete, retries, rows == Counter(expected)))


def measure(url: str, workers: int, expected: Any) -> tuple[Any, ...]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=fetch, args=(url, workers, expected, theirs))
    process.start()
    result: tuple[Any, ...] = ours.recv()
    process.join()
    return result


def main(rows: int = 250_000, round_trip: float = 0.05) -> None:
    multiprocessing.set_start_method("spawn")
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(rows, round_trip, theirs))
    server.start()
    far, torn = ours.recv()
    expected = table(rows)
    print(f"{rows} rows, {round_trip * 1000:g} ms round trip, 2000 of them within 20 ms")
    for name, url, workers in (
        ("one page after another", far, 1),
        ("8 connections", far, 8),
        ("8, and 5 % of connections cut", torn, 8),
    ):
        seconds, peak, count, complete, retries, equal = measure(url, workers, expected)
        print(
            f"{name:32} {seconds:6.1f} s  {count} rows, complete {complete}, equal {equal}, "
            f"{retries} retries, {peak:.0f} MB at most"
        )
    ours.send(None)
    server.join()


if __name__ == "__main__":
    main(*(int(one) if "." not in one else float(one) for one in sys.argv[1:]))
