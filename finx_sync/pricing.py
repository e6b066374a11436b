"""Black-76 in the conventions of Deribit and FinX, and the names of instruments.

Prices are in the base currency (the USD value divided by the forward), volatilities in percent, greeks as the wire
prints them. How each number is scaled was worked out from the contract example of the FinX docs (streams page,
BTC-26AUG22-20000-C) and from captured Deribit tickers of 2021-07-22:

- The model is Black-76 on `underlying_price`, interest rate 0, a year of 365 days.
- Time to expiry is counted from the *nearest whole minute* of `timestamp`: the errors of the exact time grow from
  second 0 to second 30 of each minute and then change their sign. In the docs' example, 04:31:40.724 counts as
  04:32:00.
- vega is per point of volatility, theta per calendar day, rho per percentage point, all in USD; delta and gamma in
  plain units.
- theta never exceeds the time value: an option that expires within the day can lose no more than it holds.
- `bid_iv` and `ask_iv` follow from the quoted price; a price at or below the intrinsic value prints as 0.
- `mark_price` is published on a schedule of its own and may belong to a slightly older or newer forward than the one
  printed beside it. In the docs' example the forward must have been at least 1.6 USD higher: 0.1553 is printed where
  0.1552 follows.

Only the standard library; no I/O, no clock.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final, Literal

from finx_sync.errors import InvalidInputError

__all__ = [
    "Instrument",
    "OptionSide",
    "OptionValue",
    "black76",
    "expiry_code",
    "implied_volatility",
    "parse_instrument",
    "years_to_expiry",
]

OptionSide = Literal["call", "put"]
InstrumentKind = Literal["option", "future", "perpetual"]

EXPIRY_HOUR_UTC: Final = 8
"""Deribit's instruments expire at 08:00 UTC of the day in their name."""

MINUTES_PER_YEAR: Final = 365 * 24 * 60
DAYS_PER_YEAR: Final = 365
MAX_IMPLIED_VOLATILITY: Final = 1000.0
"""Percent; the search for an implied volatility ends here."""

_MINUTE_MS: Final = 60_000
_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_NAME: Final = re.compile(
    r"(?P<base>[A-Z0-9]+)(?:_(?P<quote>[A-Z0-9]+))?-"
    r"(?:PERPETUAL|(?P<day>[0-9]{1,2})(?P<month>[A-Z]{3})(?P<year>[0-9]{2})"
    r"(?:-(?P<strike>[0-9]+(?:d[0-9]+)?)-(?P<side>[CP]))?)"
)


@dataclass(frozen=True, slots=True)
class Instrument:
    """What an instrument's name says.

    Attributes:
        base: the currency the contract is on, e.g. ``BTC``.
        expiry: 08:00 UTC of the day in the name; None for a perpetual.
        strike: USD; None unless an option.
        option_side: ``call`` or ``put``; None unless an option.
        kind: ``option``, ``future`` or ``perpetual``.
        quote: ``USDC`` in ``BTC_USDC-PERPETUAL``, else ``USD``.
        name: the name that was parsed.
    """

    base: str
    expiry: datetime | None
    strike: float | None
    option_side: OptionSide | None
    kind: InstrumentKind
    quote: str = "USD"
    name: str = ""


@dataclass(frozen=True, slots=True)
class OptionValue:
    """An option's price and greeks, unrounded, in the units of the wire (see the module docstring)."""

    mark_price: float
    delta: float
    gamma: float
    vega: float
    theta: float
    rho: float


def parse_instrument(name: str) -> Instrument:
    """Read a Deribit instrument name (FinX docs, streams page: "format is like BTC-26AUG22-20000-C").

    Args:
        name: e.g. ``BTC-26AUG22-20000-C``, ``BTC-26AUG22``, ``BTC-PERPETUAL``, ``BTC_USDC-PERPETUAL``. A ``d`` in a
            strike is Deribit's decimal point.

    Raises:
        InvalidInputError: the name has another form, or holds a date that does not exist.
    """
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise InvalidInputError(
            f"{name!r} is no instrument name; names look like BTC-26AUG22-20000-C, BTC-26AUG22 or BTC-PERPETUAL"
        )
    base, quote = match["base"], match["quote"] or "USD"
    if match["day"] is None:
        return Instrument(base, None, None, None, "perpetual", quote, name)
    expiry = _expiry(name, match["day"], match["month"], match["year"])
    if match["strike"] is None:
        return Instrument(base, expiry, None, None, "future", quote, name)
    strike = float(match["strike"].replace("d", "."))
    if strike <= 0:
        raise InvalidInputError(f"the strike in {name!r} must be above 0")
    return Instrument(base, expiry, strike, "call" if match["side"] == "C" else "put", "option", quote, name)


