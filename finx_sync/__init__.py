"""finx_sync: live market data in plain Python callbacks, without an event loop."""

from finx_sync.errors import (
    AuthorizationError,
    ChecksumError,
    ConfigError,
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    FinxSyncError,
    FunctionError,
    FunctionTimeoutError,
    HandlerError,
    HandlerRaisedError,
    HandshakeError,
    IncompleteHistoryError,
    InternalError,
    InvalidInputError,
    MissingExtraError,
    MissingKeyError,
    NameResolutionError,
    PeerTimeoutError,
    ProtocolError,
    ProxyError,
    RateLimitedError,
    RecordingError,
    RelayError,
    ServerRefusedError,
    SlowConsumerError,
    StaleDataError,
    StreamTimeoutError,
    SubscriptionRefusedError,
    TLSError,
    UnexpectedReplyError,
    UnreadableMessageError,
    UnsupportedError,
    UsageError,
)
from finx_sync.grid import Grid
from finx_sync.messages import ContractTick, SpotTick, Tick
from finx_sync.notices import Drift, Gap, Interval, Lag, Stale
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
from finx_sync.relay.relay import Relay
from finx_sync.session.backoff import Backoff
from finx_sync.state import State, StateChange
from finx_sync.stream.stats import Stats
from finx_sync.ticks import TickHistory
from finx_sync.transport.app import WebSocketApp
from finx_sync.venues.finx.stream import StreamManager

__all__ = [
    "AuthorizationError",
    "Backoff",
    "ChecksumError",
    "ConfigError",
    "ConnectError",
    "ConnectTimeoutError",
    "ConnectionLostError",
    "ContractTick",
    "Drift",
    "FinxSyncError",
    "FunctionError",
    "FunctionTimeoutError",
    "Gap",
    "Greeks",
    "Grid",
    "HandlerError",
    "HandlerRaisedError",
    "HandshakeError",
    "IncompleteHistoryError",
    "Instrument",
    "InternalError",
    "Interval",
    "InvalidInputError",
    "Lag",
    "MissingExtraError",
    "MissingKeyError",
    "NameResolutionError",
    "PeerTimeoutError",
    "ProtocolError",
    "ProxyError",
    "RateLimitedError",
    "RecordingError",
    "Relay",
    "RelayError",
    "ServerRefusedError",
    "SlowConsumerError",
    "SpotTick",
    "Stale",
    "StaleDataError",
    "State",
    "StateChange",
    "Stats",
    "StreamManager",
    "StreamTimeoutError",
    "SubscriptionRefusedError",
    "TLSError",
    "Tick",
    "TickHistory",
    "UnexpectedReplyError",
    "UnreadableMessageError",
    "UnsupportedError",
    "UsageError",
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

_PUBLIC_MODULES = frozenset(
    {
        *("analytics", "compat", "errors", "messages", "moments", "notices", "pricing", "sandbox", "testing", "ticks"),
        "venues",
    }
)


def __dir__() -> list[str]:
    """List the public names, and the public submodules that have been imported."""
    return sorted({*__all__, *(name for name in globals() if name in _PUBLIC_MODULES or name.startswith("__"))})
