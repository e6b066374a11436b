"""Kraken's websocket protocol, version 2: frames to messages and back.

Source: docs.kraken.com, *WebSocket API v2*, channels status, heartbeat, ticker, trade and book, method ping.

A refusal names the pair, but not the channel. It repeats the request's ``req_id``, which the client chooses, so each
channel has its own ``req_id``, and requests need not be remembered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any, Final

import msgspec

from finx_sync.errors import UnreadableMessageError
from finx_sync.messages import Message
from finx_sync.venues.base import (
    Codec,
    Confirmed,
    Decoded,
    Ignored,
    KeepAliveReply,
    Refused,
    Request,
    ServerError,
    Subscription,
    Unknown,
    Unreadable,
    VenueState,
    words,
)
from finx_sync.venues.base.columns import Columns, Row, TableFormat, of_message
from finx_sync_kraken.messages import BookGranted, BookUpdate, ExactLevel, KrakenTicker, KrakenTrade, Trades
from finx_sync_kraken.state import KrakenState

__all__ = ["CHANNELS", "DEFAULT_DEPTH", "DEPTHS", "KrakenCodec"]

CHANNELS: Final = ("ticker", "trade", "book")
NUMBERS: Final = {channel: number for number, channel in enumerate(CHANNELS, 1)}
"""The ``req_id`` of each channel's requests."""
CHANNEL_OF: Final = {number: channel for channel, number in NUMBERS.items()}
DEPTHS: Final = (10, 25, 100, 500, 1000)
DEFAULT_DEPTH: Final = 10
TOGETHER: Final = 100
"""The number of pairs in one request; the documentation gives no limit."""
PING: Final = '{"method":"ping","req_id":9}'

LARGEST: Final = Decimal(10**20)
MOST_DECIMALS: Final = 20
"""Limits for the numbers of a book: for the checksum they are written out, and 1e999999 would fill the memory."""

LEVEL: Final[Columns] = {
    "symbol": "text",
    "is_snapshot": "bool",
    "checksum": "int",
    "timestamp": "text",
    "side": "text",
    "price": "float",
    "qty": "float",
}


class KrakenCodec(Codec):
    """Kraken's codec.

    Args:
        url: ``wss://host``.

    Attributes:
        depths: the number of levels on each side of a pair's book, if it is not `DEFAULT_DEPTH`.
    """

    venue = "Kraken"
    message_types = (KrakenTicker, Trades, BookUpdate)
    kinds = {KrakenTicker: "ticker", Trades: "trade", BookUpdate: "book"}  # noqa: RUF012  # a ClassVar in the base class

    def __init__(self, url: str = "") -> None:
        super().__init__(url)
        self.depths: dict[str, int] = {}

    def url(self, key: Any, endpoint: str) -> str:
        return self.base_url if self.base_url.endswith("/v2") else f"{self.base_url}/v2"

    def subscribe(self, key: Any, subscription: Subscription) -> str | None:
        return self._command("subscribe", subscription.kind, [subscription.name])

    def subscribe_all(self, key: Any, subscriptions: Sequence[Subscription], first: int) -> list[Request]:
        """One request for each channel and each depth of books, with at most `TOGETHER` pairs in each."""
        together: dict[tuple[str, int], list[Subscription]] = {}
        for one in subscriptions:
            depth = self.depth(one.name) if one.kind == "book" else 0
            together.setdefault((one.kind, depth), []).append(one)
        parts = [
            (kind, some[begin : begin + TOGETHER])
            for (kind, _), some in together.items()
            for begin in range(0, len(some), TOGETHER)
        ]
        return [
            Request(self._command("subscribe", kind, [one.name for one in part]), "subscribe", tuple(part))
            for kind, part in parts
        ]

    def unsubscribe(self, key: Any, subscription: Subscription) -> str | None:
        return self._command("unsubscribe", subscription.kind, [subscription.name])

    def depth(self, symbol: str) -> int:
        """The number of levels on each side of a pair's book."""
        return self.depths.get(symbol, DEFAULT_DEPTH)

    def _command(self, method: str, channel: str, symbols: list[str]) -> str:
        params: dict[str, Any] = {"channel": channel, "symbol": symbols}
        if channel == "book":
            params["depth"] = self.depth(symbols[0])
        return json.dumps({"method": method, "params": params, "req_id": NUMBERS[channel]}, separators=(",", ":"))

    def probe(self, key: Any) -> str | None:
        return PING

    def decode(self, payloads: Sequence[bytes]) -> list[Decoded]:
        return [_decode(payload) for payload in payloads]

    def formats(self, decoded: Iterable[Decoded]) -> Sequence[TableFormat]:
        return [
            of_message(KrakenTicker),
            of_message(KrakenTrade),
            TableFormat(BookUpdate, "kraken_book", LEVEL, _rows),
        ]

    def new_state(
        self,
        lock: AbstractContextManager[Any] | None = None,
        after: VenueState | None = None,
        *,
        everything: bool = False,
    ) -> KrakenState:
        return KrakenState(lock, after if isinstance(after, KrakenState) else None)


