"""Option chains as pandas frames."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from finx_sync.errors import InvalidInputError, MissingExtraError
from finx_sync.messages import ContractTick
from finx_sync.moments import EARLIEST_SECONDS, Moment, read_any
from finx_sync.pricing import Instrument, parse_instrument, recompute_columns

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CHAIN_COLUMNS", "chain_frame", "check_one_market", "markets", "read_expiry", "term_structure"]

CHAIN_COLUMNS: Final = (
    "mark_iv", "bid_iv", "ask_iv", "mark_price", "best_bid_price", "best_ask_price", "best_bid_amount",
    "best_ask_amount", "last_price", "underlying_price", "delta", "gamma", "vega", "theta", "rho", "open_interest",
    "volume",
)  # fmt: skip
"""Fields of the contract message, in the same units."""
QUOTES: Final = ("bid_iv", "ask_iv", "best_bid_price", "best_ask_price")
"""Fields in which a 0 on the wire means that there is no quote, or none that has a volatility."""
INDEX: Final = ("underlying", "price_unit", "expiry", "strike", "option_side")
SECONDS_PER_DAY: Final = 86_400


def chain_frame(
    ticks: Iterable[ContractTick],
    base: str | None = None,
    expiry: Moment | None = None,
    *,
    price_unit: str | None = None,
    recompute: bool = False,
) -> pd.DataFrame:
    """Put contracts into a frame with one row for each option: strikes by expiry.

    Only options are included, not futures, perpetuals, spot pairs or combinations. Of several ticks of one option the
    last counts. Options on different underlyings, and inverse and linear options on one underlying, are separate in the
    index: ``BTC-26AUG22-20000-C`` is priced in BTC, ``BTC_USDC-26AUG22-20000-C`` in USDC. `chain.xs(("BTC", "USDC"))`
    selects the latter, by expiry, strike and side.

    Args:
        ticks: contracts from a stream, a five-minute matrix, a time slice, or a recording.
        base: only options on this underlying, like "BTC", or priced in it, like "USDC"; None for all.
        expiry: only options that expire on this day, like "26AUG22", a date, or a datetime; None for all.
        price_unit: only options that are priced in this unit: "BTC" for the inverse options on BTC, "USDC" for the
            linear ones; None for all.
        recompute: whether to compute greeks and the volatilities of the quotes from `underlying_price`, `mark_iv`, the
            quotes and the timestamp, in the conventions of `ContractTick.greeks`, instead of taking the feed's. A value
            is NaN if one of these is missing or the option had expired.

    Returns:
        A frame with the index (underlying, price_unit, expiry, strike, option_side), sorted and unique, and the columns
        `CHAIN_COLUMNS`, `instrument_name` and `timestamp`. A missing value is NaN, even if the wire has 0 for "no
        quote". ``attrs["greeks"]`` is "feed" or "recomputed".

    Raises:
        InvalidInputError: `expiry` is not a date.
        MissingExtraError: pandas is not installed, or NumPy or SciPy, which `recompute` needs.
    """
    pd = _pandas()
    chosen = _chosen(ticks, base, None if expiry is None else read_expiry(expiry), price_unit)
    instruments, found = [one for one, _ in chosen], [tick for _, tick in chosen]
    columns: dict[str, Any] = {
        "underlying": [one.base for one in instruments],
        "price_unit": [one.price_unit for one in instruments],
        "expiry": pd.to_datetime([one.expiry for one in instruments], utc=True),
        "strike": pd.array([one.strike for one in instruments], dtype="float64"),
        "option_side": pd.Categorical([one.option_side for one in instruments], ["call", "put"]),
        "instrument_name": [tick.instrument_name for tick in found],
        **{name: pd.array([getattr(tick, name) for tick in found], dtype="float64") for name in CHAIN_COLUMNS},
        "timestamp": pd.to_datetime([tick.timestamp for tick in found], unit="ms", utc=True),
    }
    frame = pd.DataFrame(columns)
    if recompute:
        for name, column in _recomputed(frame, instruments, found).items():
            frame[name] = column
    for name in QUOTES:
        frame[name] = frame[name].where(frame[name] > 0)
    frame = frame.set_index(list(INDEX)).sort_index()
    frame.attrs["greeks"] = "recomputed" if recompute else "feed"
    return frame


def _chosen(
    ticks: Iterable[ContractTick], base: str | None, day: dt.date | None, price_unit: str | None
) -> list[tuple[Instrument, ContractTick]]:
    """The last tick of each selected option. Options are identified by what their names mean: 5AUG22 is 05AUG22."""
    chosen: dict[tuple[Any, ...], tuple[Instrument, ContractTick]] = {}
    for tick in ticks:
        try:
            one = parse_instrument(tick.instrument_name)
        except InvalidInputError:
            continue  # a spot pair or a combination, which matrices hold too
        if (
            one.kind == "option"
            and one.expiry is not None
            and (base is None or base in (one.base, one.price_unit))
            and (day is None or one.expiry.date() == day)
            and (price_unit is None or one.price_unit == price_unit)
        ):
            chosen[one.base, one.price_unit, one.expiry, one.strike, one.option_side] = one, tick
    return list(chosen.values())


def _recomputed(frame: pd.DataFrame, instruments: list[Instrument], ticks: list[ContractTick]) -> dict[str, Any]:
    import numpy as np

    names = ("strike", "underlying_price", "mark_iv", "best_bid_price", "best_ask_price")
    return recompute_columns(
        {
            **{name: frame[name].to_numpy(dtype=float) for name in names},
            "option_side": np.array([one.option_side for one in instruments], dtype=str),
            "is_linear": np.array([one.is_linear for one in instruments], dtype=bool),
            "expiry": np.array([round(one.expiry.timestamp()) for one in instruments if one.expiry], dtype=np.int64),
            "timestamp": np.array([tick.timestamp for tick in ticks], dtype=float),
        }
    )


def markets(chain: pd.DataFrame) -> list[tuple[str, str]]:
    """The underlyings and price units in a chain, sorted; read from the names, since `xs` removes index levels."""
    named = {name.partition("-")[0]: name for name in chain["instrument_name"]}
    found = (parse_instrument(name) for name in named.values())
    return sorted({(one.base, one.price_unit) for one in found})


def check_one_market(chain: pd.DataFrame, what: str) -> None:
    """Refuse a chain with several underlyings or price units, whose prices must not be mixed.

    Args:
        chain: as `chain_frame` returns it, or a part of it.
        what: what was requested, for the error's text.

    Raises:
        InvalidInputError: there are several; the text lists them and says how to choose.
    """
    found = markets(chain)
    if len(found) > 1:
        shown = ", ".join(f"{base} priced in {unit}" for base, unit in found)
        base, unit = found[0]
        raise InvalidInputError(
            f"{what} is of one underlying in one price unit, and the chain holds {len(found)}: {shown}; choose one, "
            f"for example chain.xs(({base!r}, {unit!r})), or option_chain({base!r}, price_unit={unit!r})"
        )


def read_expiry(expiry: Moment) -> dt.date:
    """Parse an expiry: as an instrument's name spells it, as ISO 8601, or a date or datetime (its day in UTC)."""
    parsed: dt.date | dt.time | None
    try:
        parsed = read_any(expiry, EARLIEST_SECONDS)
    except InvalidInputError:
        parsed = _expiry_in_name(expiry) if isinstance(expiry, str) else None
    if not isinstance(parsed, dt.date):
        raise InvalidInputError(f"{expiry!r} is no expiry; it looks like '26AUG22' or '2022-08-26'")
    return parsed.date() if isinstance(parsed, dt.datetime) else parsed


def _expiry_in_name(text: str) -> dt.date | None:
    try:
        return parse_instrument(f"BTC-{text}").expiry
    except InvalidInputError:
        return None


def term_structure(chain: pd.DataFrame) -> pd.DataFrame:
    """Volatility by expiry: at the money, and at a delta of 0.25 for puts and for calls.

    Expiries that have passed are left out. The mark volatility is interpolated: by the logarithm of the strike at the
    money, by delta for the other two. A value outside the chain's range is NaN.

    Args:
        chain: as `chain_frame` returns it, with one underlying in one price unit.

    Returns:
        A frame by expiry with the columns `days` (from the newest tick to expiry), `forward`, `atm_iv`,
        `put_25_iv` and `call_25_iv`; volatilities in percent.

    Raises:
        InvalidInputError: the chain has several underlyings or price units.
    """
    import numpy as np

    pd = _pandas()
    check_one_market(chain, "a term structure")
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
            # By strike, the absolute deltas of one side rise and those of the other fall; interpolation needs them to
            # rise.
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
