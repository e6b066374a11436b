"""The Black-Scholes-Merton formula and its derivatives, for an asset with the yield `q`.

With `q` equal to the rate it is Black-76, for forwards. Everything is per unit and per year; the callers scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finx_sync.pricing.maths import ROOT_TWO_PI, Maths

__all__ = ["Derivatives", "Terms", "european"]


@dataclass(frozen=True, slots=True)
class Derivatives:
    """A price and its derivatives; numbers, or arrays of one shape.

    Attributes:
        price: in the currency of the strike.
        delta: by the spot price.
        gamma: by the spot price, twice.
        vega: by the volatility.
        theta: by the passage of time, per year; a loss is negative.
        rho: by the rate, the yield held fixed.
    """

    price: Any
    delta: Any
    gamma: Any
    vega: Any
    theta: Any
    rho: Any


@dataclass(frozen=True, slots=True)
class Terms:
    """An option and its market; numbers, or arrays of one shape.

    Attributes:
        spot: above 0; a forward's price where `dividend` is `rate`.
        strike: above 0.
        rate: continuously compounded, a fraction per year.
        dividend: the asset's yield, in the same form.
        years: to expiry, 0 or more.
        sign: 1 for a call, -1 for a put.
    """

    spot: Any
    strike: Any
    rate: Any
    dividend: Any
    years: Any
    sign: Any

    def asset(self, maths: Maths) -> Any:
        """The present value of the asset at expiry."""
        return self.spot * maths.exp(-self.dividend * self.years)

    def cash(self, maths: Maths) -> Any:
        """The present value of the strike."""
        return self.strike * maths.exp(-self.rate * self.years)

    def log_moneyness(self, maths: Maths) -> Any:
        """The logarithm of `asset` over `cash`, computed without rounding either."""
        return maths.log(self.spot / self.strike) + (self.rate - self.dividend) * self.years


def _standardised(maths: Maths, log_moneyness: Any, deviation: Any) -> tuple[Any, Any, Any]:
    """Return d1, d2 and the normal density at d1.

    With a deviation of 0 the outcome is certain: d1 and d2 are infinite, or 0 exactly at the strike; the density is 0.
    """
    certain = maths.where(log_moneyness > 0, float("inf"), maths.where(log_moneyness < 0, float("-inf"), 0.0))
    distance = maths.where(deviation > 0, maths.ratio(log_moneyness, deviation), certain)
    d1 = distance + deviation / 2
    density = maths.where(deviation > 0, maths.exp(-d1 * d1 / 2) / ROOT_TWO_PI, 0.0)
    return d1, distance - deviation / 2, density


def european(maths: Maths, terms: Terms, volatility: Any) -> Derivatives:
    """Value an option that can be exercised only at expiry; `volatility` is a fraction per root year, 0 or more."""
    root = maths.sqrt(terms.years)
    deviation = volatility * root
    asset, cash = terms.asset(maths), terms.cash(maths)
    d1, d2, density = _standardised(maths, terms.log_moneyness(maths), deviation)
    in_asset, in_cash = (terms.sign * maths.cdf(terms.sign * d) for d in (d1, d2))
    decay = asset * density * maths.ratio(volatility, 2 * root)
    return Derivatives(
        price=asset * in_asset - cash * in_cash,
        delta=asset * in_asset / terms.spot,
        gamma=maths.ratio(asset * density, terms.spot * terms.spot * deviation),
        vega=asset * density * root,
        theta=terms.dividend * asset * in_asset - terms.rate * cash * in_cash - decay,
        rho=cash * terms.years * in_cash,
    )
