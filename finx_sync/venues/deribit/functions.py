"""FinX's functions, as far as Deribit's public methods can answer them; no key needed.

Sources: Deribit API documentation, *public/get_instruments*, *public/get_instrument*, *public/get_index_price*,
*public/get_book_summary_by_currency*. FinX's `listDeribitContracts` returns the names that the first of them lists.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from finx_sync.errors import ServerRefusedError, UnexpectedReplyError, UnreadableMessageError, UnsupportedError
from finx_sync.functions.backend import FunctionAnswer
from finx_sync.functions.exchange import exchange
from finx_sync.messages import ContractTick, Tick
from finx_sync.redaction import excerpt
from finx_sync.session.options import Options
from finx_sync.venues.deribit.codec import rpc, websocket_url, words_of
from finx_sync.venues.deribit.tickers import EXCHANGE, index_of
from finx_sync.venues.finx import NameList, Raw

__all__ = ["DeribitBackend"]

REQUEST_ID: Final = 1
WIRE_NAMES: Final = frozenset(field.encode_name for field in msgspec.structs.fields(ContractTick))
SUMMARY: Final = {
    "timestamp": "creation_timestamp",
    "last_price": "last",
    "best_bid_price": "bid_price",
    "best_ask_price": "ask_price",
}
"""The fields of a contract that have other names in its summary."""
PUBLIC: Final = "public/"
"""The prefix of methods that require no login."""


class DeribitBackend:
    """Calls functions at one Deribit server.

    Args:
        base_url: ``wss://host``.
        options: the options for TLS, the proxy and the size limit are used.
    """

    def __init__(self, base_url: str, options: Options) -> None:
        self._url = websocket_url(base_url)
        self._options = options

    def call(self, function: str, params: Mapping[str, Any], timeout: float) -> FunctionAnswer:
        """Call a FinX function, or one of Deribit's public methods (``public/...``).

        Raises:
            UnsupportedError: Deribit has no equivalent of the function.
            FunctionTimeoutError: the call took longer than `timeout` seconds.
            ServerRefusedError: the server answered with an error.
            ConnectError, ConnectionLostError: no connection could be opened, or it ended before the answer.
            UnreadableMessageError, UnexpectedReplyError: the answer is not JSON, or has an unexpected shape.
        """
        if function.startswith(PUBLIC):
            result, _ = self._ask(function, function, params, timeout)
            return _answer(Raw(result), result)
        if function == "listDeribitContracts":
            method, sent = "public/get_instruments", {"currency": "any", "expired": False}
        elif function == "referenceData":
            method, sent = "public/get_instrument", {"instrument_name": params["securityId"]}
        elif function == "tickSnap" and not params.keys() & {"date", "time"}:
            method, sent = "public/get_index_price", {"index_name": index_of(params["pair"])}
        elif function == "getFiveMinMatrix" and params["fiveMinuteDateTime"] == "latest":
            method, sent = "public/get_book_summary_by_currency", {"currency": params["baseInstrument"]}
        else:
            raise UnsupportedError(
                f"Deribit does not support {function}, or not for times in the past; it supports list_contracts, "
                "get_tick_snap and get_five_minute_matrix for the current time, get_reference_data and "
                "call('public/...'); everything else needs FinX"
            )
        result, frame = self._ask(function, method, sent, timeout)
        try:
            if function == "listDeribitContracts":
                names = [row["instrument_name"] for row in result]
                return _answer(NameList(names), names)
            if function == "tickSnap":
                return _answer(_tick(params["pair"], result, frame), result)
            if function == "getFiveMinMatrix":
                contracts = [_contract(row) for row in result]
                return _answer(Raw(contracts), contracts)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            shown = excerpt(json.dumps(frame), 200)
            raise UnexpectedReplyError(f"{function}: the server answered with another shape: {shown}") from error
        return _answer(Raw(result), result)

    def _ask(
        self, function: str, method: str, params: Mapping[str, Any], timeout: float
    ) -> tuple[Any, Mapping[str, Any]]:
        """Call a method; return its result and the whole frame."""

        def read(text: str) -> Any:
            try:
                frame = msgspec.json.decode(text)
            except (msgspec.DecodeError, ValueError, RecursionError) as error:
                raise UnreadableMessageError(f"not JSON: {error}", text) from error
            if not isinstance(frame, dict) or frame.get("id") not in (REQUEST_ID, None) or "method" in frame:
                return None
            if "error" in frame:
                raise ServerRefusedError(function, words_of(frame["error"]))
            return frame if "result" in frame else None

        request = rpc(REQUEST_ID, method, **params)
        frame, _ = exchange(function, self._url, request, read, options=self._options, timeout=timeout)
        return frame["result"], frame


def _answer(reply: Any, value: Any) -> FunctionAnswer:
    return FunctionAnswer(reply, json.dumps(value))


def _contract(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a summary to a contract object of FinX's matrix, without the fields that the summary lacks."""
    renamed = {ours: summary[theirs] for ours, theirs in SUMMARY.items() if theirs in summary}
    return {**{name: value for name, value in summary.items() if name in WIRE_NAMES}, **renamed}


def _tick(pair: str, result: Mapping[str, Any], frame: Mapping[str, Any]) -> Tick:
    """Return the index price as a tick, with the time of the server's answer (`usOut`, microseconds)."""
    moment = dt.datetime(1970, 1, 1) + dt.timedelta(milliseconds=frame["usOut"] // 1000)
    return Tick(
        pair=pair,
        date=f"{moment:%Y-%m-%d}",
        time=f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}Z",
        exchange=EXCHANGE,
        price=float(result["index_price"]),
    )
