"""Chains, recomputed greeks and pictures: from messages to frames and axes."""

from __future__ import annotations

import datetime as dt
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

import finx_sync
from finx_sync import ContractTick, StreamManager
from finx_sync.analytics import CHAIN_COLUMNS, chain_frame, plot_smile, plot_term_structure, term_structure
from finx_sync.errors import InvalidInputError
from finx_sync.sandbox import Sandbox
from finx_sync.venues.finx import read_contracts
from tests.scripted import CONTRACT

mpl.use("Agg")

PRINTED = {name: float(CONTRACT[name]) for name in ("mark_price", "delta", "gamma", "vega", "theta", "rho", "ask_iv")}


@pytest.fixture
def ticks(sandbox: Sandbox) -> list[ContractTick]:
    """All contracts on BTC."""
    return StreamManager("sandbox-key", url=sandbox.url).get_five_minute_matrix("BTC")


@pytest.fixture
def figures() -> Iterator[None]:
    """Close what a test draws."""
    import matplotlib.pyplot as plt

    yield
    plt.close("all")


def contract(**changes: Any) -> ContractTick:
    """The documentation's contract message, changed."""
    return read_contracts([{**CONTRACT, **changes}])[0]


def test_the_documented_contract_recomputed() -> None:
    """A user who checks the feed would find differences that are ours."""
    found = contract().greeks()
    # A hundredth of a point of volatility is what the printed mark_iv leaves open.
    allowed = {"vega": 7e-4, "theta": 3e-3, "rho": 2e-4, "gamma": 5e-6, "delta": 1e-5, "mark_price": 1e-4}
    for name, slack in allowed.items():
        assert getattr(found, name) == pytest.approx(PRINTED[name], abs=slack), name
    assert round(found.ask_iv or 0, 2) == PRINTED["ask_iv"]
    assert found.bid_iv == 0
    assert found.feed["vega"] == PRINTED["vega"]
    assert found.differences["vega"] == found.vega - PRINTED["vega"]
    assert abs(found.differences["mark_price"] or 1) < 1e-4
    table = str(found).splitlines()
    assert table[0].split() == ["BTC-26AUG22-20000-C", "recomputed", "feed", "difference"]
    assert table[1].split() == ["mark_price", "0.155205", "0.1553", "-9.53252e-05"]


def test_the_documented_greeks_follow_from_one_volatility_to_the_last_digit() -> None:
    """Our greeks would not be those of the documentation; only its mark price is of a slightly later forward."""
    found = contract().greeks(refine=True)
    assert round(found.iv, 2) == 72.12
    greeks = ("delta", "gamma", "vega", "theta", "rho")
    assert {name: round(getattr(found, name), 5) for name in greeks} == {name: PRINTED[name] for name in greeks}
    assert round(found.mark_price, 4) == 0.1552
    assert contract().greeks().iv == 72.12
    assert contract(**dict.fromkeys(greeks, "")).greeks(refine=True).iv == pytest.approx(72.12)


def test_every_contract_of_the_sandbox_explains_itself(ticks: list[ContractTick]) -> None:
    """Recomputed and streamed greeks would drift apart for some strikes or expiries."""
    options = [tick for tick in ticks if tick.mark_iv is not None and "26AUG22" not in tick.name]
    assert len(options) > 50
    for tick in options:
        found = tick.greeks()
        assert found.differences["delta"] == pytest.approx(0, abs=2e-5)
        assert found.differences["vega"] == pytest.approx(0, abs=2e-5)
        assert found.differences["mark_price"] == pytest.approx(0, abs=6e-5)


def test_quotes_that_are_missing_or_impossible() -> None:
    """A missing quote would pass for one of 0."""
    assert contract(best_bid_price="").greeks().bid_iv is None
    assert contract(best_bid_price="0").greeks().bid_iv is None
    assert contract(best_ask_price="1.5").greeks().ask_iv is None
    silent = contract(vega="").greeks()
    assert silent.feed["vega"] is None
    assert silent.differences["vega"] is None
    assert " - " in str(silent)


def test_a_contract_quoted_in_usdc_has_its_price_in_usdc() -> None:
    """A linear option's price would be divided by the forward."""
    names = {"redis_key": "BTC_USDC-26AUG22-20000-C", "instrument_name": "BTC_USDC-26AUG22-20000-C"}
    linear = contract(**names, best_ask_price=str(0.19 * 23227.53)).greeks()
    assert linear.mark_price == pytest.approx(contract().greeks().mark_price * 23227.53)
    assert round(linear.ask_iv or 0, 2) == PRINTED["ask_iv"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"redis_key": "BTC-PERPETUAL", "instrument_name": "BTC-PERPETUAL"}, "is a perpetual; only options"),
        ({"mark_iv": ""}, "has no mark_iv"),
        ({"underlying_price": ""}, "has no underlying_price"),
        ({"timestamp": "1700000000000"}, "had expired"),
    ],
)
def test_what_has_no_greeks_says_why(changes: dict[str, str], words: str) -> None:
    """A user would get None, or greeks of something else."""
    with pytest.raises(InvalidInputError, match=words):
        contract(**changes).greeks()
    if "timestamp" in changes:
        assert contract(**changes).greeks(days=20.14444).delta == pytest.approx(PRINTED["delta"], abs=1e-4)


