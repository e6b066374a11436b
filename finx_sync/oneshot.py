"""FinX's functions without a stream: each call opens and closes its own connections.

`where` stands for the keyword arguments of `StreamManager` that determine where and how to connect, like `api_key`,
`environment`, `url`, `request_form`, `proxy` and `ssl_context`. The methods of `StreamManager` with the same names
describe the other arguments, and the errors.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal, cast

from finx_sync.config import KeySource
from finx_sync.functions.backend import DEFAULT_TIMEOUT, RequestForm
from finx_sync.functions.history import Report
from finx_sync.functions.query import HistoryOptions, with_history_options
from finx_sync.messages import ContractTick, Tick
from finx_sync.moments import Moment, TimeOfDay
from finx_sync.session.options import StreamOptions
from finx_sync.ticks import TickHistory
from finx_sync.venues.finx.codec import Interval, Path
from finx_sync.venues.finx.stream import StreamManager

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import Unpack

__all__ = [
    "authenticate",
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
]


class Where(StreamOptions, total=False):
    """The keyword arguments of `StreamManager`."""

    api_key: KeySource | None
    environment: str | None
    url: str | None
    path: Path
    stream_per_url: bool
    request_form: RequestForm
    interval: Interval | None


class _HistoryCall(Where, HistoryOptions, total=False):
    """The keyword arguments of a call for a history."""


def authenticate(*, timeout: float = DEFAULT_TIMEOUT, **where: Unpack[Where]) -> bool:
    """Check whether the server accepts the key; see `StreamManager.authenticate`."""
    with closing(StreamManager(**where)) as manager:
        return manager.authenticate(timeout=timeout)


def get_tick_snap(
    pair: str,
    date: Moment | None = None,
    time: TimeOfDay | None = None,
    *,
    timeout: float = DEFAULT_TIMEOUT,
    **where: Unpack[Where],
) -> Tick:
    """Return one price of a pair; see `StreamManager.get_tick_snap`."""
    with closing(StreamManager(**where)) as manager:
        return manager.get_tick_snap(pair, date, time, timeout=timeout)


@with_history_options
def get_tick_history(
    pair: str,
    date: Moment,
    time: TimeOfDay | None = None,
    *,
    progress: Report = False,
    **where: Unpack[_HistoryCall],
) -> TickHistory:
    """Return the complete prices of a pair; see `StreamManager.get_tick_history`."""
    manager, options = _for_history(where)
    with closing(manager):
        return manager.get_tick_history(pair, date, time, progress=progress, **options)


@with_history_options
def iter_tick_history(
    pair: str, date: Moment, time: TimeOfDay | None = None, **where: Unpack[_HistoryCall]
) -> Iterator[Tick]:
    """Iterate over the prices of a pair; see `StreamManager.iter_tick_history`."""
    manager, options = _for_history(where)
    return manager.iter_tick_history(pair, date, time, **options)


def _for_history(given: _HistoryCall) -> tuple[StreamManager, HistoryOptions]:
    options = {name: value for name, value in given.items() if name in HistoryOptions.__annotations__}
    where: Any = {name: value for name, value in given.items() if name not in options}
    return StreamManager(**where), cast(HistoryOptions, options)


def list_contracts(
    *, as_of: Moment | None = None, timeout: float = DEFAULT_TIMEOUT, **where: Unpack[Where]
) -> list[str]:
    """Return the names of all contracts; see `StreamManager.list_contracts`."""
    with closing(StreamManager(**where)) as manager:
        return manager.list_contracts(as_of=as_of, timeout=timeout)


def get_reference_data(
    security_id: str,
    *,
    via: Literal["websocket", "rest"] = "websocket",
    timeout: float = DEFAULT_TIMEOUT,
    **where: Unpack[Where],
) -> Any:
    """Return what FinX knows about a security; see `StreamManager.get_reference_data`."""
    with closing(StreamManager(**where)) as manager:
        return manager.get_reference_data(security_id, via=via, timeout=timeout)


def list_pairs(*, timeout: float = DEFAULT_TIMEOUT, **where: Unpack[Where]) -> list[str]:
    """Return the names of all pairs; see `StreamManager.list_pairs`."""
    with closing(StreamManager(**where)) as manager:
        return manager.list_pairs(timeout=timeout)


def get_pair_quote(
    pair: str,
    at: Moment | None = None,
    *,
    width: float = 10.0,
    timeout: float = DEFAULT_TIMEOUT,
    **where: Unpack[Where],
) -> Tick | None:
    """Return the quote of a pair; see `StreamManager.get_pair_quote`."""
    with closing(StreamManager(**where)) as manager:
        return manager.get_pair_quote(pair, at, width=width, timeout=timeout)


def get_pair_quote_series(
    pair: str,
    start: Moment,
    end: Moment,
    *,
    periods: int = 100,
    width: float = 10.0,
    timeout: float = DEFAULT_TIMEOUT,
    **where: Unpack[Where],
) -> dict[dt.datetime, Tick | None]:
    """Return quotes of a pair at evenly spaced times; see `StreamManager.get_pair_quote_series`."""
    with closing(StreamManager(**where)) as manager:
        return manager.get_pair_quote_series(pair, start, end, periods=periods, width=width, timeout=timeout)


def get_options_timeslice(
    base: str, at: Moment, *, width: float = 30.0, timeout: float = DEFAULT_TIMEOUT, **where: Unpack[Where]
) -> list[ContractTick]:
    """Return all options near a point in time; see `StreamManager.get_options_timeslice`."""
    with closing(StreamManager(**where)) as manager:
        return manager.get_options_timeslice(base, at, width=width, timeout=timeout)


def get_options_timeslice_series(
    base: str,
    start: Moment,
    end: Moment,
    *,
    periods: int = 10,
    width: float = 30.0,
    timeout: float = DEFAULT_TIMEOUT,
    **where: Unpack[Where],
) -> dict[dt.datetime, list[ContractTick]]:
    """Return all options at evenly spaced times; see `StreamManager.get_options_timeslice_series`."""
    with closing(StreamManager(**where)) as manager:
        return manager.get_options_timeslice_series(base, start, end, periods=periods, width=width, timeout=timeout)


def get_five_minute_matrix(
    base: str, at: Moment = "latest", *, timeout: float = DEFAULT_TIMEOUT, **where: Unpack[Where]
) -> list[ContractTick]:
    """Return all contracts of a base instrument at one point in time; see `StreamManager.get_five_minute_matrix`."""
    with closing(StreamManager(**where)) as manager:
        return manager.get_five_minute_matrix(base, at, timeout=timeout)


def option_chain(
    base: str,
    expiry: Moment | None = None,
    *,
    at: Moment = "latest",
    price_unit: str | None = None,
    recompute: bool = False,
    timeout: float = DEFAULT_TIMEOUT,
    **where: Unpack[Where],
) -> pd.DataFrame:
    """Return the options of a base instrument as a frame; see `StreamManager.option_chain`."""
    with closing(StreamManager(**where)) as manager:
        return manager.option_chain(base, expiry, at=at, price_unit=price_unit, recompute=recompute, timeout=timeout)


def call(
    function_name: str,
    *,
    timeout: float = DEFAULT_TIMEOUT,
    params: dict[str, Any] | None = None,
    **where: Unpack[Where],
) -> Any:
    """Call any function by its wire name, with the fields in `params`; see `StreamManager.call`."""
    with closing(StreamManager(**where)) as manager:
        return manager.call(function_name, timeout=timeout, **(params or {}))
