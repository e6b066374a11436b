"""The results as a table, with the targets, and as a plot. ``python -m benchmarks.report`` writes both again."""

from __future__ import annotations

import json
import pathlib
import statistics
from collections.abc import Callable
from typing import Any

Results = dict[str, dict[str, list[dict[str, float]]]]
"""Case, client, and what each round gave."""

NAMES = {
    "websocket_client_json": "websocket-client + json",
    "websocket_client_skip_orjson": "websocket-client, no UTF-8 check, + orjson",
    "websockets_sync_orjson": "websockets (sync) + orjson",
    "aiohttp_orjson": "aiohttp + orjson",
    "picows_typed": "picows + uvloop + msgspec",
    "picows_count": "picows + uvloop, counting frames",
    "finx_app_orjson": "finx_sync.WebSocketApp + orjson",
    "finx_stream": "finx_sync.StreamManager",
    "finx_batch": "finx_sync.WebSocketApp, on_batch, counting",
}
TITLES = {
    "contract, ws": "Contract messages (766 bytes), ws",
    "spot, ws": "Spot messages (137 bytes), ws",
    "mixed, ws": "Mixed feed: 10 % spot messages, 30 % of contracts with four empty fields, 1 000 names, ws",
    "contract, wss": "Contract messages (766 bytes), wss",
    "spot, wss": "Spot messages (137 bytes), wss",
    "subscriptions": "StreamManager, by the number of subscribed contracts",
    "handlers": "StreamManager, by the number of handlers for each message",
}
COLORS = {
    "websocket_client_json": "tab:blue",
    "websockets_sync_orjson": "tab:green",
    "picows_typed": "tab:gray",
    "finx_stream": "tab:orange",
}
OURS = ("finx_app_orjson", "finx_stream", "finx_batch")


def median(runs: list[dict[str, float]], field: str) -> float:
    """The median of one figure."""
    return statistics.median(run[field] for run in runs)


def ratio(results: Results, title: str, client: str, other: str, field: str = "rate") -> float:
    """Of two medians."""
    return median(results[title][client], field) / median(results[title][other], field)


def goals(results: Results, alone: dict[str, float]) -> list[tuple[str, float, str, bool]]:
    """What was promised: words, what was measured, the limit, whether it holds."""

    def at_least(words: str, value: float, limit: float) -> tuple[str, float, str, bool]:
        return words, value, f"≥ {limit:g}", value >= limit

    def at_most(words: str, value: float, limit: float) -> tuple[str, float, str, bool]:
        return words, value, f"≤ {limit:g}", value <= limit

    ws, wss, slow = "contract, ws", "contract, wss", "latency at 1000/s"
    return [
        at_least("StreamManager × websocket-client", ratio(results, ws, "finx_stream", "websocket_client_json"), 55),
        at_least("StreamManager × websockets", ratio(results, ws, "finx_stream", "websockets_sync_orjson"), 3.5),
        at_least("StreamManager × picows", ratio(results, ws, "finx_stream", "picows_typed"), 0.8),
        at_least("StreamManager × picows, mixed feed", ratio(results, "mixed, ws", "finx_stream", "picows_typed"), 0.7),
        at_least("StreamManager × picows, wss", ratio(results, wss, "finx_stream", "picows_typed"), 0.7),
        at_least("on_batch × picows", ratio(results, ws, "finx_batch", "picows_count"), 0.8),
        at_least("on_batch × picows, wss", ratio(results, wss, "finx_batch", "picows_count"), 0.7),
        at_most("median latency at 1,000/s × picows", ratio(results, slow, "finx_stream", "picows_typed", "p50"), 1.3),
        at_most("99th percentile × picows", ratio(results, slow, "finx_stream", "picows_typed", "p99"), 2),
        at_most("median × websocket-client", ratio(results, slow, "finx_stream", "websocket_client_json", "p50"), 1),
        at_most("CPU time of an idle stream, % of a core", alone["idle"] * 100, 0.5),
        at_most("import, ms more than websocket and requests", alone["import_ms"], 120),
        at_most("a history page of 1000 rows, ms", alone["page_ms"], 2),
    ]


