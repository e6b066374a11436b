"""`calculate_greeks`: an option's price, greeks and implied volatility, in FinX's own parameters.

Names and order are those of FinX's calculation grid (finx-io SDK: ``calculate_greeks(s0, k, r, sigma, q, T, price,
option_side, option_type)``), which also states that T is in days.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar, overload

from finx_sync.errors import InvalidInputError
from finx_sync.pricing.european import Derivatives, Terms, european
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

__all__ = ["DAYS_PER_YEAR", "Greeks", "OptionType", "calculate_greeks"]

OptionType = Literal["european", "american", "black76"]

DAYS_PER_YEAR: Final = 365
PERCENT: Final = 0.01
POSITIVE: Final = ("s0", "k")
NOT_NEGATIVE: Final = ("T", "sigma", "p")
NO_YIELD: Final = "must be 0 with 'black76', where s0 is the forward's price, which has no yield"
TWO_BOUNDARIES: Final = (
    "is so far below 0 that an American option is best exercised between two prices only, which is not supported (a "
    "put needs r >= 0 or q >= r, a call q >= 0 or r >= q)"
)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Greeks(Generic[_T]):
    """What `calculate_greeks` returns: floats, or arrays where an argument was one.

    Attributes:
        price: of the option, in the currency of `s0` and `k`.
        delta: the price's change for a change of 1 of `s0`.
        gamma: delta's change for the same.
        vega: the price's change for one more percentage point of volatility.
        theta: the price's change for one calendar day.
        rho: the price's change for one more percentage point of `r`.
        vol: the volatility, a fraction: the given one, or the one that the price implies.
    """

    price: _T
    delta: _T
    gamma: _T
    vega: _T
    theta: _T
    rho: _T
    vol: _T

    def to_dict(self) -> dict[str, _T]:
        """The fields as a dictionary."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@overload
def calculate_greeks(  # type: ignore[overload-overlap]  # a float is a float before it is anything else
    s0: Number,
    k: Number,
    r: Number,
    sigma: Number | None,
    q: Number,
    T: Number,
    p: Number | None = ...,
    option_side: OptionSide = ...,
    option_type: OptionType = ...,
    *,
    on_error: OnError = ...,
) -> Greeks[float]: ...
@overload
def calculate_greeks(
    s0: Number | Numbers,
    k: Number | Numbers,
    r: Number | Numbers,
    sigma: Number | Numbers | None,
    q: Number | Numbers,
    T: Number | Numbers,
    p: Number | Numbers | None = ...,
    option_side: OptionSide | Sequence[str] | NDArray[Any] = ...,
    option_type: OptionType = ...,
    *,
    on_error: OnError = ...,
) -> Greeks[NDArray[np.float64]]: ...
def calculate_greeks(  # noqa: PLR0917 - FinX's parameters, in its order
    s0: Any,
    k: Any,
    r: Any,
    sigma: Any,
    q: Any,
    T: Any,
    p: Any = None,
    option_side: Any = "call",
    option_type: OptionType = "european",
    *,
    on_error: OnError = "raise",
) -> Greeks[Any]:
    """Value one or many options: price, greeks, and the implied volatility where `sigma` is None.

    Every argument but the last two is a number or an array (a list, a column of a frame); NumPy must be able to
    broadcast the arrays. NumPy's scalars and arrays without dimensions count as numbers. Numbers with European exercise
    need only the standard library; everything else needs the extra ``greeks``.

    Args:
        s0: price of the underlying now; of the forward with "black76".
        k: strike.
        r: interest rate per year, continuously compounded; 0.01 is 1 %.
        sigma: volatility per year, 0.72 is 72 %; None derives it from `p`.
        q: the underlying's yield per year (dividends; a currency's rate); 0 with "black76".
        T: days to expiry, 365 to a year; fractions count.
        p: the option's price, in the currency of `s0`; used only where `sigma` is None.
        option_side: "call" or "put".
        option_type: "european" (Black-Scholes-Merton), "american", or "black76" (European, on a forward or future).
        on_error: what happens to an option with impossible numbers: "raise" raises an InvalidInputError that names the
            argument, the index and the value; "nan" makes all results of that option NaN and values the others; "warn"
            does the same, with one RuntimeWarning that counts such options and names the first.

    Returns:
        Floats for numbers; arrays where any argument is one. Arrays have NaN where `sigma` or `p` is NaN, and where
        no volatility gives the price, as when it is below the value of immediate exercise: such quotes are common, so
        neither "raise" nor "warn" treats them as errors.

    Raises:
        InvalidInputError: an unknown choice; arrays that do not fit together, or hold anything but numbers; and with
            "raise": a number that is not finite, negative, or 0 where it must not be; a single price that no volatility
            gives; an American option with rates so far below zero that it is best exercised between two prices only;
            numbers that overflow.
        MissingExtraError: NumPy or SciPy is needed and not installed.
    """
    check_on_error(on_error)
    if option_type not in ("european", "american", "black76"):
        raise InvalidInputError(f"option_type is {option_type!r}; it is 'european', 'american' or 'black76'")
    if sigma is None and p is None:
        raise InvalidInputError("give sigma, or the price p to derive it from")
    known = p if sigma is None else sigma
    given = {"s0": s0, "k": k, "r": r, "q": q, "T": T, "p" if sigma is None else "sigma": known}
    side, numbers = as_text(option_side), {name: as_number(value) for name, value in given.items()}
    if option_type != "american" and side is not None and None not in numbers.values():
        try:
            return _european_number(numbers, side, option_type)  # type: ignore[arg-type]  # no None is left
        except InvalidInputError as error:
            if on_error == "raise":
                raise
            if on_error == "warn":
                warnings.warn(f"the option cannot be valued and is NaN: {error}", RuntimeWarning, stacklevel=2)
            return Greeks(*[math.nan] * len(fields(Greeks)))
    rows, result = _many(given, option_side, option_type, on_error)
    message = rows.warning()
    if not rows.shape and rows.good and math.isnan(result.price):
        message = _no_volatility(p)
        if on_error == "raise":
            raise InvalidInputError(message)
    if message is not None and on_error == "warn":
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    return result


