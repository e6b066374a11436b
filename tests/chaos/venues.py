"""The other venues under faults: after each, what the client holds is what the server has.

``python -m tests.chaos.venues`` plays every kind of fault to each of them, and ends with 0 where all is well. The
sandbox is in this process, so that its own state can be looked at.
"""

from __future__ import annotations

import abc
import argparse
import logging
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, ClassVar

from finx_sync import Backoff, ContractTick, SpotTick, State
from finx_sync.errors import ChecksumError, UnreadableMessageError
from finx_sync.messages import Message
from finx_sync.sandbox import Sandbox
from finx_sync.sandbox.market import Market
from finx_sync.stream import Stream
from finx_sync.testing import FaultProxy, random_script
from finx_sync.venues import registry
from finx_sync.venues.bitmex import BitmexStream, TableItem
from finx_sync.venues.ftx import FtxFill, FtxOrder, FtxOrderBook, FtxStream
from finx_sync.venues.ime import ImeContract
from tests.chaos.resources import Resources, differences, imbalance
from tests.chaos.server import KINDS, SURVIVED
from tests.recorder.venues import stream_of
from tests.tables import agrees
from tests.waiting import wait_until

SEED = 20220805
"""Of the simulated market."""
RECOVERY_LIMIT = 20.0
"""Seconds after a fault by which everything must be live and right again, on a busy machine too."""
EFFECT_TIMEOUT = 5.0
TIMERS: dict[str, Any] = {
    "ping_interval": 0.5,
    "ping_timeout": 0.5,
    "connect_timeout": 1.0,
    "stale_after": 0.5,
    "reconnect": Backoff(first=0.05, cap=0.5),
    "flight_recorder": False,
    "proxy": "",
}


class Trial(abc.ABC):
    """One venue's stream, and how to compare it with the sandbox.

    Attributes:
        venue: its name.
        sandbox_options: what the sandbox is made with.
        skipped: kinds of fault that mean nothing here.
        told: errors that a damaged message may bring.
        names: whose messages must flow.
        faults: sentences on what was wrong.
        compared: how many rows, levels or messages were found to be the server's.
        patience: seconds that the last messages may take to come.
    """

    venue: ClassVar[str]
    patience = 10.0
    sandbox_options: ClassVar[dict[str, Any]] = {"exchange_interval": 0.02}
    skipped: ClassVar[frozenset[str]] = frozenset()
    told: ClassVar[tuple[type[Exception], ...]] = (UnreadableMessageError,)
    names: ClassVar[frozenset[str]]

    def __init__(self, sandbox: Sandbox, url: str) -> None:
        self.sandbox = sandbox
        self.faults: list[str] = []
        self.compared = 0
        self._fresh: set[str] = set()
        self._changed = threading.Condition()
        self.stream = self.new_stream(url)
        self.stream.on_error(self.error)

    def subscribed(self, url: str, *names: str) -> Any:
        """The venue's stream, subscribed by the names of the command line."""
        stream = stream_of(self.venue, url, **TIMERS)
        registry.find(self.venue).subscribe(stream, names)
        return stream

    @abc.abstractmethod
    def new_stream(self, url: str) -> Stream:
        """The stream, its handlers and its subscriptions."""

    def spoke(self, name: str) -> None:
        """A message of a name came."""
        with self._changed:
            self._fresh.add(name)
            self._changed.notify_all()

    def error(self, error: object) -> None:
        """A damaged message is told here, and must be; anything else is a fault."""
        if not isinstance(error, self.told):
            self.faults.append(f"on_error was told {error!r}")

    def everything_flows(self) -> bool:
        """Wait until each name has spoken since the call."""
        with self._changed:
            self._fresh.clear()
            return self._changed.wait_for(lambda: self._fresh >= self.names, RECOVERY_LIMIT)

    def trade(self, number: int) -> None:  # noqa: B027  # most have no account
        """Something happens on the account while the connection is hurt."""

    def compare(self) -> list[str]:
        """Sentences on what is not as the server has it."""
        return []

    def compare_end(self) -> list[str]:
        """The same, once no fault follows."""
        return []


