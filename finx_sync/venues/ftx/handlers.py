"""Which functions want which of FTX's messages: the part of `FtxStream` that is nothing but signatures."""

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
"""What handlers and iterators get."""

TickerHandler = TypeVar("TickerHandler", bound=Callable[[FtxTicker], object])
TradeHandler = TypeVar("TradeHandler", bound=Callable[[FtxTrade], object])
BookHandler = TypeVar("BookHandler", bound=Callable[[FtxOrderBook], object])
GroupedHandler = TypeVar("GroupedHandler", bound=Callable[[FtxGroupedOrderBook], object])
FillHandler = TypeVar("FillHandler", bound=Callable[[FtxFill], object])
OrderHandler = TypeVar("OrderHandler", bound=Callable[[FtxOrder], object])
MarketsHandler = TypeVar("MarketsHandler", bound=Callable[[FtxMarkets], object])
PayHandler = TypeVar("PayHandler", bound=Callable[[FtxPay], object])


class FtxHandlers(Stream[FtxMessage]):
    """Registers handlers; they run on the dispatch thread."""

    @overload
    def on_ticker(self, handler: TickerHandler, /, *markets: str) -> TickerHandler: ...
    @overload
    def on_ticker(self, handler: str, /, *markets: str) -> Callable[[TickerHandler], TickerHandler]: ...
    def on_ticker(self, handler: Any = None, /, *markets: str) -> Any:
        """Call a function with every FtxTicker (``@stream.on_ticker``), or some (``@stream.on_ticker("BTC-PERP")``).

        A plain call works too, ``stream.on_ticker(handler, "BTC-PERP")``, and returns the handler.

        Raises:
            HandlerError: it cannot be called with one argument.
        """
        return self._register(FtxTicker, handler, markets)

    @overload
    def on_trade(self, handler: TradeHandler, /, *markets: str) -> TradeHandler: ...
    @overload
    def on_trade(self, handler: str, /, *markets: str) -> Callable[[TradeHandler], TradeHandler]: ...
    def on_trade(self, handler: Any = None, /, *markets: str) -> Any:
        """Call a function with every FtxTrade, one by one; used like `on_ticker`."""
        return self._register(FtxTrade, handler, markets)

    @overload
    def on_orderbook(self, handler: BookHandler, /, *markets: str) -> BookHandler: ...
    @overload
    def on_orderbook(self, handler: str, /, *markets: str) -> Callable[[BookHandler], BookHandler]: ...
    def on_orderbook(self, handler: Any = None, /, *markets: str) -> Any:
        """Call a function with the whole FtxOrderBook after each change of it; used like `on_ticker`."""
        return self._register(FtxOrderBook, handler, markets)

    @overload
    def on_orderbook_grouped(self, handler: GroupedHandler, /, *markets: str) -> GroupedHandler: ...
    @overload
    def on_orderbook_grouped(self, handler: str, /, *markets: str) -> Callable[[GroupedHandler], GroupedHandler]: ...
    def on_orderbook_grouped(self, handler: Any = None, /, *markets: str) -> Any:
        """Call a function with the whole FtxGroupedOrderBook after each change of it; used like `on_ticker`."""
        return self._register(FtxGroupedOrderBook, handler, markets)

    @overload
    def on_fill(self, handler: FillHandler, /, *markets: str) -> FillHandler: ...
    @overload
    def on_fill(self, handler: str, /, *markets: str) -> Callable[[FillHandler], FillHandler]: ...
    def on_fill(self, handler: Any = None, /, *markets: str) -> Any:
        """Call a function with every FtxFill, once; used like `on_ticker`."""
        return self._register(FtxFill, handler, markets)

    @overload
    def on_order(self, handler: OrderHandler, /, *markets: str) -> OrderHandler: ...
    @overload
    def on_order(self, handler: str, /, *markets: str) -> Callable[[OrderHandler], OrderHandler]: ...
    def on_order(self, handler: Any = None, /, *markets: str) -> Any:
        """Call a function with every change of an order (FtxOrder), once; used like `on_ticker`."""
        return self._register(FtxOrder, handler, markets)

    def on_markets(self, handler: MarketsHandler) -> MarketsHandler:
        """Call a function with the list of markets (FtxMarkets), and with its changes."""
        self._handlers.add(FtxMarkets, handler)
        return handler

    def on_ftxpay(self, handler: PayHandler) -> PayHandler:
        """Call a function with every payment (FtxPay)."""
        self._handlers.add(FtxPay, handler)
        return handler
