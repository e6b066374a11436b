"""`calculate_greeks`: against QuantLib, against the documentation, against itself, and with nonsense."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finx_sync import Greeks, calculate_greeks
from finx_sync.errors import InvalidInputError
from finx_sync.pricing import black76, parse_instrument, years_to_expiry

ql = pytest.importorskip("QuantLib")

NAMES = ("price", "delta", "gamma", "vega", "theta", "rho")
MANY = 10_000

# FinX documentation, page Streams, the contract message of BTC-26AUG22-20000-C.
FORWARD, TIMESTAMP, MARK_IV = 23227.53, 1659760300724, 72.12
PRINTED = {"vega": 13.62974, "theta": -24.39797, "rho": 8.69414, "gamma": 0.00006, "delta": 0.83341}


def market(count: int, seed: int) -> dict[str, Any]:
    """Random options, from far in to far out of the money, from hours to three years."""
    rng = np.random.default_rng(seed)
    return {
        "s0": 1000 * np.exp(rng.uniform(-0.7, 0.7, count)),
        "k": 1000 * np.exp(rng.normal(0, 0.2, count)),
        "r": rng.uniform(-0.03, 0.12, count),
        "sigma": rng.uniform(0.05, 2, count),
        "q": rng.uniform(-0.03, 0.1, count),
        "T": rng.uniform(0.2, 1100, count),
        "option_side": np.where(rng.random(count) < 0.5, "call", "put"),
    }


def quantlib_european(options: dict[str, Any], kind: str) -> np.ndarray:
    """QuantLib's Black formula; rows as `NAMES`, scaled as ours."""
    rows = []
    for s0, k, r, sigma, q, days, side in zip(*options.values(), strict=True):
        years = days / 365
        forward = s0 if kind == "black76" else s0 * math.exp((r - q) * years)
        payoff = ql.PlainVanillaPayoff(ql.Option.Call if side == "call" else ql.Option.Put, k)
        black = ql.BlackCalculator(payoff, forward, sigma * math.sqrt(years), math.exp(-r * years))
        rho = -years * black.value() if kind == "black76" else black.rho(years)
        delta = black.deltaForward() if kind == "black76" else black.delta(s0)
        gamma = black.gammaForward() if kind == "black76" else black.gamma(s0)
        theta = black.theta(s0, years)
        if kind == "black76":  # QuantLib's is for an asset whose price grows to the forward
            theta = r * black.value() - (sigma * s0) ** 2 * gamma / 2
        rows.append((black.value(), delta, gamma, black.vega(years) / 100, theta / 365, rho / 100))
    return np.array(rows).T


@pytest.mark.parametrize("kind", ["european", "black76"])
def test_ten_thousand_options_agree_with_quantlib(kind: Any) -> None:
    """A price or a greek would be wrong somewhere in the range that markets have."""
    options = market(MANY, seed=7)
    if kind == "black76":
        options["q"] = np.zeros(MANY)
    ours = calculate_greeks(**options, option_type=kind)
    for name, expected in zip(NAMES, quantlib_european(options, kind), strict=True):
        # Below 1e-12 of the largest value QuantLib's normal distribution has lost its own digits.
        slack = 1e-12 * np.abs(expected).max()
        np.testing.assert_allclose(getattr(ours, name), expected, rtol=1e-8, atol=slack, err_msg=name)


def test_numbers_and_arrays_agree() -> None:
    """The same option would have two values, depending on how it was passed."""
    options = market(500, seed=8)
    together = calculate_greeks(**options)
    for index, row in enumerate(zip(*options.values(), strict=True)):
        numbers, side = [float(value) for value in row[:-1]], row[-1]
        alone = calculate_greeks(*numbers, option_side=str(side))
        assert isinstance(alone.price, float)
        for name in NAMES:
            close = pytest.approx(getattr(together, name)[index], rel=1e-9, abs=1e-11)
            assert getattr(alone, name) == close, (index, name)


@pytest.mark.parametrize("kind", ["european", "black76"])
def test_implied_volatility_round_trips(kind: Any) -> None:
    """The volatility behind a price would not be the one that made it."""
    options = market(MANY, seed=9)
    if kind == "black76":
        options["q"] = np.zeros(MANY)
    valued = calculate_greeks(**options, option_type=kind)
    found = calculate_greeks(**{**options, "sigma": None}, p=valued.price, option_type=kind)
    # What one rounding of the price changes: deep in the money the price no longer knows its volatility.
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = np.finfo(float).eps * valued.price / (valued.vega * 100 * options["sigma"])
    known = (lost < 1e-10) & (valued.price > 1e-300)
    assert known.mean() > 0.98
    np.testing.assert_allclose(found.vol[known], options["sigma"][known], rtol=1e-9)
    # Even where the volatility is lost, the price comes back.
    rest = ~np.isnan(found.vol)
    assert rest.mean() > 0.99
    np.testing.assert_allclose(found.price[rest], valued.price[rest], rtol=1e-9, atol=1e-9)


