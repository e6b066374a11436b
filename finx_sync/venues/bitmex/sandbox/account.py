"""An account's tables in BitMEX's format: orders, executions, positions, margin and wallet.

Amounts of money are whole satoshis (XBt). Fields that the sandbox does not simulate are null or empty.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Final
from uuid import UUID

from finx_sync.sandbox.account import Event, Fill, Position, TradingAccount, TradingOrder
from finx_sync.venues.bitmex.sandbox.market import PRODUCTS, BitmexMarket, Row, blank, iso, minimal
from finx_sync.venues.bitmex.sandbox.tables import ROWS_KEPT, Change, ServedTable, changed

__all__ = ["BitmexTrader"]

START_BALANCE: Final = 1_000_000_000
"""Satoshis: ten bitcoins."""
FIRST_NUMBER: Final = 100_001


class BitmexTrader:
    """The account of a key, with its tables.

    Args:
        market: the market that the account trades in.
        index: the index of this account among those of the sandbox, from 0.
        now: when the account was opened, milliseconds since 1970.

    Attributes:
        account: the account.
        number: BitMEX's number of the account.
        tables: the tables by name.
        switch_at: when the dead man's switch cancels all orders, milliseconds since 1970; None while it is off.
    """

    def __init__(self, market: BitmexMarket, index: int, now: int) -> None:
        self.number: Final = FIRST_NUMBER + index
        self._random = random.Random(self.number)
        terms = {symbol: product.terms() for symbol, product in PRODUCTS.items()}
        self.account: Final = TradingAccount(self.number, terms, market.quote, self._guid, START_BALANCE)
        self.account.listen(self._happened)
        self.switch_at: int | None = None
        self._opened_at = now
        self._orders = _Rows()
        self._executions = _Rows(ROWS_KEPT)
        self._positions = _Rows()
        self._margin = _Rows()
        wallet = {"account": self.number, "currency": "XBt", "amount": START_BALANCE, "timestamp": iso(now)}
        self.tables: Final[dict[str, ServedTable]] = {
            "order": self._orders,
            "execution": self._executions,
            "position": self._positions,
            "margin": self._margin,
            "wallet": _Rows.of(wallet),
            "account": _Rows.of({"id": self.number, "username": "sandbox", "email": "", "created": iso(now)}),
            "affiliate": _Rows(),
            "transact": _Rows(),
            "privateNotifications": _Rows(),
        }
        self.value(now)

    def value(self, now: int) -> None:
        """Apply the dead man's switch, advance the account to `now`, and update margin and positions."""
        if self.switch_at is not None and now >= self.switch_at:
            self.switch_at = None
            self.account.cancel_all(now=now)
        self.account.advance(now)
        for position in self.account.positions():
            row = self._position_row(position, now)
            self._positions.put((self.number, position.symbol), row, ("account", "symbol"))
        self._margin.put(self.number, self._margin_row(now), ("account", "currency"))

    def _guid(self) -> str:
        return str(UUID(int=self._random.getrandbits(128)))

    def _happened(self, event: Event) -> None:
        if isinstance(event, TradingOrder):
            self._orders.put(event.id, self._order_row(event), ("orderID", "clOrdID", "account", "symbol"))
            if event.status != "open":
                self._orders.finish(event.id)
            if event.filled == 0 or event.status == "cancelled":
                self._execute(event, None)
        elif isinstance(event, Fill):
            self._execute(event.order, event)

    def _order_row(self, order: TradingOrder) -> Row:
        product = PRODUCTS[order.symbol]
        return blank("order") | minimal(
            orderID=order.id, clOrdID=order.client_id, account=self.number, symbol=order.symbol,
            side=order.side.capitalize(), orderQty=order.size, price=order.price, currency="USD", settlCurrency="XBt",
            ordType="Market" if order.price is None else "Limit",
            timeInForce="ImmediateOrCancel" if order.ioc or order.price is None else "GoodTillCancel",
            execInst="ParticipateDoNotInitiate" if order.post_only else "ReduceOnly" if order.reduce_only else "",
            exDestination="XBME", ordStatus=_status(order), workingIndicator=order.status == "open",
            leavesQty=order.remaining, cumQty=order.filled,
            avgPx=None if order.average_price is None else _rounded(order.average_price, product.tick / 10_000),
            multiLegReportingType="SingleSecurity", text=_text(order),
            transactTime=iso(order.updated_at), timestamp=iso(order.updated_at),
        )  # fmt: skip

    def _execute(self, order: TradingOrder, fill: Fill | None) -> None:
        """Add a row to `execution` for a fill, or for a new or cancelled order."""
        row = blank("execution")
        row |= {name: value for name, value in self._order_row(order).items() if name in row}
        row |= {"execID": self._guid(), "execType": "New" if order.status == "open" else "Canceled"}
        if fill is not None:
            product, terms = PRODUCTS[order.symbol], self.account.terms[order.symbol]
            cost = product.value(fill.size, fill.price)
            row |= minimal(
                execType="Trade", lastQty=fill.size, lastPx=fill.price, lastMkt="XBME",
                lastLiquidityInd="AddedLiquidity" if fill.is_maker else "RemovedLiquidity",
                commission=terms.maker_fee if fill.is_maker else terms.taker_fee,
                tradePublishIndicator="PublishTrade", trdMatchID=self._guid(),
                execCost=-cost if order.side == "buy" else cost, execComm=round(fill.fee),
                homeNotional=round(fill.size / fill.price, 8), foreignNotional=fill.size,
            )  # fmt: skip
        self._executions.put(row["execID"], row, ("execID",))

    def _position_row(self, position: Position, now: int) -> Row:
        symbol = position.symbol
        product, terms = PRODUCTS[symbol], self.account.terms[symbol]
        mark = self.account.quote(symbol, now).mark
        entry = terms.price(position.entry_worth) if position.size else None
        entry = None if entry is None else _rounded(entry, product.tick / 10_000)
        unrealised = round(self.account.unrealised(symbol, now))
        value = product.value(position.size, mark) * (-1 if product.is_inverse else 1)
        return blank("position") | minimal(
            account=self.number, symbol=symbol, currency="XBt", underlying=product.root, quoteCurrency="USD",
            commission=terms.taker_fee, initMarginReq=terms.initial_margin, maintMarginReq=0.005,
            riskLimit=20_000_000_000, leverage=100, crossMargin=True, currentQty=position.size,
            currentComm=round(position.fees), isOpen=position.size != 0, markPrice=mark if position.size else None,
            markValue=value, riskValue=abs(value), homeNotional=round(position.size / mark, 8),
            foreignNotional=-position.size, realisedPnl=round(position.realised - position.fees),
            unrealisedPnl=unrealised, avgCostPrice=entry, avgEntryPrice=entry, breakEvenPrice=entry,
            timestamp=iso(now),
        )  # fmt: skip

    def _margin_row(self, now: int) -> Row:
        account = self.account
        balance, equity, used = round(account.balance), round(account.equity(now)), round(account.margin_used(now))
        return blank("margin") | minimal(
            account=self.number, currency="XBt", riskLimit=1_000_000_000_000, amount=START_BALANCE,
            realisedPnl=balance - START_BALANCE, unrealisedPnl=equity - balance, walletBalance=balance,
            marginBalance=equity, marginBalancePcnt=1, initMargin=used, excessMargin=equity - used,
            marginUsedPcnt=round(used / equity, 4) if equity else 1, availableMargin=equity - used,
            withdrawableMargin=equity - used, timestamp=iso(now),
        )  # fmt: skip


