"""FTX's websocket protocol: frames to messages and back.

The exchange is gone; bots, recordings and simulators that speak its protocol are not. Sources: FTX documentation,
*Websocket API*; frames captured in July 2021; the clients of that time, for what the documentation leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import msgspec

from finx_sync.config import SANDBOX
from finx_sync.errors import UnreadableMessageError
from finx_sync.messages import Message, without_internal
from finx_sync.venues.base import (
    Codec,
    Decoded,
    Ignored,
    KeepAliveReply,
    Periodic,
    Reconnect,
    Subscription,
    Unknown,
    Unreadable,
    VenueState,
)
from finx_sync.venues.base.columns import TableFormat
from finx_sync.venues.ftx.columns import formats
from finx_sync.venues.ftx.messages import (
    BookUpdate,
    Fills,
    FtxAnswer,
    FtxFill,
    FtxMarkets,
    FtxOrder,
    FtxPay,
    FtxTicker,
    FtxTrade,
    GroupedBookUpdate,
    Level,
    Orders,
    Payments,
    Trades,
    _InMarket,
)
from finx_sync.venues.ftx.requests import PING, command, login
from finx_sync.venues.ftx.state import FtxState

__all__ = ["ENVIRONMENTS", "EXAMPLE", "FtxCodec"]

EXAMPLE: Final = "wss://host/ws/"
ENVIRONMENTS: Final[dict[str, str | None]] = {SANDBOX: None}
"""The exchange is gone, and its address with it."""
PING_INTERVAL: Final = 15.0
"""Seconds between two pings, which are messages of FTX's own (documentation)."""
RESTART: Final = 20001
"""Code of the info frame that asks for a new connection (documentation)."""

BROKEN: Final = "Internal server error"

_set_market: Final = _InMarket.__dict__["market"].__set__
_set_absent: Final = Message.__dict__["absent"].__set__
"""Past `frozen`: a message is completed here, before anyone sees it."""


class _Frame(msgspec.Struct, gc=False):
    """Any frame of the server's; the data is looked at once the channel is known."""

    type: str
    channel: str | None = None
    market: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    code: int | None = None
    msg: str | None = None


class _Book(msgspec.Struct, gc=False):
    """An order book's data; the grouped one has neither action nor checksum, nor always a time."""

    bids: list[Level]
    asks: list[Level]
    action: str | None = None
    time: float | None = None
    checksum: int | None = None


class _Market(msgspec.Struct, gc=False):
    """The market that a fill or an order names in its data."""

    market: str


class _Markets(msgspec.Struct, gc=False):
    """The data of `markets`, which is called data once more."""

    data: dict[str, dict[str, Any]]
    action: str | None = None


class FtxCodec(Codec):
    """FTX's codec.

    Args:
        url: ``wss://host/ws/``.

    Attributes:
        groupings: the step in which each market's grouped book is asked for; set before it is subscribed.
    """

    venue = "FTX"
    message_types = (FtxTicker, FtxMarkets, Trades, Fills, Orders, Payments, BookUpdate, GroupedBookUpdate)
    kinds = {  # noqa: RUF012  # a ClassVar of the base
        FtxTicker: "ticker",
        FtxMarkets: "markets",
        Trades: "trades",
        Fills: "fills",
        Orders: "orders",
        Payments: "ftxpay",
        BookUpdate: "orderbook",
        GroupedBookUpdate: "orderbookGrouped",
    }

    def __init__(self, url: str = EXAMPLE) -> None:
        super().__init__(url)
        self.groupings: dict[str, float] = {}

    def go_to(self, url: str) -> None:
        parts = urlsplit(url)
        self._url = urlunsplit(parts._replace(path=parts.path if parts.path.strip("/") else "/ws/"))

    def new_state(
        self,
        lock: AbstractContextManager[Any] | None = None,
        after: VenueState | None = None,
        *,
        everything: bool = False,
    ) -> FtxState:
        return FtxState(lock, after.seen if isinstance(after, FtxState) else None)

    def begins_state(self, message: Message) -> bool:
        return isinstance(message, (BookUpdate, FtxMarkets)) and message.action == "partial"

    def formats(self, decoded: Iterable[Decoded]) -> Sequence[TableFormat]:
        return formats()

    def url(self, key: Any, endpoint: str) -> str:
        return self._url

    def opening(self, key: Any, now: float) -> Sequence[str]:
        """Log in twice: the first login succeeds silently, and the second is answered."""
        return [login(key, now)] * 2 if key else []

    def subscribe(self, key: Any, subscription: Subscription) -> str | None:
        return self._command("subscribe", subscription)

    def unsubscribe(self, key: Any, subscription: Subscription) -> str | None:
        return self._command("unsubscribe", subscription)

    def _command(self, op: str, subscription: Subscription) -> str:
        is_grouped = subscription.kind == "orderbookGrouped"
        return command(op, subscription, self.groupings.get(subscription.name) if is_grouped else None)

    def probe(self, key: Any) -> str | None:
        return PING

    def periodic(self, key: Any) -> Sequence[Periodic]:
        return [Periodic(PING_INTERVAL, PING)]

    def decode(self, payloads: Sequence[bytes]) -> list[Decoded]:
        return [_decode(payload) for payload in payloads]


