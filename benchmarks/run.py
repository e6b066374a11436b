"""Everything side by side in one go: ``python -m benchmarks.run [--rounds N] [--quick] [--out FOLDER]``.

The clients take turns within each round, so that a noisy machine is noisy for all of them; figures are medians over the
rounds, and what counts are their ratios. Writes results.json, results.md and two plots.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks import bitmex
from benchmarks.blaster import Blaster

ROOT = pathlib.Path(__file__).parent.parent
THROUGHPUT = [
    "websocket_client_json",
    "websocket_client_skip_orjson",
    "websockets_sync_orjson",
    "aiohttp_orjson",
    "picows_typed",
    "finx_app_orjson",
    "finx_stream",
    "picows_count",
    "finx_batch",
]
LATENCY = ["websocket_client_json", "websockets_sync_orjson", "picows_typed", "finx_stream"]
SLOW = {"websocket_client_json": 20, "websocket_client_skip_orjson": 5, "websockets_sync_orjson": 3}
"""How much fewer messages the slow clients get, so that each run takes about as long."""

Results = dict[str, dict[str, list[dict[str, float]]]]


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


def throughput(results: Results, title: str, url: str, clients: list[str], count: int) -> None:
    """One round: each client once."""
    for client in clients:
        number = count // SLOW.get(client, 1)
        results.setdefault(title, {}).setdefault(client, []).append(
            measure(client, f"{url}&count={number}", number, "throughput")
        )


def one_round(results: Results, plain: str, secure: str, count: int) -> None:
    """Every case once."""
    throughput(results, "contract, ws", f"{plain}/?kind=contract", THROUGHPUT, count)
    throughput(
        results, "spot, ws", f"{plain}/?kind=spot", ["websocket_client_json", "picows_typed", "finx_stream"], count
    )
    mixed = f"{plain}/?kind=mixed&names=1000"
    throughput(results, "mixed, 1000 names, ws", mixed, ["picows_typed", "finx_stream"], count)
    wss = ["websocket_client_json", "picows_typed", "finx_stream", "picows_count", "finx_batch"]
    throughput(results, "contract, wss", f"{secure}/?kind=contract", wss, count // 2)
    for rate in (1000, 5000, 20_000):
        for client in LATENCY:
            if client == "websocket_client_json" and rate > 5000:
                continue  # it cannot keep up
            number = int(rate * 1.5)
            found = measure(client, f"{plain}/?rate={rate}&count={number}", number, "latency")
            results.setdefault(f"latency at {rate}/s", {}).setdefault(client, []).append(found)
    for names in (1, 100, 1000, 10_000):
        url = f"{plain}/?kind=contract&names={min(names, 4096)}&count={count}"
        found = measure("finx_stream", url, count, "throughput", {"subscriptions": names})
        results.setdefault("subscriptions", {}).setdefault(str(names), []).append(found)
    for handlers in (1, 10, 100):
        number = count // handlers if handlers > 1 else count
        url = f"{plain}/?kind=contract&count={number}"
        found = measure("finx_stream", url, number, "throughput", {"handlers": handlers})
        results.setdefault("handlers", {}).setdefault(str(handlers), []).append(found)


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


def machine() -> dict[str, Any]:
    """What it was measured on."""
    model = "unknown"
    if os.path.exists("/proc/cpuinfo"):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), model)
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}


def median(runs: list[dict[str, float]], field: str) -> float:
    """The median of one figure."""
    return statistics.median(run[field] for run in runs)


def table(results: Results, facts: dict[str, Any], idle: float) -> str:
    """The results as Markdown."""
    lines = [f"Python {facts['python']}, {facts['cores']} cores ({facts['cpu']}); medians of interleaved rounds.", ""]
    for title, clients in results.items():
        if title.startswith("latency"):
            lines += [f"### {title}", "", "| client | median µs | 90 % | 99 % |", "|---|---:|---:|---:|"]
            lines += [
                f"| {name} | {median(runs, 'p50'):.0f} | {median(runs, 'p90'):.0f} | {median(runs, 'p99'):.0f} |"
                for name, runs in clients.items()
            ]
        else:
            lines += [
                f"### {title}",
                "",
                "| client | k msg/s | × websocket-client | × picows | CPU s / M | peak MB |",
                "|---|---:|---:|---:|---:|---:|",
            ]
            for name, runs in clients.items():
                rate = median(runs, "rate")
                slow, fast = (
                    clients.get("websocket_client_json"),
                    clients.get("picows_count" if name in ("finx_batch", "picows_count") else "picows_typed"),
                )
                lines.append(
                    f"| {name} | {rate / 1000:,.0f} | {_ratio(rate, slow)} | {_ratio(rate, fast)} | "
                    f"{median(runs, 'cpu_per_million'):.2f} | {median(runs, 'peak_mb'):.0f} |"
                )
        lines.append("")
    lines += [f"Idle, one open connection: {idle * 100:.2f} % of a core.", ""]
    return "\n".join(lines)


def _ratio(rate: float, other: list[dict[str, float]] | None) -> str:
    return f"{rate / median(other, 'rate'):.2f}" if other else ""


def plot(results: Results, folder: pathlib.Path) -> None:
    """Throughput and latency as pictures."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bars = results["contract, ws"]
    figure, axes = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
    names = sorted(bars, key=lambda name: median(bars[name], "rate"))
    rates = [median(bars[name], "rate") / 1000 for name in names]
    colors = ["tab:orange" if name.startswith("finx") else "tab:gray" for name in names]
    axes.barh(names, rates, color=colors)
    axes.bar_label(axes.containers[0], fmt="%.0f", padding=3)
    axes.set(xscale="log", xlabel="thousand messages a second (766 bytes, log scale)", xlim=(5, 20_000))
    figure.savefig(folder / "throughput.png", dpi=120)

    figure, axes = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
    rates_of = [title for title in results if title.startswith("latency")]
    for name in LATENCY:
        points = [(title.split()[2], results[title][name]) for title in rates_of if name in results[title]]
        places = [point[0] for point in points]
        color = "tab:orange" if name.startswith("finx") else None
        axes.plot(places, [median(runs, "p50") for _, runs in points], "o-", label=f"{name}, median", color=color)
        axes.plot(places, [median(runs, "p99") for _, runs in points], "o:", color=axes.lines[-1].get_color())
    axes.set(yscale="log", ylabel="µs from send to handler (dotted: 99 %)", xlabel="paced feed")
    axes.legend()
    figure.savefig(folder / "latency.png", dpi=120)


def main() -> None:
    """Measure, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=400_000, help="messages a run")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs" / "benchmarks")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results: Results = {}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Blaster() as plain, Blaster(certificate(folder)) as secure:
        for number in range(options.rounds):
            one_round(results, plain.url, secure.url, options.count)
            print(f"round {number + 1} of {options.rounds} after {time.monotonic() - began:.0f} s", flush=True)
        idle = idle_share(plain.url)
    facts = machine()
    (options.out / "results.json").write_text(
        json.dumps({"machine": facts, "idle": idle, "results": results}, indent=1)
    )
    text = table(results, facts, idle)
    (options.out / "results.md").write_text(text)
    plot(results, options.out)
    print(text)
    print(bitmex.measure(options.rounds, options.out))


if __name__ == "__main__":
    main()
