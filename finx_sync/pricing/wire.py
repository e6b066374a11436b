"""Value options in the conventions of their messages: those of Deribit, which FinX passes on.

Prices of options quoted in their base currency are the USD value divided by the forward, volatilities are in percent,
and greeks are as the wire prints them. The scale of each number was derived from the contract example of the FinX
documentation (page *Streams*, BTC-26AUG22-20000-C), from 89 captured Deribit tickers of 2021-07-22, and from seven more
that others have published (2022 to 2026). For the example and the seven, one volatility that rounds to the printed one
gives delta, vega, theta and rho to the fifth decimal; so it does for 83 of the captured tickers, and 6 are off by up to
3e-5.

- The model is Black-76 on `underlying_price`, interest rate 0, a year of 365 days.
- Time to expiry is counted from the *nearest whole minute* of `timestamp`: the errors of the exact time grow from
  second 0 to second 30 of each minute and then change their sign. In the documentation's example, 04:31:40.724 counts
  as 04:32:00.
- vega is per point of volatility, theta per calendar day, rho per percentage point, all in USD; delta and gamma in
  plain units.
- theta is the loss in a day, or in the rest of the last day, but never more than the price: an out-of-the-money option
  on its last day prints its whole price, an in-the-money one its decay per day times the days left.
- `bid_iv` and `ask_iv` follow from the quoted price; a price at or below the intrinsic value prints as 0.
- `mark_price` is rounded to the nearest digit, and published on a schedule of its own: it can belong to a slightly
  older or newer forward than the one printed next to it, by up to 1.2e-4 of it in the tickers above. In the
  documentation's example 0.1553 is printed where 0.15520 follows; it needs a forward 1.6 USD (6.7e-5) higher. Neither
  rounding up nor dividing by the index price instead explains it: both contradict the other tickers.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, overload

from finx_sync.errors import InvalidInputError
from finx_sync.pricing.european import Terms, european
from finx_sync.pricing.implied import implied_deviation
from finx_sync.pricing.instruments import OptionSide
from finx_sync.pricing.maths import NUMBERS, Maths, arrays
from finx_sync.pricing.rows import TOO_LARGE, OnError, Rows, as_number, as_text, check_number, check_on_error, sign_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    Number = float | np.floating[Any] | np.integer[Any]
    Numbers = NDArray[np.floating[Any]] | NDArray[np.integer[Any]] | Sequence[float]
    Sides = OptionSide | Sequence[str] | NDArray[Any]

__all__ = ["MAX_IMPLIED_VOLATILITY", "OptionValue", "black76", "implied_volatility", "years_to_expiry"]

MINUTES_PER_YEAR: Final = 365 * 24 * 60
DAYS_PER_YEAR: Final = 365
MAX_IMPLIED_VOLATILITY: Final = 1000.0
"""Percent; the search for an implied volatility stops here."""

_MINUTE_MS: Final = 60_000

POSITIVE: Final = ("forward", "strike")
"""Arguments that must be above 0; the others must not be negative."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class OptionValue(Generic[_T]):
    """An option's price and greeks, unrounded, in the units of the wire (see the module docstring).

    Floats, or arrays where an argument was one.
    """

    mark_price: _T
    delta: _T
    gamma: _T
    vega: _T
    theta: _T
    rho: _T


@overload
def years_to_expiry(timestamp: int, expiry: datetime) -> float: ...
@overload
def years_to_expiry(timestamp: NDArray[np.integer[Any]], expiry: NDArray[np.integer[Any]]) -> NDArray[np.float64]: ...
def years_to_expiry(timestamp: Any, expiry: Any) -> Any:
    """Return the time to expiry as Deribit counts it, in years of 365 days; 0.0 once it has passed.

    Args:
        timestamp: milliseconds since 1970, the contract message's own; a number, or an array of integers.
        expiry: timezone-aware; or, for arrays, whole seconds since 1970.
    """
    seconds = round(expiry.timestamp()) if isinstance(expiry, datetime) else expiry
    minutes = seconds // 60 - (timestamp + _MINUTE_MS // 2) // _MINUTE_MS
    # A product instead of max(), which does not work for arrays.
    return minutes * (minutes > 0) / MINUTES_PER_YEAR