class BitmexTrial(Trial):
    """Tables, row by row."""

    venue = "bitmex"
    symbols = ("XBTUSD", "ETHUSD")
    channels = ("instrument", "quote", "trade", "tradeBin1m", "orderBookL2", "orderBookL2_25", "orderBook10", "funding")
    tables = (*channels, "margin", "position", "order", "execution")
    sandbox_options: ClassVar[dict[str, Any]] = {"exchange_interval": 0.01}
    names: ClassVar[frozenset[str]] = frozenset(
        {"quote XBTUSD", "quote ETHUSD", "orderBookL2 XBTUSD", "orderBook10 ETHUSD"}
    )
    stream: BitmexStream

    def new_stream(self, url: str) -> Stream:
        topics = [f"{channel}:{symbol}" for symbol in self.symbols for channel in self.channels]
        stream = self.subscribed(url, *topics, "margin", "position", "order", "execution")
        stream.on_table(self._row)
        return stream

    def _row(self, item: TableItem) -> None:
        self.spoke(f"{item.table} {item.symbol}")

    def trade(self, number: int) -> None:
        self.sandbox.controls("bitmex").place("XBTUSD", "buy", 100, price=1000.0 + number)

    def compare(self) -> list[str]:
        self.sandbox.controls("bitmex").pause()
        try:
            wrong = [table for table in self.tables if not wait_until(partial(self._agrees, table), self.patience)]
            self.compared += sum(len(rows) for rows in self.stream.storage.data.values())
        finally:
            self.sandbox.controls("bitmex").resume()
        return [f"the table {table} is not the server's" for table in wrong] + self._crossed()

    def _agrees(self, table: str) -> bool:
        return agrees(self.stream, self.sandbox, table)

    def _crossed(self) -> list[str]:
        books = {symbol: self.stream.storage.order_book(symbol) for symbol in self.symbols}
        return [
            f"the book of {symbol} is crossed"
            for symbol, book in books.items()
            if book.bids and book.asks and book.bids[0].price >= book.asks[0].price
        ]


class FtxTrial(Trial):
    """Order books, level by level; fills and orders, exactly once.

    FTX sent no events of the past, and a client could not know what it had missed; this server sends them again, all of
    them, at each subscription, so what the client makes of that is seen.
    """

    venue = "ftx"
    markets = ("BTC-PERP", "ETH/USD")
    sandbox_options: ClassVar[dict[str, Any]] = {"exchange_interval": 0.01, "robots": False}
    told: ClassVar[tuple[type[Exception], ...]] = (UnreadableMessageError, ChecksumError)  # an update was damaged
    names: ClassVar[frozenset[str]] = frozenset(markets)
    stream: FtxStream

    def new_stream(self, url: str) -> Stream:
        self.sandbox.controls("ftx").replay(100_000)
        self.trades = 0
        self.fills: list[FtxFill] = []
        self.orders: list[FtxOrder] = []
        stream = self.subscribed(url, *(f"orderbook:{market}" for market in self.markets), "fills", "orders")
        stream.on_fill(self.fills.append)
        stream.on_order(self.orders.append)
        stream.on_orderbook(self._book)
        return stream

    def _book(self, book: FtxOrderBook) -> None:
        if book.bids[0][0] >= book.asks[0][0]:
            self.faults.append(f"the book of {book.market} is crossed")
        self.spoke(book.market)

    def trade(self, number: int) -> None:
        self.trades += 1  # one order that is filled at once, and one that is opened and closed
        self.sandbox.controls("ftx").place("BTC-PERP", "buy" if number % 2 else "sell", 0.01 * (number + 1))
        self.sandbox.controls("ftx").cancel(self.sandbox.controls("ftx").place("ETH/USD", "buy", 1.0, price=100.0).id)

    def compare(self) -> list[str]:
        wrong = []
        for market in self.markets:
            book = self.stream.order_book(market)
            assert book is not None
            assert book.time is not None
            self.compared += len(book.bids) + len(book.asks)
            if (book.bids, book.asks, book.checksum) != self.sandbox.controls("ftx").book(market, book.time):
                wrong.append(f"the book of {market} is not the server's")
        return wrong

    def compare_end(self) -> list[str]:
        wait_until(lambda: len(self.fills) >= self.trades and len(self.orders) >= 4 * self.trades, self.patience)
        self.compared += len(self.fills) + len(self.orders)
        wrong, ftx = [], self.sandbox.controls("ftx")
        if len(self.fills) != self.trades or not _ends_with(self.fills, ftx.events("fills")):
            wrong.append(f"{len(self.fills)} fills were handled, not the server's {self.trades}")
        if len(self.orders) != 4 * self.trades or not _ends_with(
            self.orders, self.sandbox.controls("ftx").events("orders")
        ):
            wrong.append(f"{len(self.orders)} orders were handled, not the server's {4 * self.trades}")
        if not self.stream.duplicates:
            wrong.append("the server sent no event again, so nothing was tried")
        return wrong