def test_a_chain_is_a_frame_of_strikes_by_expiry(ticks: list[ContractTick]) -> None:
    """A chain would lack options, or have futures among them."""
    chain = chain_frame(ticks)
    assert chain.index.names == ["underlying", "price_unit", "expiry", "strike", "option_side"]
    assert chain.index.is_monotonic_increasing
    assert chain.index.is_unique
    assert chain.attrs["greeks"] == "feed"
    assert set(chain.columns) == {*CHAIN_COLUMNS, "instrument_name", "timestamp"}
    assert len(chain) == sum(tick.mark_iv is not None for tick in ticks)
    tick = next(tick for tick in ticks if tick.name == "BTC-26AUG22-20000-C")
    chain = chain.xs(("BTC", "BTC"))
    row = chain.loc[(pd.Timestamp("2022-08-26 08:00", tz="UTC"), 20_000.0, "call")]
    assert row["mark_iv"] == tick.mark_iv
    assert row["delta"] == tick.delta
    wide = chain.xs("call", level="option_side")["mark_iv"].unstack("expiry")
    assert wide.shape == (wide.index.size, chain.index.get_level_values("expiry").nunique())


def test_a_zero_that_means_no_quote_is_missing() -> None:
    """A smile would fall to 0 wherever nobody quotes."""
    row = chain_frame([contract()]).iloc[0]
    assert math.isnan(row["bid_iv"])
    assert row["best_bid_price"] == 0.125
    assert row["ask_iv"] == 122.66


def test_a_chain_takes_the_newest_tick_and_one_expiry(ticks: list[ContractTick]) -> None:
    """An old tick would win, or other expiries would be in the picture."""
    old, new = contract(mark_iv="50"), contract(mark_iv="60")
    assert chain_frame([old, new])["mark_iv"].tolist() == [60]
    for expiry in ("26AUG22", "2022-08-26", dt.date(2022, 8, 26), dt.datetime(2022, 8, 26, 8, tzinfo=dt.timezone.utc)):
        assert len(chain_frame(ticks, "BTC", expiry)) == 1
    assert len(chain_frame(ticks, "ETH")) == 0
    for wrong in ("26AUX22", "PERPETUAL", "", 5):
        with pytest.raises(InvalidInputError, match="no expiry"):
            chain_frame(ticks, "BTC", wrong)  # type: ignore[arg-type]


def test_chains_from_a_stream_are_live_and_otherwise_snapped(sandbox: Sandbox) -> None:
    """A user would not know whether a chain is of now, or get an empty one before the first tick."""
    stream = StreamManager("sandbox-key", url=sandbox.url)
    whole = stream.option_chain("BTC")
    assert whole.attrs["source"] == "snapped"
    some = list(whole["instrument_name"].iloc[:3])
    stream.subscribe_contract(*some, "BTC-PERPETUAL")
    with stream:
        seen: set[str] = set()
        while not seen >= set(some):
            seen.add(stream.take(1, timeout=10)[0].name)
        live = stream.option_chain("BTC")
        assert live.attrs["source"] == "live"
        assert sorted(live["instrument_name"]) == sorted(some)
        assert stream.option_chain("ETH").attrs["source"] == "snapped"
        assert len(stream.option_chain("BTC", at="latest")) == len(whole)
    alone = finx_sync.option_chain("BTC", "26AUG22", api_key="sandbox-key", url=sandbox.url)
    assert alone["instrument_name"].tolist() == ["BTC-26AUG22-20000-C"]
    past = stream.option_chain("ETH", at="2022-08-04T04:05")
    assert (past["timestamp"] == pd.Timestamp("2022-08-04 04:05", tz="UTC")).all()
    with pytest.raises(InvalidInputError):
        stream.option_chain("")


def cpu_of(call: Callable[[], object]) -> float:
    """The least CPU time of a few calls, in seconds: what the machine does besides does not count."""
    best = math.inf
    for _ in range(5):
        begin = time.process_time()
        call()
        best = min(best, time.process_time() - begin)
    return best


