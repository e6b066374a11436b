"""Everything side by side in one go: ``python -m benchmarks.run [--minutes N] [--out FOLDER]``.

The clients take turns within each round, so that a noisy machine is noisy for all of them; figures are medians over the
rounds, and what counts are their ratios. Rounds go on until the time is up. Writes results.json, results.md and a plot.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
import timeit
from typing import Any

from benchmarks import bitmex
from benchmarks.blaster import Blaster
from benchmarks.report import Results, plot, table

ROOT = pathlib.Path(__file__).parent.parent
ALL = [
    "websocket_client_json",
    "websocket_client_skip_orjson",
    "websockets_sync_orjson",
    "aiohttp_orjson",
    "picows_typed",
    "finx_app_orjson",
    "finx_stream",
]
COUNTING = ["picows_count", "finx_batch"]
LATENCY = ["websocket_client_json", "websockets_sync_orjson", "picows_typed", "finx_stream"]
SHARE = {
    "websocket_client_json": 1 / 40,
    "websocket_client_skip_orjson": 1 / 5,
    "websockets_sync_orjson": 1 / 4,
    "finx_app_orjson": 1 / 2,
    "picows_count": 4,
    "finx_batch": 4,
}
"""Of the messages that the others get, so that each run takes about as long."""
PACES = (1000, 5000, 20_000)
"""Messages a second of the feeds that latency is measured with."""
LIMIT_OF_JSON = 5000
"""websocket-client with json cannot keep up beyond."""
PACKAGES = ["websocket-client", "websockets", "aiohttp", "orjson", "picows", "uvloop", "msgspec"]


def measure(client: str, url: str, count: int, mode: str, options: dict[str, Any] | None = None) -> dict[str, float]:
    """Run one client in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.clients", client, url, str(count), mode, json.dumps(options or {})]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    if done.returncode:
        raise SystemExit(f"{client}: {done.stderr}")
    return json.loads(done.stdout)


def certificate(folder: str) -> tuple[str, str]:
    """A certificate for loopback; returns the paths of certificate and key."""
    import trustme

    issued = trustme.CA().issue_cert("127.0.0.1")
    chain, key = os.path.join(folder, "chain.pem"), os.path.join(folder, "key.pem")
    pathlib.Path(chain).write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    return chain, key


class Rounds:
    """Runs every case once a round, and keeps what came out."""

    def __init__(self, plain: str, secure: str, count: int) -> None:
        self.results: Results = {}
        self._plain = plain
        self._secure = secure
        self._count = count

    def run(self) -> None:
        """One round."""
        self._throughput("contract, ws", f"{self._plain}/?kind=contract", ALL + COUNTING)
        self._throughput("spot, ws", f"{self._plain}/?kind=spot", ALL)
        self._throughput("mixed, ws", f"{self._plain}/?kind=mixed&names=1000", ["picows_typed", "finx_stream"])
        self._throughput("contract, wss", f"{self._secure}/?kind=contract", ALL + COUNTING, 0.5)
        self._throughput("spot, wss", f"{self._secure}/?kind=spot", ["picows_typed", "finx_stream"], 0.5)
        for pace in PACES:
            self._latency(pace)
        for names in (1, 100, 1000, 10_000):
            url = f"{self._plain}/?kind=contract&names={min(names, 4096)}"
            self._keep("subscriptions", str(names), "finx_stream", url, self._count, {"subscriptions": names})
        for handlers in (1, 10, 100):
            count = self._count // 2 // handlers
            url = f"{self._plain}/?kind=contract"
            self._keep("handlers", str(handlers), "finx_stream", url, count, {"handlers": handlers})

    def _throughput(self, title: str, url: str, clients: list[str], share: float = 1.0) -> None:
        for client in clients:
            self._keep(title, client, client, url, int(self._count * share * SHARE.get(client, 1)))

    def _keep(
        self, title: str, label: str, client: str, url: str, count: int, options: dict[str, Any] | None = None
    ) -> None:
        found = measure(client, f"{url}&count={count}", count, "throughput", options)
        self.results.setdefault(title, {}).setdefault(label, []).append(found)

    def _latency(self, pace: int) -> None:
        count = max(1500, pace // 2)
        for client in LATENCY:
            if client == "websocket_client_json" and pace > LIMIT_OF_JSON:
                continue
            found = measure(client, f"{self._plain}/?rate={pace}&count={count}", count, "latency")
            self.results.setdefault(f"latency at {pace}/s", {}).setdefault(client, []).append(found)


def idle_share(plain: str, seconds: float = 10.0) -> float:
    """The share of a core that an open, silent stream takes."""
    program = f"""
import time
from finx_sync import StreamManager
stream = StreamManager("sandbox-key", url={plain!r})
stream.start()
before = time.process_time()
time.sleep({seconds})
print((time.process_time() - before) / {seconds})
stream.stop()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    return float(done.stdout)


def import_ms() -> float:
    """Milliseconds that `import finx_sync` takes after `import websocket, requests`; the best of a few."""
    program = (
        "import time, websocket, requests; t = time.perf_counter(); import finx_sync; print(time.perf_counter() - t)"
    )
    command, spent = [sys.executable, "-c", program], []
    with tempfile.TemporaryDirectory() as folder:  # compiled by the first run, as by an installer
        compiled = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": folder}
        for _ in range(10):
            done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=compiled, check=True)
            spent.append(float(done.stdout))
    return 1000 * min(spent)


def page_ms() -> float:
    """Milliseconds that a page of a thousand rows of history takes to decode; the best of many."""
    from finx_sync.venues.finx import parse_reply

    tick = {
        "pair": "BTC:USD",
        "date": "2022-06-15",
        "time": "21:27:40.453Z",
        "exchange": "COINBASE",
        "price": "22100.1",
    }
    page = json.dumps({str(number): tick for number in range(1000)})
    return 1000 * min(timeit.repeat(lambda: parse_reply(page), number=1, repeat=50))


def machine() -> dict[str, Any]:
    """What it was measured on."""
    model, cpuinfo = "unknown", pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), model)
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def load() -> float | None:
    """How busy the machine is, itself included; None where the system does not tell."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def main() -> None:
    """Measure, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="after which no further round begins")
    parser.add_argument("--count", type=int, default=400_000, help="messages a run")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs" / "benchmarks")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    facts = {**machine(), "load_before": load()}
    began, longest, number = time.monotonic(), 0.0, 0
    with tempfile.TemporaryDirectory() as folder, Blaster() as plain, Blaster(certificate(folder)) as secure:
        rounds = Rounds(plain.url, secure.url, options.count)
        alone = {"idle": idle_share(plain.url), "import_ms": import_ms(), "page_ms": page_ms()}
        while not number or time.monotonic() - began + longest < options.minutes * 60:
            begun = time.monotonic()
            rounds.run()
            number, longest = number + 1, max(longest, time.monotonic() - begun)
            print(f"round {number} after {time.monotonic() - began:.0f} s", flush=True)
    facts |= {"load_after": load(), "rounds": number}
    everything = {"machine": facts, "alone": alone, "results": rounds.results}
    (options.out / "results.json").write_text(json.dumps(everything, indent=1) + "\n")
    text = table(rounds.results, facts, alone)
    (options.out / "results.md").write_text(text)
    plot(rounds.results, options.out / "benchmarks.png")
    print(text)
    print(bitmex.measure(3, options.out))


if __name__ == "__main__":
    main()
