"""Chains of several underlyings and price units, and chains whose greeks are computed here."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finx_sync import ContractTick, StreamManager
from finx_sync.analytics import chain_frame, plot_smile, plot_term_structure, term_structure
from finx_sync.cli.main import main
from finx_sync.errors import InvalidInputError
from finx_sync.pricing import Instrument, black76, parse_instrument
from finx_sync.venues.finx import read_contracts
from tests.scripted import CONTRACT, ScriptedServer, text

mpl.use("Agg")

FORWARDS = {"BTC": 23227.53, "BTC_USDC": 23230.0, "ETH": 1700.0, "SOL_USDC": 40.0}
GREEKS = ("delta", "gamma", "vega", "theta", "rho")
RECOMPUTED = (*GREEKS, "bid_iv", "ask_iv")
NO_GREEKS = dict.fromkeys((*GREEKS, "bid_iv", "ask_iv"), "")
"""What the summaries of a Deribit matrix lack."""
INVERSE, LINEAR = "BTC-26AUG22-20000-C", "BTC_USDC-26AUG22-20000-C"


def fields(name: str, **changes: Any) -> dict[str, Any]:
    """A contract object as it is on the wire."""
    return {**CONTRACT, "redis_key": name, "instrument_name": name, **changes}


def contract(name: str, **changes: Any) -> ContractTick:
    """A contract as a message."""
    return read_contracts([fields(name, **changes)])[0]


def smile(market: str, expiry: str = "26AUG22") -> list[dict[str, Any]]:
    """Some options of one underlying and unit, whose strikes surround the forward; their volatility is 72.12."""
    forward = FORWARDS[market]
    strikes = [round(forward * share) for share in (0.8, 0.9, 1.0, 1.1, 1.2)]
    return [
        fields(f"{market}-{expiry}-{strike}-{side}", underlying_price=str(forward), **NO_GREEKS, mark_iv="72.12")
        for strike in strikes
        for side in "CP"
    ]


def ticks(*markets: str) -> list[ContractTick]:
    """Options of several."""
    return read_contracts([one for market in markets for one in smile(market)])


class Matrices(ScriptedServer):
    """A server of FinX's functions that has a matrix for each base, and notes which were asked for."""

    def __init__(self, script: Any = None, **rows: list[dict[str, Any]]) -> None:
        super().__init__(script)
        self.rows = rows
        self.asked: list[str] = []

    def answer(self, connection: Any, message: dict[str, Any]) -> None:
        """Answer a call of `getFiveMinMatrix`."""
        if message.get("functionName") == "getFiveMinMatrix":
            self.asked.append(message["baseInstrument"])
            connection.send(json.dumps(self.rows.get(message["baseInstrument"], [])))
        else:
            super().answer(connection, message)


class Deribit(ScriptedServer):
    """A server of Deribit's book summaries."""

    def __init__(self, **rows: list[dict[str, Any]]) -> None:
        super().__init__()
        self.rows = rows

    def answer(self, connection: Any, message: dict[str, Any]) -> None:
        """Answer a call."""
        assert message["method"] == "public/get_book_summary_by_currency"
        result = self.rows.get(message["params"]["currency"], [])
        connection.send(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}))


def manager(server: ScriptedServer) -> StreamManager:
    """A client of a scripted server."""
    return StreamManager("sandbox-key", url=server.url, request_form="message")


@pytest.fixture(autouse=True)
def figures() -> Iterator[None]:
    """Close what a test draws."""
    import matplotlib.pyplot as plt

    yield
    plt.close("all")


def test_inverse_and_linear_options_stay_apart() -> None:
    """A price in BTC and one in USDC would stand in one row of the index, and pass for each other."""
    both = chain_frame([contract(INVERSE), contract(LINEAR, mark_price="3607.3")])
    assert both.index.is_unique
    expiry = pd.Timestamp("2022-08-26 08:00", tz="UTC")
    assert both.loc[("BTC", "BTC", expiry, 20_000.0, "call")]["mark_price"] == 0.1553
    assert both.loc[("BTC", "USDC", expiry, 20_000.0, "call")]["mark_price"] == 3607.3
    assert both.xs(("BTC", "USDC"))["instrument_name"].tolist() == [LINEAR]


