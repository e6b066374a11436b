"""One impossible option among many: it is named, or NaN, and the others are valued; numbers stay numbers."""

from __future__ import annotations

import decimal
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from finx_sync import calculate_greeks
from finx_sync.errors import InvalidInputError
from finx_sync.pricing import OptionType, black76, implied_volatility

Valued = Callable[..., tuple[Any, ...]]

GOOD: dict[str, dict[str, float]] = {
    "greeks": {"s0": 100.0, "k": 95.0, "r": 0.0, "sigma": 0.5, "q": 0.0, "T": 30.0},
    "volatility": {"s0": 100.0, "k": 95.0, "r": 0.0, "q": 0.0, "T": 30.0, "p": 9.0},
    "black76": {"forward": 100.0, "strike": 95.0, "years": 0.1, "iv": 50.0},
    "implied_volatility": {"price": 0.09, "forward": 100.0, "strike": 95.0, "years": 0.1},
}
"""Sound arguments of each function that takes columns."""


def value(function: str, arguments: dict[str, Any], **more: Any) -> tuple[Any, ...]:
    """All results of one of the functions."""
    if function == "implied_volatility":
        return (implied_volatility(**arguments, **{"option_side": "call", **more}),)
    if function == "black76":
        result = black76(**arguments, **{"option_side": "call", **more})
        return tuple(getattr(result, name) for name in ("mark_price", "delta", "gamma", "vega", "theta", "rho"))
    sought = {"sigma": None} if function == "volatility" else {}
    return tuple(calculate_greeks(**sought, **arguments, **more).to_dict().values())


BAD = [
    ("greeks", {"T": [-0.01, 30]}, "T must not be below 0; it is -0.01 at index 0", [0]),
    ("greeks", {"sigma": [0.5, 0.6, math.inf]}, "sigma must be a finite number; it is inf at index 2", [2]),
    ("greeks", {"s0": [100, 0.0, -1.0]}, "s0 must be above 0; it is 0.0 at index 1", [1, 2]),
    ("greeks", {"r": [0.0, math.nan]}, "r must be a finite number; it is nan at index 1", [1]),
    ("greeks", {"option_side": ["call", "C"]}, "option_side must be 'call' or 'put'; it is 'C' at index 1", [1]),
    ("volatility", {"p": [9.0, -1.0]}, "p must not be below 0; it is -1.0 at index 1", [1]),
    ("black76", {"iv": [50.0, -1.0]}, "iv must not be below 0; it is -1.0 at index 1", [1]),
    ("black76", {"strike": [95.0, 0.0]}, "strike must be above 0; it is 0.0 at index 1", [1]),
    ("implied_volatility", {"price": [0.09, -1.0]}, "price must not be below 0; it is -1.0 at index 1", [1]),
    ("implied_volatility", {"years": [-1.0, 0.1]}, "years must not be below 0; it is -1.0 at index 0", [0]),
]


@pytest.mark.parametrize(("function", "bad", "words", "rows"), BAD)
def test_an_impossible_row_is_named_or_nan_and_the_others_are_valued(
    function: str, bad: dict[str, Any], words: str, rows: list[int]
) -> None:
    """One bad quote among thousands would cost the whole chain, and nobody would know which it was."""
    arguments = {**GOOD[function], **bad}
    with pytest.raises(InvalidInputError) as caught:
        value(function, arguments)
    assert words in str(caught.value)
    assert "on_error='nan'" in str(caught.value)
    found = value(function, arguments, on_error="nan")
    count = len(next(iter(bad.values())))
    alone = value(function, GOOD[function])
    for part, expected in zip(found, alone, strict=True):
        assert np.isnan(part).nonzero()[0].tolist() == rows
        assert part[next(row for row in range(count) if row not in rows)] == pytest.approx(expected, rel=1e-12)
    with pytest.warns(RuntimeWarning) as warned:
        again = value(function, arguments, on_error="warn")
    np.testing.assert_array_equal(again, found)
    assert f"{len(rows)} of {count} options cannot be valued" in str(warned[0].message)
    assert words in str(warned[0].message)
    assert [one.filename for one in warned] == [__file__]  # the line that called, not one of the library's


