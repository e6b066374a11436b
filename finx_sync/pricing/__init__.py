"""What options are worth: names, prices, greeks, implied volatilities. No I/O, no clock.

The public functions, all based on the same formulas:

- `calculate_greeks`: any option, in FinX's own parameters; European, Black-76 or American; numbers or arrays.
- `black76` and `implied_volatility`: contracts in the conventions of their messages on the wire; numbers or arrays.
- `recompute`: a contract's numbers next to those of its message; `recompute_columns`: those of many contracts.
- `parse_instrument`: what a contract's name says.

From the bottom up: `maths` (what the standard library or NumPy must provide) → `european`, `implied`, `american`,
`rows` (impossible numbers in columns) → `greeks`, `wire` → `recompute`. Numbers with European exercise need only the
standard library; arrays and American exercise need the extra ``greeks``, which is imported when it is first used.
"""

from __future__ import annotations

from finx_sync.pricing.greeks import Greeks, OptionType, calculate_greeks
from finx_sync.pricing.instruments import EXPIRY_HOUR_UTC, Instrument, OptionSide, expiry_code, parse_instrument
from finx_sync.pricing.recompute import ContractGreeks, recompute, recompute_columns
from finx_sync.pricing.rows import OnError
from finx_sync.pricing.wire import OptionValue, black76, implied_volatility, years_to_expiry

__all__ = [
    "EXPIRY_HOUR_UTC",
    "ContractGreeks",
    "Greeks",
    "Instrument",
    "OnError",
    "OptionSide",
    "OptionType",
    "OptionValue",
    "black76",
    "calculate_greeks",
    "expiry_code",
    "implied_volatility",
    "parse_instrument",
    "recompute",
    "recompute_columns",
    "years_to_expiry",
]