def test_a_part_of_a_chain_can_be_asked_for() -> None:
    """Whoever wants the options in one unit would get those in another."""
    everything = ticks("BTC", "BTC_USDC", "ETH", "SOL_USDC")

    def markets(base: str | None, unit: str | None) -> set[str]:
        names = chain_frame(everything, base, price_unit=unit)["instrument_name"]
        return {name.partition("-")[0] for name in names}

    assert markets(None, None) == {"BTC", "BTC_USDC", "ETH", "SOL_USDC"}
    assert markets("BTC", None) == {"BTC", "BTC_USDC"}
    assert markets("BTC", "BTC") == {"BTC"}
    assert markets("BTC", "USDC") == {"BTC_USDC"}
    assert markets("USDC", None) == markets(None, "USDC") == {"BTC_USDC", "SOL_USDC"}
    assert markets("SOL", "SOL") == set()


@pytest.mark.parametrize("of", [term_structure, plot_smile, plot_term_structure])
@pytest.mark.parametrize(
    ("mixture", "words"),
    [
        (("BTC", "ETH"), "BTC priced in BTC, ETH priced in ETH"),
        (("BTC", "BTC_USDC"), "BTC priced in BTC, BTC priced in USDC"),
        (("BTC_USDC", "SOL_USDC"), "BTC priced in USDC, SOL priced in USDC"),
    ],
)
def test_what_is_of_one_underlying_refuses_a_mixture(
    of: Callable[..., object], mixture: tuple[str, str], words: str
) -> None:
    """A term structure would take the forward of another underlying, and a smile divide by it."""
    chain = chain_frame(ticks(*mixture), recompute=True)
    with pytest.raises(InvalidInputError, match="of one underlying in one price unit") as caught:
        of(chain)
    assert words in str(caught.value)
    assert "option_chain('BTC', price_unit=" in str(caught.value)
    for base, unit in chain.index.droplevel([2, 3, 4]).unique():
        of(chain.xs((base, unit)))
        of(chain.xs((base, unit), drop_level=False))
    first = next(iter(chain.index))[:2]
    assert f"chain.xs({first!r})" in str(caught.value)


def test_each_of_a_mixture_has_its_own_forward() -> None:
    """At-the-money volatility and forward would be those of a price between two underlyings."""
    chain = chain_frame(ticks("BTC", "ETH"), recompute=True)
    for base in ("BTC", "ETH"):
        table = term_structure(chain.xs((base, base)))
        assert table["forward"].tolist() == [FORWARDS[base]]
        assert table["atm_iv"].tolist() == pytest.approx([72.12])
    assert plot_smile(chain.xs(("ETH", "ETH"))).get_title(loc="left").startswith("ETH 26AUG22")
    linear = plot_smile(chain_frame(ticks("SOL_USDC")))
    assert linear.get_title(loc="left").startswith("SOL in USDC 26AUG22")


def test_snapped_chains_of_a_price_unit() -> None:
    """The linear options on BTC, which stand in the matrix of USDC, could not be had, or only among others."""
    rows = {"BTC": smile("BTC"), "USDC": smile("BTC_USDC") + smile("SOL_USDC")}
    with Matrices(**rows) as server:
        stream = manager(server)
        mixed = stream.option_chain("USDC")
        assert set(mixed.index.droplevel([2, 3, 4])) == {("BTC", "USDC"), ("SOL", "USDC")}
        linear = stream.option_chain("BTC", price_unit="USDC")
        assert set(linear.index.droplevel([2, 3, 4])) == {("BTC", "USDC")}
        assert set(stream.option_chain("BTC").index.droplevel([2, 3, 4])) == {("BTC", "BTC")}
        assert server.asked == ["USDC", "USDC", "BTC"]
        with pytest.raises(InvalidInputError, match="not a price unit"):
            stream.option_chain("BTC", price_unit="U S D")
        assert server.asked == ["USDC", "USDC", "BTC"]


