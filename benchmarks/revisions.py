"""This revision beside an earlier one, in one interleaved run: ``python -m benchmarks.revisions BASE [--rounds N]``.

Each revision runs its own benchmark clients, from a checkout of its own; the two take turns, so that a noisy machine
is noisy for both. Figures are medians, and what counts is the ratio: above 1 this revision is better.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.blaster import Blaster

ROOT = pathlib.Path(__file__).parent.parent
CASES = {
    "contract ticks to a handler": ("finx_stream", "kind=contract", "throughput", 400_000),
    "1000 names, a tenth of them spot": ("finx_stream", "kind=mixed&names=1000", "throughput", 300_000),
    "raw batches of WebSocketApp": ("finx_batch", "kind=contract", "throughput", 1_200_000),
    "latency at 1000/s": ("finx_stream", "rate=1000", "latency", 3_000),
}
"""What is measured: client, query, mode and number of messages."""


@contextmanager
def checkout(revision: str) -> Iterator[pathlib.Path]:
    """The files of a revision, with the compiled part of this one where its source is the same."""
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        source = pathlib.Path("finx_sync/transport/_cutting.c")
        if (place / source).read_bytes() == (ROOT / source).read_bytes():
            for compiled in (ROOT / source.parent).glob("*.so"):
                shutil.copy(compiled, place / source.parent)
        yield place


def measure(root: pathlib.Path, url: str, case: tuple[str, str, str, int]) -> dict[str, float]:
    """One run of one case by the revision in `root`."""
    client, query, mode, count = case
    command = [sys.executable, "-m", "benchmarks.clients", client, f"{url}/?{query}&count={count}", str(count), mode]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise SystemExit(f"{client} in {root}: {done.stderr}")
    return json.loads(done.stdout)


def main() -> None:
    """Measure, and print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", help="the earlier revision, such as HEAD~10")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    with checkout(arguments.base) as base, Blaster() as blaster:
        for number in range(arguments.rounds):
            turns = (("base", base), ("this", ROOT))
            for title, case in CASES.items():
                for name, root in turns if number % 2 else turns[::-1]:
                    found.setdefault((title, name), []).append(measure(root, blaster.url, case))
    for title, (_, _, mode, _) in CASES.items():
        what = "p50" if mode == "latency" else "rate"
        before, after = (statistics.median(one[what] for one in found[title, name]) for name in ("base", "this"))
        ratio = before / after if mode == "latency" else after / before
        print(f"{title:35} {before:12,.6g} {after:12,.6g}   {ratio:.3f}")


if __name__ == "__main__":
    main()