@overload
def black76(  # type: ignore[overload-overlap]  # a float is a float before it is anything else
    forward: Number, strike: Number, years: Number, iv: Number, option_side: OptionSide, *, on_error: OnError = ...
) -> OptionValue[float]: ...
@overload
def black76(
    forward: Number | Numbers,
    strike: Number | Numbers,
    years: Number | Numbers,
    iv: Number | Numbers,
    option_side: Sides,
    *,
    on_error: OnError = ...,
) -> OptionValue[NDArray[np.float64]]: ...
def black76(
    forward: Any, strike: Any, years: Any, iv: Any, option_side: Any, *, on_error: OnError = "raise"
) -> OptionValue[Any]:
    """Value options on a forward, interest rate 0.

    Every argument but the last is a number or an array; arrays need the extra ``greeks``.

    Args:
        forward: USD, the wire's `underlying_price`.
        strike: USD.
        years: time to expiry as `years_to_expiry` returns it. At 0 the option is worth its intrinsic value.
        iv: percent, the wire's `mark_iv`. At 0 the option is worth its intrinsic value. In arrays, NaN where it is
            missing; the results are NaN, too.
        option_side: ``call`` or ``put``.
        on_error: what happens where a number is impossible: "raise", "nan" or "warn", as in `calculate_greeks`.

    Returns:
        The price in the base currency: divided by the forward.

    Raises:
        InvalidInputError: a number is negative or not finite, forward or strike is 0, or the side is unknown; with
            "nan" and "warn" only for values that are not numbers, or arrays that do not fit together.
        MissingExtraError: NumPy or SciPy is needed and not installed.
    """
    given = {"forward": forward, "strike": strike, "years": years, "iv": iv}
    return OptionValue(*_valued(given, option_side, on_error, "iv", _value))


@overload
def implied_volatility(  # type: ignore[overload-overlap]
    price: Number, forward: Number, strike: Number, years: Number, option_side: OptionSide, *, on_error: OnError = ...
) -> float: ...
@overload
def implied_volatility(
    price: Number | Numbers,
    forward: Number | Numbers,
    strike: Number | Numbers,
    years: Number | Numbers,
    option_side: Sides,
    *,
    on_error: OnError = ...,
) -> NDArray[np.float64]: ...
def implied_volatility(
    price: Any, forward: Any, strike: Any, years: Any, option_side: Any, *, on_error: OnError = "raise"
) -> Any:
    """Return the volatility, in percent, at which Black-76 gives `price`.

    Every argument but the last is a number or an array; arrays need the extra ``greeks``.

    Args:
        price: in the base currency, as `best_bid_price` and `best_ask_price` are. In arrays, NaN where it is missing.
        forward: USD.
        strike: USD.
        years: time to expiry as `years_to_expiry` returns it.
        option_side: ``call`` or ``put``.
        on_error: what happens where a number is impossible: "raise", "nan" or "warn", as in `calculate_greeks`.

    Returns:
        0.0 where the price does not exceed the intrinsic value, which is how Deribit prints it; at most
        `MAX_IMPLIED_VOLATILITY`. In arrays, NaN where the price is higher than any volatility gives, or missing.

    Raises:
        InvalidInputError: as `black76`, or a single price is higher than any volatility gives.
        MissingExtraError: NumPy or SciPy is needed and not installed.
    """
    given = {"price": price, "forward": forward, "strike": strike, "years": years}
    return _valued(given, option_side, on_error, "price", _volatility)[0]


def _value(maths: Maths, sign: Any, given: dict[str, Any]) -> tuple[Any, ...]:
    forward, strike, years, iv = given.values()
    value = european(maths, Terms(forward, strike, 0.0, 0.0, years, sign), iv / 100)
    days = years * DAYS_PER_YEAR
    loss = -value.theta / DAYS_PER_YEAR * maths.where(days < 1.0, days, 1.0)
    theta = -maths.where(loss < value.price, loss, value.price)
    return value.price / forward, value.delta, value.gamma, value.vega / 100, theta, value.rho / 100