def test_live_chains_hold_what_snapped_ones_do() -> None:
    """A stream that is subscribed to linear options would answer "USDC" from a matrix five minutes old."""

    def send(connection: Any) -> None:
        for name in (INVERSE, LINEAR):
            connection.send(text(redis_key=name, instrument_name=name))

    came = threading.Event()
    with Matrices(send) as server:
        stream = manager(server)
        stream.subscribe_contract(INVERSE, LINEAR)
        stream.on_contract(lambda tick: came.set(), LINEAR)  # the second one that is sent
        with stream:
            assert came.wait(10)
            for base, unit, names in (
                ("BTC", None, [INVERSE, LINEAR]),
                ("BTC", "BTC", [INVERSE]),
                ("BTC", "USDC", [LINEAR]),
                ("USDC", None, [LINEAR]),
            ):
                chain = stream.option_chain(base, price_unit=unit)
                assert chain.attrs["source"] == "live"
                assert chain["instrument_name"].tolist() == names
        assert server.asked == []


def summary(name: str) -> dict[str, Any]:
    """What Deribit's book summary has of an instrument."""
    row: dict[str, Any] = {"instrument_name": name, "creation_timestamp": 1659760300724, "mark_price": 0.1552}
    row |= {"bid_price": 0.125, "ask_price": 0.19, "last": None}
    if name[-2:] in ("-C", "-P"):
        row |= {"mark_iv": 72.12, "underlying_price": 23227.53, "underlying_index": "BTC-26AUG22", "interest_rate": 0.0}
    return row


def test_the_whole_chain_of_deribit_has_greeks_on_request() -> None:
    """Deribit's matrix would leave greeks and quoted volatilities empty though all they follow from is there."""
    names = [INVERSE, "BTC-26AUG22-24000-P", "BTC-PERPETUAL", "BTC-FS-26AUG22_PERP", "BTC-CS-26AUG22-20000_24000"]
    with Deribit(BTC=[summary(name) for name in names]) as server:
        stream = StreamManager(environment="deribit", url=server.url)
        plain = stream.option_chain("BTC")
        assert plain["instrument_name"].tolist() == names[:2]
        assert plain[list(RECOMPUTED)].isna().all(axis=None)
        chain = stream.option_chain("BTC", recompute=True)
    assert (chain.attrs["source"], chain.attrs["greeks"]) == ("snapped", "recomputed")
    row = chain.iloc[0]
    expected = contract(INVERSE, **NO_GREEKS).greeks()
    for name in (*GREEKS, "ask_iv"):
        assert row[name] == pytest.approx(getattr(expected, name), rel=1e-9), name
    assert math.isnan(row["bid_iv"])  # the bid is below the intrinsic value
    assert round(row["ask_iv"], 2) == 122.66  # as the documentation's example prints it
    assert chain[list(GREEKS)].notna().all(axis=None)


def test_what_is_no_option_stays_out() -> None:
    """One spot pair or combination in Deribit's matrix would cost the whole chain."""
    others = ["BTC_USDC", "BTC-FS-26AUG22_PERP", "BTC-CS-26AUG22-20000_24000", "BTC-26AUG22", "BTC-PERPETUAL"]
    assert chain_frame([contract(name) for name in [*others, INVERSE]])["instrument_name"].tolist() == [INVERSE]


def test_two_spellings_of_one_option_are_one_row() -> None:
    """The index would have one option twice."""
    chain = chain_frame([contract("ETH-5AUG22-1600-P", mark_iv="50"), contract("ETH-05AUG22-1600-P", mark_iv="60")])
    assert chain["mark_iv"].tolist() == [60]


