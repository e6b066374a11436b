"""The feed over Redis, side by side with a stream of its own connection: ``python -m benchmarks.scale``.

Every part is a process: the server (`benchmarks.blaster`), the relay, redis-server and one typed reader, all on this
machine. Throughput is timed at the reader, from the first to the last message after a warm-up; latency is the age of
each message when the reader's handler has it, on the clock that all processes of one machine share.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import signal
import statistics
import subprocess
import sys
from typing import Any

from benchmarks.blaster import Blaster
from benchmarks.clients import Meter, finx_stream
from finx_sync import StreamManager
from tests.redis_server import RedisServer
from tests.relay.writing import FeedWriter

ROOT = pathlib.Path(__file__).parent.parent
NAMES = 100
CONTRACTS = [f"BTC-26AUG22-{20000 + number}-C" for number in range(NAMES)]
COUNT = 1_000_000
READ = 0.7
"""The share of the messages that the reader counts."""
PACES = {1000: 10_000, 10_000: 100_000}
"""Messages a second, and how many of them, for the latencies."""


def queried(stream: StreamManager, url: str) -> None:
    """Have a stream ask the blaster, by its query, for what it should send."""
    from finx_sync.venues.finx import FinxCodec

    base, _, query = url.partition("?")

    class Queried(FinxCodec):
        """Keeps the query."""

        def url(self, key: str, line: str) -> str:
            return f"{base}?{query}"

    stream._codec = Queried(base)


def relay(url: str, redis: str) -> None:
    """Relay what the blaster sends, until SIGTERM."""
    from finx_sync import Relay

    base = url.partition("?")[0].rstrip("/")
    stream = StreamManager("sandbox-key", url=base, max_lag=60.0, ping_interval=60)  # the blaster answers no pings
    queried(stream, url)
    stream.subscribe_contract(*CONTRACTS)
    signal.signal(signal.SIGTERM, lambda *_: stream.stop())
    with Relay(stream, redis, overflow="block", keep_bytes=512 * 2**20):
        stream.run()


def reader(redis: str, count: int, mode: str) -> None:
    """Read with a typed handler; prints what was measured."""
    meter = Meter(count, mode == "latency")
    stream = StreamManager(url=redis, max_lag=60.0)
    stream.on_contract(meter.typed)
    stream.on_gap(lambda gap: gap.missed is None or print(f"{gap.missed} missed: {gap.reason}", file=sys.stderr))
    stream.subscribe_contract(*CONTRACTS)
    stream.start()
    print("ready", flush=True)
    meter.done.wait(120)
    stream.stop()
    print(json.dumps(meter.result() | {"messages": meter.seen}), flush=True)


def direct(url: str, count: int, mode: str) -> None:
    """The same without Redis, as a measure of this machine."""
    meter = Meter(count, mode == "latency")
    finx_stream(url, meter, subscriptions=NAMES)
    print(json.dumps(meter.result() | {"messages": meter.seen}), flush=True)


def _part(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.scale", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def _over_redis(blaster: Blaster, query: str, count: int, mode: str) -> dict[str, Any]:
    with RedisServer() as redis, redis.client() as client:
        # The blaster sends as soon as the relay connects, so the reader must be there before, and finds an empty feed.
        writer = FeedWriter(client, subscriptions=tuple(f"contract:{name}" for name in CONTRACTS))
        # A relay leads half a second after its stream has opened; what came before is not in the feed.
        reading = _part("reader", redis.url, str(int(count * READ)), mode)
        assert reading.stdout is not None
        assert reading.stdout.readline() == "ready\n"
        client.delete(writer.keys.lease)
        relaying = _part("relay", f"{blaster.url}?{query}", redis.url)
        try:
            result: dict[str, Any] = json.loads(reading.stdout.readline())
        finally:
            relaying.terminate()
            relaying.wait(20)
            reading.kill()
            reading.wait(20)
    return result


def _directly(blaster: Blaster, query: str, count: int, mode: str) -> dict[str, Any]:
    done = _part("direct", f"{blaster.url}?{query}", str(count), mode)
    out, _ = done.communicate(timeout=180)
    found: dict[str, Any] = json.loads(out)
    return found


def main() -> None:
    """Measure everything, in turns."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with Blaster() as blaster:
        rates: dict[str, list[float]] = {"over Redis": [], "directly": []}
        for _ in range(options.rounds):
            query = f"kind=contract&names={NAMES}&count={COUNT}"
            rates["over Redis"].append(_over_redis(blaster, query, COUNT, "throughput")["rate"])
            rates["directly"].append(_directly(blaster, query, COUNT, "throughput")["rate"])
        for name, found in rates.items():
            print(f"{name:<12} {statistics.median(found) / 1000:8.1f} k msg/s  (of {[round(one) for one in found]})")
        for pace, count in PACES.items():
            query = f"rate={pace}&count={count}"
            for name, run in (("over Redis", _over_redis), ("directly", _directly)):
                found = [run(blaster, query, count, "latency") for _ in range(options.rounds)]
                ages = {p: statistics.median(one[p] for one in found) / 1000 for p in ("p50", "p90", "p99")}
                shown = "  ".join(f"{p} {age:.3f} ms" for p, age in ages.items())
                print(f"{name:<12} at {pace:>6} msg/s: {shown}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in ("relay", "reader", "direct"):
        what, *rest = sys.argv[1:]
        if what == "relay":
            relay(*rest)
        else:
            url, count, mode = rest
            {"reader": reader, "direct": direct}[what](url, int(count), mode)
    else:
        main()
