"""Deribit and IME through every kind of fault that a stream survives: all flows again, and what came is right."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from finx_sync import Backoff, ContractTick, SpotTick, State, StreamManager
from finx_sync.errors import UnreadableMessageError
from finx_sync.sandbox import Sandbox
from finx_sync.sandbox.market import Market
from finx_sync.stream import Stream
from finx_sync.testing import RECOVERABLE, Fault, FaultProxy
from finx_sync.venues.ime import ImeContract, ImeStream
from tests.test_manager import books_balance

SEED = 20220805
RECOVERY = 10.0
"""Seconds."""
TIMERS: dict[str, Any] = {
    "ping_interval": 0.5,
    "ping_timeout": 0.4,
    "connect_timeout": 1.0,
    "stale_after": 0.4,
    "reconnect": Backoff(first=0.05, cap=0.2),
    "flight_recorder": False,
    "proxy": "",
}
SURVIVED = {"short black hole", "delay", "throttle", "split", "corrupt json"}
"""Kinds that a connection outlives; all others cost it."""


class Witness:
    """Keeps the newest message of each name, and every error that no damage explains."""

    def __init__(self, names: set[str]) -> None:
        self.names = names
        self.faults: list[object] = []
        self.count = 0
        self._fresh: set[str] = set()
        self._changed = threading.Condition()

    def message(self, message: Any) -> None:
        """For the stream."""
        with self._changed:
            self.count += 1
            self._fresh.add(message.name)
            self._changed.notify_all()

    def error(self, error: object) -> None:
        """For the stream."""
        if not isinstance(error, UnreadableMessageError):
            self.faults.append(error)

    def all_fresh(self) -> bool:
        """Wait until each name has spoken since the call."""
        with self._changed:
            self._fresh.clear()
            return self._changed.wait_for(lambda: self._fresh == self.names, RECOVERY)


def play(stream: Stream, proxy: FaultProxy, witness: Witness, kinds: Mapping[str, tuple[Fault, ...]]) -> None:
    """Let each fault happen to the running stream, and wait until it has recovered."""
    lost = threading.Semaphore(0)
    stream.on_state(lambda change: lost.release() if change.new is State.RECONNECTING else None)
    assert witness.all_fresh()
    for kind, faults in kinds.items():
        while lost.acquire(blocking=False):
            pass
        assert proxy.inject(*faults).wait(RECOVERY), kind
        assert kind in SURVIVED or lost.acquire(timeout=RECOVERY), f"{kind}: the connection lives on"
        deadline = time.monotonic() + RECOVERY
        while not (witness.all_fresh() and stream.state is State.OPEN):
            assert time.monotonic() < deadline, f"{kind}: not everything flows again"
    assert books_balance(stream)
    assert witness.faults == []


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_deribit_under_every_fault() -> None:
    """A contract would stay silent after some fault, or show numbers that the market never had."""
    names = {"BTC-26AUG22-20000-C", "BTC-PERPETUAL", "ETH-PERPETUAL", "BTC:USD"}
    witness, market = Witness(names), Market(SEED)

    def check(tick: ContractTick | SpotTick) -> None:
        witness.message(tick)
        if isinstance(tick, ContractTick):
            assert tick.timestamp is not None
            values = market.ticker(tick.name, tick.timestamp)
            if tick.to_dict() != {name: values[name] for name in tick.keys()}:  # noqa: SIM118  # it is no dictionary
                witness.faults.append(tick)

    with (
        Sandbox(seed=SEED, contract_interval=0.02, spot_interval=0.02) as sandbox,
        FaultProxy(sandbox.url, seed=1) as proxy,
    ):
        stream = StreamManager(environment="deribit", url=proxy.url, **TIMERS)
        stream.on_contract(check)
        stream.on_spot(check)
        stream.on_error(witness.error)
        stream.subscribe_contract(*(name for name in names if ":" not in name))
        stream.subscribe_spot("BTC:USD")
        with stream:
            play(stream, proxy, witness, {kind: RECOVERABLE[kind] for kind in RECOVERABLE if kind != "corrupt json"})


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_ime_under_every_fault() -> None:
    """A contract would stay silent after some fault, or go back in time."""
    names = {"ContractA", "ContractB", "24680"}
    witness = Witness(names)
    newest: dict[str, str] = {}

    def check(contract: ImeContract) -> None:
        witness.message(contract)
        at = contract.timestamp or ""
        if at < newest.get(contract.name, ""):
            witness.faults.append(contract)
        newest[contract.name] = at

    with Sandbox(exchange_interval=0.02) as sandbox, FaultProxy(sandbox.url, seed=1) as proxy:
        stream = ImeStream(proxy.url, names=["ContractA", "ContractB"], ids="24680", auth="sandbox-key", **TIMERS)
        stream.on_contract(check)
        stream.on_error(witness.error)
        # Nothing can be asked of this service, so a feed that is only silent is not told from a quiet market.
        kinds = {kind: RECOVERABLE[kind] for kind in RECOVERABLE if kind not in ("mute", "corrupt json")}
        with stream:
            play(stream, proxy, witness, kinds)
