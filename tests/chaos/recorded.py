"""Every venue recorded under faults: a replay gives what was live, in messages, gaps and states, and in their order.

``python -m tests.chaos.recorded`` records each venue for ten minutes while every kind of fault happens to it, and while
its connection is replaced now and then; then it replays the recording. It ends with 0 where nothing differs.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Final

import msgspec

from finx_sync import Backoff, State, StateChange
from finx_sync.messages import Message
from finx_sync.notices import Gap
from finx_sync.recorder import reasons
from finx_sync.sandbox import Sandbox
from finx_sync.stream import Stream
from finx_sync.testing import Cut, FaultProxy, random_script
from finx_sync.venues import registry
from tests.chaos.server import KINDS, SURVIVED
from tests.recorder.venues import player, stream_of
from tests.waiting import wait_until

RECOVERY_LIMIT: Final = 20.0
"""Seconds after a fault by which messages must come again, on a busy machine too."""
EFFECT_TIMEOUT: Final = 5.0
REPLACED: Final = "replacement"
"""No fault: the connection is replaced, where the venue allows that before the old one goes."""
OPTIONS: Final[Mapping[str, Any]] = {
    "ping_interval": 0.5,
    "ping_timeout": 0.5,
    "connect_timeout": 1.0,
    "stale_after": 0.5,
    "overflow": "block",  # or a busy machine would replace older states by newer ones, which a recording does not
    "reconnect": Backoff(first=0.05, cap=0.5),
    "flight_recorder": False,
    "proxy": "",
}


class Log:
    """Everything that the handlers of a stream are given, in order."""

    def __init__(self, stream: Stream) -> None:
        self.items: list[tuple[Any, ...]] = []
        self.count = 0
        for name in dir(stream):
            if name.startswith("on_") and name not in ("on_message", "on_error", "on_lag", "on_stale", "on_drift"):
                getattr(stream, name)(self.add)

    def add(self, item: Any) -> None:
        """A handler."""
        if isinstance(item, StateChange):
            self.items.append(("state", item.old.value, item.new.value, *reasons.write(item.reason)))
        elif isinstance(item, Gap):
            self.items.append(("gap", item.start, item.end, item.names, item.reason, item.missed))
        else:
            self.count += 1
            self.items.append(("message", type(item).__name__, _values(item)))


def _values(item: Any) -> str:
    """All that a handler can see of a message."""
    shown = dict(item.items()) if isinstance(item, Message) else item
    return f"{getattr(item, 'received_at', None)!r} {msgspec.json.encode(shown, enc_hook=str).decode()}"


@dataclass(frozen=True)
class Recipe:
    """How a venue is recorded.

    Attributes:
        names: what is subscribed, as on the command line.
        skipped: kinds of fault that mean nothing here.
    """

    names: tuple[str, ...]
    skipped: frozenset[str] = frozenset()


CONTRACTS: Final = ("BTC-26AUG22-20000-C", "BTC-PERPETUAL", "ETH-PERPETUAL")
SYMBOLS: Final = ("XBTUSD", "ETHUSD")
TABLES: Final = ("instrument", "quote", "trade", "orderBookL2", "orderBook10")
ACCOUNT: Final = ("margin", "position", "order", "execution")
VENUES: Final = {
    "finx": Recipe((*CONTRACTS, "BTC:USDC", "ETH:USD")),
    "deribit": Recipe((*CONTRACTS, "BTC:USD")),
    "ftx": Recipe(
        ("BTC-PERP", "ETH/USD", "trades:BTC-PERP", "orderbook:BTC-PERP", "orderbook:ETH/USD", "fills", "orders")
    ),
    "bitmex": Recipe((*(f"{table}:{symbol}" for table in TABLES for symbol in SYMBOLS), *ACCOUNT)),
    # Nothing can be asked of this service, so a feed that is only silent is not told from a quiet market.
    "ime": Recipe(("ContractA", "ContractB", "24680"), frozenset({"mute"})),
}


@dataclass
class Outcome:
    """What came of one venue.

    Attributes:
        venue: its name.
        seconds: recorded.
        live: how many of each kind the live handlers were given.
        differences: sentences; none where the replay is the same.
        faults: what else went wrong.
    """

    venue: str
    seconds: float = 0.0
    live: dict[str, int] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def table(self) -> str:
        """For people."""
        counts = ", ".join(f"{count} {kind}s" for kind, count in sorted(self.live.items()))
        lines = [f"{self.venue}: {counts} in {self.seconds:.0f} s"]
        lines += [f"DIFFERENCE: {one}" for one in self.differences[:20]]
        lines += [f"FAULT: {one}" for one in self.faults]
        return "\n".join([*lines, "" if self.differences or self.faults else "the replay is the same"])


def run(venue: str, folder: Path, *, seconds: float, each: int, seed: int) -> Outcome:
    """Record a venue while faults happen, and compare its replay.

    Args:
        venue: out of `VENUES`.
        folder: for the recording.
        seconds: over which the faults are spread.
        each: how often each kind.
        seed: decides the order and the times of the faults.
    """
    recipe, outcome = VENUES[venue], Outcome(venue)
    kinds = {kind: faults for kind, faults in {**KINDS, REPLACED: (Cut(),)}.items() if kind not in recipe.skipped}
    script = random_script(seed, count=len(kinds) * each, duration=seconds, kinds=kinds)
    path = folder / f"{venue}.finxrec"
    with Sandbox(contract_interval=0.02, spot_interval=0.02, exchange_interval=0.02) as sandbox:
        with FaultProxy(sandbox.url, seed=seed) as proxy:
            stream = stream_of(venue, proxy.url, **OPTIONS)
            registry.find(venue).subscribe(stream, recipe.names)
            live = Log(stream)
            begin = time.monotonic()
            with stream.record(path, rotate_bytes=1024 * 1024) as recording:
                stream.start()
                pause = threading.Event()
                for step in script:
                    pause.wait(max(0.0, begin + step.at - time.monotonic()))
                    _inject(stream, live, proxy, outcome, step.name)
                stream.stop(drain=True)
            outcome.seconds = time.monotonic() - begin
        if recording.lost:
            outcome.faults.append(f"the recorder left {recording.lost} messages out")
        again = player(venue)  # subscribed to nothing: all is the recording's
        replayed = Log(again)
        replay = again.replay(path, speed="max")
    outcome.faults += [str(one) for one in replay.damage]
    for kind, *_ in live.items:
        outcome.live[kind] = outcome.live.get(kind, 0) + 1
    outcome.differences = differences(live.items, replayed.items)
    return outcome


def _inject(stream: Stream, live: Log, proxy: FaultProxy, outcome: Outcome, kind: str) -> None:
    """One fault, and the wait until messages come again."""
    reconnects = stream.stats().reconnects
    if kind == REPLACED:
        stream.reconnect_now()
    elif not proxy.inject(*KINDS[kind]).wait(EFFECT_TIMEOUT):
        outcome.faults.append(f"{kind} did not happen")
        return
    elif kind not in SURVIVED and not wait_until(lambda: stream.stats().reconnects > reconnects, RECOVERY_LIMIT):
        outcome.faults.append(f"{kind}: the connection lives on")
    if not wait_until(lambda: stream.state is State.OPEN, RECOVERY_LIMIT):
        outcome.faults.append(f"{kind}: the stream does not come back")
    before = live.count
    if not wait_until(lambda: live.count > before + 5, RECOVERY_LIMIT):
        outcome.faults.append(f"{kind}: no messages come again")


def differences(live: list[tuple[Any, ...]], replayed: list[tuple[Any, ...]]) -> list[str]:
    """What is not the same, in order, as sentences.

    Args:
        live: what the handlers were given.
        replayed: the same of the replay.
    """
    if live == replayed:
        return []
    first = next((place for place, pair in enumerate(zip(live, replayed, strict=False)) if pair[0] != pair[1]), None)
    first = min(len(live), len(replayed)) if first is None else first
    found = []
    window = slice(max(0, first - 2), first + 2000)
    ours, theirs = [*map(repr, live[window])], [*map(repr, replayed[window])]
    for what, begin, end, start, stop in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        if what != "equal":
            found += [f"only live, at {window.start + begin}: {one[:300]}" for one in ours[begin:end]]
            found += [f"only replayed, at {window.start + start}: {one[:300]}" for one in theirs[start:stop]]
    return found


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venue", choices=(*VENUES, "all"), default="all")
    parser.add_argument("--each", type=int, default=8, help="how often each kind of fault (default 8)")
    parser.add_argument("--seed", type=int, default=1, help="to repeat a run (default 1)")
    parser.add_argument("--seconds", type=float, default=600.0, help="for each venue (default 600)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    good = True
    for venue in VENUES if options.venue == "all" else (options.venue,):
        with tempfile.TemporaryDirectory() as folder:
            outcome = run(venue, Path(folder), seconds=options.seconds, each=options.each, seed=options.seed)
        print(outcome.table(), flush=True)
        good = good and not (outcome.differences or outcome.faults)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