def _decode(payload: bytes) -> Decoded:
    try:
        frame = _decode_frame(payload)
        if frame.type in ("update", "partial"):
            read = _READERS.get(frame.channel or "")
            return Unknown() if read is None else read(frame)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return _unreadable(payload, error)
    return _control(frame)


def _control(frame: _Frame) -> Decoded:
    """A frame that is no data."""
    message = frame.msg or ""
    said = f"{frame.code}: {frame.msg}" if frame.code is not None else str(frame.msg)
    match frame.type:
        case "pong":
            return KeepAliveReply()
        case "subscribed" | "unsubscribed":
            return FtxAnswer(frame.type, channel=frame.channel or "", market=frame.market or "")
        case "info":
            return Reconnect(said) if frame.code == RESTART else Ignored()
        case "error" if message.startswith(BROKEN):  # whatever was asked may have been lost; asked again
            return Reconnect(said)
        case "error":
            return FtxAnswer(frame.type, message=message, said=said)
        case _:
            return Unknown()


# Reading data


def _whole(kind: type[Message]) -> Callable[[msgspec.Raw], Any]:
    """Reads one type of data: in one go where all its fields are there, else field by field."""
    decode = msgspec.json.Decoder(kind).decode
    names = tuple(field.encode_name for field in msgspec.structs.fields(kind) if not field.encode_name.startswith("@"))

    def read(data: msgspec.Raw) -> Any:
        try:
            return decode(data)
        except msgspec.ValidationError:
            row = msgspec.json.decode(data)
            if not isinstance(row, dict):
                raise
        absent = tuple(name for name in names if name not in row)
        message = msgspec.convert({**without_internal(row), **dict.fromkeys(absent)}, kind)
        _set_absent(message, absent)
        return message

    return read


def _unreadable(payload: bytes, error: Exception) -> Unreadable:
    text = str(payload, "utf-8", "replace")  # the transport has checked it; a replay may not have
    return Unreadable(UnreadableMessageError(f"no message of FTX: {error}", text))


_decode_frame = msgspec.json.Decoder(_Frame).decode
_decode_market = msgspec.json.Decoder(_Market).decode
_decode_markets = msgspec.json.Decoder(_Markets).decode
_decode_book = msgspec.json.Decoder(_Book).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_whole_ticker, _whole_trade = _whole(FtxTicker), _whole(FtxTrade)
_whole_fill, _whole_order = _whole(FtxFill), _whole(FtxOrder)


def _named(frame: _Frame) -> str:
    if not frame.market:
        raise msgspec.ValidationError("Object missing required field `market`")
    return frame.market


def _ticker(frame: _Frame) -> Message:
    ticker: FtxTicker = _whole_ticker(frame.data)
    _set_market(ticker, _named(frame))
    return ticker


def _trades(frame: _Frame) -> Message:
    market = _named(frame)
    trades: list[Message] = [_whole_trade(data) for data in _decode_list(frame.data)]
    for trade in trades:
        _set_market(trade, market)
    return Trades(name=market, events=trades)


def _fill(frame: _Frame) -> Message:
    return Fills(name="fills", events=[_private(frame, _whole_fill)])


def _order(frame: _Frame) -> Message:
    return Orders(name="orders", events=[_private(frame, _whole_order)])


def _private(frame: _Frame, whole: Callable[[msgspec.Raw], Any]) -> Any:
    message = whole(frame.data)
    _set_market(message, _decode_market(frame.data).market)
    return message


def _payment(frame: _Frame) -> Message:
    return Payments(name="ftxpay", events=[FtxPay(data=_decode_object(frame.data))])


def _markets(frame: _Frame) -> Message:
    markets = _decode_markets(frame.data)
    return FtxMarkets(action=markets.action or frame.type, markets=markets.data)


def _book(frame: _Frame) -> Message:
    book = _decode_book(frame.data)
    kind = GroupedBookUpdate if frame.channel == "orderbookGrouped" else BookUpdate
    return kind(
        market=_named(frame),
        action="partial" if (book.action or frame.type) == "partial" else "update",
        bids=book.bids,
        asks=book.asks,
        time=book.time,
        checksum=book.checksum,
    )


_READERS: Final[dict[str, Callable[[_Frame], Message]]] = {
    "ticker": _ticker,
    "trades": _trades,
    "orderbook": _book,
    "orderbookGrouped": _book,
    "markets": _markets,
    "fills": _fill,
    "orders": _order,
    "ftxpay": _payment,
}
