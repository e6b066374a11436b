"""The commands for options and for FinX's REST functions: their arguments, and the functions that run them."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from finx_sync.cli.output import on_terminal, print_rows, say
from finx_sync.errors import InvalidInputError, MissingExtraError
from finx_sync.functions.rest import QUOTE_PERIODS, QUOTE_WIDTH, SLICE_WIDTH
from finx_sync.grid import Grid
from finx_sync.messages import ContractTick
from finx_sync.moments import Moment
from finx_sync.pricing import calculate_greeks
from finx_sync.venues.finx.stream import StreamManager

__all__ = ["add_option_commands", "moment"]

SLICE_COLUMNS = ("instrument_name", "mark_price", "mark_iv", "bid_iv", "ask_iv", "underlying_price", "delta", "vega")
CHAIN_ON_TERMINAL = ("instrument_name", "mark_iv", "bid_iv", "ask_iv", "mark_price", "price_unit", "delta", "vega")
"""Underlying, expiry, strike and side are left out: the name contains them."""

Adder = Callable[[str, Callable[[argparse.Namespace], None], str, list[str]], argparse.ArgumentParser]
"""Adds a command, given its name, function, description and examples."""


def add_option_commands(add: Adder) -> None:
    """Add these commands to the command line."""
    chain = add(
        "chain",
        _chain,
        "the options of a base instrument: strikes by expiry",
        [
            "finx-sync chain BTC",
            "finx-sync chain BTC 26AUG22",
            "finx-sync chain ETH --plot smile.png",
            "finx-sync chain BTC --environment deribit --recompute",
        ],
    )
    chain.add_argument("base", help="BTC, ETH, SOL or USDC")
    chain.add_argument("expiry", nargs="?", help="only this one, like 26AUG22")
    chain.add_argument(
        "--at", type=moment, default="latest", help="a moment on the five-minute grid, like 2022-08-04T04:05"
    )
    chain.add_argument("--price-unit", metavar="UNIT", help="only options priced in this, like USDC")
    chain.add_argument("--recompute", action="store_true", help="compute greeks and quoted volatilities here")
    chain.add_argument("--plot", metavar="FILE", help="draw the smile as well, to a PNG, PDF or SVG file")

    greeks = add(
        "greeks",
        _greeks,
        "price, greeks and volatility of an option",
        [
            "finx-sync greeks 23227.53 20000 20.144 --sigma 0.7212",
            "finx-sync greeks 100 95 30 --price 1.2 --side put --type american --rate 0.03",
        ],
    )
    greeks.add_argument("s0", type=float, help="price of the underlying; of the forward with --type black76")
    greeks.add_argument("k", type=float, help="strike")
    greeks.add_argument("days", type=float, help="days to expiry")
    known = greeks.add_mutually_exclusive_group(required=True)
    known.add_argument("--sigma", type=float, help="volatility per year: 0.72 is 72 %%")
    known.add_argument("--price", type=float, help="the option's price, to find the volatility from")
    greeks.add_argument("--side", choices=("call", "put"), default="call")
    greeks.add_argument("--type", choices=("european", "american", "black76"), default="european")
    greeks.add_argument("--rate", type=float, default=0.0, help="interest per year: 0.03 is 3 %% (default 0)")
    greeks.add_argument("--yield", dest="dividend", type=float, default=0.0, help="the underlying's (default 0)")

    add("pairs", _pairs, "names of all pairs", ["finx-sync pairs"])

    quote = add(
        "quote",
        _quote,
        "the quote of a pair, now, at a moment, or in a series",
        [
            "finx-sync quote BTC:USD",
            "finx-sync quote BTC:USD --at 2022-08-04T04:05",
            "finx-sync quote BTC:USD --at 2022-08-04 --until 2022-08-05 --periods 24",
        ],
    )
    quote.add_argument("pair", help="like BTC:USD")
    quote.add_argument("--at", type=moment, help="like 2022-08-04T04:05 (UTC), or UNIX seconds")
    quote.add_argument("--until", type=moment, help="end of a series that begins at --at")
    quote.add_argument("--periods", type=int, default=QUOTE_PERIODS, help=f"moments of it (default {QUOTE_PERIODS})")
    quote.add_argument("--width", type=float, default=QUOTE_WIDTH, help="seconds around a moment to look in")

    timeslice = add("slice", _slice, "all options near a moment", ["finx-sync slice BTC 2022-08-04T04:05"])
    timeslice.add_argument("base", help="like BTC")
    timeslice.add_argument("at", type=moment, help="like 2022-08-04T04:05 (UTC), or UNIX seconds")
    timeslice.add_argument("--width", type=float, default=SLICE_WIDTH, help="seconds around it to look in")

    grid = add(
        "grid",
        _grid,
        "call the calculation grid, or list its methods",
        ["finx-sync grid", "finx-sync grid interpolate_curve t_obs=[1,2] r_obs=[0.01,0.03] t_new=[1.5]"],
    )
    grid.add_argument("method", nargs="?", help="like calculate_greeks")
    grid.add_argument("params", nargs="*", metavar="NAME=VALUE", help="its parameters; a value is JSON, else text")
    grid.add_argument("--via", choices=("websocket", "rest"), default="websocket")


def _manager(options: argparse.Namespace) -> StreamManager:
    return StreamManager(
        options.api_key, environment=options.environment, url=options.url, allow_insecure=options.allow_insecure
    )


def _chain(options: argparse.Namespace) -> None:
    chain = _manager(options).option_chain(
        options.base, options.expiry, at=options.at, price_unit=options.price_unit, recompute=options.recompute
    )
    if options.plot:
        from finx_sync.analytics import plot_smile

        _save(lambda: plot_smile(chain, options.expiry), options.plot)
    table = chain.reset_index()
    table["expiry"] = table["expiry"].dt.strftime("%Y-%m-%d")
    table = table[list(CHAIN_ON_TERMINAL)] if on_terminal() else table.drop(columns=["timestamp"])
    print_rows(_without_nan(table.to_dict("records")), title=f"{options.base}, {len(table)} options")


def _save(draw: Callable[[], Any], path: str) -> None:
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingExtraError('--plot needs matplotlib: pip install "finx-sync[plot]"') from error
    mpl.use("Agg")  # no screen is needed to write a file
    try:
        draw().figure.savefig(path, dpi=150)
    except (ValueError, OSError) as error:
        raise InvalidInputError(f"cannot draw to {path}: {error}") from error
    say(f"the smile is in {path}")


def _without_nan(rows: Iterable[Mapping[Any, Any]]) -> list[dict[str, Any]]:
    """Replace NaN, which JSON does not have, by None."""
    return [
        {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
        for row in rows
    ]


def _greeks(options: argparse.Namespace) -> None:
    found = calculate_greeks(
        options.s0,
        options.k,
        options.rate,
        options.sigma,
        options.dividend,
        options.days,
        options.price,
        options.side,
        options.type,
    )
    print_rows([found.to_dict()])


def _pairs(options: argparse.Namespace) -> None:
    print_rows([{"pair": pair} for pair in _manager(options).list_pairs()])


def _quote(options: argparse.Namespace) -> None:
    manager = _manager(options)
    if options.until is None:
        quote = manager.get_pair_quote(options.pair, options.at, width=options.width)
        print_rows([] if quote is None else [quote.to_dict()])
        return
    if options.at is None:
        raise InvalidInputError("a series needs --at, where it begins, as well as --until")
    series = manager.get_pair_quote_series(
        options.pair, options.at, options.until, periods=options.periods, width=options.width
    )
    nothing = dict.fromkeys(("pair", "date", "time", "exchange", "price"))
    rows = [{"asked": str(at), **(nothing if quote is None else quote.to_dict())} for at, quote in series.items()]
    print_rows(rows)


def _slice(options: argparse.Namespace) -> None:
    ticks = _manager(options).get_options_timeslice(options.base, options.at, width=options.width)
    print_rows([_shortened(tick) for tick in ticks], title=f"{options.base}: {len(ticks)} options")


def _shortened(tick: ContractTick) -> dict[str, Any]:
    return {name: tick.get(name) for name in SLICE_COLUMNS}


def _grid(options: argparse.Namespace) -> None:
    grid = Grid(
        options.api_key,
        environment=options.environment,
        url=options.url,
        via=options.via,
        allow_insecure=options.allow_insecure,
    )
    if options.method is None:
        print_rows([{"method": str(function)} for function in grid.list_functions()])
        return
    result = grid.call(options.method, **dict(_parameter(text) for text in options.params))
    print(json.dumps(result, indent=2))


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise InvalidInputError(f"{text!r} is no parameter; it looks like k=100")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def moment(text: str) -> Moment:
    """Read a date or moment on the command line: a number is UNIX seconds; any other text is parsed later."""
    try:
        return float(text)
    except ValueError:
        return text
