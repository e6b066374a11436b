"""FTX's websocket in the sandbox, ``/ws/``: subscriptions, logins and errors.

Sources: FTX documentation, *Websocket API*; frames captured in July 2021; what clients of that time report.

Assumptions where these are silent: an image is sent with the next step of the market, so that all acknowledgements of a
burst come first. ``Already subscribed``, ``Not subscribed``, ``Invalid op``, ``Invalid channel`` and ``Invalid JSON``
have code 400. The time of a login may be off by 30 seconds. Any string is a valid subaccount, with its own account;
null is refused. Past fills and orders are not sent to a new subscriber, as with FTX, unless a test requests that.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from finx_sync.sandbox.account import Event, Fill, TradingAccount, TradingOrder
from finx_sync.sandbox.connection import ClientConnection
from finx_sync.sandbox.host import SandboxHost
from finx_sync.sandbox.robot import Robot
from finx_sync.venues.ftx.sandbox.market import MARKETS, FtxMarket, ServedBook, checksum, dumps, iso

__all__ = ["FtxServer", "FtxTrader"]

LOGIN_WINDOW: Final = 30_000
"""Milliseconds by which the time of a login may be off."""
START_BALANCE: Final = 100_000.0
"""Dollars."""
EVENTS_KEPT: Final = 1000
ROBOT_INTERVAL: Final = 2000
"""Milliseconds between two actions of the robot."""
ROBOT_SIZE: Final = 0.01

BY_MARKET: Final = ("ticker", "trades", "orderbook", "orderbookGrouped")
PRIVATE: Final = ("fills", "orders", "ftxpay")
_FIRST_ID: Final = 1_473_821_857

Row = dict[str, Any]
Topic = tuple[str, str | None, float | None]
"""Channel, market, grouping."""


class FtxRefusal(Exception):  # noqa: N818 - it is not an error of the program
    """Raised for a request that is answered with an error frame."""

    def __init__(self, text: str, code: int = 400) -> None:
        super().__init__(text)
        self.frame = {"type": "error", "code": code, "msg": text}


@dataclass
class FtxTrader:
    """The account of a key and a subaccount.

    Attributes:
        account: the account.
        events: the latest private frames, oldest first, as (channel, text).
    """

    account: TradingAccount
    events: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))


class FtxServer:
    """The FTX service: everything that its connections share; on the event loop only.

    Args:
        host: the sandbox.

    Attributes:
        replayed: how many of an account's latest events are sent to a new subscriber of fills or orders.
        spoilt: for each market, how many of its next checksums are wrong.
    """

    def __init__(self, host: SandboxHost) -> None:
        self.hub: Final = host.hub
        self.market: Final = FtxMarket(host.market)
        self.now: Final = host.now
        self.replayed = 0
        self.spoilt: dict[str, int] = {}
        self._secret_of = host.secret_of
        self._interval = host.exchange_interval
        self._robots = host.robots
        self._traders: dict[tuple[str, str | None], tuple[FtxTrader, Robot]] = {}
        self._sessions: set[FtxSession] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._books: dict[tuple[str, float | None], ServedBook] = {}  # the books last sent
        self._ids = itertools.count(_FIRST_ID)

    def add_to(self, app: web.Application) -> None:
        """Register the path with and without the final slash, since clients use both."""
        app.router.add_get("/ws/", self._serve)
        app.router.add_get("/ws", self._serve)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        connection, response = await self.hub.accept(request, request.path, idle_timeout=math.inf)
        session = FtxSession(self, connection)
        self._sessions.add(session)
        self._wake()
        try:
            await self.hub.serve(connection, session)
        finally:
            self._sessions.discard(session)
        return response

    # Accounts

    def check_login(self, args: Any) -> tuple[str, str | None]:
        """Return the key and the subaccount of a login.

        Raises:
            FtxRefusal: the key, the signature or the time is wrong.
        """
        bad = FtxRefusal("Invalid login credentials")
        if not isinstance(args, dict):
            raise bad
        key, time, subaccount = args.get("key"), args.get("time"), args.get("subaccount", "")
        secret = self._secret_of(key) if isinstance(key, str) else None
        if secret is None or not isinstance(time, int) or not isinstance(subaccount, str):
            raise bad
        expected = hmac.new(secret.encode(), f"{time}websocket_login".encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, str(args.get("sign"))) or abs(time - self.now()) > LOGIN_WINDOW:
            raise bad
        return str(key), subaccount or None

    def trader(self, owner: tuple[str, str | None]) -> FtxTrader:
        """Return an account, which is opened on first use."""
        if owner not in self._traders:
            terms = {name: product.terms() for name, product in MARKETS.items()}
            account = TradingAccount(
                len(self._traders), terms, self.market.quote, lambda: str(next(self._ids)), START_BALANCE
            )
            trader = FtxTrader(account)
            known: set[str] = set()
            account.listen(lambda event: self._happened(owner, trader, known, event))
            tick = MARKETS["BTC-PERP"].tick
            robot = Robot(
                account, "BTC-PERP", ROBOT_SIZE, interval=ROBOT_INTERVAL,
                on_tick=lambda price: round(price / tick) * tick,
            )  # fmt: skip
            self._traders[owner] = (trader, robot)
        return self._traders[owner][0]

    def _happened(self, owner: tuple[str, str | None], trader: FtxTrader, known: set[str], event: Event) -> None:
        if isinstance(event, TradingOrder):
            self._notify(owner, trader, "orders", _order_row(event, is_new=event.id not in known))
            known.add(event.id)
        elif isinstance(event, Fill):
            self._notify(owner, trader, "fills", _fill_row(event, trade_id=next(self._ids)))

    def _notify(self, owner: tuple[str, str | None], trader: FtxTrader, channel: str, row: Row) -> None:
        text = dumps({"channel": channel, "type": "update", "data": row})
        trader.events.append((channel, text))
        for session in self._sessions:
            if session.owner == owner:
                session.send_if_subscribed((channel, None, None), text)

    # Market steps

    def _wake(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._interval, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._step(self.now())
        if self._sessions:
            self._wake()
        else:
            self._books.clear()

    def _step(self, now: int) -> None:
        """Advance the market and the accounts to `now`, and send the changes to subscribers."""
        for trader, robot in self._traders.values():
            if self._robots:
                robot.step(now)
            trader.account.advance(now)
        topics = dict.fromkeys(topic for session in self._sessions for topic in session.topics)
        for topic in topics:
            channel, name, grouping = topic
            if channel == "ticker":
                self._send(topic, self._frame(topic, "update", self.market.ticker(str(name), now)))
            elif channel == "trades":
                rows = [{"id": next(self._ids), **row} for row in self.market.trades(str(name), now)]
                if rows:
                    self._send(topic, self._frame(topic, "update", rows))
            elif channel in ("orderbook", "orderbookGrouped"):
                self._step_book(topic, str(name), grouping, now)
            elif channel == "markets":
                self._send_images(topic, self._markets)

    def _step_book(self, topic: Topic, name: str, grouping: float | None, now: int) -> None:
        book = self.book(name, now, grouping)
        before = self._books.get((name, grouping))
        self._books[name, grouping] = book
        if before is not None and before != book:
            self._send(
                topic, self._frame(topic, "update", self._book_data(topic, book.changes_from(before), book, now))
            )
        self._send_images(
            topic, lambda: self._frame(topic, "partial", self._book_data(topic, book.rows(), book, now, "partial"))
        )

    def _book_data(self, topic: Topic, rows: Row, book: ServedBook, now: int, action: str = "update") -> Row:
        channel, name, _ = topic
        if channel == "orderbookGrouped":  # it has no time, action or checksum
            return rows
        check = checksum(book)
        if self.spoilt.get(str(name), 0) > 0:
            self.spoilt[str(name)] -= 1
            check ^= 1
        return {"time": now / 1000, "checksum": check, **rows, "action": action}

    def book(self, name: str, now: int, grouping: float | None = None) -> ServedBook:
        """Return a market's book at `now`, milliseconds since 1970."""
        book = self.market.book(name, now)
        return book if grouping is None else book.grouped(grouping)

    def _markets(self) -> str:
        data = {"data": {name: product.row() for name, product in MARKETS.items()}, "action": "partial"}
        return dumps({"channel": "markets", "type": "partial", "data": data})

    def _frame(self, topic: Topic, kind: str, data: Any) -> str:
        channel, name, grouping = topic
        steps = {} if grouping is None else {"grouping": grouping}
        return dumps({"channel": channel, "market": name, **steps, "type": kind, "data": data})

    def _send(self, topic: Topic, text: str) -> None:
        for session in self._sessions:
            session.send_if_subscribed(topic, text)

    def _send_images(self, topic: Topic, make: Callable[[], str]) -> None:
        waiting = [session for session in self._sessions if session.topics.get(topic) is False]
        text = make() if waiting else ""
        for session in waiting:
            session.send_image(topic, text)

    def restart(self) -> None:
        """Ask every client to reconnect."""
        for session in self._sessions:
            session.reply({"type": "info", "code": 20001, "msg": "Websocket server is restarting, please reconnect"})


