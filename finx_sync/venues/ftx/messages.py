"""FTX's messages: what handlers are given, and those that the stream keeps to itself and takes apart.

A frame of FTX has its data inside: ``{"channel": "ticker", "market": "BTC-PERP", "type": "update", "data": {...}}``.
A message here is that data and its market in one; `[]`, `get` and `items` know it by the wire's names.

Sources: FTX documentation, *Websocket API*; frames captured in July 2021; the clients of that time.
"""

from __future__ import annotations

import datetime as dt
import operator
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec

from finx_sync.messages import UTC, InternalText, Message, Number, unix_seconds, wire_fields
from finx_sync.venues.base import RequestAnswer

__all__ = [
    "BookUpdate",
    "Fills",
    "FtxAnswer",
    "FtxEvents",
    "FtxFill",
    "FtxGroupedOrderBook",
    "FtxMarkets",
    "FtxOrder",
    "FtxOrderBook",
    "FtxPay",
    "FtxTicker",
    "FtxTrade",
    "GroupedBookUpdate",
    "Level",
    "Orders",
    "Payments",
    "Side",
    "Trades",
]

Side = Literal["buy", "sell"]
if TYPE_CHECKING:
    Finite = float
else:
    # 1e999 is JSON and reads as infinity, which is no price.
    Finite = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
Level = tuple[Finite, Finite]
"""Price and size."""

_M = TypeVar("_M", bound=type[Message])


def _in_market(kind: _M) -> _M:
    """Let a message know its market by its wire name too: it stands outside of the data."""
    wire_fields(kind)
    kind._attributes = {"market": "market", **kind._attributes}
    return kind


class _InMarket(Message, frozen=True, kw_only=True, gc=False):
    """What the messages of one market share."""

    market: InternalText = msgspec.field(default="", name="@market")

    name_of = operator.attrgetter("market")

    @property
    def name(self) -> str:
        """The market."""
        return self.market


@_in_market
class FtxTicker(_InMarket, frozen=True, kw_only=True, gc=False):
    """The best prices of a market at one moment.

    Attributes:
        market: like "BTC-PERP" or "BTC/USD".
        bid, ask: best prices; None where there is none.
        bid_size, ask_size: what stands there; frames of 2019 have none.
        last: price of the last trade.
        time: of the server, UNIX seconds.
    """

    bid: Number
    ask: Number
    bid_size: Number = msgspec.field(name="bidSize")
    ask_size: Number = msgspec.field(name="askSize")
    last: Number
    time: Finite

    is_state = True
    state_of = operator.attrgetter("market")

    @property
    def datetime(self) -> dt.datetime:
        """`time` in UTC."""
        return dt.datetime.fromtimestamp(self.time, UTC)

    @property
    def venue_time(self) -> float | None:
        """`time`."""
        return self.time


@_in_market
class FtxTrade(_InMarket, frozen=True, kw_only=True, gc=False):
    """One trade.

    Attributes:
        market: where.
        id: the exchange's number; None in frames of 2019.
        price, size: as traded.
        side: of the one who took.
        liquidation: whether it closed a position by force.
        time: ISO 8601 with microseconds.
    """

    id: int | None
    price: Finite
    size: Finite
    side: Side
    liquidation: bool | None
    time: str

    @property
    def datetime(self) -> dt.datetime:
        """`time` in UTC.

        Raises:
            ValueError: it is no time.
        """
        return _moment(self.time)

    @property
    def venue_time(self) -> float | None:
        """`time` in UNIX seconds."""
        return unix_seconds(lambda: self.datetime)