def test_a_large_chain_is_recomputed_together() -> None:
    """Refreshing a screen of 2000 contracts would cost as much as a loop over them, four times what the frame does."""
    names = [f"BTC-26AUG22-{strike}-{side}" for strike in range(10_000, 20_000, 10) for side in "CP"]
    many = [contract(redis_key=name, instrument_name=name) for name in names]
    assert len(chain_frame(many, recompute=True)) == 2000  # imports
    assert cpu_of(lambda: chain_frame(many, recompute=True)) < cpu_of(lambda: [tick.greeks() for tick in many]) * 0.7


def test_the_term_structure(ticks: list[ContractTick]) -> None:
    """At-the-money volatility would be of another strike, or of an expiry that has passed."""
    chain = chain_frame(ticks)
    table = term_structure(chain)
    assert (table["days"] > 0).all()
    assert table["days"].is_monotonic_increasing
    for expiry, row in table.iterrows():
        marks = chain.xs(expiry, level="expiry")["mark_iv"].groupby(level="strike").mean()
        below, above = marks[marks.index <= row["forward"]], marks[marks.index >= row["forward"]]
        low, high = sorted((below.iloc[-1], above.iloc[0]))
        assert low <= row["atm_iv"] <= high
    assert (table["put_25_iv"].dropna() > table["atm_iv"][table["put_25_iv"].notna()]).all()
    assert term_structure(chain.iloc[:0]).empty


@pytest.mark.usefixtures("figures")
def test_smile_of_one_expiry(ticks: list[ContractTick]) -> None:
    """The picture would show something else than the numbers."""
    chain = chain_frame(ticks)
    expiry = chain.index.get_level_values("expiry").unique()[2]
    axes = plot_smile(chain, expiry)
    part = chain.xs(expiry, level="expiry")["mark_iv"].groupby(level="strike").mean()
    mark = next(line for line in axes.get_lines() if line.get_label() == "mark")
    np.testing.assert_array_equal(mark.get_xdata(), part.index)
    np.testing.assert_array_equal(mark.get_ydata(), part)
    assert axes.get_ylim()[0] < part.min() < part.max() < axes.get_ylim()[1]
    assert axes.get_title(loc="left").startswith("BTC ")


@pytest.mark.usefixtures("figures")
def test_a_smile_beside_a_single_point(ticks: list[ContractTick]) -> None:
    """The points of another expiry would be drawn into the smile."""
    chain = chain_frame(ticks)
    expiry = chain.index.get_level_values("expiry").unique()[2]
    alone = [tick for tick in ticks if tick.name == "BTC-26AUG22-20000-C"]
    smile = [tick for tick in ticks if tick.name in set(chain.xs(expiry, level="expiry")["instrument_name"])]
    axes = plot_smile(chain_frame(alone + smile))
    assert {len(line.get_xdata()) for line in axes.get_lines() if line.get_label() == "mark"} == {
        chain.xs(expiry, level="expiry").index.get_level_values("strike").nunique()
    }
    assert plot_smile(chain_frame(alone)).get_title(loc="left") == "BTC 26AUG22"


@pytest.mark.usefixtures("figures")
def test_smiles_and_term_structure_draw_on_given_axes(ticks: list[ContractTick]) -> None:
    """A user's own figure would stay empty."""
    import matplotlib.pyplot as plt

    chain = chain_frame(ticks)
    _, (left, right) = plt.subplots(1, 2)
    assert plot_smile(chain, ax=left) is left
    assert plot_term_structure(chain, ax=right) is right
    expiries = chain.index.get_level_values("expiry").nunique()
    assert len(left.get_lines()) == expiries  # all but the one with a single strike, and the forward
    assert [line.get_label() for line in right.get_lines()] == ["put, delta 0.25", "call, delta 0.25", "at the money"]


def test_nothing_to_draw_is_said() -> None:
    """An empty picture would leave the user guessing."""
    chain = chain_frame([contract(mark_iv="")])
    with pytest.raises(InvalidInputError, match="nothing in the chain has a volatility"):
        plot_smile(chain)
    with pytest.raises(InvalidInputError, match="at 26AUG23"):
        plot_smile(chain_frame([contract()]), "26AUG23")
    with pytest.raises(InvalidInputError, match="nothing in the chain"):
        plot_term_structure(chain)


@pytest.mark.parametrize(
    ("missing", "call", "extra"),
    [("pandas", "chain_frame([])", "greeks"), ("matplotlib", "plot_smile(chain)", "plot")],
)
def test_missing_extras_name_their_remedy(missing: str, call: str, extra: str) -> None:
    """A user without the extra would see a bare ImportError."""
    program = (
        "import sys, pandas\n"
        "from finx_sync.analytics import chain_frame, plot_smile\n"
        "from finx_sync.venues.finx import read_contracts\n"
        f"chain = chain_frame(read_contracts([{CONTRACT!r}]))\n"
        f"sys.modules[{missing!r}] = None\n"
        f"try: {call}\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=200, check=True)
    assert f'pip install "finx-sync[{extra}]"' in done.stdout