class FtxSession:
    """One connection.

    Attributes:
        owner: the key and the subaccount that are logged in; None before a login.
        topics: the subscribed topics, each with whether its image has been sent.
    """

    def __init__(self, venue: FtxServer, connection: ClientConnection) -> None:
        self.owner: tuple[str, str | None] | None = None
        self.topics: dict[Topic, bool] = {}
        self._venue = venue
        self._connection = connection

    def opened(self) -> None:
        """Do nothing: FTX sends no greeting."""

    def received(self, text: str) -> None:
        """Answer a request; a successful login is not answered."""
        try:
            request = json.loads(text)
        except (ValueError, RecursionError):
            request = None
        self._venue.hub.note_request(self._connection, _shown(request) if isinstance(request, dict) else text)
        try:
            if not isinstance(request, dict):
                raise FtxRefusal("Invalid JSON")
            self._answer(request)
        except FtxRefusal as refusal:
            self.reply(refusal.frame)

    def _answer(self, request: Row) -> None:
        op = request.get("op")
        if op == "ping":
            self.reply({"type": "pong"})
        elif op == "login":
            if self.owner is not None:
                raise FtxRefusal("Already logged in")
            owner = self._venue.check_login(request.get("args"))
            self._venue.trader(owner)
            self.owner = owner
        elif op in ("subscribe", "unsubscribe"):
            self._change(op, self._topic(request))
        elif op is None:
            raise FtxRefusal('Missing parameter "op"')
        else:
            raise FtxRefusal("Invalid op")

    def _topic(self, request: Row) -> Topic:
        channel = _required(request, "channel")
        if channel == "markets":
            return (channel, None, None)
        if channel in PRIVATE:
            if self.owner is None:
                raise FtxRefusal("Not logged in")
            return (channel, None, None)
        if channel not in BY_MARKET:
            raise FtxRefusal("Invalid channel")
        market = _required(request, "market")
        if market not in MARKETS:
            raise FtxRefusal(f"No such market: {market}", 404)
        if channel != "orderbookGrouped":
            return (channel, market, None)
        grouping = _required(request, "grouping")
        if isinstance(grouping, bool) or not isinstance(grouping, (int, float)) or not grouping > 0:
            raise FtxRefusal("Invalid grouping")
        return (channel, market, grouping)

    def _change(self, op: str, topic: Topic) -> None:
        channel, market, _ = topic
        if op == "subscribe":
            if topic in self.topics:
                raise FtxRefusal("Already subscribed")
            self.topics[topic] = False
            self._connection.join(_name(topic))
        else:
            if self.topics.pop(topic, None) is None:
                raise FtxRefusal("Not subscribed")
            self._connection.leave(_name(topic))
        self._venue.hub.note_subscriptions(self._connection)
        about = {} if market is None else {"market": market}
        self.reply({"type": f"{op}d", "channel": channel, **about})
        if op == "subscribe" and channel in PRIVATE:
            self._begin_private(topic)

    def _begin_private(self, topic: Topic) -> None:
        self.topics[topic] = True
        assert self.owner is not None
        events = [text for channel, text in self._venue.trader(self.owner).events if channel == topic[0]]
        for text in events[max(len(events) - self._venue.replayed, 0) :]:
            self._connection.send(text, _name(topic))

    def send_if_subscribed(self, topic: Topic, text: str) -> None:
        """Send a message of a topic if it is subscribed, and if its image has been sent or it has none."""
        if self.topics.get(topic, False) or (topic in self.topics and topic[0] in ("ticker", "trades")):
            self._connection.send(text, _name(topic))

    def send_image(self, topic: Topic, text: str) -> None:
        """Send a topic's image; updates follow from now on."""
        self.topics[topic] = True
        self._connection.send(text, _name(topic))

    def reply(self, frame: Row) -> None:
        """Send a frame that does not belong to a topic."""
        self._connection.send(dumps(frame))


