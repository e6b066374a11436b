"""The simulated market in BitMEX's format: the rows of the public tables at a given time.

Everything is a pure function of the simulated market and the time: a quote here is the best bid and ask of FinX's
contract for the same perpetual in the same millisecond. It shares no code with the client.

Assumptions: the ids of XBTUSD's book follow the formula of 2021, and those of the other books another formula, because
no client should compute prices from ids; sizes are noise; the volume of 24 hours is constant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final
from uuid import UUID

from finx_sync.sandbox.account import Quote, TradingTerms
from finx_sync.sandbox.market import Market
from finx_sync.sandbox.prices import unit_noise
from finx_sync.venues.bitmex.sandbox.schema import TABLES

__all__ = ["INDICES", "PERIODS", "PRODUCTS", "BitmexMarket", "BitmexProduct", "Row", "blank", "iso", "minimal"]

Row = dict[str, Any]

DEPTH: Final = 40
"""The number of prices on each side of a book; some of them have no level."""
PERIODS: Final = {"1m": 60_000, "5m": 300_000, "1h": 3_600_000, "1d": 86_400_000}
"""The lengths of the bins, in milliseconds."""
FUNDING_PERIOD: Final = 8 * 3_600_000
FUNDING_SHIFT: Final = 4 * 3_600_000
"""Milliseconds; funding is at 04:00, 12:00 and 20:00 UTC."""
SATOSHI: Final = 100_000_000
NO_TRADE: Final = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class BitmexProduct:
    """A perpetual contract.

    Attributes:
        perpetual: the contract's name in the simulated market.
        base: the coin's name in the simulated market; BitMEX calls Bitcoin XBT.
        root: the coin's name at BitMEX.
        index: the symbol of its index.
        tick: the smallest step of a price.
        multiplier: satoshis per contract and dollar; negative for the inverse contract, which is worth one dollar.
        ids: the id that a price of 0 would have in its book; ids decrease as prices rise.
    """

    perpetual: str
    base: str
    root: str
    index: str
    tick: float
    multiplier: int
    ids: int

    @property
    def is_inverse(self) -> bool:
        """Whether a contract is worth a fixed number of dollars."""
        return self.multiplier < 0

    def id_of(self, price: float) -> int:
        """Return the id of a price in this book."""
        return self.ids - round(price * 100 if self.is_inverse else price / self.tick)

    def value(self, size: float, price: float) -> int:
        """Return the value of contracts, in satoshis."""
        return round(SATOSHI * size / price if self.is_inverse else self.multiplier * size * price)

    def terms(self) -> TradingTerms:
        """Return the terms for an account's trades in this contract; values are in satoshis."""
        worth: Callable[[float], float]
        price: Callable[[float], float]
        if self.is_inverse:
            worth, price = (lambda at: -SATOSHI / at), (lambda value: -SATOSHI / value)
        else:
            worth, price = (lambda at: self.multiplier * at), (lambda value: value / self.multiplier)
        return TradingTerms(worth, price, maker_fee=-0.0001, taker_fee=0.0005, initial_margin=0.01)


PRODUCTS: Final = {
    "XBTUSD": BitmexProduct("BTC-PERPETUAL", "BTC", "XBT", ".BXBT", 0.5, -SATOSHI, 88 * SATOSHI),
    "ETHUSD": BitmexProduct("ETH-PERPETUAL", "ETH", "ETH", ".BETH", 0.05, 100, 297 * SATOSHI),
    "SOLUSD": BitmexProduct("SOL-PERPETUAL", "SOL", "SOL", ".BSOL", 0.01, 10_000, 549 * SATOSHI),
}
INDICES: Final = {product.index: product for product in PRODUCTS.values()}