def test_what_overflows_is_no_silent_number() -> None:
    """A rate typed in percent would come back as NaN, or infinity, without a word."""
    rates = [0.0, -800.0]
    with pytest.raises(InvalidInputError, match="numbers at index 1 are too large or too small"):
        calculate_greeks(100, 100, rates, 0.5, 0, 365)
    with pytest.raises(InvalidInputError, match="too large or too small"):
        calculate_greeks(100, 100, -800.0, 0.5, 0, 365)
    found = calculate_greeks(100, 100, rates, 0.5, 0, 365, on_error="nan")
    assert np.isnan(found.price).tolist() == [False, True]


def test_rows_of_american_options() -> None:
    """One American option that cannot be valued would cost the others."""
    rates, yields = [0.03, -0.02, 0.03], [0.01, -0.05, 0.01]
    arguments: tuple[Any, ...] = (100, 100, rates, 0.3, yields, [30, 30, -1.0])
    with pytest.raises(InvalidInputError, match=r"T must not be below 0; it is -1.0 at index 2"):
        calculate_greeks(*arguments, option_side="put", option_type="american")
    with pytest.raises(InvalidInputError, match=r"exercised between two prices only.* it is -0.02 at index 1"):
        calculate_greeks(100, 100, rates, 0.3, yields, 30, option_side="put", option_type="american")
    found = calculate_greeks(*arguments, option_side="put", option_type="american", on_error="nan")
    assert np.isnan(found.price).tolist() == [False, True, True]
    alone = calculate_greeks(100, 100, 0.03, 0.3, 0.01, 30, option_side="put", option_type="american")
    assert found.price[0] == pytest.approx(alone.price, rel=1e-12)


def test_rows_are_named_in_the_array_that_was_passed() -> None:
    """In a grid of strikes by volatilities the index would be that of another option."""
    sigma = np.array([[0.2], [-0.4], [0.6]])
    with pytest.raises(InvalidInputError, match=r"sigma must not be below 0; it is -0.4 at index \(1, 0\)"):
        calculate_greeks(100, [90.0, 110.0], 0, sigma, 0, 30)
    found = calculate_greeks(100, [90.0, 110.0], 0, sigma, 0, 30, on_error="nan")
    assert np.isnan(found.price).tolist() == [[False, False], [True, True], [False, False]]
    with pytest.raises(InvalidInputError, match=r"T must not be below 0; it is -1.0;"):
        calculate_greeks(100, [90.0, 110.0], 0, 0.2, 0, -1)
    assert np.isnan(calculate_greeks(100, [90.0, 110.0], 0, 0.2, 0, -1, on_error="nan").price).all()


