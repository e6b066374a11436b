"""FTX's messages: those that handlers get, and internal ones that the state splits or merges.

An FTX frame nests its data: ``{"channel": "ticker", "market": "BTC-PERP", "type": "update", "data": {...}}``. A message
here combines the data and the market; `[]`, `get` and `items` use the names on the wire.

Sources: FTX documentation, *Websocket API*; frames captured in July 2021; clients of that time.
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
    # 1e999 is valid JSON and decodes to infinity, which is not a price.
    Finite = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
Level = tuple[Finite, Finite]
"""The price and the size of a level."""

_M = TypeVar("_M", bound=type[Message])


def _in_market(kind: _M) -> _M:
    """Make the field `market` available by its wire name too, although it is outside the data."""
    wire_fields(kind)
    kind._attributes = {"market": "market", **kind._attributes}
    return kind


class _InMarket(Message, frozen=True, kw_only=True, gc=False):
    """The base class of messages that belong to one market."""

    market: InternalText = msgspec.field(default="", name="@market")

    name_of = operator.attrgetter("market")

    @property
    def name(self) -> str:
        """The market."""
        return self.market


@_in_market
class FtxTicker(_InMarket, frozen=True, kw_only=True, gc=False):
    """The best prices of a market.

    Attributes:
        market: like "BTC-PERP" or "BTC/USD".
        bid, ask: the best prices; None if there is none.
        bid_size, ask_size: the sizes at the best prices; None in frames of 2019.
        last: the price of the last trade.
        time: the server's time, UNIX seconds.
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
        market: the market.
        id: the exchange's id; None in frames of 2019.
        price, size: the price and the size of the trade.
        side: the taker's side.
        liquidation: whether the trade was part of a liquidation.
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
        market: the market, which is inside the data of fills and orders.
        id: the id, unique among fills.
        order_id, trade_id: the ids of the order and the trade.
        side: "buy" or "sell".
        price, size: the price and the size of the execution.
        liquidity: "maker" or "taker".
        fee, fee_rate, fee_currency: the fee, its rate and its currency; a negative fee is a rebate.
        future: the name of the future; None on spot markets.
        base_currency, quote_currency: the currencies; None for futures.
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
    """The state of an order of the account after a change.

    Attributes:
        market: the market.
        id: the exchange's id of the order.
        client_id: the account's own id of the order.
        type: "limit" or "market".
        side: "buy" or "sell".
        price: the limit price; None for a market order.
        size, filled_size, remaining_size: sizes in the market's units.
        status: "new", "open" or "closed"; a closed order was filled or cancelled, or partly both: see `is_filled`.
        avg_fill_price: the average price of the executions; None before the first one.
        reduce_only, post_only, ioc: the order's options.
        liquidation: whether the exchange sent the order to liquidate a position.
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
        """Whether the whole order was executed; a closed order that is not filled was cancelled, wholly or in part."""
        return self.filled_size >= self.size

    @property
    def datetime(self) -> dt.datetime | None:
        """`created_at` in UTC.

        Raises:
            ValueError: it is no time.
        """
        return None if self.created_at is None else _moment(self.created_at)


class _AsItCame(Message, frozen=True, kw_only=True, gc=False):
    """A message that is read like the JSON object that was received."""

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
        """Return the names on the wire."""
        return list(self._content)


class FtxPay(_AsItCame, frozen=True, kw_only=True, gc=False):
    """A payment by FTX Pay. No source shows one, so `[]`, `get` and `items` give access to the JSON object received.

    Attributes:
        data: the JSON object received.
    """

    data: dict[str, Any]

    name_of = operator.attrgetter("name")

    @property
    def name(self) -> str:
        """Always "ftxpay", because payments belong to no market."""
        return "ftxpay"

    @property
    def _content(self) -> dict[str, Any]:
        return self.data

    def __repr__(self) -> str:
        return f"FtxPay({self.data!r})"


class FtxMarkets(_AsItCame, frozen=True, kw_only=True, gc=False):
    """The list of markets, which is complete in the first message after a subscription.

    Attributes:
        action: "partial" for all markets, "update" for those that changed.
        markets: maps names to objects with the wire's keys: enabled, postOnly, priceIncrement, sizeIncrement, type
            ("spot" or "future"), baseCurrency, quoteCurrency, underlying, restricted, and future (None or an object).
    """

    action: str
    markets: dict[str, dict[str, Any]]

    name_of = operator.attrgetter("name")

    @property
    def name(self) -> str:
        """Always "markets", because the message concerns all markets."""
        return "markets"

    @property
    def _content(self) -> dict[str, Any]:
        return self.markets

    def __repr__(self) -> str:
        return f"FtxMarkets({self.action}, {len(self.markets)} markets)"


@wire_fields
class FtxOrderBook(Message, frozen=True, kw_only=True, gc=False):
    """A snapshot of a market's order book, which does not change afterwards.

    Attributes:
        market: the market.
        bids: (price, size), highest price first; at most 100.
        asks: (price, size), lowest price first; at most 100.
        time: the server's time, UNIX seconds; None if it sent none.
        checksum: the server's checksum, which the book was verified with; None if the server sent none.
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
    """An order book whose levels are grouped by price steps, as subscribed. It has no checksum."""


@wire_fields
class BookUpdate(Message, frozen=True, kw_only=True, gc=False):
    """An image or an update of an order book, which the state merges.

    Attributes:
        market: the market.
        action: "partial" for the image that updates build on, or "update".
        bids, asks: all levels, or those that changed; a size of 0 removes a level.
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
    """An image or an update of a grouped order book, which has no checksum."""


@wire_fields
class FtxEvents(Message, frozen=True, kw_only=True, gc=False):
    """A frame of trades, fills, orders or payments, which handlers get one by one.

    Attributes:
        name: the name of the subscription: the market for trades, otherwise the channel.
        events: the events, in the order received.
    """

    name: str
    events: list[Message]

    name_of = operator.attrgetter("name")


class Trades(FtxEvents, frozen=True, kw_only=True, gc=False):
    """Trades of a market."""

    @property
    def venue_time(self) -> float | None:
        """The `venue_time` of the last trade."""
        return self.events[-1].venue_time if self.events else None


class Fills(FtxEvents, frozen=True, kw_only=True, gc=False):
    """Fills of the account."""


class Orders(FtxEvents, frozen=True, kw_only=True, gc=False):
    """Orders of the account."""


class Payments(FtxEvents, frozen=True, kw_only=True, gc=False):
    """Payments of the account."""


@dataclass(frozen=True)
class FtxAnswer(RequestAnswer):
    """The server's answer to a request, which it does not identify; `FtxConversation` finds the request.

    Attributes:
        type: "subscribed", "unsubscribed" or "error".
        channel, market: the channel and the market of an acknowledgement.
        message: the text of an error.
        said: the text of an error with its code, not yet redacted.
    """

    type: str
    channel: str = ""
    market: str = ""
    message: str = ""
    said: str = ""


def _moment(text: str) -> dt.datetime:
    # fromisoformat does not accept "Z" before Python 3.11.
    moment = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