def _required(request: Row, name: str) -> Any:
    if request.get(name) is None:
        raise FtxRefusal(f'Missing parameter "{name}"')
    return request[name]


def _name(topic: Topic) -> str:
    """Return the name that the hub lists a topic by, like ``ticker:BTC-PERP`` or ``fills``."""
    channel, market, _ = topic
    return channel if market is None else f"{channel}:{market}"


def _shown(request: Row) -> Row:
    """Return a request in the form to record: a login without its key and signature."""
    return {**request, "args": "***"} if request.get("op") == "login" else request


def _order_row(order: TradingOrder, *, is_new: bool) -> Row:
    status = "closed" if order.status != "open" else "new" if is_new else "open"
    return {
        "id": int(order.id),
        "clientId": order.client_id or None,
        "market": order.symbol,
        "type": "market" if order.price is None else "limit",
        "side": order.side,
        "price": order.price,
        "size": order.size,
        "status": status,
        "filledSize": order.filled,
        "remainingSize": order.remaining,
        "reduceOnly": order.reduce_only,
        "liquidation": False,
        "avgFillPrice": order.average_price,
        "postOnly": order.post_only,
        "ioc": order.ioc,
        "createdAt": iso(order.created_at),
    }


def _fill_row(fill: Fill, trade_id: int) -> Row:
    product = MARKETS[fill.order.symbol]
    is_spot = product.perpetual is None
    return {
        "id": fill.number,
        "market": product.name,
        "future": None if is_spot else product.name,
        "baseCurrency": product.base if is_spot else None,
        "quoteCurrency": "USD" if is_spot else None,
        "type": "order",
        "side": fill.order.side,
        "price": fill.price,
        "size": fill.size,
        "orderId": int(fill.order.id),
        "time": iso(fill.timestamp),
        "tradeId": trade_id,
        "feeRate": product.terms().maker_fee if fill.is_maker else product.terms().taker_fee,
        "fee": fill.fee,
        "feeCurrency": "USD",
        "liquidity": "maker" if fill.is_maker else "taker",
    }
