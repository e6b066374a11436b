"""finx_sync: live market data into plain Python callbacks, without an event loop."""

from finx_sync.errors import (
    AuthorizationError,
    ConfigError,
    ConnectError,
    ConnectionLostError,
    FinxSyncError,
    FunctionError,
    HandlerRaisedError,
    InvalidInputError,
    SlowConsumerError,
    StaleDataError,
)
from finx_sync.grid import Grid
from finx_sync.messages import ContractTick, SpotTick, Tick
from finx_sync.notices import Gap, Interval, Lag, Stale
from finx_sync.oneshot import (
    authenticate,
    call,
    get_five_minute_matrix,
    get_options_timeslice,
    get_options_timeslice_series,
    get_pair_quote,
    get_pair_quote_series,
    get_reference_data,
    get_tick_history,
    get_tick_snap,
    iter_tick_history,
    list_contracts,
    list_pairs,
    option_chain,
)
from finx_sync.pricing import Greeks, Instrument, calculate_greeks, parse_instrument
from finx_sync.session.backoff import Backoff
from finx_sync.state import State, StateChange
from finx_sync.stream.stats import Stats
from finx_sync.ticks import TickHistory
from finx_sync.transport.app import WebSocketApp
from finx_sync.venues.finx.stream import StreamManager

__all__ = [
    "AuthorizationError",
    "Backoff",
    "ConfigError",
    "ConnectError",
    "ConnectionLostError",
    "ContractTick",
    "FinxSyncError",
    "FunctionError",
    "Gap",
    "Greeks",
    "Grid",
    "HandlerRaisedError",
    "Instrument",
    "Interval",
    "InvalidInputError",
    "Lag",
    "SlowConsumerError",
    "SpotTick",
    "Stale",
    "StaleDataError",
    "State",
    "StateChange",
    "Stats",
    "StreamManager",
    "Tick",
    "TickHistory",
    "WebSocketApp",
    "authenticate",
    "calculate_greeks",
    "call",
    "get_five_minute_matrix",
    "get_options_timeslice",
    "get_options_timeslice_series",
    "get_pair_quote",
    "get_pair_quote_series",
    "get_reference_data",
    "get_tick_history",
    "get_tick_snap",
    "iter_tick_history",
    "list_contracts",
    "list_pairs",
    "option_chain",
    "parse_instrument",
]

__version__ = "0.1.0"
