"""FinX's functions without a stream: one call, one short-lived connection.

`where` are the keyword arguments of `StreamManager` that say where and how to connect (`api_key`, `environment`,
`url`, `request_form`, `proxy`, `ssl_context`); everything else, and what is raised, is described at its methods.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from finx_sync.functions.backend import DEFAULT_TIMEOUT
from finx_sync.functions.history import DEFAULT_WORKERS, CacheFolder, End, Report
from finx_sync.messages import ContractTick, Tick
from finx_sync.moments import Moment, TimeOfDay
from finx_sync.ticks import TickHistory
from finx_sync.ticks.spans import Span
from finx_sync.venues.finx.stream import StreamManager

if TYPE_CHECKING:
    import pandas as pd

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


def authenticate(*, timeout: float = DEFAULT_TIMEOUT, **where: Any) -> bool:
    """Ask whether the key is good; see `StreamManager.authenticate`."""
    return StreamManager(**where).authenticate(timeout=timeout)


def get_tick_snap(
    pair: str,
    date: Moment | None = None,
    time: TimeOfDay | None = None,
    *,
    timeout: float = DEFAULT_TIMEOUT,
    **where: Any,
) -> Tick:
    """One price of a pair; see `StreamManager.get_tick_snap`."""
    return StreamManager(**where).get_tick_snap(pair, date, time, timeout=timeout)


def get_tick_history(
    pair: str,
    date: Moment,
    time: TimeOfDay | None = None,
    *,
    end: End | None = None,
    limit: int | None = None,
    every: Span | None = None,
    exchange: str | None = None,
    strict: bool = False,
    workers: int = DEFAULT_WORKERS,
    progress: Report = False,
    cache: CacheFolder | None = None,
    timeout: float | None = None,
    **where: Any,
) -> TickHistory:
    """The prices of a pair, complete; see `StreamManager.get_tick_history`."""
    return StreamManager(**where).get_tick_history(
        pair,
        date,
        time,
        end=end,
        limit=limit,
        every=every,
        exchange=exchange,
        strict=strict,
        workers=workers,
        progress=progress,
        cache=cache,
        timeout=timeout,
    )


def iter_tick_history(
    pair: str,
    date: Moment,
    time: TimeOfDay | None = None,
    *,
    end: End | None = None,
    limit: int | None = None,
    every: Span | None = None,
    exchange: str | None = None,
    strict: bool = False,
    workers: int = DEFAULT_WORKERS,
    cache: CacheFolder | None = None,
    timeout: float | None = None,
    **where: Any,
) -> Iterator[Tick]:
    """The prices of a pair, one by one; see `StreamManager.iter_tick_history`."""
    return StreamManager(**where).iter_tick_history(
        pair,
        date,
        time,
        end=end,
        limit=limit,
        every=every,
        exchange=exchange,
        strict=strict,
        workers=workers,
        cache=cache,
        timeout=timeout,
    )


def list_contracts(*, as_of: Moment | None = None, timeout: float = DEFAULT_TIMEOUT, **where: Any) -> list[str]:
    """The names of all contracts; see `StreamManager.list_contracts`."""
    return StreamManager(**where).list_contracts(as_of=as_of, timeout=timeout)


def get_reference_data(
    security_id: str,
    *,
    via: Literal["websocket", "rest"] = "websocket",
    timeout: float = DEFAULT_TIMEOUT,
    **where: Any,
) -> Any:
    """What FinX knows about a security; see `StreamManager.get_reference_data`."""
    return StreamManager(**where).get_reference_data(security_id, via=via, timeout=timeout)


def list_pairs(*, timeout: float = DEFAULT_TIMEOUT, **where: Any) -> list[str]:
    """The names of all pairs; see `StreamManager.list_pairs`."""
    return StreamManager(**where).list_pairs(timeout=timeout)


def get_pair_quote(
    pair: str, at: Moment | None = None, *, width: float = 10.0, timeout: float = DEFAULT_TIMEOUT, **where: Any
) -> Tick | None:
    """The quote of a pair; see `StreamManager.get_pair_quote`."""
    return StreamManager(**where).get_pair_quote(pair, at, width=width, timeout=timeout)


def get_pair_quote_series(
    pair: str,
    start: Moment,
    end: Moment,
    *,
    periods: int = 100,
    width: float = 10.0,
    timeout: float = DEFAULT_TIMEOUT,
    **where: Any,
) -> dict[dt.datetime, Tick | None]:
    """Quotes of a pair at evenly spaced moments; see `StreamManager.get_pair_quote_series`."""
    manager = StreamManager(**where)
    return manager.get_pair_quote_series(pair, start, end, periods=periods, width=width, timeout=timeout)


def get_options_timeslice(
    base: str, at: Moment, *, width: float = 30.0, timeout: float = DEFAULT_TIMEOUT, **where: Any
) -> list[ContractTick]:
    """All options near a moment; see `StreamManager.get_options_timeslice`."""
    return StreamManager(**where).get_options_timeslice(base, at, width=width, timeout=timeout)


def get_options_timeslice_series(
    base: str,
    start: Moment,
    end: Moment,
    *,
    periods: int = 10,
    width: float = 30.0,
    timeout: float = DEFAULT_TIMEOUT,
    **where: Any,
) -> dict[dt.datetime, list[ContractTick]]:
    """All options at evenly spaced moments; see `StreamManager.get_options_timeslice_series`."""
    manager = StreamManager(**where)
    return manager.get_options_timeslice_series(base, start, end, periods=periods, width=width, timeout=timeout)


def get_five_minute_matrix(
    base: str, at: Moment = "latest", *, timeout: float = DEFAULT_TIMEOUT, **where: Any
) -> list[ContractTick]:
    """All contracts of a base instrument at one moment; see `StreamManager.get_five_minute_matrix`."""
    return StreamManager(**where).get_five_minute_matrix(base, at, timeout=timeout)


def option_chain(
    base: str,
    expiry: Moment | None = None,
    *,
    at: Moment = "latest",
    price_unit: str | None = None,
    recompute: bool = False,
    timeout: float = DEFAULT_TIMEOUT,
    **where: Any,
) -> pd.DataFrame:
    """The options of a base instrument as a frame; see `StreamManager.option_chain`."""
    return StreamManager(**where).option_chain(
        base, expiry, at=at, price_unit=price_unit, recompute=recompute, timeout=timeout
    )


def call(
    function_name: str, *, timeout: float = DEFAULT_TIMEOUT, params: dict[str, Any] | None = None, **where: Any
) -> Any:
    """Call any function by its wire name; see `StreamManager.call`. Its fields are in `params`."""
    return StreamManager(**where).call(function_name, timeout=timeout, **(params or {}))