class BitmexMarket:
    """The rows of the public tables; `now` is milliseconds since 1970.

    Args:
        market: the simulated market that all venues share.
    """

    def __init__(self, market: Market) -> None:
        self._market = market

    def quote(self, symbol: str, now: int) -> Quote:
        """Return the best prices and their sizes."""
        ticker: Any = self._market.ticker(PRODUCTS[symbol].perpetual, now)
        return Quote(
            bid=ticker["best_bid_price"],
            bid_size=ticker["best_bid_amount"] + 100,
            ask=ticker["best_ask_price"],
            ask_size=ticker["best_ask_amount"] + 100,
            mark=ticker["mark_price"],
        )

    def quote_row(self, symbol: str, now: int) -> Row:
        """Return a row of `quote`."""
        quote = self.quote(symbol, now)
        return minimal(
            timestamp=iso(now), symbol=symbol,
            bidSize=quote.bid_size, bidPrice=quote.bid, askPrice=quote.ask, askSize=quote.ask_size,
        )  # fmt: skip

    def book(self, symbol: str, now: int, depth: int = DEPTH) -> dict[int, Row]:
        """Return the rows of a book by id, highest price first."""
        product, quote = PRODUCTS[symbol], self.quote(symbol, now)
        asks = [(quote.ask, quote.ask_size), *self._behind(symbol, quote.ask, product.tick, now)][:depth]
        bids = [(quote.bid, quote.bid_size), *self._behind(symbol, quote.bid, -product.tick, now)][:depth]
        rows = {}
        for side, levels in (("Sell", reversed(asks)), ("Buy", bids)):
            for price, size in levels:
                number = product.id_of(price)
                rows[number] = minimal(symbol=symbol, id=number, side=side, size=size, price=price)
        return rows

    def _behind(self, symbol: str, best: float, step: float, now: int) -> list[tuple[float, float]]:
        """Return the prices and sizes behind the best one; each size changes every five seconds in its own phase."""
        levels = []
        for distance in range(1, DEPTH):
            price = round(best + distance * step, 6)
            phase = int(5000 * unit_noise("phase", symbol, price))
            noise = unit_noise("size", symbol, price, (now + phase) // 5000)
            if noise > 0.1:
                levels.append((price, float(int(1000 * noise)) * 100))
        return levels

    def short_book_row(self, symbol: str, now: int) -> Row:
        """Return a row of `orderBook10`."""
        rows = list(self.book(symbol, now, 10).values())
        sides = {side: [[row["price"], row["size"]] for row in rows if row["side"] == side] for side in ("Buy", "Sell")}
        return {"symbol": symbol, "bids": sides["Buy"], "asks": sides["Sell"][::-1], "timestamp": iso(now)}

    def trade_rows(self, symbol: str, now: int, before: float | None) -> list[Row]:
        """Return the trades at a given time: at most two.

        Args:
            symbol: the symbol of a product, or of an index, whose "trades" are its values once a second.
            now: milliseconds since 1970.
            before: the price of the previous trade; None if there is none.
        """
        if symbol in INDICES:
            return [self._index_row(symbol, now, before)]
        product, quote = PRODUCTS[symbol], self.quote(symbol, now)
        rows = []
        for number in range(int(2.5 * unit_noise("trades", symbol, now))):
            side = "Buy" if unit_noise("side", symbol, now, number) < 0.5 else "Sell"
            price = quote.ask if side == "Buy" else quote.bid
            size = 100.0 * (1 + int(50 * unit_noise("traded", symbol, now, number)))
            rows.append(
                minimal(
                    timestamp=iso(now), symbol=symbol, side=side, size=size, price=price,
                    tickDirection=_direction(price, before), trdMatchID=_guid("trade", symbol, now, number),
                    grossValue=product.value(size, price), homeNotional=round(size / price, 8), foreignNotional=size,
                )
            )  # fmt: skip
            before = price
        return rows

    def _index_row(self, symbol: str, now: int, before: float | None) -> Row:
        price = self.index(INDICES[symbol], now)
        return minimal(
            timestamp=iso(now), symbol=symbol, side="Buy", size=0, price=price,
            tickDirection=_direction(price, before), trdMatchID=NO_TRADE,
            grossValue=None, homeNotional=None, foreignNotional=None,
        )  # fmt: skip

    def index(self, product: BitmexProduct, now: int) -> float:
        """Return the index price, the same as in FinX's contract."""
        return round(self._market.path.price(product.base, now), 2)

    def trade_bin_row(self, symbol: str, period: int, end: int) -> Row:
        """Return a row of `tradeBin`; the bin ends at `end`, milliseconds since 1970, and is `period` ms long."""
        product = PRODUCTS[symbol]
        prices = [
            round(round(self.index(product, end - period + period * part // 12) / product.tick) * product.tick, 6)
            for part in range(13)
        ]
        volume = 1000.0 * (1 + int(period / 60_000 * 500 * unit_noise("volume", symbol, end)))
        vwap = round(sum(prices) / len(prices), 4)
        return minimal(
            timestamp=iso(end), symbol=symbol, open=prices[0], high=max(prices), low=min(prices), close=prices[-1],
            trades=1 + int(period / 60_000 * 200 * unit_noise("count", symbol, end)), volume=volume, vwap=vwap,
            lastSize=100.0, turnover=product.value(volume, vwap), homeNotional=round(volume / vwap, 8),
            foreignNotional=volume,
        )  # fmt: skip

    def funding_row(self, symbol: str, now: int) -> Row:
        """Return the latest row of `funding`."""
        at = (now - FUNDING_SHIFT) // FUNDING_PERIOD * FUNDING_PERIOD + FUNDING_SHIFT
        rate = self._funding_rate(symbol, at)
        return minimal(
            timestamp=iso(at), symbol=symbol, fundingInterval="2000-01-01T08:00:00.000Z",
            fundingRate=rate, fundingRateDaily=round(3 * rate, 6),
        )  # fmt: skip

    def _funding_rate(self, symbol: str, at: int) -> float:
        return round(0.0006 * (unit_noise("funding", symbol, at) - 0.3), 6)

    def instrument_row(self, symbol: str, now: int) -> Row:
        """Return a row of `instrument`."""
        if symbol in INDICES:
            return self._index_instrument_row(symbol, now)
        product, quote = PRODUCTS[symbol], self.quote(symbol, now)
        last = quote.bid if unit_noise("last", symbol, now // 500) < 0.5 else quote.ask
        funding_at = (now - FUNDING_SHIFT) // FUNDING_PERIOD * FUNDING_PERIOD + FUNDING_SHIFT + FUNDING_PERIOD
        hour = now // 3_600_000 * 3_600_000
        volume = 315_691_900 + 100 * (now // 1000 % 100_000)
        row = blank("instrument")
        row |= minimal(
            symbol=symbol, rootSymbol=product.root, state="Open", typ="FFWCSX", positionCurrency="USD",
            listing="2016-05-13T12:00:00.000Z", front="2016-05-13T12:00:00.000Z", underlying=product.root,
            quoteCurrency="USD", underlyingSymbol=f"{product.root}=", reference="BMEX", referenceSymbol=product.index,
            maxOrderQty=10_000_000, maxPrice=1_000_000, lotSize=100, tickSize=product.tick,
            multiplier=product.multiplier, settlCurrency="XBt",
            underlyingToSettleMultiplier=product.multiplier if product.is_inverse else None,
            quoteToSettleMultiplier=None if product.is_inverse else product.multiplier,
            isQuanto=not product.is_inverse, isInverse=product.is_inverse, initMargin=0.01, maintMargin=0.005,
            riskLimit=20_000_000_000, riskStep=10_000_000_000, capped=False, taxed=True, deleverage=True,
            makerFee=-0.0001, takerFee=0.0005, settlementFee=0, insuranceFee=0,
            fundingBaseSymbol=f".{product.root}BON8H", fundingQuoteSymbol=".USDBON8H",
            fundingPremiumSymbol=f".{symbol}PI8H", fundingTimestamp=iso(funding_at),
            fundingInterval="2000-01-01T08:00:00.000Z", fundingRate=self._funding_rate(symbol, funding_at),
            indicativeFundingRate=self._funding_rate(symbol, funding_at + FUNDING_PERIOD),
            openingTimestamp=iso(hour), closingTimestamp=iso(hour + 3_600_000),
            sessionInterval="2000-01-01T01:00:00.000Z",
            volume=volume, totalVolume=1_989_881_049_000 + volume, volume24h=4_491_824_700,
            lastPrice=last, lastPriceProtected=last, lastTickDirection="PlusTick",
            bidPrice=quote.bid, midPrice=round((quote.bid + quote.ask) / 2, 6), askPrice=quote.ask,
            impactBidPrice=quote.bid, impactMidPrice=round((quote.bid + quote.ask) / 2, 6), impactAskPrice=quote.ask,
            hasLiquidity=True, openInterest=967_826_900, openValue=product.value(967_826_900, quote.mark),
            fairMethod="FundingRate", fairBasisRate=0, fairBasis=0, fairPrice=quote.mark,
            markMethod="FairPrice", markPrice=quote.mark, indicativeTaxRate=0,
            indicativeSettlePrice=self.index(product, now), timestamp=iso(now),
        )  # fmt: skip
        return row

    def _index_instrument_row(self, symbol: str, now: int) -> Row:
        product = INDICES[symbol]
        price = self.index(product, now)
        return blank("instrument") | minimal(
            symbol=symbol, rootSymbol=product.root, state="Unlisted", typ="MRCXXX", positionCurrency="",
            underlying=product.root, quoteCurrency="USD", reference="BMI", referenceSymbol=symbol,
            tickSize=0.01, isQuanto=False, isInverse=False, lastPrice=price, lastTickDirection="PlusTick",
            markMethod="LastPrice", markPrice=price, timestamp=iso(now),
        )  # fmt: skip


def blank(table: str) -> Row:
    """Return a row without values: strings are empty, everything else is null."""
    return {name: "" if kind in ("symbol", "string") else None for name, kind in TABLES[table].types.items()}


def minimal(**values: Any) -> Row:
    """Return fields with numbers in BitMEX's format: ``6063``, not ``6063.0``."""
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value for name, value in values.items()
    }


def iso(timestamp: int) -> str:
    """Convert milliseconds since 1970 to BitMEX's time format."""
    moment = datetime.fromtimestamp(timestamp // 1000, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{timestamp % 1000:03d}Z"


def _direction(price: float, before: float | None) -> str:
    if before is None or price == before:
        return "ZeroPlusTick"
    return "PlusTick" if price > before else "MinusTick"


def _guid(*parts: object) -> str:
    return str(UUID(int=int(unit_noise(*parts, "high") * 2**64) << 64 | int(unit_noise(*parts, "low") * 2**64)))