def _ends_with(mine: Sequence[Message], kept: list[dict[str, Any]]) -> bool:
    """Whether the newest events are those that the server has kept."""
    return [one.to_dict() for one in mine[len(mine) - len(kept) :]] == kept


class DeribitTrial(Trial):
    """Every ticker is what the market was at its time, and none goes back in time."""

    venue = "deribit"
    sandbox_options: ClassVar[dict[str, Any]] = {"seed": SEED, "contract_interval": 0.02, "spot_interval": 0.02}
    names: ClassVar[frozenset[str]] = frozenset({"BTC-26AUG22-20000-C", "BTC-PERPETUAL", "ETH-PERPETUAL", "BTC:USD"})

    def new_stream(self, url: str) -> Stream:
        self._market = Market(SEED)
        self._newest: dict[str, int] = {}
        stream = self.subscribed(url, *self.names)
        stream.on_contract(self.contract)
        stream.on_spot(self._spot)
        return stream

    def _spot(self, tick: SpotTick) -> None:
        self.spoke(tick.name)

    def contract(self, tick: ContractTick) -> None:
        self.spoke(tick.name)
        at = tick.timestamp
        assert at is not None
        values = self._market.ticker(tick.name, at)
        if tick.to_dict() != {name: values[name] for name in tick.keys()}:  # noqa: SIM118  # it is no dictionary
            self.faults.append(f"the market never had {tick!r}")
        if at < self._newest.get(tick.name, 0):
            self.faults.append(f"{tick.name} went back in time")
        self._newest[tick.name] = at
        self.compared += 1


class ImeTrial(Trial):
    """Contracts by name and by id, none of which goes back in time."""

    venue = "ime"
    # Nothing can be asked of this service, so a feed that is only silent is not told from a quiet market.
    skipped: ClassVar[frozenset[str]] = frozenset({"mute"})
    names: ClassVar[frozenset[str]] = frozenset({"ContractA", "ContractB", "24680"})

    def new_stream(self, url: str) -> Stream:
        self._newest: dict[str, str] = {}
        stream = self.subscribed(url, *self.names)
        stream.on_contract(self.contract)
        return stream

    def contract(self, contract: ImeContract) -> None:
        self.spoke(contract.name)
        at = contract.timestamp or ""
        if at < self._newest.get(contract.name, ""):
            self.faults.append(f"{contract.name} went back in time")
        self._newest[contract.name] = at
        self.compared += 1


TRIALS: dict[str, type[Trial]] = {trial.venue: trial for trial in (BitmexTrial, FtxTrial, DeribitTrial, ImeTrial)}


