"""Runs a stream under faults for a while and judges it; prints a table and ends with 0 where all is well.

Timers are scaled down: ping 1 s, pong 0.5 s, connect 1 s. Each fault waits for the stream to have recovered from the
one before, so the run may take a little longer than asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

from finx_sync import AuthorizationError, Backoff, State, StreamManager
from finx_sync.testing import Step, random_script
from tests.chaos.judge import Verdict, Witness, judge
from tests.chaos.resources import Resources, differences, imbalance
from tests.chaos.server import FATAL, KINDS, SURVIVED, Backstage

PAIRS = ("BTC:USDC", "ETH:USDC", "BTC:USD", "ETH:USD", "SOL:USDC")
CONTRACTS = (
    "BTC-26AUG22-20000-C",
    "BTC-26AUG22",
    *(f"{base}{quote}-PERPETUAL" for base in ("BTC", "ETH", "SOL") for quote in ("", "_USDC")),
)
NAMES = PAIRS + CONTRACTS
RECOVERY_LIMIT = 10.0
"""Seconds after a fault by which each subscription must be live again, on a busy machine too."""
AT_LEAST = {"429": 1.0}
"""Seconds that the server asks to wait (Retry-After), and that a recovery must therefore take."""
WARM_UP = 20
"""Faults before the memory is looked at for the first time: each kind fills buffers and caches of its own."""


@dataclass
class Report:
    """A run's outcome.

    Attributes:
        scheme, seed, seconds: of the run; `seconds` is what it took.
        rate: messages a second that the server sent.
        recoveries: seconds until each subscription was live again, by kind of fault.
        resources: "stopped" and "flowing" before, "warm" after the first faults, "flowing" and "stopped" at the end.
        verdict: the judge's.
        reconnects: as the stream counts them.
        faults: sentences; none where all is well.
    """

    scheme: str
    seed: int
    seconds: float = 0.0
    rate: float = 0.0
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    resources: dict[str, Resources] = field(default_factory=dict)
    verdict: Verdict = field(default_factory=Verdict)
    reconnects: int = 0
    faults: list[str] = field(default_factory=list)

    def table(self) -> str:
        """For people."""
        times = [one for each in self.recoveries.values() for one in each]
        lines = [
            f"{self.scheme}, seed {self.seed}: {len(times)} faults in {self.seconds:.0f} s, "
            f"{self.reconnects} reconnects, {self.rate:.0f} msg/s on average, outages included",
            f"{'fault':<28} {'times':>5} {'median':>7} {'worst':>7}  seconds until every subscription was live again",
        ]
        for kind, seconds in sorted(self.recoveries.items()):
            lines.append(f"{kind:<28} {len(seconds):>5} {statistics.median(seconds):>7.2f} {max(seconds):>7.2f}")
        one = self.verdict
        lines.append(
            f"{one.sent} messages sent = {one.handled} handled once + {one.in_gaps} in {one.gaps} reported gaps + "
            f"{one.unreadable} damaged, told to on_error + {one.after_the_end} after the end"
        )
        lines += [f"{when:<22} {held}" for when, held in self.resources.items()]
        return "\n".join([*lines, *(f"FAULT: {fault}" for fault in self.faults), "" if self.faults else "all is well"])


def new_stream(stage: Backstage) -> StreamManager:
    """A stream with timers scaled down, subscribed to everything."""
    stream = StreamManager(
        "sandbox-key",
        url=stage.url,
        ssl_context=stage.ssl_context,
        proxy="",
        ping_interval=1.0,
        ping_timeout=0.5,
        connect_timeout=1.0,
        stale_after=0.5,
        reconnect=Backoff(first=0.1, cap=0.5),
        flight_recorder=False,
    )
    stream.subscribe_contract(*CONTRACTS)
    stream.subscribe_spot(*PAIRS)
    return stream


def run(scheme: str, *, seconds: float, rate: float, seed: int, kinds: Sequence[str], each: int) -> Report:
    """One run.

    Args:
        scheme: "ws" or "wss".
        seconds: over which the faults are spread.
        rate: messages a second, over all names.
        seed: decides the order and the times of the faults, and what each leaves open.
        kinds: of faults, out of `KINDS`.
        each: how often each.
    """
    report = Report(scheme, seed)
    script = random_script(seed, count=len(kinds) * each, duration=seconds, kinds={kind: KINDS[kind] for kind in kinds})
    with Backstage(scheme, seed, len(NAMES) / rate) as stage:
        report.resources["before, stopped"] = Resources.held()
        witness = Witness()
        stream = new_stream(stage)
        stream.on_message(witness.message)
        stream.on_contract(witness.tick)
        stream.on_spot(witness.tick)
        stream.on_error(witness.error)
        stream.on_gap(witness.gap)
        begun = time.monotonic()
        with stream:
            _inject_all(stage, witness, report, script)
            report.resources["after, flowing"] = Resources.held()
            ended_at = time.time()
        report.seconds = time.monotonic() - begun
        counters = asdict(stream.stats().messages)
        report.reconnects = stream.stats().reconnects
        coverage = {name: stream.coverage(name) for name in NAMES}
        del stream
        report.resources["after, stopped"] = Resources.held()
        log = stage.ask("log", NAMES)
    report.verdict = judge(witness, log, coverage, ended_at)
    report.rate = report.verdict.sent / report.seconds
    report.faults += report.verdict.faults
    report.faults += differences(report.resources) + imbalance(counters)
    return report


def _inject_all(stage: Backstage, witness: Witness, report: Report, script: Sequence[Step]) -> None:
    """Play the script: each step at its time, but not before the stream has recovered from the step before."""
    if not witness.expect(dict.fromkeys(NAMES, (0, 0)), RECOVERY_LIMIT):
        report.faults.append(f"nothing came of {witness.missing()} at the start")
    report.resources["before, flowing"] = Resources.held()
    pause, start = threading.Event(), time.monotonic()
    for number, step in enumerate(script):
        pause.wait(max(0.0, start + step.at - time.monotonic()))
        _inject(stage, witness, report, step.name)
        if number == WARM_UP:
            report.resources["after the first faults"] = Resources.held()


def _inject(stage: Backstage, witness: Witness, report: Report, kind: str) -> None:
    """One fault, and the wait until each subscription is live again."""
    at = time.monotonic()
    outcome = stage.ask("inject", kind)
    if not outcome["happened"]:
        report.faults.append(f"{kind} did not happen")
        return
    if kind in SURVIVED:
        marks = {name: (outcome["after"], outcome["numbers"].get(name, 0)) for name in NAMES}
    else:
        marks = dict.fromkeys(NAMES, (outcome["before"], sys.maxsize))
    if not witness.expect(marks, RECOVERY_LIMIT):
        report.faults.append(f"{kind}: {witness.missing()} were not live again after {RECOVERY_LIMIT:g} s")
    seconds = time.monotonic() - at
    if seconds < AT_LEAST.get(kind, 0.0):
        report.faults.append(f"{kind}: tried again after {seconds:.2f} s, before the server had asked for it")
    report.recoveries.setdefault(kind, []).append(seconds)


# What ends a stream runs apart.


def run_fatal(scheme: str, seed: int) -> list[str]:
    """401, 403 and 1008, at the start and later: one attempt, state FAILED, and `start` works again. Returns faults."""
    faults = []
    with Backstage(scheme, seed, 0.05) as stage:
        for kind in FATAL:
            for when, attempt in (("at the start", _fails_at_start), ("while open", _fails_while_open)):
                stream = new_stream(stage)
                with _stopped(stream):
                    attempts = attempt(stage, stream, kind)
                    if (attempts, stream.state) != (1, State.FAILED):
                        faults.append(f"{kind} {when}: {attempts} attempts, state {stream.state.value}")
                    stream.start()
                    if not stream.take(3, timeout=RECOVERY_LIMIT) or stream.state is not State.OPEN:
                        faults.append(f"{kind} {when}: start() did not work again")
    return faults


@contextlib.contextmanager
def _stopped(stream: StreamManager) -> Iterator[None]:
    try:
        yield
    finally:
        stream.stop()


def _fails_at_start(stage: Backstage, stream: StreamManager, kind: str) -> int:
    """Start against a refusing server; returns the attempts."""
    before = stage.ask("accepted")
    stage.ask("arm", kind)
    with contextlib.suppress(AuthorizationError):
        stream.start()
    _wait_for_threads()
    return int(stage.ask("accepted")) - before


def _fails_while_open(stage: Backstage, stream: StreamManager, kind: str) -> int:
    """Be refused later; returns the attempts that the refusal took."""
    failed = threading.Event()
    stream.on_state(lambda change: failed.set() if change.new is State.FAILED else None)
    stream.start()
    before = stage.ask("accepted")
    stage.ask("inject", kind)
    failed.wait(RECOVERY_LIMIT)
    _wait_for_threads()
    # 1008 closes the connection that was open; it takes no attempt more.
    return int(stage.ask("accepted")) - before + (kind == "1008")


def _wait_for_threads() -> None:
    """No attempt follows once the threads have ended."""
    deadline = time.monotonic() + RECOVERY_LIMIT
    for thread in [one for one in threading.enumerate() if one.name.startswith("finx-sync")]:
        thread.join(max(0.0, deadline - time.monotonic()))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="for each scheme (default 600)")
    parser.add_argument("--rate", type=float, default=2000.0, help="messages a second (default 2000)")
    parser.add_argument("--seed", type=int, default=1, help="to repeat a run (default 1)")
    parser.add_argument("--each", type=int, default=11, help=f"how often each of {len(KINDS)} kinds (default 11)")
    parser.add_argument("--scheme", choices=("ws", "wss", "both"), default="both")
    parser.add_argument("--json", metavar="FILE", help="write the reports there as well")
    options = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    reports, faults = [], []
    for scheme in ("ws", "wss") if options.scheme == "both" else (options.scheme,):
        report = run(
            scheme,
            seconds=options.seconds,
            rate=options.rate,
            seed=options.seed,
            kinds=list(KINDS),
            each=options.each,
        )
        print(report.table(), flush=True)
        reports.append(asdict(report))
        fatal = run_fatal(scheme, options.seed)
        print(*(fatal or [f"{scheme}: 401, 403 and 1008 end the stream at once, and start() works again"]), sep="\n")
        faults += report.faults + fatal
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(reports, file, indent=1)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