def _expiry(name: str, day: str, month: str, year: str) -> datetime:
    try:
        return datetime(2000 + int(year), _MONTHS.index(month) + 1, int(day), EXPIRY_HOUR_UTC, tzinfo=timezone.utc)
    except ValueError:
        raise InvalidInputError(f"{day}{month}{year} in {name!r} is no date; it looks like 26AUG22") from None


def expiry_code(expiry: datetime) -> str:
    """Return the date as an instrument name spells it: ``26AUG22``, ``5AUG22``."""
    return f"{expiry.day}{_MONTHS[expiry.month - 1]}{expiry.year % 100:02d}"


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

    Raises:
        InvalidInputError: a number is negative or not finite, forward or strike is 0, or the side is unknown.
    """
    sign = _checked_sign(forward, strike, years, iv, option_side)
    deviation = iv / 100 * math.sqrt(years)
    if deviation <= 0:
        return _at_expiry(forward, strike, years, sign)
    d1 = math.log(forward / strike) / deviation + deviation / 2
    d2 = d1 - deviation
    density = math.exp(-d1 * d1 / 2) / math.sqrt(2 * math.pi)
    value = _undiscounted(forward, strike, d1, d2, sign)
    decay = forward * density * iv / 100 / (2 * math.sqrt(years)) / DAYS_PER_YEAR
    # The out-of-the-money twin is the time value; computed directly, because the difference would cancel.
    out_of_money = 1 if strike >= forward else -1
    time_value = _undiscounted(forward, strike, d1, d2, out_of_money)
    return OptionValue(
        mark_price=value / forward,
        delta=sign * _normal_cdf(sign * d1),
        gamma=density / (forward * deviation),
        vega=forward * density * math.sqrt(years) / 100,
        theta=-min(decay, time_value),
        rho=sign * strike * years * _normal_cdf(sign * d2) / 100,
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
    if years <= 0 or target <= max(sign * (forward - strike), 0.0):
        return 0.0
    return _solve_deviation(target, forward, strike, sign, math.sqrt(years)) * 100 / math.sqrt(years)


def _solve_deviation(target: float, forward: float, strike: float, sign: int, root_years: float) -> float:
    """Find sigma * sqrt(years) by Newton steps kept inside a shrinking bracket."""
    log_moneyness = math.log(forward / strike)
    low, high = 0.0, MAX_IMPLIED_VOLATILITY / 100 * root_years
    # The point of inflection: from here Newton's steps cannot leave the bracket on a smooth price.
    guess = min(max(math.sqrt(2 * abs(log_moneyness)), 1e-4), high)
    for _ in range(100):
        d1 = log_moneyness / guess + guess / 2
        miss = _undiscounted(forward, strike, d1, d1 - guess, sign) - target
        low, high = (low, guess) if miss > 0 else (guess, high)
        slope = forward * math.exp(-d1 * d1 / 2) / math.sqrt(2 * math.pi)
        step = guess - miss / slope if slope > 0 else low
        if not low < step < high:
            step = (low + high) / 2
        if abs(step - guess) <= 1e-14 * guess:
            return step
        guess = step
    return guess


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


def _at_expiry(forward: float, strike: float, years: float, sign: int) -> OptionValue:
    moneyness = sign * (forward - strike)
    # At the strike itself both outcomes are equally near.
    chance = 0.5 if moneyness == 0 else float(moneyness > 0)
    return OptionValue(
        mark_price=max(moneyness, 0.0) / forward,
        delta=sign * chance,
        gamma=0.0,
        vega=0.0,
        theta=0.0,
        rho=sign * strike * years * chance / 100,
    )


def _undiscounted(forward: float, strike: float, d1: float, d2: float, sign: int) -> float:
    return sign * (forward * _normal_cdf(sign * d1) - strike * _normal_cdf(sign * d2))


def _normal_cdf(x: float) -> float:
    # erfc keeps its relative precision far out in the tail, where 1 + erf cancels.
    return 0.5 * math.erfc(-x / math.sqrt(2))
