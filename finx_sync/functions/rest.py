"""FinX's REST paths as blocking methods (`FinXRest` and `TickPlant` in the finx-io SDK 0.1 to 0.2)."""

from __future__ import annotations

import abc
import datetime as dt
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from finx_sync.config import Account
from finx_sync.errors import InvalidInputError, UnexpectedReplyError
from finx_sync.functions.backend import DEFAULT_TIMEOUT
from finx_sync.functions.http import HttpClient
from finx_sync.functions.inputs import checked_name, checked_pair, checked_timeout
from finx_sync.messages import ContractTick, Tick
from finx_sync.moments import Moment, read_moment
from finx_sync.redaction import excerpt
from finx_sync.venues.finx import read_contracts, read_tick

__all__ = ["FinxRestFunctions", "Moment", "RestBackend", "http_url"]

QUOTE_WIDTH: Final = 10.0
SLICE_WIDTH: Final = 30.0
"""Seconds around a moment; the SDK's defaults."""
QUOTE_PERIODS: Final = 100
SLICE_PERIODS: Final = 10
"""The number of moments in a series; the SDK's default."""
LONGEST_SERIES: Final = 10_000
LAST_SECOND: Final = dt.datetime.max.replace(tzinfo=dt.timezone.utc).timestamp()


def http_url(base_url: str) -> str:
    """Return the HTTP address for a websocket address: ``https://host`` for ``wss://host``."""
    return "http" + base_url.removeprefix("ws").removeprefix("http").rstrip("/")


@dataclass(frozen=True)
class RestBackend:
    """The REST half of one server."""

    base_url: str
    account: Account
    client: HttpClient

    def get(self, function: str, path: str, params: dict[str, str], timeout: float) -> Any:
        """Request a path below ``/backend/``; see `HttpClient.get`."""
        url = f"{http_url(self.base_url)}/backend/{path}"
        return self.client.get(function, url, {"APIKey": self.account.current_key(), **params}, timeout)


