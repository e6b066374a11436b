"""StreamManager on Deribit's own feed, as the sandbox speaks it: real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import finx_sync
from finx_sync import Backoff, ConfigError, ContractTick, SpotTick, State, StreamManager
from finx_sync.errors import (
    ConnectionLostError,
    FunctionTimeoutError,
    ServerRefusedError,
    SubscriptionRefusedError,
    UnsupportedError,
)
from finx_sync.sandbox import Sandbox
from finx_sync.sandbox.market import Market
from finx_sync.session import supervisor
from tests.scripted import CONTRACT
from tests.waiting import Collector, books_balance, wait_until

FAST = Backoff(first=0.01, cap=0.05, healthy_after=0.0)
OPTION, PERPETUAL, PAIR = "BTC-26AUG22-20000-C", "BTC-PERPETUAL", "BTC:USD"


def deribit(sandbox: Sandbox, **options: Any) -> StreamManager:
    """A stream of the sandbox's Deribit."""
    return StreamManager(environment="deribit", url=sandbox.url, **{"reconnect": FAST, **options})


def test_the_same_program_as_for_finx(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program for FinX would need more than another environment; or a key of FinX's would leave for Deribit."""
    monkeypatch.setenv("FINX_API_KEY", "a-key-of-finx")
    stream = deribit(sandbox)
    contracts, spots = Collector(), Collector()
    stream.on_contract(contracts)
    stream.on_spot(spots, PAIR)
    stream.subscribe_contract(OPTION, PERPETUAL)
    stream.subscribe_spot(PAIR)
    with stream:
        ticks = contracts.wait(lambda items: {tick.name for tick in items} == {OPTION, PERPETUAL})
        (spot, *_) = spots.wait(len)
        assert books_balance(stream)
        option = next(tick for tick in ticks if tick.name == OPTION)
        assert stream.latest(PERPETUAL).name == PERPETUAL  # type: ignore[union-attr]
    assert type(option) is ContractTick
    assert option.keys() == list(CONTRACT)
    assert abs(option.datetime.timestamp() - time.time()) < 60  # type: ignore[union-attr]
    assert type(spot) is SpotTick
    assert (spot.pair, spot.exchange) == (PAIR, "DERIBIT")
    assert "a-key-of-finx" not in str(sandbox.requests)


def test_after_every_cut_everything_is_asked_for_again(sandbox: Sandbox) -> None:
    """A contract would stay silent after a reconnect, or the many requests would run into the limits."""
    names = finx_sync.list_contracts(environment="deribit", url=sandbox.url)
    assert len(names) > 150
    stream = deribit(sandbox)
    seen = Collector()
    stream.on_contract(seen)
    stream.subscribe_contract(*names)
    stream.subscribe_spot(PAIR)
    with stream:
        seen.wait(lambda items: {tick.name for tick in items} == set(names), 30)
        for number in range(20):
            assert (sandbox.abort_all() if number % 2 else sandbox.disconnect_all()) == 1
            assert sandbox.wait_for_connections(1)
            assert sandbox.wait_for_subscribers(f"deribit_price_index.{PAIR.lower().replace(':', '_')}")
            (connection,) = sandbox.connections()
            assert len(connection.subscriptions) == len(names) + 1
        seen.items.clear()
        seen.wait(lambda items: {tick.name for tick in items} == set(names), 30)
        assert stream.stats().reconnects == 20


def test_a_refused_contract_is_told_and_the_others_flow(sandbox: Sandbox) -> None:
    """A misspelt contract would be silent for ever, or take the others with it."""
    stream = deribit(sandbox)
    errors, ticks = Collector(), Collector()
    stream.on_error(errors)
    stream.on_contract(ticks)
    stream.subscribe_contract(OPTION, "BTC-1JAN99-1-C")
    with stream:
        (error,) = errors.wait(len)
        assert isinstance(error, SubscriptionRefusedError)
        assert (error.kind, error.name) == ("contract", "BTC-1JAN99-1-C")
        ticks.wait(len)
        sandbox.controls("deribit").refuse("public/subscribe", 13009, "unauthorized")
        stream.subscribe_contract(PERPETUAL)
        errors.wait(lambda items: len(items) == 2)
        assert (errors.items[1].name, errors.items[1].said) == (PERPETUAL, "13009: unauthorized")


def test_unsubscribing_is_told_to_the_server(sandbox: Sandbox) -> None:
    """What nobody wants any more would go on."""
    with deribit(sandbox) as stream:
        stream.subscribe_contract(OPTION, PERPETUAL)
        assert sandbox.wait_for_subscribers(f"ticker.{OPTION}.100ms")
        stream.unsubscribe_contract(OPTION)
        stream.wait_for(lambda tick: sandbox.connections()[0].subscriptions == [f"ticker.{PERPETUAL}.100ms"], 10)


def test_too_many_requests_bring_us_back_with_fewer(sandbox: Sandbox) -> None:
    """A loop of subscriptions would end in refusals."""
    stream = deribit(sandbox)
    names = [name for name in stream.list_contracts() if name.startswith("ETH")][:40]
    errors = Collector()
    stream.on_error(errors)
    with stream:
        for name in names:
            stream.subscribe_contract(name)
        for name in names:
            assert sandbox.wait_for_subscribers(f"ticker.{name}.100ms", timeout=20)
    assert errors.items == []


def test_a_server_that_hangs_up_with_its_error_is_believed_the_error(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream whose handlers are behind would take "too many requests" for a refused key, and end for good."""
    monkeypatch.setattr(supervisor, "VERDICT_PATIENCE", 20.0)
    stream = deribit(sandbox)
    names = [name for name in stream.list_contracts() if name.startswith("ETH")][:40]
    inside, gate = threading.Event(), threading.Event()
    stream.on_contract(lambda tick: (inside.set(), gate.wait(20)))
    stream.subscribe_contract(PERPETUAL)
    with stream:
        assert inside.wait(20)
        for name in names:  # more than may come at once
            stream.subscribe_contract(name)
        assert wait_until(lambda: not sandbox.connections())  # it has hung up, and nobody has read what it said
        gate.set()
        assert sandbox.wait_for_subscribers(f"ticker.{names[-1]}.100ms", timeout=20)
        assert stream.state is not State.FAILED


def test_test_requests_are_answered_while_a_handler_is_slow(sandbox: Sandbox) -> None:
    """Deribit would cut the connection because of a slow handler."""
    stream = deribit(sandbox)
    slow = Collector()

    @stream.on_contract
    def sleep(tick: ContractTick) -> None:
        slow(tick)
        time.sleep(1.5)

    stream.subscribe_contract(OPTION)
    with stream:
        slow.wait(len)
        sandbox.controls("deribit").demand(within=0.3)
        slow.wait(lambda items: len(items) >= 2)
        assert stream.stats().reconnects == 0
        answers = [call for _, call in sandbox.requests if call["method"] == "public/test"]
        assert len(answers) >= 2


def test_a_server_without_heartbeats_serves_us_all_the_same(sandbox: Sandbox) -> None:
    """A simulator of Deribit could not be used."""
    sandbox.controls("deribit").refuse("public/set_heartbeat", -32601, "Method not found")
    stream = deribit(sandbox)
    errors = Collector()
    stream.on_error(errors)
    stream.subscribe_contract(OPTION)
    with stream:
        (error,) = errors.wait(len)
        assert isinstance(error, ServerRefusedError)
        assert stream.take(1, OPTION, timeout=10)


def test_an_overloaded_server_is_no_refusal(sandbox: Sandbox) -> None:
    """A moment's overload would be taken for a wrong key, and end the stream for good."""
    stream = deribit(sandbox)
    sandbox.controls("deribit").refuse("public/set_heartbeat", 10028, "too_many_requests")
    with pytest.raises(ConnectionLostError, match="too_many_requests"):
        stream.start()
    stream.subscribe_contract(OPTION)
    with stream:
        sandbox.controls("deribit").refuse("public/set_heartbeat", 11051, "system_maintenance", count=3)
        sandbox.abort_all()
        assert sandbox.wait_for_subscribers(f"ticker.{OPTION}.100ms", timeout=20)
        stream.wait_for(lambda tick: stream.is_connected, 10)
        assert stream.stats().reconnects == 4


def test_functions_that_deribit_can_serve(sandbox: Sandbox) -> None:
    """Contracts could not be found without a key."""
    stream = deribit(sandbox)
    assert {OPTION, PERPETUAL, "BTC_USDC-PERPETUAL"} <= set(stream.list_contracts())
    snap = stream.get_tick_snap(PAIR)
    assert (snap.pair, snap.exchange) == (PAIR, "DERIBIT")
    assert abs(snap.datetime.timestamp() - time.time()) < 60
    assert snap.price is not None
    assert stream.get_reference_data(OPTION)["strike"] == 20000.0
    assert stream.call("public/ticker", instrument_name=PERPETUAL)["instrument_name"] == PERPETUAL
    with pytest.raises(ServerRefusedError, match="13020"):
        stream.get_tick_snap("AAA:BBB")
    with pytest.raises(ServerRefusedError, match="referenceData"):
        stream.get_reference_data("BTC-1JAN99-1-C")


def test_a_whole_chain_without_a_key(sandbox: Sandbox) -> None:
    """Whoever wants to see all options would have to subscribe to each."""
    pytest.importorskip("pandas")
    stream = deribit(sandbox)
    ticks = {tick.name: tick for tick in stream.get_five_minute_matrix("BTC")}
    assert {OPTION, PERPETUAL} <= set(ticks)
    option = ticks[OPTION]
    assert option.timestamp is not None
    values = Market(20220805).ticker(OPTION, option.timestamp)
    assert (option.mark_iv, option.mark_price, option.underlying_price, option.last_price) == tuple(
        values[name] for name in ("mark_iv", "mark_price", "underlying_price", "last_price")
    )
    assert (option.best_bid_price, "delta" in option, "bid_iv" in option) == (values["best_bid_price"], False, False)
    recomputed = next(tick for name, tick in ticks.items() if name.endswith("-C") and name != OPTION).greeks()
    assert 0 <= recomputed.delta <= 1
    chain = stream.option_chain("BTC")
    assert chain.attrs["source"] == "snapped"
    assert len(chain) > 50
    assert chain["mark_iv"].min() > 0


def test_functions_that_it_cannot_serve_say_so() -> None:
    """A user would wait for what cannot come; nothing is asked of a server that does not exist."""
    stream = StreamManager(environment="deribit", url="ws://127.0.0.1:1")
    calls: tuple[Callable[[], object], ...] = (
        lambda: stream.get_tick_history(PAIR, "2022-06-15"),
        lambda: stream.get_tick_snap(PAIR, "2022-06-15"),
        lambda: stream.get_five_minute_matrix("BTC", "2022-08-04T04:05"),
        stream.authenticate,
        stream.list_pairs,
        lambda: stream.call("private/buy"),
    )
    for call in calls:
        with pytest.raises(UnsupportedError, match="FinX"):
            call()


def test_a_server_that_does_not_answer_ends_in_time() -> None:
    """A function would hang."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        stream = StreamManager(environment="deribit", url=f"ws://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(FunctionTimeoutError, match="listDeribitContracts"):
            stream.list_contracts(timeout=0.2)


def test_options_of_the_other_service_are_refused() -> None:
    """An option would be ignored in silence."""
    with pytest.raises(ConfigError, match="'deribit' has no option path"):
        StreamManager(environment="deribit", path="streamer")
    with pytest.raises(ConfigError, match="backfill"):
        StreamManager(environment="deribit", backfill=True)
    with pytest.raises(ConfigError, match="'production' has no option interval"):
        StreamManager("sandbox-key", interval="raw")
    with pytest.raises(ConfigError, match="agg2"):
        StreamManager(environment="deribit", interval="1s")  # type: ignore[arg-type]
    assert StreamManager(environment="deribit-test").state is State.NEW


def test_the_embedded_sandbox_speaks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could try it offline."""
    monkeypatch.setenv("FINX_ENVIRONMENT", "deribit-sandbox")
    stream = StreamManager()
    stream.subscribe_contract(PERPETUAL)
    with stream:
        assert stream.take(2, PERPETUAL, timeout=10)[0].delta is None
        assert PERPETUAL in stream.list_contracts()
