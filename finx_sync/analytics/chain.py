"""Option chains as pandas frames."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from finx_sync.errors import InvalidInputError, MissingExtraError
from finx_sync.messages import ContractTick
from finx_sync.pricing import Instrument, parse_instrument

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CHAIN_COLUMNS", "chain_frame", "read_expiry", "term_structure"]

CHAIN_COLUMNS: Final = (
    "mark_iv", "bid_iv", "ask_iv", "mark_price", "best_bid_price", "best_ask_price", "best_bid_amount",
    "best_ask_amount", "last_price", "underlying_price", "delta", "gamma", "vega", "theta", "rho", "open_interest",
    "volume",
)  # fmt: skip
"""Fields of the contract message; units as there."""
QUOTES: Final = ("bid_iv", "ask_iv", "best_bid_price", "best_ask_price")
"""Of these a 0 on the wire means that there is no quote, or none that has a volatility."""
INDEX: Final = ("expiry", "strike", "option_side")
SECONDS_PER_DAY: Final = 86_400


def chain_frame(
    ticks: Iterable[ContractTick], base: str | None = None, expiry: str | dt.date | None = None
) -> pd.DataFrame:
    """Put contracts into a frame of one row for each option: strikes by expiry.

    Futures and perpetuals are left out; of several ticks of one option the last counts.

    Args:
        ticks: contracts from a stream, a five-minute matrix, a time slice, or a recording.
        base: only options on this, like "BTC".
        expiry: only those that expire then, like "26AUG22", a date, or a datetime; None for all.

    Returns:
        A frame with the index (expiry, strike, option_side), sorted; `CHAIN_COLUMNS`, `instrument_name` and
        `timestamp`. A missing value is NaN, also where the wire has 0 for "no quote".

    Raises:
        InvalidInputError: `expiry` is no date.
        MissingExtraError: pandas is not installed.
    """
    pd = _pandas()
    day = None if expiry is None else read_expiry(expiry)
    chosen: dict[str, tuple[Instrument, ContractTick]] = {}
    for tick in ticks:
        instrument = parse_instrument(tick.instrument_name)
        if _is_wanted(instrument, base, day):
            chosen[tick.instrument_name] = instrument, tick
    instruments, found = [one for one, _ in chosen.values()], [tick for _, tick in chosen.values()]
    columns: dict[str, Any] = {
        "expiry": pd.to_datetime([one.expiry for one in instruments], utc=True),
        "strike": pd.array([one.strike for one in instruments], dtype="float64"),
        "option_side": pd.Categorical([one.option_side for one in instruments], ["call", "put"]),
        "instrument_name": list(chosen),
        **{name: pd.array([getattr(tick, name) for tick in found], dtype="float64") for name in CHAIN_COLUMNS},
        "timestamp": pd.to_datetime([tick.timestamp for tick in found], unit="ms", utc=True),
    }
    frame = pd.DataFrame(columns)
    for name in QUOTES:
        frame[name] = frame[name].where(frame[name] > 0)
    return frame.set_index(list(INDEX)).sort_index()


def _is_wanted(instrument: Instrument, base: str | None, day: dt.date | None) -> bool:
    return (
        instrument.kind == "option"
        and instrument.expiry is not None
        and (base is None or instrument.base == base)
        and (day is None or instrument.expiry.date() == day)
    )


def read_expiry(expiry: str | dt.date) -> dt.date:
    """Read an expiry: as an instrument's name spells it, as ISO 8601, or a date or datetime (its day in UTC)."""
    if isinstance(expiry, dt.datetime):
        return (expiry.astimezone(dt.timezone.utc) if expiry.tzinfo else expiry).date()
    if isinstance(expiry, dt.date):
        return expiry
    try:
        return dt.date.fromisoformat(expiry)
    except (ValueError, TypeError):
        pass
    try:
        parsed = parse_instrument(f"BTC-{expiry}").expiry
    except InvalidInputError:
        parsed = None
    if parsed is None:
        raise InvalidInputError(f"{expiry!r} is no expiry; it looks like '26AUG22' or '2022-08-26'")
    return parsed.date()


def term_structure(chain: pd.DataFrame) -> pd.DataFrame:
    """Volatility by expiry: at the money, and at a delta of a quarter on either side.

    Expiries that have passed are left out. Between strikes the mark volatility is interpolated: by strike for the
    money, by delta for the quarters. Where a chain does not reach, the value is NaN.

    Args:
        chain: as `chain_frame` returns it.

    Returns:
        A frame by expiry with the columns `days` (from the newest tick to expiry), `forward`, `atm_iv`,
        `put_25_iv` and `call_25_iv`.
    """
    import numpy as np

    pd = _pandas()
    rows = {}
    for expiry, part in chain.groupby(level="expiry"):
        marked = part[part["mark_iv"] > 0]
        left = (expiry - part["timestamp"].max()).total_seconds() / SECONDS_PER_DAY
        if marked.empty or not left > 0:
            continue
        forward = float(marked["underlying_price"].median())
        strikes = marked.groupby(level="strike")["mark_iv"].mean()
        quarter = {}
        for side in ("put", "call"):
            # The sides' deltas run from 0 to 1 one way or the other; interpolation wants them ascending.
            half = marked[marked.index.get_level_values("option_side") == side].dropna(subset=["delta"])
            half = half.assign(delta=half["delta"].abs()).sort_values("delta")
            quarter[side] = _between(0.25, half["delta"].to_numpy(), half["mark_iv"].to_numpy())
        at_money = _between(np.log(forward), np.log(strikes.index.to_numpy(dtype=float)), strikes.to_numpy())
        rows[expiry] = (left, forward, at_money, quarter["put"], quarter["call"])
    names = ["days", "forward", "atm_iv", "put_25_iv", "call_25_iv"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=names).rename_axis("expiry")


def _between(at: float, x: Any, y: Any) -> float:
    import numpy as np

    return float(np.interp(at, x, y, left=np.nan, right=np.nan)) if len(x) else float("nan")


def _pandas() -> Any:
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtraError(
            'option chains need pandas, which is not installed: pip install "finx-sync[greeks]"'
        ) from error
    return pd