def test_recomputed_chains_on_the_command_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell user would see a Deribit chain without a single greek, and prices without their unit."""
    monkeypatch.setenv("FINX_ENVIRONMENT", "deribit")
    with Deribit(USDC=[summary(INVERSE.replace("BTC", "BTC_USDC")), summary(INVERSE)]) as server:
        monkeypatch.setenv("FINX_URL", server.url)
        assert main(["chain", "BTC", "--price-unit", "USDC", "--recompute"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["underlying"], row["price_unit"]) for row in rows] == [("BTC", "USDC")]
    assert round(rows[0]["delta"], 4) == 0.8334


names = st.builds(
    lambda market, day, strike, side: f"{market}-{day}AUG22-{strike}-{side}",
    st.sampled_from(sorted(FORWARDS)),
    st.sampled_from(["5", "05", "26", "6"]),  # two of them had expired
    st.sampled_from(["20000", "1700", "0d5", "0d50", "24000"]),
    st.sampled_from("CP"),
)
numbers = st.one_of(st.sampled_from(["", "0", "-1", "0.19"]), st.floats(1e-4, 1e5).map(repr))
messages = st.builds(
    lambda name, forward, iv, bid, ask: contract(
        name, underlying_price=forward, mark_iv=iv, best_bid_price=bid, best_ask_price=ask
    ),
    names,
    numbers,
    numbers,
    numbers,
    numbers,
)


@given(st.lists(messages, max_size=12))
def test_a_chain_recomputes_each_option_as_its_message_does(found: list[ContractTick]) -> None:
    """The same option would have other greeks in a chain than alone; or one message without them would cost all."""
    chain = chain_frame(found, recompute=True)
    assert chain.index.is_unique
    newest = {meaning(parse_instrument(tick.name)): tick for tick in found}
    assert len(chain) == len(newest)
    for row, (index, values) in zip(chain.index, chain.iterrows(), strict=True):
        assert row == index
        tick = newest[meaning(parse_instrument(values["instrument_name"]))]
        assert values["instrument_name"] == tick.name
        try:
            alone = tick.greeks()
        except InvalidInputError:
            assert values[list(GREEKS)].isna().all()
            continue
        for name in RECOMPUTED:
            expected = getattr(alone, name)
            missing = expected is None or (name.endswith("iv") and expected == 0)
            assert values[name] == pytest.approx(math.nan if missing else expected, rel=1e-7, abs=1e-12, nan_ok=True)


def meaning(one: Instrument) -> tuple[Any, ...]:
    """What tells options apart."""
    return one.base, one.price_unit, one.expiry, one.strike, one.option_side


def test_what_is_quoted_has_a_volatility_without_a_mark() -> None:
    """A quote's volatility needs no mark; it would be lost with it."""
    row = chain_frame([contract(INVERSE, mark_iv="", **NO_GREEKS)], recompute=True).iloc[0]
    assert round(row["ask_iv"], 2) == 122.66
    assert math.isnan(row["delta"])


def test_recomputing_takes_nothing_from_the_feed() -> None:
    """One column would mix two sources; and without a request the feed's would be replaced."""
    fed = contract(INVERSE, delta="0.5", vega="1")
    assert chain_frame([fed]).iloc[0]["delta"] == 0.5
    row = chain_frame([fed], recompute=True).iloc[0]
    years = 20.14444444444 / 365
    assert row["delta"] == pytest.approx(black76(23227.53, 20_000, years, 72.12, "call").delta, rel=1e-6)
    expired = contract(INVERSE, timestamp="1700000000000", delta="0.5")
    assert math.isnan(chain_frame([expired], recompute=True).iloc[0]["delta"])


def test_an_empty_chain_recomputes_to_nothing() -> None:
    """A base without options would raise from within NumPy."""
    assert chain_frame([], recompute=True).empty
    assert chain_frame([contract("BTC-PERPETUAL")], recompute=True).empty


@pytest.mark.parametrize(
    ("name", "linear", "unit"),
    [
        (INVERSE, False, "BTC"),
        (LINEAR, True, "USDC"),
        ("XRP_USDC-30JUN23-0d625-C", True, "USDC"),
        ("BTC_USD-26AUG22-20000-C", True, "USD"),
        ("BTC-26AUG22", False, "USD"),
        ("BTC_USDC-PERPETUAL", True, "USDC"),
    ],
)
def test_the_price_unit_of_a_name(name: str, linear: bool, unit: str) -> None:
    """A price would be taken for one in another currency."""
    one = parse_instrument(name)
    assert (one.is_linear, one.price_unit) == (linear, unit)


def test_linear_options_recompute_in_their_own_unit() -> None:
    """Quotes in USDC would be read as quotes in coins, and their volatility be nonsense."""
    value = black76(40.0, 42.0, 20.14444444444 / 365, 80.0, "call").mark_price * 40.0
    quotes = {"best_bid_price": repr(value), "best_ask_price": repr(value)}
    tick = contract("SOL_USDC-26AUG22-42-C", underlying_price="40", mark_iv="80", **quotes)
    row = chain_frame([tick], recompute=True).iloc[0]
    np.testing.assert_allclose(row[["bid_iv", "ask_iv"]].to_numpy(dtype=float), 80.0, rtol=1e-6)
