"""The registration of handlers for FTX's messages: the part of `FtxStream` that consists of typed signatures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from finx_sync.stream import Stream
from finx_sync.venues.ftx.messages import (
    FtxFill,
    FtxGroupedOrderBook,
    FtxMarkets,
    FtxOrder,
    FtxOrderBook,
    FtxPay,
    FtxTicker,
    FtxTrade,
)

__all__ = ["FtxHandlers", "FtxMessage"]

FtxMessage = FtxTicker | FtxTrade | FtxFill | FtxOrder | FtxPay | FtxMarkets | FtxOrderBook | FtxGroupedOrderBook
"""The messages that handlers and iterators get."""

TickerHandler = TypeVar("TickerHandler", bound=Callable[[FtxTicker], object])
TradeHandler = TypeVar("TradeHandler", bound=Callable[[FtxTrade], object])
BookHandler = TypeVar("BookHandler", bound=Callable[[FtxOrderBook], object])
GroupedHandler = TypeVar("GroupedHandler", bound=Callable[[FtxGroupedOrderBook], object])
FillHandler = TypeVar("FillHandler", bound=Callable[[FtxFill], object])
OrderHandler = TypeVar("OrderHandler", bound=Callable[[FtxOrder], object])
MarketsHandler = TypeVar("MarketsHandler", bound=Callable[[FtxMarkets], object])
PayHandler = TypeVar("PayHandler", bound=Callable[[FtxPay], object])


class FtxHandlers(Stream[FtxMessage]):
    """The methods that register handlers, which run on the dispatch thread."""

    @overload
    def on_ticker(self, handler: TickerHandler, /, *markets: str) -> TickerHandler: ...
    @overload
    def on_ticker(self, handler: str, /, *markets: str) -> Callable[[TickerHandler], TickerHandler]: ...
    def on_ticker(self, handler: Any = None, /, *markets: str) -> Any:
        """Register a handler for every `FtxTicker`, or for those of some markets.

        It is a decorator, ``@stream.on_ticker`` or ``@stream.on_ticker("BTC-PERP")``. A plain call works too:
        ``stream.on_ticker(handler, "BTC-PERP")`` returns the handler.

        Raises:
            HandlerError: the handler cannot be called with one argument.
        """
        return self._register(FtxTicker, handler, markets)

    @overload
    def on_trade(self, handler: TradeHandler, /, *markets: str) -> TradeHandler: ...
    @overload
    def on_trade(self, handler: str, /, *markets: str) -> Callable[[TradeHandler], TradeHandler]: ...
    def on_trade(self, handler: Any = None, /, *markets: str) -> Any:
        """Register a handler that is called with each `FtxTrade`; used like `on_ticker`."""
        return self._register(FtxTrade, handler, markets)

    @overload
    def on_orderbook(self, handler: BookHandler, /, *markets: str) -> BookHandler: ...
    @overload
    def on_orderbook(self, handler: str, /, *markets: str) -> Callable[[BookHandler], BookHandler]: ...
    def on_orderbook(self, handler: Any = None, /, *markets: str) -> Any:
        """Register a handler that is called with the complete `FtxOrderBook` after each change.

        It is used like `on_ticker`.
        """
        return self._register(FtxOrderBook, handler, markets)

    @overload
    def on_orderbook_grouped(self, handler: GroupedHandler, /, *markets: str) -> GroupedHandler: ...
    @overload
    def on_orderbook_grouped(self, handler: str, /, *markets: str) -> Callable[[GroupedHandler], GroupedHandler]: ...
    def on_orderbook_grouped(self, handler: Any = None, /, *markets: str) -> Any:
        """Register a handler that is called with the complete `FtxGroupedOrderBook` after each change.

        It is used like `on_ticker`.
        """
        return self._register(FtxGroupedOrderBook, handler, markets)

    @overload
    def on_fill(self, handler: FillHandler, /, *markets: str) -> FillHandler: ...
    @overload
    def on_fill(self, handler: str, /, *markets: str) -> Callable[[FillHandler], FillHandler]: ...
    def on_fill(self, handler: Any = None, /, *markets: str) -> Any:
        """Register a handler that is called once with each `FtxFill`; used like `on_ticker`."""
        return self._register(FtxFill, handler, markets)

    @overload
    def on_order(self, handler: OrderHandler, /, *markets: str) -> OrderHandler: ...
    @overload
    def on_order(self, handler: str, /, *markets: str) -> Callable[[OrderHandler], OrderHandler]: ...
    def on_order(self, handler: Any = None, /, *markets: str) -> Any:
        """Register a handler that is called once with each change of an order (`FtxOrder`); used like `on_ticker`."""
        return self._register(FtxOrder, handler, markets)

    def on_markets(self, handler: MarketsHandler) -> MarketsHandler:
        """Register a handler for the list of markets and its changes (`FtxMarkets`)."""
        self._handlers.add(FtxMarkets, handler)
        return handler

    def on_ftxpay(self, handler: PayHandler) -> PayHandler:
        """Register a handler for payments (`FtxPay`)."""
        self._handlers.add(FtxPay, handler)
        return handler
