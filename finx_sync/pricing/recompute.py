"""A contract's numbers, recomputed from its message, next to those that the message carried."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from finx_sync.errors import InvalidInputError
from finx_sync.pricing.instruments import parse_instrument
from finx_sync.pricing.wire import OptionValue, black76, implied_volatility, years_to_expiry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["RECOMPUTED", "ContractGreeks", "recompute", "recompute_columns"]

RECOMPUTED: Final = ("mark_price", "delta", "gamma", "vega", "theta", "rho", "bid_iv", "ask_iv")
"""The fields of a contract message that follow from its others."""
NEEDED: Final = ("underlying_price", "mark_iv", "timestamp")
PRINTED_GREEKS: Final = ("delta", "vega", "theta", "rho")
"""With five decimals; gamma's have one significant digit."""
HALF_DIGIT: Final = 0.005
"""Half a unit in the last of `mark_iv`'s two decimals."""
MINUTE_MS: Final = 60_000


class Fields(Protocol):
    """A message, or a dictionary, by wire names."""

    def get(self, name: str, /) -> Any:
        """A field's value, None where there is none."""


@dataclass(frozen=True, slots=True)
class ContractGreeks:
    """Recomputed numbers of an option, in the wire's units and unrounded, and the feed's own.

    Small differences are the feed's rounding (a hundredth of a point of volatility) and, in the mark price, its age:
    see `finx_sync.pricing.wire`.

    Attributes:
        instrument_name: of the option.
        iv: the volatility that they are computed from, percent: `mark_iv`, or the finer one behind it.
        mark_price: from `underlying_price` and `iv`, in the unit of the feed's.
        delta, gamma, vega, theta, rho: from the same.
        bid_iv, ask_iv: from the quotes, percent; 0 where a quote does not exceed the intrinsic value, None where there
            is no quote.
        feed: the message's value of each of these; None where it had none.
    """

    instrument_name: str
    iv: float
    mark_price: float
    delta: float
    gamma: float
    vega: float
    theta: float
    rho: float
    bid_iv: float | None
    ask_iv: float | None
    feed: Mapping[str, float | None]

    @property
    def differences(self) -> dict[str, float | None]:
        """Our value minus the feed's; None where either is missing."""
        result: dict[str, float | None] = {}
        for name in RECOMPUTED:
            ours, theirs = getattr(self, name), self.feed.get(name)
            result[name] = None if ours is None or theirs is None else ours - theirs
        return result

    def __str__(self) -> str:
        lines = [f"{self.instrument_name:<22}{'recomputed':>14}{'feed':>14}{'difference':>14}"]
        for name, difference in self.differences.items():
            cells = (getattr(self, name), self.feed.get(name), difference)
            lines.append(f"{name:<22}" + "".join(f"{_shown(value):>14}" for value in cells))
        return "\n".join(lines)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def recompute(
    instrument_name: str, message: Fields, days: float | None = None, *, refine: bool = False
) -> ContractGreeks:
    """Recompute an option's numbers.

    Args:
        instrument_name: like ``BTC-26AUG22-20000-C``.
        message: the contract's other fields, by their wire names.
        days: to expiry; None takes them from the name and the message's timestamp.
        refine: use the volatility that rounds to `mark_iv` and fits the printed greeks best: the greeks have more
            digits than the volatility, so each of them determines it, and the others must agree.

    Raises:
        InvalidInputError: it is not an option, it had expired, or a field that is needed is missing or impossible.
    """
    instrument = parse_instrument(instrument_name)
    strike, side, expiry = instrument.strike, instrument.option_side, instrument.expiry
    if strike is None or side is None or expiry is None:
        raise InvalidInputError(f"{instrument_name} is a {instrument.kind}; only options have greeks")
    forward, iv, timestamp = (_needed(instrument_name, message, name) for name in NEEDED)
    if days is None and timestamp > expiry.timestamp() * 1000 + MINUTE_MS:
        raise InvalidInputError(
            f"{instrument_name} had expired when the message was sent; if its clock is wrong, pass days=..."
        )
    years = years_to_expiry(int(timestamp), expiry) if days is None else days / 365

    def valued(volatility: float) -> OptionValue[float]:
        return black76(forward, strike, years, volatility, side)

    if refine:
        iv = _refined(iv, message, valued)
    value = valued(iv)
    # Options that are quoted in USDC have prices in USDC; the others have prices in their base currency.
    unit = forward if instrument.is_linear else 1.0

    def volatility_of(price: float | None) -> float | None:
        if not price:
            return None
        try:
            return implied_volatility(price / unit, forward, strike, years, side)
        except InvalidInputError:
            return None  # the quote is higher than any volatility gives

    return ContractGreeks(
        instrument_name,
        iv,
        mark_price=value.mark_price * unit,
        delta=value.delta,
        gamma=value.gamma,
        vega=value.vega,
        theta=value.theta,
        rho=value.rho,
        bid_iv=volatility_of(message.get("best_bid_price")),
        ask_iv=volatility_of(message.get("best_ask_price")),
        feed={name: message.get(name) for name in RECOMPUTED},
    )


def recompute_columns(columns: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    """Recompute the numbers of many options at once, in the conventions of `recompute`; needs the extra ``greeks``.

    Args:
        columns: arrays of one length: `strike`, `option_side`, `is_linear`, `expiry` (whole seconds since 1970), and
            by their wire names `timestamp`, `underlying_price`, `mark_iv`, `best_bid_price` and `best_ask_price`, as
            floats with NaN where the message has none.

    Returns:
        The columns of `RECOMPUTED` without the mark price. NaN where a needed field is missing or impossible, where the
        option had expired, and where there is no quote; the volatility of a quote does not need `mark_iv`.
    """
    import numpy as np

    forward, strike, side = (columns[name] for name in ("underlying_price", "strike", "option_side"))
    timestamp, expiry = columns["timestamp"], columns["expiry"]
    alive = timestamp <= expiry * 1000 + MINUTE_MS  # false where the timestamp is NaN
    years = np.where(alive, years_to_expiry(np.where(alive, timestamp, 0).astype(np.int64), expiry), np.nan)
    value = black76(forward, strike, years, columns["mark_iv"], side, on_error="nan")
    result = {name: getattr(value, name) for name in ("delta", "gamma", "vega", "theta", "rho")}
    unit = np.where(columns["is_linear"], forward, 1.0)
    for name in ("bid", "ask"):
        quote = columns[f"best_{name}_price"]
        price = np.where((quote > 0) & (unit > 0), quote, np.nan) / unit
        result[f"{name}_iv"] = implied_volatility(price, forward, strike, years, side, on_error="nan")
    return result


def _refined(iv: float, message: Fields, valued: Callable[[float], OptionValue[float]]) -> float:
    """Least squares over the greeks: within the range that rounds to `mark_iv`, each is nearly linear."""
    low, high = valued(max(iv - HALF_DIGIT, 0.0)), valued(iv + HALF_DIGIT)
    above = below = 0.0
    for name in PRINTED_GREEKS:
        printed: float | None = message.get(name)
        if printed is not None:
            slope = getattr(high, name) - getattr(low, name)
            above += slope * (printed - getattr(low, name))
            below += slope * slope
    share = min(max(above / below, 0.0), 1.0) if below else 0.5
    return max(iv - HALF_DIGIT, 0.0) + 2 * HALF_DIGIT * share


def _needed(instrument_name: str, message: Fields, name: str) -> float:
    value: float | None = message.get(name)
    if value is None:
        raise InvalidInputError(f"the message of {instrument_name} has no {name}, which the greeks need")
    return value
