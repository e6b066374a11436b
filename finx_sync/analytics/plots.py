"""Plots of a chain: the smile of each expiry, and the term structure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from finx_sync.analytics.chain import check_one_market, markets, read_expiry, term_structure
from finx_sync.errors import InvalidInputError, MissingExtraError
from finx_sync.moments import Moment
from finx_sync.pricing import expiry_code

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["plot_smile", "plot_term_structure"]

MARK: Final = "#1f5fa8"
QUOTES: Final = "#9db8d6"
PUTS: Final = "#b5423c"
CALLS: Final = "#3c8a5a"
MUTED: Final = "#666666"
DAY_TICKS: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def plot_smile(chain: pd.DataFrame, expiry: Moment | None = None, *, ax: Axes | None = None) -> Axes:
    """Plot implied volatility against the strike.

    One expiry is shown with its mark volatility, the bid and ask volatilities of the out-of-the-money options as bars,
    and the forward. Several expiries are shown with one mark line each, against the strike divided by the forward.

    Args:
        chain: as `option_chain` returns it, with one underlying in one price unit.
        expiry: the only one to plot, like "26AUG22"; None plots all.
        ax: where to plot; None makes a new figure.

    Returns:
        The axes.

    Raises:
        InvalidInputError: the chain has no such expiry, nothing with a volatility, or several underlyings or price
            units.
        MissingExtraError: matplotlib is not installed.
    """
    if expiry is not None:
        day = read_expiry(expiry)
        chain = chain[chain.index.get_level_values("expiry").date == day]
    check_one_market(chain, "a smile")
    marked = chain[chain["mark_iv"] > 0]
    strikes = marked.reset_index().groupby("expiry")["strike"].nunique()
    # A single point is not a smile, so such expiries are left out unless there is nothing else.
    expiries = strikes.index[strikes > 1] if (strikes > 1).any() else strikes.index
    if expiries.empty:
        raise InvalidInputError("nothing in the chain has a volatility" + (f" at {expiry}" if expiry else ""))
    target = _axes(ax)
    if len(expiries) == 1:
        _one_smile(target, marked[marked.index.get_level_values("expiry") == expiries[0]], expiries[0])
    else:
        _many_smiles(target, marked, expiries)
    target.set_ylabel("implied volatility, %")
    _tidy(target)
    return target


def _one_smile(ax: Axes, part: pd.DataFrame, expiry: Any) -> None:
    forward = float(part["underlying_price"].median())
    strikes = part.index.get_level_values("strike")
    sides = part.index.get_level_values("option_side")
    # The market trades mostly out of the money, and quotes there say most about volatility.
    quoted = part[((sides == "call") == (strikes >= forward)) & part["ask_iv"].notna()]
    at = quoted.index.get_level_values("strike")
    low = quoted["bid_iv"].fillna(quoted["ask_iv"])
    ax.vlines(at, low, quoted["ask_iv"], color=QUOTES, linewidth=5, label="bid to ask, out of the money", zorder=2)
    without_bid = quoted[quoted["bid_iv"].isna()]
    if not without_bid.empty:
        at = without_bid.index.get_level_values("strike")
        ax.plot(at, without_bid["ask_iv"], "v", color=QUOTES, markersize=6, label="ask without bid", zorder=2)
    mark = part.groupby(level="strike")["mark_iv"].mean()
    ax.plot(mark.index, mark, "o-", color=MARK, markersize=4, linewidth=1.5, label="mark", zorder=3)
    ax.axvline(forward, color=MUTED, linestyle=":", linewidth=1, label=f"forward {forward:,.2f}", zorder=1)
    # A far ask can be many times the mark, and must not flatten the smile.
    ax.set_ylim(0.85 * mark.min(), min(1.35 * mark.max(), 1.05 * max(mark.max(), quoted["ask_iv"].max())))
    left = (expiry - part["timestamp"].max()).total_seconds() / 86_400
    remaining = f", {left:.1f} days to expiry" if left > 0 else ""
    ax.set_title(f"{_title(part)} {expiry_code(expiry)}{remaining}", loc="left")
    ax.set_xlabel("strike")
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.legend(frameon=False, fontsize="small", loc="upper center")  # where a smile leaves space


def _many_smiles(ax: Axes, marked: pd.DataFrame, expiries: Any) -> None:
    from matplotlib import colormaps

    for number, expiry in enumerate(expiries):
        part = marked.xs(expiry, level="expiry")
        curve = part.groupby(level="strike")["mark_iv"].mean()
        colour = colormaps["viridis"](0.92 * number / (len(expiries) - 1))
        x = curve.index / float(part["underlying_price"].median())
        ax.plot(x, curve, "o-", color=colour, markersize=3, linewidth=1.3, label=expiry_code(expiry))
    ax.axvline(1.0, color=MUTED, linestyle=":", linewidth=1)
    ax.set_title(f"{_title(marked)} mark volatility", loc="left")
    ax.set_xlabel("strike / forward")
    ax.legend(frameon=False, fontsize="small", title="expiry", ncols=1 + len(expiries) // 9)


def plot_term_structure(chain: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Plot volatility against the days to expiry: at the money, and for puts and calls with a delta of 0.25.

    Args:
        chain: as `option_chain` returns it, with one underlying in one price unit.
        ax: where to plot; None makes a new figure.

    Returns:
        The axes.

    Raises:
        InvalidInputError: nothing in the chain has a volatility, or it has several underlyings or price units.
        MissingExtraError: matplotlib is not installed.
    """
    table = term_structure(chain)
    if table.empty:
        raise InvalidInputError("nothing in the chain has a volatility")
    target = _axes(ax)
    for column, colour, label, width in (
        ("put_25_iv", PUTS, "put, delta 0.25", 1),
        ("call_25_iv", CALLS, "call, delta 0.25", 1),
        ("atm_iv", MARK, "at the money", 2),
    ):
        known = table.dropna(subset=[column])
        target.plot(
            known["days"], known[column], "o-", color=colour, label=label, linewidth=width, markersize=3 + width
        )
    # Space below the lines for the names of the expiries.
    low, high = target.get_ylim()
    target.set_ylim(low - (high - low) / 6, high)
    for expiry, days in table["days"].items():
        target.text(
            days, 0.02, expiry_code(expiry), transform=target.get_xaxis_transform(), rotation=90, ha="right",
            va="bottom", fontsize="x-small", color=MUTED,
        )  # fmt: skip
    target.set_title(f"{_title(chain)} term structure", loc="left")
    target.set_xscale("log")
    target.set_xticks([days for days in DAY_TICKS if 0.7 * table["days"].min() <= days <= 1.5 * table["days"].max()])
    target.xaxis.set_major_formatter("{x:g}")
    target.minorticks_off()
    target.set_xlabel("days to expiry")
    target.set_ylabel("implied volatility, %")
    target.legend(frameon=False, fontsize="small")
    _tidy(target)
    return target


def _title(chain: pd.DataFrame) -> str:
    """The underlying, with the price unit if that differs: ``BTC``, ``BTC in USDC``."""
    return ", ".join(base if base == unit else f"{base} in {unit}" for base, unit in markets(chain))


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise MissingExtraError(
            'plots need matplotlib, which is not installed: pip install "finx-sync[plot]"'
        ) from error
    return plt.subplots(figsize=(8, 4.5), layout="constrained")[1]


def _tidy(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#e5e5e5", linewidth=0.8)
    ax.set_axisbelow(True)
