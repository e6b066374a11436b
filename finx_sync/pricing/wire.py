"""Options in the conventions of their messages: those of Deribit, which FinX passes on.

Prices of options quoted in their base currency are the USD value divided by the forward, volatilities are in percent,
greeks as the wire prints them. How each number is scaled was worked out from the contract example of the FinX
documentation (page *Streams*, BTC-26AUG22-20000-C), from 89 captured Deribit tickers of 2021-07-22, and from seven more
that others have published (2022 to 2026). For the example and the seven, one volatility that rounds to the printed one
gives delta, vega, theta and rho to their fifth decimal; for 83 of the captured ones, too, and 6 are off by up to 3e-5.

- The model is Black-76 on `underlying_price`, interest rate 0, a year of 365 days.
- Time to expiry is counted from the *nearest whole minute* of `timestamp`: the errors of the exact time grow from
  second 0 to second 30 of each minute and then change their sign. In the documentation's example, 04:31:40.724 counts
  as 04:32:00.
- vega is per point of volatility, theta per calendar day, rho per percentage point, all in USD; delta and gamma in
  plain units.
- theta is the loss of a day, or of what is left of it, but never more than the price: an out-of-the-money option on its
  last day prints its whole price, an in-the-money one its decay per day times the days left.
- `bid_iv` and `ask_iv` follow from the quoted price; a price at or below the intrinsic value prints as 0.
- `mark_price` is rounded to the nearest digit, and is published on a schedule of its own: it can belong to a slightly
  older or newer forward than the one printed beside it, by up to 1.2e-4 of it in the tickers above. In the
  documentation's example 0.1553 is printed where 0.15520 follows; it needs a forward 1.6 USD (6.7e-5) higher. Neither
  rounding up nor dividing by the index price instead explains it: both contradict the other tickers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from finx_sync.errors import InvalidInputError
from finx_sync.pricing.european import Terms, european
from finx_sync.pricing.implied import implied_deviation
from finx_sync.pricing.instruments import OptionSide
from finx_sync.pricing.maths import NUMBERS

__all__ = ["MAX_IMPLIED_VOLATILITY", "OptionValue", "black76", "implied_volatility", "years_to_expiry"]

MINUTES_PER_YEAR: Final = 365 * 24 * 60
DAYS_PER_YEAR: Final = 365
MAX_IMPLIED_VOLATILITY: Final = 1000.0
"""Percent; the search for an implied volatility ends here."""

_MINUTE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class OptionValue:
    """An option's price and greeks, unrounded, in the units of the wire (see the module docstring)."""

    mark_price: float
    delta: float
    gamma: float
    vega: float
    theta: float
    rho: float


def years_to_expiry(timestamp: int, expiry: datetime) -> float:
    """Return the time to expiry as Deribit counts it, in years of 365 days; 0.0 once it has passed.

    Args:
        timestamp: milliseconds since 1970, the contract message's own.
        expiry: timezone-aware.
    """
    now_minutes = (timestamp + _MINUTE_MS // 2) // _MINUTE_MS
    minutes = round(expiry.timestamp()) // 60 - now_minutes
    return max(minutes, 0) / MINUTES_PER_YEAR


def black76(forward: float, strike: float, years: float, iv: float, option_side: OptionSide) -> OptionValue:
    """Value an option on a forward, interest rate 0.

    Args:
        forward: USD, the wire's `underlying_price`.
        strike: USD.
        years: time to expiry as `years_to_expiry` gives it. At 0 the option is worth its intrinsic value.
        iv: percent, the wire's `mark_iv`. At 0 the option is worth its intrinsic value.
        option_side: ``call`` or ``put``.

    Returns:
        The price in the base currency: divided by the forward.

    Raises:
        InvalidInputError: a number is negative or not finite, forward or strike is 0, or the side is unknown.
    """
    sign = _checked_sign(forward, strike, years, iv, option_side)
    value = european(NUMBERS, Terms(forward, strike, 0.0, 0.0, years, sign), iv / 100)
    days = years * DAYS_PER_YEAR
    return OptionValue(
        mark_price=value.price / forward,
        delta=value.delta,
        gamma=value.gamma,
        vega=value.vega / 100,
        theta=-min(-value.theta / DAYS_PER_YEAR * min(days, 1.0), value.price),
        rho=value.rho / 100,
    )


def implied_volatility(price: float, forward: float, strike: float, years: float, option_side: OptionSide) -> float:
    """Return the volatility, in percent, at which Black-76 gives `price`.

    Args:
        price: in the base currency, as `best_bid_price` and `best_ask_price` are.
        forward: USD.
        strike: USD.
        years: time to expiry as `years_to_expiry` gives it.
        option_side: ``call`` or ``put``.

    Returns:
        0.0 where the price does not exceed the intrinsic value, which is how Deribit prints it; at most
        `MAX_IMPLIED_VOLATILITY`.

    Raises:
        InvalidInputError: as `black76`, or the price is above what any volatility gives.
    """
    sign = _checked_sign(forward, strike, years, 0.0, option_side)
    target = price * forward
    bound = forward if sign > 0 else strike
    if not target < bound:
        raise InvalidInputError(f"no volatility gives the price {price!r}; it must stay below {bound / forward!r}")
    time_value = target - max(sign * (forward - strike), 0.0)
    if years <= 0 or time_value <= 0:
        return 0.0
    deviation: float = implied_deviation(
        NUMBERS, time_value / math.sqrt(forward * strike), -abs(math.log(forward / strike))
    )
    return min(deviation * 100 / math.sqrt(years), MAX_IMPLIED_VOLATILITY)


def _checked_sign(forward: float, strike: float, years: float, iv: float, option_side: str) -> int:
    if not (forward > 0 and strike > 0 and years >= 0 and iv >= 0):
        raise InvalidInputError(
            f"forward {forward!r} and strike {strike!r} must be above 0, years {years!r} and iv {iv!r} not below 0"
        )
    if math.isinf(forward) or math.isinf(strike) or math.isinf(years) or math.isinf(iv):
        raise InvalidInputError("forward, strike, years and iv must be finite")
    if option_side not in ("call", "put"):
        raise InvalidInputError(f"option_side is {option_side!r}; it is 'call' or 'put'")
    return 1 if option_side == "call" else -1