@dataclass
class Outcome:
    """What became of one venue.

    Attributes:
        venue, seed: of the run.
        recoveries: seconds until everything flowed and was right again, by kind of fault.
        resources: what the process held, by when.
        compared: rows, levels or messages that were found to be the server's.
        faults: sentences; none where all is well.
    """

    venue: str
    seed: int
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    resources: dict[str, Resources] = field(default_factory=dict)
    compared: int = 0
    faults: list[str] = field(default_factory=list)

    def table(self) -> str:
        """For people."""
        times = [one for each in self.recoveries.values() for one in each]
        lines = [
            f"{self.venue}, seed {self.seed}: {len(times)} faults, {self.compared} rows compared; live and right again "
            f"after {statistics.median(times):.2f} s (median), {max(times):.2f} s (worst)"
        ]
        lines += [f"{when:<22} {held}" for when, held in self.resources.items()]
        return "\n".join([*lines, *(f"FAULT: {fault}" for fault in self.faults), "" if self.faults else "all is well"])


def run(venue: str, *, each: int, seed: int, seconds: float) -> Outcome:
    """Play each kind of fault to a venue's stream `each` times, in a random order.

    Args:
        venue: out of `TRIALS`.
        each: how often each kind.
        seed: decides the order and the times of the faults.
        seconds: over which they are spread; it takes longer where the recoveries do.
    """
    kind_of_trial = TRIALS[venue]
    kinds = {kind: faults for kind, faults in KINDS.items() if kind not in kind_of_trial.skipped}
    script = random_script(seed, count=len(kinds) * each, duration=seconds, kinds=kinds)
    outcome = Outcome(venue, seed)
    with Sandbox(**kind_of_trial.sandbox_options) as sandbox, FaultProxy(sandbox.url, seed=seed) as proxy:
        trial = kind_of_trial(sandbox, proxy.url)
        outcome.resources["before, stopped"] = Resources.held()
        with trial.stream:
            if not trial.everything_flows():
                outcome.faults.append("not everything flows at the start")
            outcome.resources["before, flowing"] = Resources.held()
            pause, start = threading.Event(), time.monotonic()
            for number, step in enumerate(script):
                pause.wait(max(0.0, start + step.at - time.monotonic()))
                _inject(trial, proxy, outcome, number, step.name)
                if number == len(kinds):
                    outcome.resources["after the first faults"] = Resources.held()
            outcome.faults += trial.compare_end()
            outcome.resources["after, flowing"] = Resources.held()
        outcome.resources["after, stopped"] = Resources.held()
    outcome.compared = trial.compared
    outcome.faults += trial.faults + differences(outcome.resources) + imbalance(asdict(trial.stream.stats().messages))
    return outcome


def _inject(trial: Trial, proxy: FaultProxy, outcome: Outcome, number: int, kind: str) -> None:
    """One fault, and the wait until everything flows and is right again."""
    stream, at = trial.stream, time.monotonic()
    reconnects = stream.stats().reconnects
    if not proxy.inject(*KINDS[kind]).wait(EFFECT_TIMEOUT):
        outcome.faults.append(f"{kind} did not happen")
        return
    trial.trade(number)
    if kind not in SURVIVED and not wait_until(lambda: stream.stats().reconnects > reconnects, RECOVERY_LIMIT):
        outcome.faults.append(f"{kind}: the connection lives on")
    deadline = time.monotonic() + RECOVERY_LIMIT
    while not (trial.everything_flows() and stream.state is State.OPEN):
        if time.monotonic() > deadline:
            outcome.faults.append(f"{kind}: not everything flows again")
            return
    outcome.faults += [f"{kind}: {fault}" for fault in trial.compare()]
    outcome.recoveries.setdefault(kind, []).append(time.monotonic() - at)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venue", choices=(*TRIALS, "all"), default="all")
    parser.add_argument("--each", type=int, default=11, help=f"how often each of {len(KINDS)} kinds (default 11)")
    parser.add_argument("--seed", type=int, default=1, help="to repeat a run (default 1)")
    parser.add_argument("--seconds", type=float, default=300.0, help="for each venue (default 300)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    faults: list[str] = []
    for venue in TRIALS if options.venue == "all" else (options.venue,):
        outcome = run(venue, each=options.each, seed=options.seed, seconds=options.seconds)
        print(outcome.table(), flush=True)
        faults += outcome.faults
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