@_in_market
class FtxFill(_InMarket, frozen=True, kw_only=True, gc=False):
    """One execution of an order of the account.

    Attributes:
        market: where. The data of this frame and of an order holds it itself.
        id: unique among fills.
        order_id, trade_id: the order's and the trade's numbers.
        side: "buy" or "sell".
        price, size: as executed.
        liquidity: "maker" or "taker".
        fee, fee_rate, fee_currency: what it cost; a negative fee was paid out.
        future: name of the future; None on spot.
        base_currency, quote_currency: None on futures.
        type: "order".
        time: ISO 8601 with microseconds.
    """

    id: int
    future: str | None
    base_currency: str | None = msgspec.field(name="baseCurrency")
    quote_currency: str | None = msgspec.field(name="quoteCurrency")
    type: str | None
    side: Side
    price: Finite
    size: Finite
    order_id: int | None = msgspec.field(name="orderId")
    time: str
    trade_id: int | None = msgspec.field(name="tradeId")
    fee_rate: Number = msgspec.field(name="feeRate")
    fee: Number
    fee_currency: str | None = msgspec.field(name="feeCurrency")
    liquidity: str | None

    @property
    def datetime(self) -> dt.datetime:
        """`time` in UTC.

        Raises:
            ValueError: it is no time.
        """
        return _moment(self.time)

    @property
    def venue_time(self) -> float | None:
        """`time` in UNIX seconds."""
        return unix_seconds(lambda: self.datetime)


@_in_market
class FtxOrder(_InMarket, frozen=True, kw_only=True, gc=False):
    """One change of an order of the account, as it stood then.

    Attributes:
        market: where.
        id: the exchange's number; `client_id` the account's own.
        type: "limit" or "market".
        side: "buy" or "sell".
        price: the limit; None for a market order.
        size, filled_size, remaining_size: in the market's units.
        status: "new", "open" or "closed"; a closed one is filled, cancelled, or partly either: see `is_filled`.
        avg_fill_price: None until something was filled.
        reduce_only, post_only, ioc: how it was sent.
        liquidation: whether the exchange sent it to close a position by force.
        created_at: ISO 8601 with microseconds.
    """

    id: int
    client_id: str | None = msgspec.field(name="clientId")
    type: str
    side: Side
    price: Number
    size: Finite
    status: str
    filled_size: Finite = msgspec.field(name="filledSize")
    remaining_size: Finite = msgspec.field(name="remainingSize")
    reduce_only: bool | None = msgspec.field(name="reduceOnly")
    liquidation: bool | None
    avg_fill_price: Number = msgspec.field(name="avgFillPrice")
    post_only: bool | None = msgspec.field(name="postOnly")
    ioc: bool | None
    created_at: str | None = msgspec.field(name="createdAt")

    @property
    def is_filled(self) -> bool:
        """Whether all of it was executed; a closed order that is not was cancelled, wholly or in part."""
        return self.filled_size >= self.size

    @property
    def datetime(self) -> dt.datetime | None:
        """`created_at` in UTC.

        Raises:
            ValueError: it is no time.
        """
        return None if self.created_at is None else _moment(self.created_at)


class _AsItCame(Message, frozen=True, kw_only=True, gc=False):
    """A message that is read like the dictionary which the wire carried."""

    @property
    def _content(self) -> dict[str, Any]:
        raise NotImplementedError

    def __getitem__(self, name: str) -> Any:
        return self._content[name]

    def __contains__(self, name: object) -> bool:
        return name in self._content

    def __len__(self) -> int:
        return len(self._content)

    def keys(self) -> list[str]:
        """The wire's names."""
        return list(self._content)


class FtxPay(_AsItCame, frozen=True, kw_only=True, gc=False):
    """A payment by FTX Pay. No source shows one, so it is what the wire carried: `[]`, `get` and `items` read it.

    Attributes:
        data: the wire's object.
    """

    data: dict[str, Any]

    name_of = operator.attrgetter("name")

    @property
    def name(self) -> str:
        """Payments belong to no market: always "ftxpay"."""
        return "ftxpay"

    @property
    def _content(self) -> dict[str, Any]:
        return self.data

    def __repr__(self) -> str:
        return f"FtxPay({self.data!r})"


