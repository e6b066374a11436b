"""FinX's functions as blocking methods (FinX documentation, *Functions* and *Streams*, August 2022; finx-io SDK)."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from finx_sync.errors import InvalidInputError, UnexpectedReplyError, UnsupportedError
from finx_sync.functions.backend import DEFAULT_TIMEOUT, Backend, FunctionAnswer, Functions
from finx_sync.functions.exchange import Cancel
from finx_sync.functions.history import Report, fetch_history, stream_history
from finx_sync.functions.inputs import (
    checked_day,
    checked_field,
    checked_five_minutes,
    checked_function,
    checked_name,
    checked_pair,
    checked_start,
    checked_timeout,
)
from finx_sync.functions.query import HistoryOptions, HistoryQuery, with_history_options
from finx_sync.functions.rest import FinxRestFunctions
from finx_sync.messages import ContractTick, Tick
from finx_sync.moments import Moment, TimeOfDay
from finx_sync.redaction import excerpt
from finx_sync.ticks import TickHistory
from finx_sync.venues.base import Authentication
from finx_sync.venues.finx import HistoryReply, NameList, read_contracts

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["FinxFunctions"]


class FinxFunctions(FinxRestFunctions):
    """The functions. Each opens its own connection, and may be called on any thread, even in a handler.

    All of them take `timeout`, seconds for the whole call, and raise FunctionTimeoutError, ServerRefusedError,
    AuthorizationError, ConnectError or ConnectionLostError, InvalidInputError before any I/O, UnexpectedReplyError for
    an answer of another function's shape, and UnsupportedError if the service has no such function.
    """

    @abc.abstractmethod
    def _backend(self) -> AbstractContextManager[Functions]:
        """The server, for the time of one call."""

    def _ask(self, function: str, timeout: float, **params: Any) -> FunctionAnswer:
        seconds = checked_timeout(timeout)
        sent = {name: value for name, value in params.items() if value is not None}
        with self._backend() as backend:
            return backend.call(function, sent, seconds)

    def authenticate(self, *, timeout: float = DEFAULT_TIMEOUT) -> bool:
        """Check the key: returns True, or raises AuthorizationError."""
        answer = self._ask("authenticate", timeout)
        if not isinstance(answer.reply, Authentication):
            raise _unexpected("authenticate", answer)
        return answer.reply.accepted

    def get_tick_snap(
        self,
        pair: str,
        date: Moment | None = None,
        time: TimeOfDay | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Tick:
        """Return one price of a pair: the newest, or the one at a moment.

        Args:
            pair: like "BTC:USD".
            date: day in UTC, like "2022-06-15", for its last price; or a moment, like a datetime or
                "2022-06-15T21:27". See `finx_sync.moments` for the accepted forms of dates and times.
            time: time of that day in UTC, like "21:27"; not if `date` has one. If it has a zone, `date` is a day of
                that zone.
            timeout: seconds.
        """
        day, clock = checked_start(date, time)
        answer = self._ask("tickSnap", timeout, pair=checked_pair(pair), date=day, time=clock)
        if not isinstance(answer.reply, Tick):
            raise _unexpected("tickSnap", answer)
        return answer.reply

    @with_history_options
    def get_tick_history(
        self,
        pair: str,
        date: Moment,
        time: TimeOfDay | None = None,
        *,
        progress: Report = False,
        **options: Unpack[HistoryOptions],
    ) -> TickHistory:
        """The prices of a pair from all exchanges: a complete day, or a span of days, sorted by time.

        It fetches pages of 1000 rows over several short-lived connections at once. Ctrl+C, an error and the timeout end
        them all. A page that fails is requested again, with growing pauses.

        Args:
            pair: like "BTC:USD".
            date: day in UTC, like "2022-06-15"; or the moment to begin at, like a datetime or "2022-06-15T12:00",
                which is equivalent to that day and `time`.
            time: only ticks after this time of day in UTC; None or midnight for the whole day. If it has a zone,
                `date` is a day of that zone. Not if `date` has its own time.
            end: only ticks until then, that moment included: a time of the same day ("13:00"), a later day
                ("2022-06-30", with all of it) or a moment ("2022-06-30T12:00", a datetime); None for the day's end.
            limit: at most this many ticks, the first ones.
            every: only the first tick of each period of this length, like "1min", "1m" or a timedelta; periods begin
                at midnight UTC.
            exchange: only ticks of this exchange, like "COINBASE".
            strict: raise IncompleteHistoryError if `TickHistory.complete` would be False.
            workers: the number of simultaneous connections.
            progress: True draws a bar on the terminal; or a function, called on this thread with each `Progress`.
            cache: a folder that keeps whole past days, and the rows of interrupted calls.
            timeout: seconds for the whole call; None allows 120 for each day.

        Raises:
            IncompleteHistoryError: see `strict`.
            FinxSyncError: pages could not be fetched, even by repeated requests; the error's `history` has what was
                fetched until then.
        """
        query = HistoryQuery(pair, date, time, **options)
        with self._backend() as backend:
            return fetch_history(_with_pages(backend), query, progress)

    def _tick_history_between(self, pair: str, first: int, last: int, timeout: float, cancel: Cancel) -> TickHistory:
        """Return the ticks from one millisecond since the epoch to another, both included; see `get_tick_history`."""
        query = HistoryQuery.between(pair, first, last, timeout)
        with self._backend() as backend:
            return fetch_history(_with_pages(backend), query, cancel=cancel)

    @with_history_options
    def iter_tick_history(
        self, pair: str, date: Moment, time: TimeOfDay | None = None, **options: Unpack[HistoryOptions]
    ) -> Iterator[Tick]:
        """As `get_tick_history`, tick by tick, with only some 50 000 rows in memory at a time, however long the span.

        Nothing runs between two stretches of rows, or after the iterator is closed.

        Args:
            pair: as in `get_tick_history`, like all arguments that are not described here.
            date: the first day, or the moment to begin at.
            time: only ticks after this time of that day.
            options: `strict` raises at a stretch that is not proven complete; otherwise a warning is logged. With
                `cache`, a whole day at a time is in memory. `timeout` is for each stretch of rows; None allows 120 s
                for each day of the span.

        Raises:
            IncompleteHistoryError: see `strict`.
        """
        query = HistoryQuery(pair, date, time, **options)

        def ticks() -> Iterator[Tick]:
            with self._backend() as backend:
                yield from stream_history(_with_pages(backend), query)

        return ticks()

    def get_tick_history_page(
        self,
        pair: str,
        date: Moment,
        time: TimeOfDay | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> list[Tick]:
        """Return one page of a day as the server sends it: up to 1000 rows after `time`, sorted by time.

        Args:
            pair: like "BTC:USD".
            date: day in UTC, like "2022-06-15"; or a moment, like a datetime or "2022-06-15T12:00".
            time: time of that day in UTC; None for the day's beginning.
            timeout: seconds.
        """
        day, clock = checked_start(date, time)
        params = {"pair": checked_pair(pair), "date": day, "time": clock or "00:00"}
        answer = self._ask("tickHistory", timeout, **params)
        if not isinstance(answer.reply, HistoryReply):
            raise _unexpected("tickHistory", answer)
        return sorted(answer.reply.rows, key=_when)

    def list_contracts(self, *, as_of: Moment | None = None, timeout: float = DEFAULT_TIMEOUT) -> list[str]:
        """Return the names of all contracts: options, futures and perpetuals.

        Args:
            as_of: a whole day, like "2022-06-15", for the contracts listed on it (by REST); None for now.
            timeout: seconds.
        """
        if as_of is not None:
            return self._list_contracts_of(checked_day(as_of), timeout)
        answer = self._ask("listDeribitContracts", timeout)
        if not isinstance(answer.reply, NameList):
            raise _unexpected("listDeribitContracts", answer)
        return answer.reply.names

    def get_reference_data(
        self,
        security_id: str,
        *,
        via: Literal["websocket", "rest"] = "websocket",
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Any:
        """Return FinX's answer about a security, unchanged: its shape is not documented.

        Args:
            security_id: like "BTC-26AUG22-20000-C".
            via: which of the two ways that FinX has announced to use.
            timeout: seconds.
        """
        name = checked_name(security_id, "a security id", "BTC-26AUG22-20000-C")
        if via not in ("websocket", "rest"):
            raise InvalidInputError(f"via is 'websocket' or 'rest', not {via!r}")
        if via == "rest":
            return self._get_reference_data(name, timeout)
        return self._ask("referenceData", timeout, securityId=name).value

    def get_five_minute_matrix(
        self, base: str, at: Moment = "latest", *, timeout: float = DEFAULT_TIMEOUT
    ) -> list[ContractTick]:
        """Return all contracts of a base instrument at one moment.

        The answer's shape is not documented; this accepts a list of contract objects, or an object of them.

        Args:
            base: "BTC", "ETH", "SOL" or "USDC".
            at: a moment on the five-minute grid in UTC, like "2022-08-04T04:05" or a datetime; or "latest".
            timeout: seconds.
        """
        answer = self._ask(
            "getFiveMinMatrix",
            timeout,
            baseInstrument=checked_name(base, "a base instrument", "BTC"),
            fiveMinuteDateTime=checked_five_minutes(at),
        )
        rows = answer.value
        if isinstance(rows, dict):
            rows = list(rows.values())
        try:
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise _unexpected("getFiveMinMatrix", answer)
            return read_contracts(rows)
        except msgspec.ValidationError as error:
            raise _unexpected("getFiveMinMatrix", answer) from error

    def call(self, function_name: str, *, timeout: float = DEFAULT_TIMEOUT, **params: Any) -> Any:
        """Call any function by its wire name, and return its answer as plain JSON values.

        Args:
            function_name: like "tickSnap", or one that FinX adds later. On Deribit, a public method like
                "public/get_order_book".
            timeout: seconds.
            params: its fields by their wire names, as JSON values; a date becomes "2022-06-15", a time "21:27".
        """
        fields = {name: checked_field(value) for name, value in params.items()}
        return self._ask(checked_function(function_name), timeout, **fields).value


def _with_pages(backend: Functions) -> Backend:
    """Return the server if it has pages of history."""
    if not isinstance(backend, Backend):
        raise UnsupportedError("only FinX has a history of ticks; choose an environment of FinX")
    return backend


def _when(tick: Tick) -> tuple[str, str]:
    return tick.date, tick.time.removesuffix("Z")  # so that "40Z" comes before "40.453Z"


def _unexpected(function: str, answer: FunctionAnswer) -> UnexpectedReplyError:
    shown = excerpt(answer.text, 200)
    return UnexpectedReplyError(f"{function}: the server answered with another shape: {shown}")
