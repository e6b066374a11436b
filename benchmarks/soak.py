"""Ten million messages through one stream: ``python -m benchmarks.soak [MILLIONS]``. The memory must not grow.

Mixed messages of a thousand names, and an iterator that nobody reads: what a long-lived bot sees in a day.
"""

from __future__ import annotations

import gc
import json
import pathlib
import sys
import threading
import time
from typing import Any

from benchmarks.blaster import Blaster
from finx_sync import StreamManager
from finx_sync.venues.finx import FinxCodec

ALLOWED = 4.0
"""Megabytes by which the process may be larger at the end than after the first million."""


def resident() -> float:
    """Megabytes that the process has in memory now."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def soak(url: str, count: int) -> list[float]:
    """Megabytes after each million."""

    class Queried(FinxCodec):
        def url(self, key: str, line: str) -> str:
            return f"{url}/?kind=mixed&names=1000&count={count}"

    seen, sizes, done = 0, [], threading.Event()

    def handler(tick: Any) -> None:
        nonlocal seen
        seen += 1
        if seen % 1_000_000 == 0:
            gc.collect()
            sizes.append(round(resident(), 1))
            print(f"{seen:,} messages, {sizes[-1]} MB, {len(gc.get_objects()):,} objects", flush=True)
        if seen == count:
            done.set()

    stream = StreamManager("sandbox-key", url=url, overflow="block")  # every message, however busy the machine is
    stream._codec = Queried(url)
    stream.on_contract(handler)
    stream.on_spot(handler)
    stream.start()
    abandoned = stream.ticks(size=1000)
    begun = time.monotonic()
    done.wait(1800)
    books = stream.stats().messages
    print(f"{count / (time.monotonic() - begun):,.0f} messages a second; {books}", flush=True)
    abandoned.close()
    stream.stop()
    assert books.received == count, books
    assert books.dropped == 0, books
    return sizes


def main() -> None:
    """Run it; fail where the memory grew."""
    millions = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with Blaster() as blaster:
        sizes = soak(blaster.url, millions * 1_000_000)
    print(json.dumps({"megabytes": sizes}))
    if sizes[-1] - sizes[0] > ALLOWED:
        raise SystemExit(f"the memory grew by {sizes[-1] - sizes[0]:.1f} MB")


if __name__ == "__main__":
    main()