class FtxMarkets(_AsItCame, frozen=True, kw_only=True, gc=False):
    """What can be traded; the first message after a subscription has all of it.

    Attributes:
        action: "partial" for all markets, "update" for those that changed.
        markets: by name, as the wire has them: enabled, postOnly, priceIncrement, sizeIncrement, type ("spot" or
            "future"), baseCurrency, quoteCurrency, underlying, restricted, and future (None or an object).
    """

    action: str
    markets: dict[str, dict[str, Any]]

    name_of = operator.attrgetter("name")

    @property
    def name(self) -> str:
        """It is about all markets: always "markets"."""
        return "markets"

    @property
    def _content(self) -> dict[str, Any]:
        return self.markets

    def __repr__(self) -> str:
        return f"FtxMarkets({self.action}, {len(self.markets)} markets)"


@wire_fields
class FtxOrderBook(Message, frozen=True, kw_only=True, gc=False):
    """A market's order book as it stood at one moment; nobody changes it afterwards.

    Attributes:
        market: whose.
        bids: (price, size), highest price first; at most 100.
        asks: (price, size), lowest price first; at most 100.
        time: of the server, UNIX seconds; None where it sent none.
        checksum: the server's, which this book was found to have; None where it sent none.
    """

    market: str
    bids: list[Level]
    asks: list[Level]
    time: float | None = None
    checksum: int | None = None

    name_of = operator.attrgetter("market")

    @property
    def name(self) -> str:
        """The market."""
        return self.market

    @property
    def datetime(self) -> dt.datetime | None:
        """`time` in UTC."""
        return None if self.time is None else dt.datetime.fromtimestamp(self.time, UTC)

    @property
    def venue_time(self) -> float | None:
        """`time`."""
        return self.time


@wire_fields
class FtxGroupedOrderBook(FtxOrderBook, frozen=True, kw_only=True, gc=False):
    """An order book whose levels are gathered in steps, as it was subscribed. It has no checksum."""


@wire_fields
class BookUpdate(Message, frozen=True, kw_only=True, gc=False):
    """What the server says about a book; the stream merges it.

    Attributes:
        market: whose.
        action: "partial" is the image that updates build on.
        bids, asks: the levels, or those that changed; size 0 removes one.
        time, checksum: see `FtxOrderBook`.
    """

    market: str
    action: Literal["partial", "update"]
    bids: list[Level]
    asks: list[Level]
    time: float | None = None
    checksum: int | None = None

    name_of = operator.attrgetter("market")

    @property
    def name(self) -> str:
        """The market."""
        return self.market

    @property
    def venue_time(self) -> float | None:
        """`time`."""
        return self.time


class GroupedBookUpdate(BookUpdate, frozen=True, kw_only=True, gc=False):
    """The same about a grouped book, which has no checksum."""


@wire_fields
class FtxEvents(Message, frozen=True, kw_only=True, gc=False):
    """A frame of trades, fills, orders or payments; the stream hands them on one by one.

    Attributes:
        name: what it was subscribed under: the market of trades, else the channel.
        events: in the order of the wire.
    """

    name: str
    events: list[Message]

    name_of = operator.attrgetter("name")


class Trades(FtxEvents, frozen=True, kw_only=True, gc=False):
    """Trades of a market."""

    @property
    def venue_time(self) -> float | None:
        """The last trade's."""
        return self.events[-1].venue_time if self.events else None


class Fills(FtxEvents, frozen=True, kw_only=True, gc=False):
    """Fills of the account."""


class Orders(FtxEvents, frozen=True, kw_only=True, gc=False):
    """Orders of the account."""


class Payments(FtxEvents, frozen=True, kw_only=True, gc=False):
    """Payments of the account."""


@dataclass(frozen=True)
class FtxAnswer(RequestAnswer):
    """The server's answer to a request, which it does not name; `conversation` finds out which one it is about.

    Attributes:
        type: "subscribed", "unsubscribed" or "error".
        channel, market: of an acknowledgement.
        message: the text of an error.
        said: the same with its code, not yet redacted.
    """

    type: str
    channel: str = ""
    market: str = ""
    message: str = ""
    said: str = ""


def _moment(text: str) -> dt.datetime:
    # fromisoformat does not take "Z" before Python 3.11.
    moment = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