def _volatility(maths: Maths, sign: Any, given: dict[str, Any]) -> tuple[Any, ...]:
    price, forward, strike, years = given.values()
    target, x = price * forward, -abs(maths.log(forward / strike))
    reachable = target < maths.where(sign > 0, forward, strike)
    inside = sign * (forward - strike)
    time_value = target - maths.where(inside > 0, inside, 0.0)
    sought = reachable & (years > 0) & (time_value > 0)
    scaled = maths.where(sought, maths.ratio(time_value, maths.sqrt(forward * strike)), maths.exp(x / 2) / 2)
    percent = maths.ratio(implied_deviation(maths, scaled, x) * 100, maths.sqrt(years))
    percent = maths.where(percent < MAX_IMPLIED_VOLATILITY, percent, MAX_IMPLIED_VOLATILITY)
    return (maths.where(sought, percent, maths.where(reachable, 0.0, float("nan"))),)


Formula = Callable[[Maths, Any, dict[str, Any]], tuple[Any, ...]]
PARTS: Final[dict[Formula, int]] = {_value: 6, _volatility: 1}
"""The number of results of each formula."""


def _valued(
    given: dict[str, Any], option_side: Any, on_error: OnError, optional: str, formula: Formula
) -> tuple[Any, ...]:
    """Apply a formula to numbers or columns.

    Args:
        given: its arguments by name.
        option_side: "call" or "put", or an array of these.
        on_error: as in `black76`.
        optional: the argument that may be missing in a column.
        formula: takes a `Maths`, the sign (1 for calls, -1 for puts), and the arguments by name.
    """
    check_on_error(on_error)
    side, numbers = as_text(option_side), {name: as_number(value) for name, value in given.items()}
    if side is None or None in numbers.values():
        return _columns(given, option_side, on_error, optional, formula)
    try:
        return _numbers(numbers, side, formula)
    except InvalidInputError as error:
        if on_error == "raise":
            raise
        if on_error == "warn":
            warnings.warn(f"the option cannot be valued and is NaN: {error}", RuntimeWarning, stacklevel=3)
        return (math.nan,) * PARTS[formula]


def _numbers(numbers: dict[str, Any], side: str, formula: Formula) -> tuple[Any, ...]:
    for name, number in numbers.items():
        if not 0 < number < math.inf:  # spares the usual number a call
            check_number(name, number, above=name in POSITIVE, not_below=name not in POSITIVE)
    sign = sign_of(side)
    try:
        parts = formula(NUMBERS, sign, numbers)
    except (OverflowError, ZeroDivisionError):
        raise InvalidInputError(f"the numbers {TOO_LARGE}") from None
    if not math.isfinite(sum(parts)):  # the sum is infinite or NaN as soon as one of them is
        raise InvalidInputError(_no_volatility(numbers, side) if "price" in numbers else f"the numbers {TOO_LARGE}")
    return parts


def _columns(
    given: dict[str, Any], option_side: Any, on_error: OnError, optional: str, formula: Formula
) -> tuple[Any, ...]:
    maths = arrays()
    import numpy as np

    rows = Rows(given, option_side, on_error)
    for name in given:
        positive = name in POSITIVE
        rows.require_number(name, may_be_missing=name == optional, above=positive, not_below=not positive)
    chosen = rows.good & ~np.isnan(rows.column(optional))
    sign = np.where(rows.column("option_side")[chosen] == "call", 1.0, -1.0)
    with np.errstate(all="ignore"):  # overflow is noted below
        parts = formula(maths, sign, {name: rows.column(name)[chosen] for name in given})
    if "price" not in given:
        fine = np.ones(rows.shape, bool)
        fine[chosen] = np.all([np.isfinite(part) for part in parts], axis=0)
        rows.require_value(fine)
        parts = tuple(np.where(fine[chosen], part, np.nan) for part in parts)
    message = rows.warning()
    if message is not None and on_error == "warn":
        warnings.warn(message, RuntimeWarning, stacklevel=4)
    return tuple(rows.scatter(chosen, part) for part in parts)


def _no_volatility(numbers: dict[str, Any], side: str) -> str:
    bound = 1.0 if side == "call" else numbers["strike"] / numbers["forward"]
    return f"no volatility gives the price {numbers['price']!r}; it must stay below {bound!r}"
