"""Every function that any source names: each works against the sandbox, or says why it cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from finx_sync import ContractTick, Grid, SpotTick, StreamManager, Tick, calculate_greeks
from finx_sync.errors import ServerRefusedError
from finx_sync.sandbox import Sandbox

NAME, PAIR = "BTC-26AUG22-20000-C", "BTC:USD"


def streamed(stream: StreamManager, subscribe: str, name: str) -> Any:
    """The first message of a stream."""
    getattr(stream, subscribe)(name)
    with stream:
        return stream.take(1, name, timeout=10)[0]


def is_kind(kind: type, *, many: bool = False) -> Callable[[Any], bool]:
    """Whether a result is of a type, or a list of it that is not empty."""
    if many:
        return lambda result: bool(result) and all(isinstance(one, kind) for one in result)
    return lambda result: isinstance(result, kind)


# What the source calls it; how it is called here; what tells that it worked.
TABLE: list[tuple[str, Callable[[StreamManager], Any], Callable[[Any], object]]] = [
    # FinX documentation, pages Functions and Streams, and their later revisions
    ("authenticate", lambda stream: stream.authenticate(), lambda result: result is True),
    ("keepAlive", lambda stream: stream.call("keepAlive"), lambda result: result == {"keepAlive": True}),
    ("listDeribitContracts", lambda stream: stream.list_contracts(), lambda result: NAME in result),
    ("getDeribitContractStream", lambda s: streamed(s, "subscribe_contract", NAME), is_kind(ContractTick)),
    ("getSpotRates", lambda stream: streamed(stream, "subscribe_spot", "BTC:USDC"), is_kind(SpotTick)),
    ("tickSnap", lambda stream: stream.get_tick_snap(PAIR), is_kind(Tick)),
    ("tickSnap at a moment", lambda s: s.get_tick_snap(PAIR, "2022-06-15", "21:27"), is_kind(Tick)),
    ("tickHistory", lambda s: list(s.get_tick_history(PAIR, "2022-06-15", "23:30")), is_kind(Tick, many=True)),
    ("referenceData", lambda stream: stream.get_reference_data(NAME), is_kind(dict)),
    ("getFiveMinMatrix", lambda s: s.get_five_minute_matrix("BTC"), is_kind(ContractTick, many=True)),
    (
        "getTickHistory",
        lambda stream: stream.call("getTickHistory", baseInstrument="BTC", startDate="2022-08-04T04:05"),
        lambda result: len(result) == 1000,
    ),
    ("message", lambda stream: stream.call("tickSnap", pair=PAIR)["pair"], lambda result: result == PAIR),
    (
        "calculateGreeks (announced)",
        lambda stream: calculate_greeks(30_100, 30_000, 0, None, 0, 5, 900.0),
        lambda result: result.vol > 0,
    ),
    # REST (announced; paths of the SDK)
    ("observations/pairs", lambda stream: stream.list_pairs(), lambda result: PAIR in result),
    ("observations/tick/snap", lambda stream: stream.get_pair_quote(PAIR), is_kind(Tick)),
    (
        "observations/tick/snap in a series",
        lambda stream: stream.get_pair_quote_series(PAIR, 1659586000, 1659586100, periods=3),
        lambda result: len(result) == 3,
    ),
    (
        "observations/options/time_slice",
        lambda stream: stream.get_options_timeslice("BTC", 1659586000),
        is_kind(ContractTick, many=True),
    ),
    (
        "observations/options/time_slice in a series",
        lambda stream: stream.get_options_timeslice_series("BTC", 1659586000, 1659586100, periods=2),
        lambda result: len(result) == 2,
    ),
    ("reference/secdb", lambda stream: stream.get_reference_data(NAME, via="rest"), is_kind(dict)),
    ("deribit/list-deribit-contracts", lambda s: s.list_contracts(as_of="2022-06-15"), is_kind(str, many=True)),
]
ANNOUNCED: list[tuple[str, Callable[[StreamManager], Any], type[Exception], str]] = [
    ("ratings data by name", lambda s: s.call("ratingsData", securityId=NAME), ServerRefusedError, "ratingsData"),
]
GRID = [
    "coverage_check", "list_fixings", "get_fixings", "get_curve", "interpolate_curve", "get_exchange_rate_history",
    "forecast_exchange_rates", "upload_private_data", "calculate_greeks", "get_security_reference_data",
    "get_security_cpr", "get_security_cash_flows", "calculate_security_analytics", "calculate_security_key_rates",
    "forecast_cf_and_prices", "register_temporary_bond", "calibrate_vol_surface",
]  # fmt: skip
"""The methods of the calculation grid (finx-io SDK 2.0; the last one, its documentation)."""
ARGUMENTS: dict[str, dict[str, Any]] = {
    "coverage_check": {"security_id": NAME},
    "get_security_reference_data": {"security_id": NAME},
    "interpolate_curve": {"t_obs": [1], "r_obs": [1], "t_new": [1]},
    "calculate_greeks": {"s0": 101, "k": 100, "r": 0.01, "sigma": 0.1, "q": 0, "T": 90, "price": 5},
}
"""For those that the sandbox has a result for."""


@pytest.mark.parametrize(("name", "call", "worked"), TABLE, ids=[row[0] for row in TABLE])
def test_it_works(sandbox: Sandbox, name: str, call: Any, worked: Any) -> None:
    """A function that a source names could not be used."""
    result = call(StreamManager("sandbox-key", url=sandbox.url))
    assert worked(result), (name, result)


@pytest.mark.parametrize(("name", "call", "kind", "words"), ANNOUNCED, ids=[row[0] for row in ANNOUNCED])
def test_it_says_why_not(sandbox: Sandbox, name: str, call: Any, kind: Any, words: str) -> None:
    """A function that was only announced would fail without a reason."""
    with pytest.raises(kind, match=words):
        call(StreamManager("sandbox-key", url=sandbox.url))


@pytest.mark.parametrize("method", GRID)
def test_the_grids_method_works_or_says_why_not(sandbox: Sandbox, method: str) -> None:
    """A method of the grid could not be reached."""
    grid = Grid("sandbox-key", url=sandbox.url)
    described = {function.name: function for function in grid.list_functions()}[method]
    if method in ARGUMENTS:
        assert grid.call(method, **ARGUMENTS[method])
        return
    with pytest.raises(ServerRefusedError, match=f"{method}: no source shows its result"):
        grid.call(method, **dict.fromkeys(described.required, "x"))