class FinxRestFunctions(abc.ABC):
    """The REST functions. They may be called on any thread, even in a handler.

    All of them take `timeout`, seconds for the whole call, retries included, and raise FunctionTimeoutError,
    AuthorizationError, RateLimitedError, ServerRefusedError, ConnectError or ConnectionLostError; InvalidInputError
    before any I/O; UnreadableMessageError and UnexpectedReplyError for an answer that is not JSON or of another shape.
    """

    @abc.abstractmethod
    def _rest(self) -> AbstractContextManager[RestBackend]:
        """The server, for the time of one call."""

    def _get(self, function: str, path: str, timeout: float, **params: str | None) -> Any:
        seconds = checked_timeout(timeout)
        sent = {name: value for name, value in params.items() if value is not None}
        with self._rest() as backend:
            return backend.get(function, path, sent, seconds)

    def list_pairs(self, *, timeout: float = DEFAULT_TIMEOUT) -> list[str]:
        """Return the names of all pairs, like "BTC:USD"."""
        return _names("list_pairs", self._get("list_pairs", "observations/pairs", timeout))

    def get_pair_quote(
        self,
        pair: str,
        at: Moment | None = None,
        *,
        width: float = QUOTE_WIDTH,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Tick | None:
        """Return the newest quote of a pair, or one near a moment; None if none is near enough.

        Args:
            pair: like "BTC:USD".
            at: the moment; None for now.
            width: seconds around the moment to look in.
            timeout: seconds.
        """
        asked: dict[str, str | None] = {"pair": checked_pair(pair)}
        if at is not None:
            asked["unixTimeTarget"] = _shown(_unix_seconds(at))
            asked["timeTargetWidthSeconds"] = _shown(_width(width))
        return _quote(self._get("get_pair_quote", "observations/tick/snap", timeout, **asked))

    def get_pair_quote_series(
        self,
        pair: str,
        start: Moment,
        end: Moment,
        *,
        periods: int = QUOTE_PERIODS,
        width: float = QUOTE_WIDTH,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> dict[dt.datetime, Tick | None]:
        """Return quotes of a pair at evenly spaced moments, by moment: `start` is included, `end` is not.

        Args:
            pair: like "BTC:USD".
            start: the first moment.
            end: the moment after the last.
            periods: the number of moments; each is one request over the same connection.
            width: seconds around each moment to look in; the value is None if there is no quote.
            timeout: seconds for all of them.
        """
        checked_pair(pair)
        _width(width)
        until = _Until(timeout)
        moments = _moments(start, end, periods)
        return {at: self.get_pair_quote(pair, at, width=width, timeout=until.left()) for at in moments}

    def get_options_timeslice(
        self,
        base: str,
        at: Moment,
        *,
        width: float = SLICE_WIDTH,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> list[ContractTick]:
        """Return all options on a base instrument near a moment.

        Args:
            base: like "BTC".
            at: the moment.
            width: seconds around it.
            timeout: seconds.
        """
        rows = self._get(
            "get_options_timeslice",
            "observations/options/time_slice",
            timeout,
            underlying_symbol=checked_name(base, "a base instrument", "BTC"),
            timeslice_target_datestamp=_shown(_unix_seconds(at)),
            timeslice_width_seconds=_shown(_width(width)),
        )
        try:
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise _unexpected("get_options_timeslice", rows)
            return read_contracts(rows)
        except msgspec.ValidationError:
            raise _unexpected("get_options_timeslice", rows) from None

    def get_options_timeslice_series(
        self,
        base: str,
        start: Moment,
        end: Moment,
        *,
        periods: int = SLICE_PERIODS,
        width: float = SLICE_WIDTH,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> dict[dt.datetime, list[ContractTick]]:
        """Return all options on a base at evenly spaced moments, by moment; otherwise as `get_pair_quote_series`.

        Args:
            base: like "BTC".
            start: the first moment.
            end: the moment after the last.
            periods: the number of moments.
            width: seconds around each.
            timeout: seconds for all of them.
        """
        checked_name(base, "a base instrument", "BTC")
        _width(width)
        until = _Until(timeout)
        moments = _moments(start, end, periods)
        return {at: self.get_options_timeslice(base, at, width=width, timeout=until.left()) for at in moments}

    def _get_reference_data(self, security_id: str, timeout: float) -> Any:
        return self._get("get_reference_data", "reference/secdb", timeout, securityId=security_id)

    def _list_contracts_of(self, day: str, timeout: float) -> list[str]:
        names = self._get("list_contracts", "deribit/list-deribit-contracts", timeout, as_of_date=day)
        return _names("list_contracts", names)


class _Until:
    """One timeout over several calls."""

    def __init__(self, timeout: float) -> None:
        self._end = time.monotonic() + checked_timeout(timeout)

    def left(self) -> float:
        # A call that has no time left raises FunctionTimeoutError itself.
        return max(self._end - time.monotonic(), 1e-6)


def _unix_seconds(at: Moment) -> float:
    return read_moment(at).timestamp()


def _width(width: float) -> float:
    if isinstance(width, bool) or not isinstance(width, (int, float)) or not 0 <= width < LAST_SECOND:
        raise InvalidInputError(f"{width!r} is not a width; it is a number of seconds, 0 or more")
    return width


def _shown(seconds: float) -> str:
    """Write seconds as text, to the millisecond, without trailing zeros."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".")


def _moments(start: Moment, end: Moment, periods: int) -> Sequence[dt.datetime]:
    first, last = _unix_seconds(start), _unix_seconds(end)
    if not first < last:
        raise InvalidInputError(f"the series from {start!r} to {end!r} is empty: its end must come after its start")
    if isinstance(periods, bool) or not isinstance(periods, int) or not 1 <= periods <= LONGEST_SERIES:
        raise InvalidInputError(f"{periods!r} is not a number of periods; it is 1 to {LONGEST_SERIES}")
    step = (last - first) / periods
    return [dt.datetime.fromtimestamp(round(first + number * step, 3), dt.timezone.utc) for number in range(periods)]


def _quote(value: Any) -> Tick | None:
    if value in ({}, None):
        return None
    try:
        if not isinstance(value, dict):
            raise _unexpected("get_pair_quote", value)
        return read_tick(value)
    except msgspec.ValidationError:
        raise _unexpected("get_pair_quote", value) from None


def _names(function: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _unexpected(function, value)
    return value


def _unexpected(function: str, value: Any) -> UnexpectedReplyError:
    return UnexpectedReplyError(f"{function}: the server answered with another shape: {excerpt(repr(value), 200)}")