class _Rows:
    """A table that collects changes until `step` returns them.

    Args:
        limit: the number of rows to keep; None for all.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._by_key: dict[object, Row] = {}
        self._finished: list[object] = []
        self._pending: deque[Change] = deque()

    @classmethod
    def of(cls, row: Row) -> _Rows:
        """Create a table with one row that does not change."""
        table = cls()
        table._by_key[0] = row
        return table

    @property
    def symbols(self) -> tuple[str, ...]:
        """Always empty; each change contains its symbol."""
        return ()

    def put(self, key: object, row: Row, always: tuple[str, ...]) -> None:
        """Add or update a row; an update always contains the fields `always`."""
        before = self._by_key.get(key)
        if before is None:
            self._pending.append(Change("insert", row.get("symbol"), [row]))
        elif (update := changed(before, row, always)) is not None:
            self._pending.append(Change("update", row.get("symbol"), [update]))
        else:
            return
        self._by_key[key] = row
        if self._limit is not None and len(self._by_key) > self._limit:
            del self._by_key[next(iter(self._by_key))]

    def finish(self, key: object) -> None:
        """Remove a row without a message, as BitMEX does with finished orders."""
        self._by_key.pop(key, None)

    def rows(self, symbol: str | None) -> list[Row]:
        """Return the current rows."""
        return [row for row in self._by_key.values() if symbol in (None, row.get("symbol"))]

    def image(self, symbol: str | None, now: int) -> list[Row]:
        """Return the current rows."""
        return self.rows(symbol)

    def step(self, symbol: str | None, now: int) -> list[Change]:
        """Return the changes since the last call."""
        changes = list(self._pending)
        self._pending.clear()
        return changes


def _status(order: TradingOrder) -> str:
    if order.status != "open":
        return {"filled": "Filled", "cancelled": "Canceled"}[order.status]
    return "PartiallyFilled" if order.filled else "New"


def _text(order: TradingOrder) -> str:
    submitted = "Submitted via API."
    return f"Canceled: Canceled via API.\n{submitted}" if order.status == "cancelled" else submitted


def _rounded(price: float, step: float) -> float:
    return round(round(price / step) * step, 8)
