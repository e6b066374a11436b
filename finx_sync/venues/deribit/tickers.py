"""Conversion of Deribit's notifications to messages.

FinX's contract object is Deribit's ticker: the same fields in the same order, with `redis_key` at the front and the
fields of `greeks` and `stats` flattened at the end. So a handler that was written for FinX works with Deribit's feed.

Sources: Deribit API documentation, channels *ticker.{instrument_name}.{interval}* and
*deribit_price_index.{index_name}*; frames captured in July 2021.
"""

from __future__ import annotations

import datetime as dt
import operator
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar

import msgspec

from finx_sync.messages import ContractTick, Integer, Message, Name, Number, SpotTick, Text, wire_fields
from finx_sync.venues.finx import read_contracts

__all__ = ["EXCHANGE", "ChannelUpdate", "index_of", "read_index", "read_ticker", "tick_of"]

EXCHANGE: Final = "DERIBIT"
"""The `exchange` of index prices."""


@wire_fields
class ChannelUpdate(Message, frozen=True, kw_only=True, gc=False):
    """A notification of any other channel; recordings made by other programs contain them.

    Attributes:
        channel: like "trades.BTC-PERPETUAL.100ms".
        data: the notification's data, as plain JSON values.
    """

    channel: Name
    data: Any

    name_of = operator.attrgetter("channel")

    @property
    def name(self) -> str:
        """The channel."""
        return self.channel


class _Greeks(msgspec.Struct, gc=False):
    vega: Number
    theta: Number
    rho: Number
    gamma: Number
    delta: Number


class _Stats(msgspec.Struct, gc=False):
    volume: Number
    price_change: Number
    low: Number
    high: Number


class _Ticker(msgspec.Struct, kw_only=True, gc=False):
    timestamp: Integer
    stats: _Stats
    state: Text
    settlement_price: Number
    open_interest: Number
    min_price: Number
    max_price: Number
    mark_price: Number
    last_price: Number
    instrument_name: Name
    index_price: Number
    estimated_delivery_price: Number
    best_bid_price: Number
    best_bid_amount: Number
    best_ask_price: Number
    best_ask_amount: Number
    # Only options have the following fields.
    underlying_price: Number = None
    underlying_index: Text = None
    mark_iv: Number = None
    interest_rate: Number = None
    greeks: _Greeks | None = None
    bid_iv: Number = None
    ask_iv: Number = None


class _Index(msgspec.Struct, gc=False):
    timestamp: int
    price: Number
    index_name: Name


_Data = TypeVar("_Data")


class _Params(msgspec.Struct, Generic[_Data], gc=False):
    data: _Data


class _Notification(msgspec.Struct, Generic[_Data], gc=False):
    params: _Params[_Data]


_decode_ticker = msgspec.json.Decoder(_Notification[_Ticker]).decode
_decode_index = msgspec.json.Decoder(_Notification[_Index]).decode
_decode_any = msgspec.json.Decoder().decode

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
_NO_GREEKS: Final = _Greeks(None, None, None, None, None)
_NOT_OF_FUTURES: Final = (
    "underlying_price", "underlying_index", "mark_iv", "interest_rate", "bid_iv", "ask_iv",
    "vega", "theta", "rho", "gamma", "delta",
)  # fmt: skip


def read_ticker(payload: bytes) -> ContractTick:
    """Decode a ticker notification.

    Raises:
        msgspec.MsgspecError: it is not a ticker, or a field that all tickers have is missing; see `tick_of`.
    """
    ticker = _decode_ticker(payload).params.data
    greeks, stats = ticker.greeks, ticker.stats
    absent: tuple[str, ...] = ()
    if greeks is None:
        absent, greeks = _NOT_OF_FUTURES, _NO_GREEKS
    elif None in (ticker.underlying_price, ticker.mark_iv, ticker.interest_rate, ticker.bid_iv, ticker.ask_iv):
        return tick_of(_decode_any(payload)["params"]["data"])  # null or missing: decided by `tick_of`
    return ContractTick(
        redis_key=ticker.instrument_name,
        underlying_price=ticker.underlying_price,
        underlying_index=ticker.underlying_index,
        timestamp=ticker.timestamp,
        state=ticker.state,
        settlement_price=ticker.settlement_price,
        open_interest=ticker.open_interest,
        min_price=ticker.min_price,
        max_price=ticker.max_price,
        mark_price=ticker.mark_price,
        mark_iv=ticker.mark_iv,
        last_price=ticker.last_price,
        interest_rate=ticker.interest_rate,
        instrument_name=ticker.instrument_name,
        index_price=ticker.index_price,
        estimated_delivery_price=ticker.estimated_delivery_price,
        bid_iv=ticker.bid_iv,
        best_bid_price=ticker.best_bid_price,
        best_bid_amount=ticker.best_bid_amount,
        best_ask_price=ticker.best_ask_price,
        best_ask_amount=ticker.best_ask_amount,
        ask_iv=ticker.ask_iv,
        vega=greeks.vega,
        theta=greeks.theta,
        rho=greeks.rho,
        gamma=greeks.gamma,
        delta=greeks.delta,
        volume=stats.volume,
        price_change=stats.price_change,
        low=stats.low,
        high=stats.high,
        absent=absent,
    )


def tick_of(data: Any) -> ContractTick:
    """Convert a decoded ticker to a contract message, whatever fields it has.

    Raises:
        msgspec.ValidationError: it has no name, or a value has the wrong type.
    """
    if not isinstance(data, dict):
        raise msgspec.ValidationError("the data of a ticker is not an object")
    flat = {"redis_key": data.get("instrument_name"), **data}
    for box in ("greeks", "stats"):
        inner = flat.pop(box, None)
        flat.update(inner if isinstance(inner, dict) else {})
    return read_contracts([flat])[0]


def read_index(payload: bytes) -> SpotTick:
    """Decode an index price notification.

    The index has one time, in milliseconds: `unix_date` is that time in whole seconds, as in FinX's messages, and
    `utc_date` includes the milliseconds.

    Raises:
        msgspec.MsgspecError: it is not an index price.
        OverflowError: its time is out of range.
    """
    index = _decode_index(payload).params.data
    seconds, milliseconds = divmod(index.timestamp, 1000)
    moment = _EPOCH + dt.timedelta(seconds=seconds)
    return SpotTick(
        pair=_pair_of(index.index_name),
        unix_date=seconds,
        utc_date=f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z",
        exchange=EXCHANGE,
        price=index.price,
    )


@lru_cache(maxsize=1024)
def _pair_of(index: str) -> str:
    """Convert Deribit's ``btc_usd`` to FinX's ``BTC:USD``."""
    return index.upper().replace("_", ":", 1)


def index_of(pair: str) -> str:
    """Convert FinX's ``BTC:USD`` to Deribit's ``btc_usd``."""
    return pair.lower().replace(":", "_", 1)