def table(results: Results, facts: dict[str, Any], alone: dict[str, float]) -> str:
    """The results as Markdown."""
    lines = [
        f"Python {facts['python']}, {facts['cores']} cores ({facts['cpu']}), {facts['system']}; medians of "
        f"{facts['rounds']} interleaved rounds; load average {facts['load_before']} before, {facts['load_after']} "
        "after.",
        "",
        ", ".join(f"{name} {version}" for name, version in facts["versions"].items()) + ".",
        "",
        "| Quantity | Measured | Target | Met |",
        "|---|---:|---:|---|",
        *(
            f"| {words} | {value:.2f} | {limit} | {'yes' if holds else 'no'} |"
            for words, value, limit, holds in goals(results, alone)
        ),
        "",
    ]
    for title, clients in results.items():
        lines += _latency_table(title, clients) if title.startswith("latency") else _throughput_table(title, clients)
    return "\n".join(lines)


def _latency_table(title: str, clients: dict[str, list[dict[str, float]]]) -> list[str]:
    return [
        f"### {title.capitalize()}",
        "",
        "| Client | Median µs | 90th percentile | 99th percentile |",
        "|---|---:|---:|---:|",
        *(
            f"| {NAMES[name]} | {median(runs, 'p50'):.0f} | {median(runs, 'p90'):.0f} | {median(runs, 'p99'):.0f} |"
            for name, runs in clients.items()
        ),
        "",
    ]


def _throughput_table(title: str, clients: dict[str, list[dict[str, float]]]) -> list[str]:
    lines = [
        f"### {TITLES[title]}",
        "",
        "| Client | k msg/s | × websocket-client | × picows | CPU s per million | Peak MB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, runs in clients.items():
        counts = name in ("finx_batch", "picows_count")
        times: Callable[[str], str] = lambda other, runs=runs: (  # noqa: E731
            f"{median(runs, 'rate') / median(clients[other], 'rate'):.2f}" if other in clients else ""
        )
        lines.append(
            f"| {NAMES.get(name, name)} | {median(runs, 'rate') / 1000:,.0f} | {times('websocket_client_json')} | "
            f"{times('picows_count' if counts else 'picows_typed')} | "
            f"{median(runs, 'cpu_per_million'):.2f} | {median(runs, 'peak_mb'):.0f} |"
        )
    return [*lines, ""]


def plot(results: Results, path: pathlib.Path) -> None:
    """Throughput over ws and wss, and latency, in one picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(12, 4.6), layout="constrained", gridspec_kw={"width_ratios": (3, 2)}
    )
    _bars(left, results)
    _lines(right, results)
    figure.savefig(path, dpi=110)


def _bars(axes: Any, results: Results) -> None:
    plain, secure = results["contract, ws"], results["contract, wss"]
    names = sorted((name for name in plain if name in NAMES), key=lambda name: median(plain[name], "rate"))
    for shift, cases, shade, label in ((0.2, plain, 1.0, "ws"), (-0.2, secure, 0.5, "wss")):
        rates = [median(cases[name], "rate") / 1000 if name in cases else 0 for name in names]
        bars = axes.barh(
            [number + shift for number in range(len(names))],
            rates,
            height=0.38,
            color=["tab:orange" if name in OURS else "tab:gray" for name in names],
            alpha=shade,
            label=label,
        )
        axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=8)
    axes.set_yticks(range(len(names)), [NAMES[name] for name in names])
    axes.set(xscale="log", xlim=(2, 12_000), xlabel="thousand messages a second (766 bytes; log scale)")
    axes.set_title("Throughput: ws (upper bar) and wss")


def _lines(axes: Any, results: Results) -> None:
    paces = [title for title in results if title.startswith("latency")]
    for name in results[paces[0]]:
        points = [(title.split()[2], results[title][name]) for title in paces if name in results[title]]
        places = [point[0] for point in points]
        axes.plot(
            places,
            [median(runs, "p50") for _, runs in points],
            "o-",
            label=NAMES[name],
            color=COLORS[name],
        )
        axes.plot(places, [median(runs, "p99") for _, runs in points], "o:", color=COLORS[name])
    axes.set(yscale="log", ylabel="µs from send to handler", xlabel="messages a second, evenly paced")
    axes.set_title("Latency: median, and 99 % (dotted)")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)


def main() -> None:
    """Write table and picture again from results.json."""
    folder = pathlib.Path(__file__).parent.parent / "docs" / "benchmarks"
    found = json.loads((folder / "results.json").read_text())
    (folder / "results.md").write_text(table(found["results"], found["machine"], found["alone"]))
    plot(found["results"], folder / "benchmarks.png")


if __name__ == "__main__":
    main()
