"""FinX's functions as blocking methods (FinX documentation, *Functions* and *Streams*, August 2022; finx-io SDK)."""

from __future__ import annotations

import abc
import datetime as dt
from contextlib import AbstractContextManager
from typing import Any, Literal

import msgspec

from finx_sync.errors import InvalidInputError, UnexpectedReplyError
from finx_sync.functions.backend import DEFAULT_TIMEOUT, Answer, Functions
from finx_sync.functions.inputs import (
    checked_date,
    checked_five_minutes,
    checked_function,
    checked_name,
    checked_pair,
    checked_time,
    checked_timeout,
)
from finx_sync.functions.rest import FinxRestFunctions
from finx_sync.messages import ContractTick, Tick
from finx_sync.redaction import redact
from finx_sync.venues.base import Authentication
from finx_sync.venues.finx import History, NameList, read_contracts

__all__ = ["FinxFunctions"]


class FinxFunctions(FinxRestFunctions):
    """The functions; each opens a connection of its own, and may be called on any thread, also in a handler.

    All of them take `timeout`, seconds for the whole call, and raise FunctionTimeoutError, ServerRefusedError,
    AuthorizationError, ConnectError or ConnectionLostError, InvalidInputError before any I/O, UnexpectedReplyError for
    an answer of another function's shape, and UnsupportedError where the service has no such function.
    """

    @abc.abstractmethod
    def _backend(self) -> AbstractContextManager[Functions]:
        """The server, for the time of one call."""

    def _ask(self, function: str, timeout: float, **params: Any) -> Answer:
        seconds = checked_timeout(timeout)
        sent = {name: value for name, value in params.items() if value is not None}
        with self._backend() as backend:
            return backend.call(function, sent, seconds)

    def authenticate(self, *, timeout: float = DEFAULT_TIMEOUT) -> bool:
        """Ask whether the key is good; True, or AuthorizationError is raised."""
        answer = self._ask("authenticate", timeout)
        if not isinstance(answer.reply, Authentication):
            raise _unexpected("authenticate", answer)
        return answer.reply.accepted

    def get_tick_snap(
        self,
        pair: str,
        date: str | dt.date | None = None,
        time: str | dt.time | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Tick:
        """One price of a pair: the newest, or the one at a moment.

        Args:
            pair: like "BTC:USD".
            date: day in UTC, like "2022-06-15".
            time: time of day in UTC, like "21:27".
            timeout: seconds.
        """
        day = None if date is None else checked_date(date)
        answer = self._ask("tickSnap", timeout, pair=checked_pair(pair), date=day, time=checked_time(time))
        if not isinstance(answer.reply, Tick):
            raise _unexpected("tickSnap", answer)
        return answer.reply

    def get_tick_history(
        self,
        pair: str,
        date: str | dt.date,
        time: str | dt.time | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> list[Tick]:
        """A page of a day's prices of a pair, from all exchanges: up to 1000 rows after `time`, sorted by time.

        Args:
            pair: like "BTC:USD".
            date: day in UTC, like "2022-06-15".
            time: time of day in UTC; None for the day's beginning.
            timeout: seconds.
        """
        params = {"pair": checked_pair(pair), "date": checked_date(date), "time": checked_time(time) or "00:00"}
        answer = self._ask("tickHistory", timeout, **params)
        if not isinstance(answer.reply, History):
            raise _unexpected("tickHistory", answer)
        return sorted(answer.reply.rows, key=_when)

    def list_contracts(self, *, as_of: str | dt.date | None = None, timeout: float = DEFAULT_TIMEOUT) -> list[str]:
        """The names of all contracts: options, futures and perpetuals.

        Args:
            as_of: a day, like "2022-06-15", for those that were listed then (by REST); None for now.
            timeout: seconds.
        """
        if as_of is not None:
            return self._list_contracts_of(checked_date(as_of), timeout)
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
        """What FinX knows about a security, as it came: the answer's shape is not documented.

        Args:
            security_id: like "BTC-26AUG22-20000-C".
            via: which of the two that FinX has announced to ask.
            timeout: seconds.
        """
        name = checked_name(security_id, "a security id", "BTC-26AUG22-20000-C")
        if via not in ("websocket", "rest"):
            raise InvalidInputError(f"via is 'websocket' or 'rest', not {via!r}")
        if via == "rest":
            return self._get_reference_data(name, timeout)
        return self._ask("referenceData", timeout, securityId=name).value

    def get_five_minute_matrix(
        self, base: str, at: str | dt.datetime = "latest", *, timeout: float = DEFAULT_TIMEOUT
    ) -> list[ContractTick]:
        """All contracts of a base instrument at one moment.

        The answer's shape is not documented; a list of contract objects, or an object of such, is what is read.

        Args:
            base: "BTC", "ETH", "SOL" or "USDC".
            at: a moment on the five-minute grid in UTC, like "2022-08-04T04:05", or "latest".
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
        """Call any function by its wire name, and get its answer as plain JSON values, unread.

        Args:
            function_name: like "tickSnap"; also one that FinX adds later. On Deribit, a public method like
                "public/get_order_book".
            timeout: seconds.
            params: its fields by their wire names.
        """
        return self._ask(checked_function(function_name), timeout, **params).value


def _when(tick: Tick) -> tuple[str, str]:
    return tick.date, tick.time.removesuffix("Z")  # so that "40Z" comes before "40.453Z"


def _unexpected(function: str, answer: Answer) -> UnexpectedReplyError:
    shown = redact(answer.text[:400])[:200]
    return UnexpectedReplyError(f"{function}: the server answered with another shape: {shown}")