def _european_number(given: dict[str, float], option_side: str, option_type: str) -> Greeks[float]:
    for name, number in given.items():
        if not 0 < number < math.inf:  # spares the usual number a call
            check_number(name, number, above=name in POSITIVE, not_below=name in NOT_NEGATIVE)
    if option_type == "black76" and given["q"]:
        raise InvalidInputError(f"q {NO_YIELD}; it is {given['q']!r}")
    terms = _terms(given, sign_of(option_side), option_type)
    try:
        vol = given["sigma"] if "sigma" in given else _european_volatility(NUMBERS, given["p"], terms)
        value = european(NUMBERS, terms, vol)
    except (OverflowError, ZeroDivisionError):
        raise InvalidInputError(f"the numbers {TOO_LARGE}") from None
    if math.isnan(vol):
        raise InvalidInputError(_no_volatility(given["p"]))
    result = _scaled(value, vol, terms, option_type)
    # The sum is infinite or NaN as soon as one of them is; this is cheaper than checking each.
    if not math.isfinite(result.price + result.delta + result.gamma + result.vega + result.theta + result.rho):
        raise InvalidInputError(f"the numbers {TOO_LARGE}")
    return result


def _many(given: dict[str, Any], option_side: Any, option_type: str, on_error: OnError) -> tuple[Rows, Greeks[Any]]:
    """Value the rows that can be valued; the others become NaN, or raise."""
    maths = arrays()
    import numpy as np

    rows = Rows(given, option_side, on_error)
    for name in given:
        # In a column, a missing quote is NaN, and so are its results.
        missing = bool(rows.shape) and name in ("p", "sigma")
        rows.require_number(name, may_be_missing=missing, above=name in POSITIVE, not_below=name in NOT_NEGATIVE)
    sign = np.where(rows.column("option_side") == "call", 1.0, -1.0)
    if option_type == "black76":
        rows.require("q", rows.own("q") == 0, NO_YIELD)
    elif option_type == "american":
        rows.require("r", ~_has_two_boundaries(rows, sign), TWO_BOUNDARIES)
    known = "sigma" if "sigma" in given else "p"
    chosen = rows.good & ~np.isnan(rows.column(known))
    table = {name: rows.column(name)[chosen] for name in given}
    terms = _terms(table, sign[chosen], option_type)
    with np.errstate(all="ignore"):  # overflow is noted below
        if option_type == "american":
            vol, value = _american(terms, table)
        else:
            vol = table["sigma"] if "sigma" in table else _european_volatility(maths, table["p"], terms)
            value = european(maths, terms, vol)
        parts = _scaled(value, vol, terms, option_type).to_dict().values()
    finite = np.isnan(vol) | np.all([np.isfinite(part) for part in parts], axis=0)
    fine = np.ones(rows.shape, bool)
    fine[chosen] = finite
    rows.require_value(fine)
    hidden = np.isnan(vol) | ~finite
    return rows, Greeks(*(rows.scatter(chosen, np.where(hidden, np.nan, part)) for part in parts))