@given(
    st.floats(-3, 3), st.floats(0.01, 2000), st.floats(0.01, 5), st.sampled_from(["call", "put"]), st.floats(-0.1, 0.2)
)
def test_implied_volatility_of_numbers(log_moneyness: float, days: float, sigma: float, side: Any, rate: float) -> None:
    """A single option's search for its volatility would end elsewhere."""
    arguments = (100 * math.exp(log_moneyness), 100.0, rate)
    valued = calculate_greeks(*arguments, sigma, 0.0, days, option_side=side)
    if valued.price < 1e-280 or valued.vega <= 0:  # some numbers on the way to it are too small for a float
        return
    if 2.3e-16 * valued.price / (valued.vega * 100 * sigma) > 1e-10:
        return
    found = calculate_greeks(*arguments, None, 0.0, days, valued.price, side)
    assert found.vol == pytest.approx(sigma, rel=1e-9)


def quantlib_american(options: dict[str, Any]) -> np.ndarray:
    """QuantLib's own high-precision engine of the same method; prices only."""
    today = ql.Date(1, 1, 2022)
    ql.Settings.instance().evaluationDate = today
    count = ql.Actual365Fixed()
    prices = []
    for s0, k, r, sigma, q, days, side in zip(*options.values(), strict=True):
        process = ql.BlackScholesMertonProcess(
            ql.QuoteHandle(ql.SimpleQuote(s0)),
            ql.YieldTermStructureHandle(ql.FlatForward(today, q, count)),
            ql.YieldTermStructureHandle(ql.FlatForward(today, r, count)),
            ql.BlackVolTermStructureHandle(ql.BlackConstantVol(today, ql.NullCalendar(), sigma, count)),
        )
        payoff = ql.PlainVanillaPayoff(ql.Option.Call if side == "call" else ql.Option.Put, k)
        option = ql.VanillaOption(payoff, ql.AmericanExercise(today, today + int(days)))
        option.setPricingEngine(ql.QdFpAmericanEngine(process, ql.QdFpAmericanEngine.highPrecisionScheme()))
        prices.append(option.NPV())
    return np.array(prices)


def american_market(count: int, seed: int) -> dict[str, Any]:
    """Random options whose early exercise can matter; whole days, as QuantLib's calendar has them."""
    rng = np.random.default_rng(seed)
    return {
        "s0": 100 * np.exp(rng.uniform(-0.5, 0.5, count)),
        "k": np.full(count, 100.0),
        "r": rng.uniform(0, 0.12, count),
        "sigma": rng.uniform(0.08, 1.5, count),
        "q": rng.uniform(0, 0.12, count),
        "T": rng.integers(5, 1100, count).astype(float),
        "option_side": np.where(rng.random(count) < 0.5, "call", "put"),
    }


def test_american_prices_agree_with_quantlib() -> None:
    """Early exercise would be worth more or less than it is; the tolerance that the documents state is 1e-6 of k."""
    options = american_market(150, seed=3)
    ours = calculate_greeks(**options, option_type="american")
    np.testing.assert_allclose(ours.price, quantlib_american(options), rtol=0, atol=1e-6 * 100)
    european = calculate_greeks(**options)
    assert (ours.price >= european.price - 1e-9).all()
    assert (ours.price > european.price + 0.01).sum() > 25


def test_american_greeks_are_the_slopes_of_the_price() -> None:
    """A hedge of an American option would be of the wrong size."""
    options = american_market(40, seed=4)
    ours = calculate_greeks(**options, option_type="american")

    def price(name: str, change: float) -> Any:
        return calculate_greeks(**{**options, name: options[name] + change}, option_type="american").price

    up, down = price("s0", 0.02), price("s0", -0.02)
    assert ours.delta == pytest.approx((up - down) / 0.04, abs=2e-4)
    near = np.abs(ours.gamma) > 0  # exercised options have a kink beside them
    assert ours.gamma[near] == pytest.approx(((up - 2 * ours.price + down) / 0.02**2)[near], abs=2e-3)
    slope = (price("sigma", 0.002) - price("sigma", -0.002)) / 0.4
    assert ours.vega == pytest.approx(slope, abs=1e-3)
    assert ours.theta == pytest.approx((price("T", -0.05) - price("T", 0.05)) / 0.1, abs=2e-3)
    assert ours.rho == pytest.approx((price("r", 1e-3) - price("r", -1e-3)) / 0.2, abs=2e-3)