class _Frame(msgspec.Struct, gc=False):
    """Any frame of the server; its data is decoded when the channel is known."""

    channel: str | None = None
    type: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    method: str | None = None
    success: bool | None = None
    result: Any = None
    error: Any = None
    symbol: Any = None
    req_id: Any = None


class _Level(msgspec.Struct, gc=False):
    price: Decimal
    qty: Decimal


class _Book(msgspec.Struct, gc=False):
    symbol: str
    checksum: int
    bids: list[_Level] = []
    asks: list[_Level] = []
    timestamp: str | None = None


_decode_frame = msgspec.json.Decoder(_Frame).decode
_decode_ticker = msgspec.json.Decoder(tuple[KrakenTicker]).decode
_decode_trades = msgspec.json.Decoder(list[KrakenTrade]).decode
_decode_book = msgspec.json.Decoder(tuple[_Book]).decode


def _decode(payload: bytes) -> Decoded:
    try:
        frame = _decode_frame(payload)
        read = _READERS.get(frame.channel or "")
        if read is not None:
            return read(frame)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        text = str(payload, "utf-8", "replace")
        return Unreadable(UnreadableMessageError(f"not a message of Kraken: {error}", text))
    if frame.channel is not None:
        return Unknown()
    return _answer(frame)


def _answer(frame: _Frame) -> Decoded:
    """Decode the answer to a request."""
    if frame.method == "pong":
        return KeepAliveReply()
    if frame.method == "subscribe" and frame.success:
        return _granted(frame.result)
    if frame.method == "unsubscribe" and frame.success:
        return Ignored()
    if frame.error is None:
        return Unknown()
    said = words(frame.error)
    channel = CHANNEL_OF.get(frame.req_id) if isinstance(frame.req_id, int) else None
    if frame.method == "subscribe" and channel is not None and isinstance(frame.symbol, str):
        return Refused(Subscription(channel, frame.symbol), said)
    return ServerError(said)


def _granted(result: Any) -> Decoded:
    if not isinstance(result, dict) or result.get("channel") not in CHANNELS:
        return Unknown()
    subscription = Subscription(result["channel"], words(result.get("symbol", "")))
    if subscription.kind != "book":
        return Confirmed(subscription)
    depth = result.get("depth")
    return BookGranted(subscription, depth if depth in DEPTHS else DEFAULT_DEPTH)


# Decoding data


def _ticker(frame: _Frame) -> Message:
    (ticker,) = _decode_ticker(frame.data)
    return ticker


def _trades(frame: _Frame) -> Decoded:
    trades = _decode_trades(frame.data)
    return Trades(symbol=trades[0].symbol, trades=trades) if trades else Ignored()


def _book(frame: _Frame) -> Message:
    (book,) = _decode_book(frame.data)
    return BookUpdate(
        symbol=book.symbol,
        is_snapshot=frame.type == "snapshot",
        bids=[_checked(level) for level in book.bids],
        asks=[_checked(level) for level in book.asks],
        checksum=book.checksum,
        timestamp=book.timestamp,
    )


def _checked(level: _Level) -> ExactLevel:
    """Return a level's price and quantity.

    Raises:
        ValueError: they are not a valid price and quantity.
    """
    for number in (level.price, level.qty):
        if not (number.is_finite() and 0 <= number < LARGEST and number.as_tuple().exponent >= -MOST_DECIMALS):  # type: ignore[operator]
            raise ValueError("a level of the book has no valid price and quantity")
    return level.price, level.qty


def _status(frame: _Frame) -> Decoded:
    """Decode the exchange's state, which is sent after connecting and when it changes."""
    states = msgspec.json.decode(frame.data, type=list[dict[str, Any]])
    troubles = [words(state["system"]) for state in states if state.get("system", "online") != "online"]
    return ServerError(f"the exchange's state is {troubles[-1]}") if troubles else Ignored()


_READERS: Final[dict[str, Callable[[_Frame], Decoded]]] = {
    "ticker": _ticker,
    "trade": _trades,
    "book": _book,
    "status": _status,
    "heartbeat": lambda frame: Ignored(),
}


def _rows(update: BookUpdate) -> Iterable[Row]:
    """Return one row for each level in a snapshot or an update."""
    about = {
        "symbol": update.symbol,
        "is_snapshot": update.is_snapshot,
        "checksum": update.checksum,
        "timestamp": update.timestamp,
    }
    sides = (("bid", update.bids), ("ask", update.asks))
    return [
        {**about, "side": side, "price": float(price), "qty": float(qty)} for side, some in sides for price, qty in some
    ]
