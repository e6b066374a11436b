"""Black-76 in Deribit's and FinX's conventions, against the documentation's own example and against itself."""

from __future__ import annotations

import contextlib
import json
import math
from datetime import datetime, timezone

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from finx_sync.errors import InvalidInputError
from finx_sync.pricing import (
    Instrument,
    OptionSide,
    black76,
    expiry_code,
    implied_volatility,
    parse_instrument,
    recompute,
    years_to_expiry,
)
from tests.material import material

# FinX docs, streams page, the contract message of BTC-26AUG22-20000-C.
NAME, FORWARD, TIMESTAMP, MARK_IV = "BTC-26AUG22-20000-C", 23227.53, 1659760300724, 72.12
PRINTED = {"vega": 13.62974, "theta": -24.39797, "rho": 8.69414, "gamma": 0.00006, "delta": 0.83341}
DOCUMENTED = parse_instrument(NAME)
assert DOCUMENTED.expiry is not None
YEARS = years_to_expiry(TIMESTAMP, DOCUMENTED.expiry)

sides = st.sampled_from(["call", "put"])
forwards = st.floats(100, 100_000)
moneyness = st.floats(0.4, 2.5)
years = st.floats(0.003, 3)
volatilities = st.floats(15, 250)


def test_documented_greeks_follow_to_the_printed_digit() -> None:
    """Greeks that we compute would disagree with those that FinX streams."""
    unrounded_iv = 72.11925
    assert round(unrounded_iv, 2) == MARK_IV
    value = black76(FORWARD, 20_000, YEARS, unrounded_iv, "call")
    assert {name: round(getattr(value, name), 5) for name in PRINTED} == PRINTED


def test_documented_greeks_are_within_what_the_printed_volatility_tells() -> None:
    """A user who recomputes greeks from a message would find errors that its rounding does not explain."""
    low, high = (black76(FORWARD, 20_000, YEARS, MARK_IV + error, "call") for error in (-0.005, 0.005))
    for name, printed in PRINTED.items():
        bounds = sorted((getattr(low, name), getattr(high, name)))
        assert bounds[0] - 5e-6 <= printed <= bounds[1] + 5e-6, name


def test_documented_prices_and_quoted_volatilities() -> None:
    """Prices and quoted volatilities would be off; the printed mark belongs to a later forward than its greeks."""
    assert black76(FORWARD, 20_000, YEARS, MARK_IV, "call").mark_price == pytest.approx(0.1553, abs=1e-4)
    assert round(implied_volatility(0.19, FORWARD, 20_000, YEARS, "call"), 2) == 122.66
    assert implied_volatility(0.125, FORWARD, 20_000, YEARS, "call") == 0.0