def _has_two_boundaries(rows: Rows, sign: Any) -> Any:
    from finx_sync.pricing.american import has_two_boundaries

    return has_two_boundaries(
        _terms({name: rows.column(name) for name in ("s0", "k", "r", "q", "T")}, sign, "american")
    )


def _american(terms: Terms, table: dict[str, Any]) -> tuple[Any, Derivatives]:
    import numpy as np

    from finx_sync.pricing.american import american, american_volatility

    if "sigma" in table:
        vol = table["sigma"]
    else:
        # A European option is worth less at the same volatility, so the European volatility is an upper bound.
        highest = _european_volatility(arrays(), table["p"], terms)
        vol = american_volatility(table["p"], terms, highest)
    return vol, american(terms, np.nan_to_num(vol, nan=1.0))


def _terms(given: dict[str, Any], sign: Any, option_type: str) -> Terms:
    dividend = given["r"] if option_type == "black76" else given["q"]
    return Terms(given["s0"], given["k"], given["r"], dividend, given["T"] / DAYS_PER_YEAR, sign)


def _european_volatility(maths: Maths, price: Any, terms: Terms) -> Any:
    """Return the volatility that gives a price: 0 at the intrinsic value, NaN where no volatility does."""
    log_moneyness, asset, cash = terms.log_moneyness(maths), terms.asset(maths), terms.cash(maths)
    intrinsic = maths.where(terms.sign * log_moneyness > 0, terms.sign * (asset - cash), 0.0)
    # Put-call parity turns every price into that of the out-of-the-money option.
    scale = maths.sqrt(asset * cash)
    x = -abs(log_moneyness)
    target = (price - intrinsic) / scale
    rounding = 1e-15 * maths.where(asset > cash, asset, cash) / scale
    possible = (target > 0) & (target < maths.exp(x / 2)) & (terms.years > 0)
    deviation = implied_deviation(maths, maths.where(possible, target, maths.exp(x / 2) / 2), x)
    # A scale that has underflowed to 0 says nothing: infinite rounding would allow every price.
    otherwise = maths.where((abs(target) <= rounding) & (scale > 0), 0.0, float("nan"))
    return maths.where(possible, maths.ratio(deviation, maths.sqrt(terms.years)), otherwise)


def _scaled(value: Derivatives, vol: Any, terms: Terms, option_type: str) -> Greeks[Any]:
    # On a forward the rate only discounts.
    rho = -terms.years * value.price if option_type == "black76" else value.rho
    return Greeks(
        price=value.price,
        delta=value.delta,
        gamma=value.gamma,
        vega=value.vega * PERCENT,
        theta=value.theta / DAYS_PER_YEAR,
        rho=rho * PERCENT,
        vol=vol,
    )


def _no_volatility(price: object) -> str:
    return f"no volatility gives the price {price!r}; it must be above the intrinsic value and below the underlying's"