def test_missing_quotes_are_no_errors() -> None:
    """Most options of a chain lack a quote; a warning at each chain would soon be ignored."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = calculate_greeks(110, 100, 0, None, 0, 30, [math.nan, 11.0, 0.5], on_error="warn")
        assert np.isnan(found.vol).tolist() == [True, False, True]
        assert np.isnan(implied_volatility([math.nan, 0.1, 2.0], 100, 95, 0.1, "call")).tolist() == [True, False, True]
        assert np.isnan(black76(100, 95, 0.1, [50.0, math.nan], "call").delta).tolist() == [False, True]
    column = pd.array([11.0, None], dtype="Float64")
    assert np.isnan(calculate_greeks(110, 100, 0, None, 0, 30, column).vol).tolist() == [False, True]


@pytest.mark.parametrize("function", GOOD)
def test_a_single_option(function: str) -> None:
    """A loop over options would need a try around each, or get something that is no float."""
    name = "forward" if "forward" in GOOD[function] else "s0"
    bad = {**GOOD[function], name: -1.0}
    with pytest.raises(InvalidInputError, match=f"{name} must be above 0; it is -1.0$"):
        value(function, bad)
    found = value(function, bad, on_error="nan")
    assert all(type(part) is float and math.isnan(part) for part in found)
    with pytest.warns(RuntimeWarning, match=f"cannot be valued and is NaN: {name} must be above 0") as warned:
        value(function, bad, on_error="warn")
    assert [one.filename for one in warned] == [__file__]
    with pytest.raises(InvalidInputError, match="on_error is 'ignore'; it is 'raise', 'nan' or 'warn'"):
        value(function, GOOD[function], on_error="ignore")


@pytest.mark.parametrize("option_type", ["european", "american", "black76"])
def test_a_single_price_without_a_volatility(option_type: OptionType) -> None:
    """Asked for NaN, a user would get an exception, or the reverse."""
    arguments: dict[str, Any] = {"option_side": "call", "option_type": option_type}
    with pytest.raises(InvalidInputError, match=r"no volatility gives the price 0.5"):
        calculate_greeks(110, 100, 0, None, 0, 30, 0.5, **arguments)
    assert math.isnan(calculate_greeks(110, 100, 0, None, 0, 30, 0.5, on_error="nan", **arguments).vol)
    with pytest.warns(RuntimeWarning, match=r"no volatility gives the price 0.5"):
        calculate_greeks(110, 100, 0, None, 0, 30, 0.5, on_error="warn", **arguments)


SCALARS: dict[str, Callable[[float], Any]] = {
    "float64": np.float64,
    "float32": np.float32,
    "int64": lambda number: np.int64(round(number)) if number >= 1 else np.float64(number),
    "array without dimensions": np.asarray,
    "decimal": lambda number: decimal.Decimal(repr(number)),
}


@pytest.mark.parametrize("kind", SCALARS)
@pytest.mark.parametrize(
    ("function", "american"),
    [*((function, False) for function in GOOD), ("greeks", True), ("volatility", True)],
)
def test_scalars_of_every_kind_give_floats(function: str, kind: str, american: bool) -> None:
    """A number taken from a frame or an array would give arrays without dimensions, which JSON and `if` refuse."""
    more = {"option_type": "american"} if american else {}
    given = {name: SCALARS[kind](number) for name, number in GOOD[function].items()}
    found = value(function, given, option_side=np.asarray("call"), **more)
    assert {type(part) for part in found} == {float}
    assert found == pytest.approx(value(function, GOOD[function], **more), rel=1e-6)


usual = st.floats(0.01, 100)
suspect = st.one_of(usual, st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 0.0, 1e308, 1e-300]))
rows_of = st.lists(
    st.tuples(suspect, suspect, suspect, suspect, st.sampled_from(["call", "put", "x"])), min_size=1, max_size=8
)


@pytest.mark.parametrize("function", GOOD)
@given(rows=rows_of)
@example(rows=[(1.0, 1.0, 1.0, 1.0, "call"), (1.0, 5e-324, 0.5, 1.0, "put")])
def test_bad_rows_never_touch_their_neighbours(function: str, rows: list[tuple[Any, ...]]) -> None:
    """A chain's sound options would get other numbers, or an exception, because of what stands beside them."""
    names = [name for name in GOOD[function] if name not in ("r", "q")]
    *numbers, sides = (list(column) for column in zip(*rows, strict=True))
    arguments = {**GOOD[function], **dict(zip(names, numbers, strict=True))}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        together = value(function, arguments, option_side=sides, on_error="nan")
        for index, row in enumerate(rows):
            one = {**GOOD[function], **dict(zip(names, row, strict=False))}
            alone = value(function, one, option_side=row[-1], on_error="nan")
            assert [part[index] for part in together] == pytest.approx(list(alone), rel=1e-6, abs=1e-9, nan_ok=True)
