"""Kraken's WebSocket v2, both ways. Pure: remembers nothing.

Source: Kraken's API documentation, WebSocket v2 (*ticker*, *trade*, *book*, *ping*, *status*, *heartbeat*). The numbers
of a book are read as decimals: its checksum is of their digits as they were sent (guide *Book checksum*).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from itertools import groupby
from typing import Any, ClassVar

import msgspec

from finx_sync.errors import UnreadableMessageError
from finx_sync.messages import without_internal
from finx_sync.venues.base import (
    Codec,
    Decoded,
    Ignored,
    KeepAliveReply,
    Request,
    ServerError,
    Subscription,
    Unknown,
    Unreadable,
    VenueState,
    words,
)
from finx_sync.venues.base.columns import TableFormat, of_message
from finx_sync_kraken.messages import (
    BookData,
    BookFrame,
    KrakenAnswer,
    KrakenBook,
    KrakenTicker,
    KrakenTrade,
    TickerFrame,
    TradeFrame,
)
from finx_sync_kraken.state import KrakenState

__all__ = ["DEPTHS", "KrakenCodec"]

DEPTHS = (10, 25, 100, 500, 1000)
"""Levels of a book on each side that can be asked for."""
IGNORED = ("heartbeat", "status")
SYMBOLS_OF_A_REQUEST = 100


class KrakenCodec(Codec):
    """Kraken's protocol.

    Args:
        base_url: where it is spoken.
        depth: levels of each side of a book.
    """

    venue = "Kraken"
    message_types = (TickerFrame, TradeFrame, BookFrame, KrakenTicker, KrakenTrade, KrakenBook)
    kinds: ClassVar[dict[type, str]] = {TickerFrame: "ticker", TradeFrame: "trade", BookFrame: "book"}

    def __init__(self, base_url: str = "", depth: int = DEPTHS[0]) -> None:
        super().__init__(base_url)
        self.depth = depth

    def url(self, key: Any, endpoint: str) -> str:
        """Where the one connection goes."""
        return f"{self.base_url}/v2"

    def subscribe_all(self, key: Any, subscriptions: Sequence[Subscription], first: int) -> list[Request]:
        """A request for each channel, with a number that its answers repeat."""
        requests: list[Request] = []
        for channel, group in groupby(sorted(subscriptions, key=lambda one: one.kind), key=lambda one: one.kind):
            wanted = tuple(group)
            for begin in range(0, len(wanted), SYMBOLS_OF_A_REQUEST):
                part = wanted[begin : begin + SYMBOLS_OF_A_REQUEST]
                number = first + len(requests) + 1
                text = self._request("subscribe", channel, [one.name for one in part], number)
                requests.append(Request(text, "subscribe", part, number))
        return requests

    def unsubscribe(self, key: Any, subscription: Subscription) -> str:
        """The request that ends one."""
        return self._request("unsubscribe", subscription.kind, [subscription.name], None)

    def _request(self, method: str, channel: str, symbols: list[str], number: int | None) -> str:
        params: dict[str, Any] = {"channel": channel, "symbol": symbols}
        if channel == "book":
            params["depth"] = self.depth
        elif method == "subscribe":
            params["snapshot"] = True
        request = {"method": method, "params": params}
        return json.dumps(request if number is None else {**request, "req_id": number}, separators=(",", ":"))

    def probe(self, key: Any) -> str:
        """Answered by a pong, after all that was asked before."""
        return '{"method":"ping"}'

    def decode(self, payloads: Sequence[bytes]) -> list[Decoded]:
        """One thing for each payload."""
        return [_read(payload) for payload in payloads]

    def formats(self, decoded: Iterable[Decoded]) -> list[TableFormat]:
        """A table of tickers and one of trades; a book is no row."""
        return [of_message(KrakenTicker), of_message(KrakenTrade)]

    def new_state(
        self,
        lock: AbstractContextManager[Any] | None = None,
        after: VenueState | None = None,
        *,
        everything: bool = False,
    ) -> KrakenState:
        """Open requests, books, and the newest trade of each symbol."""
        return KrakenState(self.depth, lock, after if isinstance(after, KrakenState) else None)


class _Head(msgspec.Struct):
    """What tells one frame from another."""

    channel: str = ""
    type: str = ""
    method: str = ""
    success: bool = True
    req_id: int | None = None
    error: Any = None
    symbol: Any = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


_head = msgspec.json.Decoder(_Head).decode
_rows = msgspec.json.Decoder(list[dict[str, Any]]).decode
_books = msgspec.json.Decoder(tuple[BookData, ...]).decode
TYPES = {"ticker": (TickerFrame, KrakenTicker), "trade": (TradeFrame, KrakenTrade)}


def _read(payload: bytes) -> Decoded:
    try:
        return _frame(_head(payload))
    except (msgspec.MsgspecError, ValueError, RecursionError, ArithmeticError) as error:
        return Unreadable(UnreadableMessageError(str(error), str(payload, "utf-8", "replace")))


def _frame(head: _Head) -> Decoded:
    if head.channel == "book" and head.type in ("snapshot", "update"):
        books = _books(head.data)
        return BookFrame(symbol=books[0].symbol, kind=head.type, data=books) if books else Unknown()
    if head.channel in TYPES and head.type in ("snapshot", "update"):
        frame, kind = TYPES[head.channel]
        data = tuple(msgspec.convert(without_internal(row), kind) for row in _rows(head.data))
        return frame(symbol=data[0].symbol, kind=head.type, data=data) if data else Unknown()
    if head.channel in IGNORED:
        return Ignored()
    if head.method == "pong":
        return KeepAliveReply()
    if head.method in ("subscribe", "unsubscribe"):
        error = None if head.success else words(head.error)
        return Ignored() if error is None else KrakenAnswer(head.req_id, words(head.symbol), error)
    return ServerError(words(head.error)) if head.error is not None else Unknown()