def test_american_implied_volatility_round_trips() -> None:
    """An American quote would be read as another volatility; at the exercise value there is none to read."""
    options = american_market(30, seed=5)
    valued = calculate_greeks(**options, option_type="american")
    found = calculate_greeks(**{**options, "sigma": None}, p=valued.price, option_type="american")
    exercised = valued.vega == 0
    assert np.isnan(found.vol[exercised]).all()
    np.testing.assert_allclose(found.vol[~exercised], options["sigma"][~exercised], rtol=1e-9)


def test_american_options_stay_within_their_bounds() -> None:
    """Far corners would give a price that is free money, or no number at all."""
    rng = np.random.default_rng(11)
    count = 250
    options = {
        "s0": 100 * np.exp(rng.uniform(-4, 4, count)),
        "k": np.full(count, 100.0),
        "r": rng.choice([0, 1e-6, 0.001, 0.02, 0.1, 0.5], count),
        "sigma": np.exp(rng.uniform(-9, 2, count)),
        "q": rng.choice([0, 1e-6, 0.001, 0.02, 0.1, 0.5], count),
        "T": np.exp(rng.uniform(-9, 10, count)),
        "option_side": np.where(rng.random(count) < 0.5, "call", "put"),
    }
    ours = calculate_greeks(**options, option_type="american")
    sign = np.where(options["option_side"] == "call", 1, -1)
    assert all(np.isfinite(part).all() for part in ours.to_dict().values())
    assert (ours.price >= sign * (options["s0"] - options["k"]) - 1e-9).all()
    assert (ours.price >= calculate_greeks(**options).price - 1e-6).all()
    assert (ours.price <= np.where(sign > 0, options["s0"], options["k"]) + 1e-6).all()
    assert ((sign * ours.delta >= -1e-9) & (sign * ours.delta <= 1 + 1e-9)).all()
    assert (ours.gamma >= -1e-9).all()
    assert (ours.theta <= 0).all()
    assert (ours.vega >= -1e-6).all()


def test_american_without_volatility_or_time() -> None:
    """The limits would divide by zero."""
    now = calculate_greeks(90, 100, 0.05, 0.5, 0, 0, option_side="put", option_type="american")
    assert (now.price, now.delta, now.gamma, now.theta) == (10, -1, 0, 0)
    certain = calculate_greeks(90, 100, 0.05, 0, 0, 365, option_side="put", option_type="american")
    assert certain.price == 10
    later = calculate_greeks(100, 90, 0.05, 0, 0, 365, option_side="call", option_type="american")
    assert later.price == pytest.approx(100 - 90 * math.exp(-0.05))
    assert later.delta == pytest.approx(1)
    small = calculate_greeks(100, 90, 0.05, 1e-3, 0, 365, option_side="call", option_type="american")
    assert small.price == pytest.approx(later.price, abs=1e-6)


def test_the_documented_contract() -> None:
    """Our numbers would contradict those in the documentation; see `finx_sync.pricing.wire` for the mark price."""
    expiry = parse_instrument("BTC-26AUG22-20000-C").expiry
    assert expiry is not None
    days = years_to_expiry(TIMESTAMP, expiry) * 365
    ours = calculate_greeks(FORWARD, 20_000, 0, 0.7211925, 0, days, option_type="black76")
    got = {name: round(getattr(ours, name), 5) for name in PRINTED if name != "rho"}
    assert got == {name: value for name, value in PRINTED.items() if name != "rho"}
    # The wire's rho is that of an asset: the rate moves the forward as well.
    spot = calculate_greeks(FORWARD, 20_000, 0, 0.7211925, 0, days)
    assert round(spot.rho, 5) == PRINTED["rho"]
    assert round(ours.price / FORWARD, 4) == 0.1552
    assert round((ours.price + ours.delta * 1.6) / (FORWARD + 1.6), 4) == 0.1553
    # The printed ask, too, has the volatility that is printed beside it.
    ask = calculate_greeks(FORWARD, 20_000, 0, None, 0, days, 0.19 * FORWARD)
    assert round(ask.vol * 100, 2) == 122.66
    wire = black76(FORWARD, 20_000, days / 365, MARK_IV, "call")
    assert wire.mark_price == pytest.approx(ours.price / FORWARD, abs=1e-6)


def test_columns_are_much_quicker_than_a_loop() -> None:
    """A user's risk loop would spend its time in here: 2000 options as columns usually cost a fiftieth of a loop."""
    options = market(2000, seed=10)
    rows = list(zip(*(column.tolist() for column in options.values()), strict=True))
    calculate_greeks(**options)  # imports

    def cpu_of(call: Callable[[], object]) -> float:
        begin = time.process_time()
        call()
        return time.process_time() - begin

    together = min(cpu_of(lambda: calculate_greeks(**options)) for _ in range(5))
    assert together < cpu_of(lambda: [calculate_greeks(*row[:-1], option_side=row[-1]) for row in rows]) / 5


