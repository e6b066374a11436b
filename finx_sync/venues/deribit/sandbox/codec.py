"""Deribit's wire format for the simulated market: plain numbers, nulls, nested objects for greeks and statistics.

It shares no code with the client's codec. Sources: Deribit API documentation, *public/get_instruments*,
*ticker.{instrument_name}.{interval}*; frames captured in July 2021, which determine the order of the keys.
"""

from __future__ import annotations

from typing import Any, Final

from finx_sync.pricing import Instrument
from finx_sync.sandbox.market import PAIRS, Values

__all__ = ["INDEXES", "instrument_object", "settlement_currency", "summary_object", "ticker_object"]

INDEXES: Final = {pair.lower().replace(":", "_"): pair for pair in PAIRS}
"""Index names, with the corresponding pairs of the simulated market."""

_GREEKS: Final = ("vega", "theta", "rho", "gamma", "delta")
_STATS: Final = ("volume", "price_change", "low", "high")
_FUTURE_STATS: Final = ("volume_usd", "volume_notional", *_STATS)
_OPTION: Final = (
    "underlying_price", "underlying_index", "timestamp", "stats", "state", "settlement_price", "open_interest",
    "min_price", "max_price", "mark_price", "mark_iv", "last_price", "interest_rate", "instrument_name", "index_price",
    "greeks", "estimated_delivery_price", "bid_iv", "best_bid_price", "best_bid_amount", "best_ask_price",
    "best_ask_amount", "ask_iv",
)  # fmt: skip
_FUTURE: Final = (
    "timestamp", "stats", "state", "settlement_price", "open_interest", "min_price", "max_price", "mark_price",
    "last_price", "interest_value", "instrument_name", "index_price", "funding_8h", "estimated_delivery_price",
    "current_funding", "best_bid_price", "best_bid_amount", "best_ask_price", "best_ask_amount",
)  # fmt: skip
_SUMMARY: Final = (
    "instrument_name", "underlying_price", "underlying_index", "mark_price", "mark_iv", "interest_rate",
    "estimated_delivery_price", "open_interest", "volume", "price_change", "low", "high",
)  # fmt: skip
_TICK_SIZE: Final = {"BTC": 0.5, "ETH": 0.05, "SOL": 0.01}


def ticker_object(values: Values) -> dict[str, Any]:
    """Return a ticker's data."""
    is_option = "delta" in values
    boxes = {
        "stats": {name: values[name] for name in (_STATS if is_option else _FUTURE_STATS)},
        "greeks": {name: values.get(name) for name in _GREEKS},
    }
    every = {**values, **boxes}
    # Futures with an expiry have no funding.
    return {name: every[name] for name in (_OPTION if is_option else _FUTURE) if name in every}


def summary_object(values: Values) -> dict[str, Any]:
    """Return an instrument's summary, in which a missing quote is null."""
    return {
        **{str(name): values[name] for name in _SUMMARY if name in values},
        "last": values["last_price"],
        "bid_price": values["best_bid_price"] or None,
        "ask_price": values["best_ask_price"] or None,
        "creation_timestamp": values["timestamp"],
    }


def settlement_currency(instrument: Instrument) -> str:
    """Return the currency that an instrument is settled in, under which Deribit lists it."""
    return instrument.base if instrument.quote == "USD" else instrument.quote


def instrument_object(instrument: Instrument, now: int) -> dict[str, Any]:
    """Return the definition of a listed instrument; `now` is milliseconds since 1970."""
    is_option = instrument.kind == "option"
    expiry = 32_503_708_800_000 if instrument.expiry is None else int(instrument.expiry.timestamp() * 1000)
    settled_in = settlement_currency(instrument)
    listed: dict[str, Any] = {
        "instrument_name": instrument.name,
        "kind": "option" if is_option else "future",
        "instrument_type": "linear" if settled_in == "USDC" else "reversed",
        "base_currency": instrument.base,
        "quote_currency": instrument.base if is_option else instrument.quote,
        "counter_currency": instrument.quote,
        "settlement_currency": settled_in,
        "settlement_period": "perpetual" if instrument.expiry is None else "month",
        "price_index": f"{instrument.base}_{instrument.quote}".lower(),
        "tick_size": 0.0005 if is_option else _TICK_SIZE[instrument.base],
        "contract_size": 1.0 if is_option else 10.0,
        "min_trade_amount": 0.1 if instrument.base == "BTC" and is_option else 1.0,
        "creation_timestamp": now - 30 * 86_400_000,
        "expiration_timestamp": expiry,
        "is_active": True,
        "state": "open",
    }
    if is_option:
        listed |= {"strike": instrument.strike, "option_type": instrument.option_side}
    return listed
