"""`calculate_greeks`: an option's price, greeks and implied volatility, in FinX's own parameters.

Names and order are those of FinX's calculation grid (finx-io SDK: ``calculate_greeks(s0, k, r, sigma, q, T, price,
option_side, option_type)``); that T is in days is said there as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar, overload

from finx_sync.errors import InvalidInputError
from finx_sync.pricing.european import Derivatives, Terms, european
from finx_sync.pricing.implied import implied_deviation
from finx_sync.pricing.instruments import OptionSide
from finx_sync.pricing.maths import NUMBERS, Maths, arrays

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.floating[Any]] | NDArray[np.integer[Any]] | Sequence[float]

__all__ = ["DAYS_PER_YEAR", "Greeks", "OptionType", "calculate_greeks"]

OptionType = Literal["european", "american", "black76"]

DAYS_PER_YEAR: Final = 365
PERCENT: Final = 0.01

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
        vol: the volatility, a fraction: what was given, or what the price implies.
    """

    price: _T
    delta: _T
    gamma: _T
    vega: _T
    theta: _T
    rho: _T
    vol: _T

    def to_dict(self) -> dict[str, _T]:
        """The same as a dictionary."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@overload
def calculate_greeks(  # type: ignore[overload-overlap]  # a float is a float before it is anything else
    s0: float,
    k: float,
    r: float,
    sigma: float | None,
    q: float,
    T: float,
    p: float | None = ...,
    option_side: OptionSide = ...,
    option_type: OptionType = ...,
) -> Greeks[float]: ...
@overload
def calculate_greeks(
    s0: float | Numbers,
    k: float | Numbers,
    r: float | Numbers,
    sigma: float | Numbers | None,
    q: float | Numbers,
    T: float | Numbers,
    p: float | Numbers | None = ...,
    option_side: OptionSide | Sequence[str] | NDArray[Any] = ...,
    option_type: OptionType = ...,
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
) -> Greeks[Any]:
    """Value options, one or many: price, greeks, and the implied volatility where `sigma` is None.

    Every argument but the last is a number or an array (a list, a column of a frame); arrays must fit together as NumPy
    broadcasts them. Numbers with European exercise need the standard library only, the rest the extra ``greeks``.

    Args:
        s0: price of the underlying now; of the forward with "black76".
        k: strike.
        r: interest rate per year, continuously compounded; 0.01 is 1 %.
        sigma: volatility per year, 0.72 is 72 %; None takes it from `p`.
        q: the underlying's yield per year (dividends; a currency's rate); 0 with "black76".
        T: days to expiry, of which a year has 365; parts of days count.
        p: the option's price, in the currency of `s0`; used only where `sigma` is None.
        option_side: "call" or "put".
        option_type: "european" (Black-Scholes-Merton), "american", or "black76" (European, on a forward or future).

    Returns:
        Arrays have NaN where `sigma` or `p` is NaN, and where the price fits no volatility, as when it is below what
        exercise would bring.

    Raises:
        InvalidInputError: a number that is not finite, negative, or 0 where it must not be; arrays that do not fit; a
            single price that fits no volatility; an American option with rates so far below zero that it is best
            exercised between two prices only.
        MissingExtraError: NumPy or SciPy is needed and not installed.
    """
    if option_type not in ("european", "american", "black76"):
        raise InvalidInputError(f"option_type is {option_type!r}; it is 'european', 'american' or 'black76'")
    if sigma is None and p is None:
        raise InvalidInputError("give sigma, or the price p that it is to be found from")
    known = p if sigma is None else sigma
    given = {"s0": s0, "k": k, "r": r, "q": q, "T": T, "p" if sigma is None else "sigma": known}
    single = all(isinstance(value, (int, float)) for value in given.values()) and isinstance(option_side, str)
    if single and option_type != "american":
        return _european_number(given, option_side, option_type)
    result = _many(given, option_side, option_type)
    if not single:
        return result
    if math.isnan(result.price):
        raise InvalidInputError(_no_volatility(p))
    return Greeks(*(float(value) for value in result.to_dict().values()))


def _european_number(given: dict[str, float], option_side: str, option_type: str) -> Greeks[float]:
    for name, number in given.items():
        _check(name, math.isfinite(number), number > 0, number >= 0, number)
    _check_yield(option_type, given["q"] == 0)
    sign = _sign(option_side)
    terms = _terms(given, sign, option_type)
    try:
        vol = given["sigma"] if "sigma" in given else _european_volatility(NUMBERS, given["p"], terms)
        value = european(NUMBERS, terms, vol)
    except (OverflowError, ZeroDivisionError):
        raise InvalidInputError("the numbers are too large or too small to be valued") from None
    if math.isnan(vol):
        raise InvalidInputError(_no_volatility(given["p"]))
    return _scaled(value, vol, terms, option_type)


def _many(given: dict[str, Any], option_side: Any, option_type: str) -> Greeks[Any]:
    maths = arrays()
    import numpy as np

    try:
        columns = [np.asarray(value, dtype=float) for value in given.values()]
        *columns, sides = np.broadcast_arrays(*columns, np.asarray(option_side))
    except (ValueError, TypeError) as error:
        raise InvalidInputError(f"the arguments are no numbers, or arrays that do not fit together: {error}") from None
    for name, column in zip(given, columns, strict=True):
        # A missing quote is NaN in a column, and so are its results.
        finite = ~np.isinf(column) if name in ("p", "sigma") else np.isfinite(column)
        _check(name, finite.all(), (column > 0).all(), not (column < 0).any(), column)
    shape, table = sides.shape, dict(zip(given, (column.ravel() for column in columns), strict=True))
    _check_yield(option_type, not table["q"].any())
    if not np.isin(sides, ("call", "put")).all():
        raise InvalidInputError(_not_a_side(next(str(side) for side in sides.flat if side not in ("call", "put"))))
    terms = _terms(table, np.where(sides.ravel() == "call", 1.0, -1.0), option_type)
    if option_type == "american":
        vol, value = _american(terms, table)
    else:
        vol = table["sigma"] if "sigma" in table else _european_volatility(maths, table["p"], terms)
        value = european(maths, terms, vol)
    result = _scaled(value, vol, terms, option_type)
    return Greeks(*(np.where(np.isnan(vol), np.nan, part).reshape(shape) for part in result.to_dict().values()))


def _american(terms: Terms, table: dict[str, Any]) -> tuple[Any, Derivatives]:
    import numpy as np

    from finx_sync.pricing.american import american, american_volatility, has_two_boundaries

    if has_two_boundaries(terms).any():
        raise InvalidInputError(
            "an American option with such negative rates is best exercised between two prices only, which is not "
            "supported; a put needs r >= 0 or q >= r, a call q >= 0 or r >= q"
        )
    if "sigma" in table:
        vol = table["sigma"]
    else:
        # As European it would be worth less at the same volatility, so its European volatility is not too low.
        highest = _european_volatility(arrays(), table["p"], terms)
        vol = american_volatility(table["p"], terms, highest)
    return vol, american(terms, np.nan_to_num(vol, nan=1.0))


def _terms(given: dict[str, Any], sign: Any, option_type: str) -> Terms:
    dividend = given["r"] if option_type == "black76" else given["q"]
    return Terms(given["s0"], given["k"], given["r"], dividend, given["T"] / DAYS_PER_YEAR, sign)


def _european_volatility(maths: Maths, price: Any, terms: Terms) -> Any:
    """Return the volatility behind a price: 0 at the intrinsic value, NaN outside what volatilities can give."""
    log_moneyness, asset, cash = terms.log_moneyness(maths), terms.asset(maths), terms.cash(maths)
    intrinsic = maths.where(terms.sign * log_moneyness > 0, terms.sign * (asset - cash), 0.0)
    # By parity every price becomes that of the out-of-the-money option.
    scale = maths.sqrt(asset * cash)
    x = -abs(log_moneyness)
    target = (price - intrinsic) / scale
    rounding = 1e-15 * maths.where(asset > cash, asset, cash) / scale
    possible = (target > 0) & (target < maths.exp(x / 2)) & (terms.years > 0)
    deviation = implied_deviation(maths, maths.where(possible, target, maths.exp(x / 2) / 2), x)
    otherwise = maths.where(abs(target) <= rounding, 0.0, float("nan"))
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


def _check(name: str, finite: object, positive: object, not_negative: object, value: object) -> None:
    if not finite:
        raise InvalidInputError(f"{name} must be a finite number, not {_shown(value)}")
    if name in ("s0", "k") and not positive:
        raise InvalidInputError(f"{name} must be above 0, not {_shown(value)}")
    if name in ("T", "sigma", "p") and not not_negative:
        raise InvalidInputError(f"{name} must not be below 0; it is {_shown(value)}")


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, (int, float)) else "in the array"


def _check_yield(option_type: str, is_zero: object) -> None:
    if option_type == "black76" and not is_zero:
        raise InvalidInputError("with 'black76' s0 is the forward's price, which has no yield: q must be 0")


def _sign(option_side: str) -> int:
    if option_side not in ("call", "put"):
        raise InvalidInputError(_not_a_side(option_side))
    return 1 if option_side == "call" else -1


def _not_a_side(option_side: object) -> str:
    return f"option_side is {option_side!r}; it is 'call' or 'put'"


def _no_volatility(price: object) -> str:
    return f"no volatility gives the price {price!r}; it must be above the intrinsic value and below the underlying's"