def test_lists_columns_and_numbers_fit_together() -> None:
    """A column of a frame could not be passed as it is."""
    strikes = [90, 100, 110]
    found = calculate_greeks(100, strikes, 0.01, 0.2, 0, 30, option_side="put")
    assert found.price.shape == (3,)
    both = calculate_greeks(100, strikes, 0.01, 0.2, 0, 30, option_side=["call", "put", "call"])
    assert both.price[[0, 2]] == pytest.approx(calculate_greeks(100, [90, 110], 0.01, 0.2, 0, 30).price)
    assert both.price[1] == found.price[1]
    assert (np.sign(both.delta) == [1, -1, 1]).all()
    grid = calculate_greeks(100, np.array(strikes)[:, None], 0.01, np.array([0.2, 0.4]), 0, 30)
    assert grid.price.shape == (3, 2)
    assert grid.price[1, 0] == pytest.approx(calculate_greeks(100, 100, 0.01, 0.2, 0, 30).price, rel=1e-12)


def test_what_has_no_volatility_in_a_column() -> None:
    """One bad quote would spoil a whole chain, or pass as a number."""
    prices = [0.5, 20.0, 200.0, math.nan, 10.0]
    found = calculate_greeks(110, 100, 0, None, 0, 30, prices, "call")
    assert np.isnan(found.vol).tolist() == [True, False, True, True, False]
    assert np.isnan(found.delta).tolist() == [True, False, True, True, False]
    assert found.vol[4] == 0
    with pytest.raises(InvalidInputError, match=r"no volatility gives the price 0\.5"):
        calculate_greeks(110, 100, 0, None, 0, 30, 0.5)
    with pytest.raises(InvalidInputError, match=r"no volatility gives the price 10\.0"):
        calculate_greeks(90, 100, 0.05, None, 0, 30, 10.0, "put", "american")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"s0": 0}, "s0 must be above 0"),
        ({"k": -1.0}, "k must be above 0"),
        ({"T": -1}, "T must not be below 0"),
        ({"sigma": -0.1}, "sigma must not be below 0"),
        ({"r": math.nan}, "r must be a finite number"),
        ({"sigma": math.inf}, "sigma must be a finite number"),
        ({"sigma": None}, "give sigma, or the price"),
        ({"option_side": "C"}, "option_side must be 'call' or 'put'; it is 'C'"),
        ({"option_side": ["call", "callable"]}, "it is 'callable' at index 1"),
        ({"option_type": "bermudan"}, "option_type is 'bermudan'"),
        ({"option_type": "black76", "q": 0.01}, "q must be 0"),
        ({"option_type": "american", "option_side": "put", "r": -0.02, "q": -0.05}, "exercised between two prices"),
        ({"k": [90, 100], "T": [1, 2, 3]}, "do not fit together"),
        ({"k": "hundred"}, "not numbers"),
        ({"s0": np.array([1.0, 0.0])}, "s0 must be above 0; it is 0.0 at index 1"),
        ({"r": 1e6, "T": 1e6, "sigma": None, "p": 1.0}, "too large"),
    ],
)
def test_impossible_arguments_are_refused(changed: dict[str, Any], words: str) -> None:
    """A slip would return a number, or NaN, instead of saying what is wrong."""
    arguments = {"s0": 100.0, "k": 100.0, "r": 0.01, "sigma": 0.5, "q": 0.0, "T": 30.0, **changed}
    with pytest.raises(InvalidInputError, match=words):
        calculate_greeks(**arguments)


def test_numbers_need_no_numpy() -> None:
    """A bot that values one option at a time would have to install NumPy and SciPy."""
    program = (
        "import sys; sys.modules['numpy'] = None; sys.modules['scipy'] = None\n"
        "import finx_sync\n"
        "print(round(finx_sync.calculate_greeks(100, 100, 0, None, 0, 365, 7.965567455405804).vol, 9))\n"
        "try: finx_sync.calculate_greeks([100], 100, 0, 0.2, 0, 365)\n"
        "except finx_sync.FinxSyncError as error: print(error)\n"
        "try: finx_sync.calculate_greeks(100, 100, 0, 0.2, 0, 365, option_type='american')\n"
        "except finx_sync.FinxSyncError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=200, check=True)
    assert done.stdout.splitlines()[0] == "0.2"
    assert done.stdout.count('pip install "finx-sync[greeks]"') == 2


def test_the_result_as_a_dictionary() -> None:
    """The names would not be those that FinX's own service answers with."""
    found = calculate_greeks(100, 100, 0, 0.2, 0, 365)
    assert isinstance(found, Greeks)
    assert list(found.to_dict()) == ["price", "delta", "gamma", "vega", "theta", "rho", "vol"]
    assert found.to_dict()["vol"] == 0.2