@pytest.mark.parametrize(
    ("name", "timestamp", "forward", "iv", "mark", "greeks"),
    [
        (NAME, TIMESTAMP, FORWARD, MARK_IV, 0.1553, (0.83341, 13.62974, -24.39797, 8.69414)),
        ("BTC-30SEP22-60000-C", 1654161839367, 30220.5, 67.7, 0.0084, (0.05785, 20.05335, -5.65962, 4.91491)),
        ("BTC-23FEB24-45000-C", 1707627659690, 48559.14, 46.17, 0.0815, (0.82809, 22.55662, -42.9504, 12.04475)),
        ("BTC-23FEB24-51000-P", 1707642088641, 48390.5, 49.38, 0.0697, (-0.70641, 30.15361, -62.26424, -12.30382)),
        ("BTC-12MAR25-65000-C", 1741731610450, 83140.6237, 159.47, 0.2182, (1, 0.0002, -0.01591, 0.71727)),
        ("BTC-26JUN26-100000-C", 1752057345721, 116086.34, 45.43, 0.2425, (0.71138, 389.29255, -25.13021, 524.77921)),
        ("BTC-10SEP25-106000-P", 1757433676689, 110714.7602, 49.22, 0.0001, (-0.01874, 2.16672, -15.99927, -0.03815)),
        ("BTC-15SEP26-77000-C", 1789344931096, 76904.4, 31.2, 0.0069, (0.47736, 18.43602, -217.49347, 1.31068)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_tickers_that_others_have_published(
    name: str, timestamp: int, forward: float, iv: float, mark: float, greeks: tuple[float, ...]
) -> None:
    """The conventions would fit one example only: all greeks follow to the digit from one volatility behind mark_iv."""
    printed = dict(zip(("delta", "vega", "theta", "rho"), greeks, strict=True))
    message = {"timestamp": timestamp, "underlying_price": forward, "mark_iv": iv, "mark_price": mark, **printed}
    found = recompute(name, message, refine=True)
    assert round(found.iv, 2) == iv
    for field, value in printed.items():
        assert getattr(found, field) == pytest.approx(value, abs=5.5e-6), field
    # The mark price can be of another moment: of a forward that is off by up to 1.2e-4 of itself.
    age = 1.25e-4 * abs(found.delta - found.mark_price)
    assert abs(found.mark_price - mark) <= 0.5001e-4 + age


def test_captured_tickers() -> None:
    """The conventions would not be Deribit's: one volatility behind each mark_iv gives all the greeks of its ticker."""
    errors = []
    for line in material("captures/deribit-2021-07-22.txt").read_text(encoding="utf-8").splitlines():
        message = json.loads(line[line.index("{") :]) if ": {" in line else {}
        if message.get("params", {}).get("channel", "").startswith("ticker."):
            data = message["params"]["data"]
            found = recompute(data["instrument_name"], {**data, **data["greeks"]}, refine=True)
            errors.append(max(abs(found.differences[name] or 0) for name in ("delta", "vega", "theta", "rho")))
    assert len(errors) == 89
    assert sum(error <= 5.5e-6 for error in errors) >= 83
    assert max(errors) < 3e-5


@pytest.mark.parametrize(
    ("timestamp", "minutes"),
    [
        (1661500800_000 - 60_000, 1),
        (1661500800_000 - 89_999, 1),
        (1661500800_000 - 90_001, 2),
        (1661500800_000, 0),
        (1661500800_000 + 10**9, 0),
    ],
)
def test_expiry_is_counted_from_the_nearest_minute(timestamp: int, minutes: int) -> None:
    """Greeks of short-dated options would drift against the wire within every minute."""
    assert DOCUMENTED.expiry is not None
    assert years_to_expiry(timestamp, DOCUMENTED.expiry) == minutes / 525_600


def test_theta_of_an_option_that_expires_today_is_at_most_its_price() -> None:
    """Theta on the last day would promise a larger loss than the option can make (as Deribit captured in 2021)."""
    expiry = parse_instrument("ETH-23JUL21-2300-C").expiry
    assert expiry is not None
    value = black76(2005.38, 2300, years_to_expiry(1626993723632, expiry), 111.4, "call")
    assert value.theta == pytest.approx(-0.00146, abs=1e-5)
    assert value.theta == pytest.approx(-value.mark_price * 2005.38)


def test_theta_of_an_option_in_the_money_that_expires_today_is_what_is_left_of_its_decay() -> None:
    """Theta on the last day would be that of a whole day (a Deribit ticker of 2025, which others have published)."""
    expiry = parse_instrument("BTC-12MAR25-65000-C").expiry
    assert expiry is not None
    value = black76(83140.6237, 65_000, years_to_expiry(1741731610450, expiry), 159.47, "call")
    assert value.theta == pytest.approx(-0.01591, abs=1.1e-5)
    assert round(value.mark_price, 4) == 0.2182


@given(forwards, moneyness, years, volatilities)
def test_put_call_parity(forward: float, ratio: float, time: float, iv: float) -> None:
    """Calls and puts of one strike would contradict each other."""
    strike = forward * ratio
    call, put = (black76(forward, strike, time, iv, side) for side in ("call", "put"))
    assert call.mark_price - put.mark_price == pytest.approx(1 - ratio, abs=1e-12)
    assert call.delta - put.delta == pytest.approx(1, abs=1e-12)
    assert call.rho - put.rho == pytest.approx(strike * time / 100, rel=1e-9)
    assert (call.gamma, call.vega) == (put.gamma, put.vega)
    in_money, other = (call, put) if ratio < 1 else (put, call)
    assert other.theta == pytest.approx(max(in_money.theta, -other.mark_price * forward), abs=1e-9)


@given(forwards, moneyness, years, volatilities, sides)
def test_bounds(forward: float, ratio: float, time: float, iv: float, side: OptionSide) -> None:
    """Prices would leave the range outside of which money is free."""
    sign = 1 if side == "call" else -1
    value = black76(forward, forward * ratio, time, iv, side)
    assert max(sign * (1 - ratio), 0) - 1e-12 <= value.mark_price <= (1 if side == "call" else ratio)
    assert 0 <= sign * value.delta <= 1
    assert value.gamma >= 0
    assert value.vega >= 0
    assert value.theta <= 0


@given(forwards, moneyness, years, volatilities, sides)
def test_greeks_are_the_slopes_of_the_price(
    forward: float, ratio: float, time: float, iv: float, side: OptionSide
) -> None:
    """A hedge by delta, gamma or vega would be of the wrong size."""
    strike = forward * ratio

    def usd(forward: float, iv: float) -> float:
        return black76(forward, strike, time, iv, side).mark_price * forward

    value = black76(forward, strike, time, iv, side)
    step = forward * 1e-4 * max(iv / 100 * math.sqrt(time), 0.01) * 10
    up, here, down = usd(forward + step, iv), usd(forward, iv), usd(forward - step, iv)
    assert (up - down) / (2 * step) == pytest.approx(value.delta, abs=2e-5)
    assert (up - 2 * here + down) / step**2 * forward == pytest.approx(value.gamma * forward, rel=1e-3, abs=1e-3)
    slope = (usd(forward, iv + 0.005) - usd(forward, iv - 0.005)) / 0.01
    assert slope == pytest.approx(value.vega, rel=1e-3, abs=forward * 1e-10)


@given(forwards, moneyness, years, volatilities, sides)
def test_theta_is_the_loss_of_a_moment(forward: float, ratio: float, time: float, iv: float, side: OptionSide) -> None:
    """The decay shown to a user would not be what the price does."""
    value = black76(forward, forward * ratio, time, iv, side)
    step = time * 1e-4
    later, sooner = (black76(forward, forward * ratio, time + sign * step, iv, side) for sign in (-1, 1))
    slope = forward * (later.mark_price - sooner.mark_price) / (2 * step * 365)
    assume(abs(slope) > 1e-6)
    left = min(time * 365, 1)
    assert value.theta == pytest.approx(max(slope * left, -value.mark_price * forward), rel=1e-3, abs=1e-6)


@given(forwards, moneyness, years, volatilities, sides)
def test_implied_volatility_inverts_the_price(
    forward: float, ratio: float, time: float, iv: float, side: OptionSide
) -> None:
    """The volatility behind a quote would not give the quote back."""
    strike = forward * ratio
    price = black76(forward, strike, time, iv, side).mark_price
    intrinsic = max((1 - ratio) if side == "call" else (ratio - 1), 0)
    assume(price - intrinsic > 1e-7)
    found = implied_volatility(price, forward, strike, time, side)
    assert black76(forward, strike, time, found, side).mark_price == pytest.approx(price, abs=1e-12)


@pytest.mark.parametrize(
    ("forward", "side", "price", "delta"),
    [(110.0, "call", 10 / 110, 1.0), (110.0, "put", 0.0, 0.0), (90.0, "put", 10 / 90, -1.0), (100.0, "call", 0.0, 0.5)],
)
def test_at_expiry_only_the_intrinsic_value_is_left(
    forward: float, side: OptionSide, price: float, delta: float
) -> None:
    """The last message of an option would divide by zero."""
    value = black76(forward, 100, 0, 70, side)
    assert (value.mark_price, value.delta, value.gamma, value.vega, value.theta) == (price, delta, 0, 0, 0)
    assert implied_volatility(price, forward, 100, 0, side) == 0.0


@pytest.mark.parametrize(
    "arguments",
    [
        (0, 100, 1, 50, "call"),
        (100, -1, 1, 50, "call"),
        (100, 100, -1, 50, "call"),
        (100, 100, 1, -50, "put"),
        (math.nan, 100, 1, 50, "put"),
        (100, math.inf, 1, 50, "put"),
        (100, 100, 1, 50, "C"),
    ],
)
def test_impossible_inputs_are_refused(arguments: tuple[float, float, float, float, OptionSide]) -> None:
    """A slip in a user's call would return NaN instead of saying what is wrong."""
    with pytest.raises(InvalidInputError):
        black76(*arguments)


def test_a_price_that_no_volatility_gives_is_refused() -> None:
    """A quote above the forward would send the search for a volatility astray."""
    with pytest.raises(InvalidInputError, match="must stay below"):
        implied_volatility(1.0, 100, 90, 1, "call")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            NAME,
            Instrument("BTC", datetime(2022, 8, 26, 8, tzinfo=timezone.utc), 20_000, "call", "option", "USD", NAME),
        ),
        (
            "ETH-5AUG22-1600-P",
            Instrument(
                "ETH", datetime(2022, 8, 5, 8, tzinfo=timezone.utc), 1600, "put", "option", "USD", "ETH-5AUG22-1600-P"
            ),
        ),
        (
            "XRP_USDC-30JUN23-0d45-C",
            Instrument(
                "XRP",
                datetime(2023, 6, 30, 8, tzinfo=timezone.utc),
                0.45,
                "call",
                "option",
                "USDC",
                "XRP_USDC-30JUN23-0d45-C",
            ),
        ),
        (
            "BTC-26AUG22",
            Instrument(
                "BTC", datetime(2022, 8, 26, 8, tzinfo=timezone.utc), None, None, "future", "USD", "BTC-26AUG22"
            ),
        ),
        ("BTC-PERPETUAL", Instrument("BTC", None, None, None, "perpetual", "USD", "BTC-PERPETUAL")),
        ("BTC_USDC-PERPETUAL", Instrument("BTC", None, None, None, "perpetual", "USDC", "BTC_USDC-PERPETUAL")),
    ],
)
def test_instrument_names(name: str, expected: Instrument) -> None:
    """A name from listDeribitContracts would be read as another instrument."""
    assert parse_instrument(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "",
        "BTC",
        "BTC:USDC",
        "btc-perpetual",
        "BTC-31FEB22",
        "BTC-26AUX22",
        "BTC-26AUG22-20000",
        "BTC-26AUG22-0-C",
        None,
    ],
)
def test_what_is_no_name_is_refused_with_its_text(name: str) -> None:
    """A typo would travel to the server, which never answers it."""
    with pytest.raises(InvalidInputError, match=r"name|date|strike"):
        parse_instrument(name)


@given(st.text())
def test_any_text_is_read_or_refused(name: str) -> None:
    """A strange name would raise something that no one catches."""
    with contextlib.suppress(InvalidInputError):
        assert parse_instrument(name).name == name


@given(st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)))
def test_expiry_codes_read_back(day: datetime) -> None:
    """Names that the sandbox lists would mean another day when they are parsed."""
    expiry = day.replace(hour=8, minute=0, second=0, microsecond=0, tzinfo=timezone.utc)
    assert parse_instrument(f"BTC-{expiry_code(expiry)}").expiry == expiry
