"""A handler of 5 ms on a feed of 1 kHz: `python -m benchmarks.slow_handler`.

A healthy sandbox in a process of its own sends; under the rule "latest" the lag stays near one round of handlers, the
memory stays flat, nothing reconnects, and what was replaced is counted to the last message.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

from finx_sync import StreamManager

SERVER = """
import sys
from finx_sync.sandbox import Sandbox
with Sandbox(contract_interval=float(sys.argv[1])) as sandbox:
    print(sandbox.url, flush=True)
    sys.stdin.read()
"""


def run(url: str, contracts: list[str], seconds: float, pause: float) -> dict[str, object]:
    """One run; its figures."""
    stream = StreamManager(environment="sandbox", url=url, overflow="latest", ping_interval=1, ping_timeout=0.8)
    lags: list[float] = []
    told = 0

    @stream.on_contract
    def handler(tick) -> None:
        lags.append(time.time() - tick.received_at)
        time.sleep(pause)

    @stream.on_gap
    def gap(gap) -> None:
        nonlocal told
        told += gap.missed or 0

    stream.subscribe_contract(*contracts)
    stream.start()
    time.sleep(seconds / 2)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    time.sleep(seconds / 2)
    books, reconnects = stream.stats().messages, stream.stats().reconnects
    stream.stop()
    lags.sort()
    return {
        "contracts": len(contracts),
        "received a second": round(books.received / seconds),
        "handled a second": round(books.handled / seconds),
        "lag, median ms": round(1000 * lags[len(lags) // 2], 1),
        "lag, 99 % ms": round(1000 * lags[len(lags) * 99 // 100], 1),
        "dropped": books.dropped,
        "told": told,
        "balance": books.received
        - (books.handled + books.unclaimed + books.control + books.dropped + books.in_flight + books.waiting),
        "reconnects": reconnects,
        "memory grown, kB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--pause", type=float, default=0.005, help="seconds that the handler takes")
    options = parser.parse_args()
    names = ["BTC-PERPETUAL", "ETH-PERPETUAL", "BTC-26AUG22", "BTC-26AUG22-20000-C"]
    for chosen, interval in ((names[:1], 0.001), (names, 0.004)):
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(interval)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            figures = run(server.stdout.readline().strip(), chosen, options.seconds, options.pause)
        finally:
            server.stdin.close()
            server.wait()
        for name, value in figures.items():
            print(f"{name:20} {value}")
        print()


if __name__ == "__main__":
    main()
