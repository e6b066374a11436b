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
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from finx_sync.relay.wire import Keys
from tests.redis_server import RedisServer
from tests.scale.judge import Verdict, judge
from tests.scale.parts import Part
from tests.waiting import wait_until

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
    addresses = []
    for number in range(GATEWAYS):
        ports = [free_port(), free_port()]
        addresses.append({"http": f"127.0.0.1:{ports[0]}", "tcp": f"127.0.0.1:{ports[1]}"})
        arguments = ["--source", redis.url, "--port", str(ports[0]), "--tcp-port", str(ports[1])]
        world.gateways.append(Part(f"gateway-{number}", ["-m", "finx_sync", "serve", *arguments], folder, talks=False))
    for number in range(GATEWAYS):
        own = json.dumps([addresses[number], *addresses[:number], *addresses[number + 1 :]])
        notes = folder / f"gateway-{number}"
        notes.mkdir()
        command = ["-m", "tests.scale.clients", own, json.dumps(NAMES), str(CLIENTS), str(notes)]
        world.clients.append(Part(f"clients-{number}", command, folder, talks=True))
    for part in (*world.relays, *world.gateways, *world.readers, *world.clients):
        stack.callback(part.end)
        part.start()
        if part is world.relays[-1]:
            assert wait_until(lambda: redis.call("EXISTS", Keys("finx").about), 30.0), "no relay writes"
    return world


def free_port() -> int:
    """A port that is free now; a gateway that is started again must have the same one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


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


def paused(redis: RedisServer) -> None:
    """SIGSTOP of Redis, and SIGCONT a while later."""
    redis.pause()
    time.sleep(random.uniform(*STOPPED))
    redis.resume()


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
    with tempfile.TemporaryDirectory(prefix="finx-sync-scale-") as name, ExitStack() as stack:
        folder = pathlib.Path(name)
        world = opened(stack, folder, options.rate)
        print(f"everybody has messages after {world.wait_for_everybody():.1f} s", flush=True)
        stuck = _disturb(world, options.rounds, options.rate)
        sent = world.upstream.ask()
        stack.close()
        verdicts = {
            str(path.relative_to(folder)): judge(path.open(encoding="utf-8"))
            for path in sorted(folder.rglob("*.notes"))
        }
        print(table(sum(sent.values()), verdicts))
        logs = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.log")}
    bad = stuck or any(verdict.faults for verdict in verdicts.values())
    for part, text in logs.items():
        if bad or "Traceback" in text:
            print(f"--- {part}\n{text[-4000:]}", file=sys.stderr)
    return int(bad or any("Traceback" in text for text in logs.values()))


def _disturb(world: World, rounds: int, rate: float) -> bool:
    """Let faults happen; returns whether somebody has not recovered from one of them, which is then the last."""
    for number in range(rounds):
        for kind, act in _round(world, number):
            print(f"round {number + 1}: {kind:<40}", end=" ", flush=True)
            act()
            world.upstream.ask(f"rate {rate:g}")
            try:
                print(f"recovered in {world.wait_for_everybody():6.2f} s", flush=True)
            except (TimeoutError, RuntimeError) as error:
                print(error, flush=True)
                return True
    return False


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
        ("redis stopped", lambda: paused(redis)),
        ("FLUSHALL", redis.flush),
        ("trimmed under a stopped reader", lambda: trimmed(world, random.choice(world.readers))),
    ]
    chosen += [by_redis[number % len(by_redis)], by_redis[(number + 2) % len(by_redis)]]
    random.shuffle(chosen)
    return chosen


def table(sent: int, verdicts: dict[str, Verdict]) -> str:
    """For people."""
    lines = [f"\n{sent} messages sent", f"{'':<32} {'got':>9} {'missing':>9} {'gaps':>6}  reasons"]
    for name, one in verdicts.items():
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(one.reasons.items()))
        lines.append(f"{name:<32} {one.messages:>9} {one.missing:>9} {one.gaps:>6}  {reasons}")
        lines += [f"    {fault}" for fault in one.faults[:5]]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
