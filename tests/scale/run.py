"""One upstream, two relays, Redis, readers, gateways and their clients, under faults: ``python -m tests.scale.run``.

Every part is a process. Faults come one after another, each when everybody has recovered from the one before: `kill
-9` and SIGSTOP of each part in turn, Redis restarted with and without its data, FLUSHALL, trimming under a stopped
reader. At the end each reader's and client's own notes are judged by the upstream's numbers. Prints a table, and ends
with 0 where every number came once, in order, or is missing inside a gap that was reported in its place.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from tests.redis_server import RedisServer
from tests.scale.judge import Verdict, judge
from tests.scale.parts import Part

NAMES = [f"BTC-26AUG22-{20_000 + 500 * number}-C" for number in range(20)]
READERS = 5
RELAYS = 2
GATEWAYS = 2
CLIENTS = 25
"""Of each gateway."""
STOPPED = (0.5, 4.0)
"""Seconds between SIGSTOP and SIGCONT, at least and at most; the lease of a relay is in between."""
TRIMMED = 8.0
"""Seconds that a reader stays stopped while its unread messages are trimmed."""
KEEP_RECORDS = 20_000
RECOVERY = 60.0
"""Seconds within which everybody must have new messages again."""


@dataclass
class Fault:
    """What happened.

    Attributes:
        kind: in words.
        seconds: until everybody had new messages again, from when the fault was over.
    """

    kind: str
    seconds: float


@dataclass
class World:
    """All parts of a run."""

    folder: pathlib.Path
    redis: RedisServer
    upstream: Part
    relays: list[Part] = field(default_factory=list)
    readers: list[Part] = field(default_factory=list)
    gateways: list[Part] = field(default_factory=list)
    clients: list[Part] = field(default_factory=list)

    def followers(self) -> list[Part]:
        """Whoever gets messages."""
        return [*self.readers, *self.clients]

    def wait_for_everybody(self, timeout: float = RECOVERY) -> float:
        """Wait until each follower has each number that the upstream has sent by now; returns the seconds it took."""
        begun = time.monotonic()
        numbers = self.upstream.ask()
        waiting = self.followers()
        while waiting:
            if time.monotonic() - begun > timeout:
                raise TimeoutError(f"{', '.join(part.name for part in waiting)}: nothing new in {timeout:g} s")
            waiting = [part for part in waiting if not _has(part, numbers)]
            time.sleep(0.05 if waiting else 0.0)
        return time.monotonic() - begun


def _has(part: Part, numbers: dict[str, int]) -> bool:
    newest = part.ask()
    return all(newest.get(name, 0) >= number for name, number in numbers.items())


def opened(stack: ExitStack, folder: pathlib.Path, rate: float) -> World:
    """Start everything."""
    redis = stack.enter_context(RedisServer(persistent=True))
    upstream = Part("upstream", ["-m", "tests.scale.upstream", json.dumps(NAMES), str(rate)], folder, talks=True)
    stack.callback(upstream.end)
    url = upstream.start().ready["url"]
    world = World(folder, redis, upstream)
    for number in range(RELAYS):
        arguments = ["--to", redis.url, "--url", url, "--api-key", "sandbox-key", "--keep-records", str(KEEP_RECORDS)]
        relay = Part(f"relay-{number}", ["-m", "finx_sync", "relay", *NAMES, *arguments], folder, talks=False)
        world.relays.append(relay)
    for number in range(READERS):
        notes = str(folder / f"reader-{number}.notes")
        command = ["-m", "tests.scale.reader", redis.url, json.dumps(NAMES), notes]
        world.readers.append(Part(f"reader-{number}", command, folder, talks=True))
    for part in (*world.relays, *world.readers):
        stack.callback(part.end)
        part.start()
    return world


# Faults: each returns when it is over, not when everybody has recovered.


def killed(world: World, part: Part) -> None:
    """`kill -9`, and started again."""
    part.kill()
    part.start()


def stopped(world: World, part: Part) -> None:
    """SIGSTOP, and SIGCONT a while later."""
    part.signal(signal.SIGSTOP)
    time.sleep(random.uniform(*STOPPED))  # the fault itself: that much of its life is missing
    part.signal(signal.SIGCONT)


def trimmed(world: World, reader: Part) -> None:
    """A reader is stopped for so long that what it has not read is removed."""
    world.upstream.ask(f"rate {3 * KEEP_RECORDS / TRIMMED:g}")
    reader.signal(signal.SIGSTOP)
    time.sleep(TRIMMED)
    reader.signal(signal.SIGCONT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and judge; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="rounds of faults")
    parser.add_argument("--rate", type=float, default=5000.0, help="messages a second")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    random.seed(options.seed)
    faults: list[Fault] = []
    with tempfile.TemporaryDirectory(prefix="finx-sync-scale-") as name, ExitStack() as stack:
        folder = pathlib.Path(name)
        world = opened(stack, folder, options.rate)
        print(f"everybody has messages after {world.wait_for_everybody():.1f} s", flush=True)
        for number in range(options.rounds):
            for kind, act in _round(world, number):
                act()
                world.upstream.ask(f"rate {options.rate:g}")
                fault = Fault(kind, world.wait_for_everybody())
                print(f"round {number + 1}: {fault.kind:<34} {fault.seconds:6.2f} s", flush=True)
                faults.append(fault)
        sent = world.upstream.ask()
        stack.close()
        verdicts = {path.stem: judge(path.open(encoding="utf-8")) for path in sorted(folder.glob("*.notes"))}
        print(table(sum(sent.values()), verdicts))
        logs = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.log")}
    bad = any(verdict.faults for verdict in verdicts.values())
    for part, text in logs.items():
        if bad or "Traceback" in text:
            print(f"--- {part}\n{text[-4000:]}", file=sys.stderr)
    return int(bad or any("Traceback" in text for text in logs.values()))


def _round(world: World, number: int) -> list[tuple[str, Callable[[], None]]]:
    """One fault of each part and one of Redis, in random order."""
    chosen: list[tuple[str, Callable[[], None]]] = []
    for group in (world.relays, world.readers, world.gateways):
        for act in (killed, stopped):
            if group:
                part = random.choice(group)
                chosen.append((f"{act.__name__} {part.name}", lambda act=act, part=part: act(world, part)))
    redis = world.redis
    by_redis: list[tuple[str, Callable[[], None]]] = [
        ("redis killed, restarted with its data", lambda: redis.restart(keep=True)),
        ("redis killed, restarted empty", lambda: redis.restart(keep=False)),
        ("redis stopped", lambda: redis.pause(random.uniform(*STOPPED))),
        ("FLUSHALL", redis.flush),
        ("trimmed under a stopped reader", lambda: trimmed(world, random.choice(world.readers))),
    ]
    chosen += [by_redis[number % len(by_redis)], by_redis[(number + 2) % len(by_redis)]]
    random.shuffle(chosen)
    return chosen


def table(sent: int, verdicts: dict[str, Verdict]) -> str:
    """For people."""
    lines = [f"\n{sent} messages sent", f"{'':<14} {'got':>9} {'missing':>9} {'gaps':>6}  reasons"]
    for name, one in verdicts.items():
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(one.reasons.items()))
        lines.append(f"{name:<14} {one.messages:>9} {one.missing:>9} {one.gaps:>6}  {reasons}")
        lines += [f"    {fault}" for fault in one.faults[:5]]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
