"""BitMEX's realtime service: upgrade, commands, tables.

Sources: BitMEX documentation, *WebSocket API*; frames captured in 2021; errors that public clients quote. ``/realtime``
and ``/realtimePlatform`` both serve every table. Credentials come as headers or as query parameters of the same names,
or later by ``authKeyExpires``; topics by ``?subscribe=a,b`` or by commands.

Where the sources are silent, the sandbox chose:

- The acknowledgements of topics in the URL echo a request that names them all. A refused topic there closes the
  connection with 1008, except an account's table without a key, which the official client asks for in any case.
- A command that cannot be read, or is unknown, is an error 400; after 20 errors the connection is closed with 1008.
- An expired signature is told as "This request has expired", a disabled key as 403 "This key is disabled".
- Orders come from the sandbox's own controls and from a robot that trades XBTUSD, not by REST.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiohttp import web

from finx_sync.sandbox.bitmex_account import Trader
from finx_sync.sandbox.bitmex_market import PRODUCTS, BitmexMarket, Row, iso
from finx_sync.sandbox.bitmex_schema import PRIVATE, TABLES
from finx_sync.sandbox.bitmex_tables import Change, Table, public_tables
from finx_sync.sandbox.codec import dumps
from finx_sync.sandbox.connection import Connection
from finx_sync.sandbox.hub import Hub
from finx_sync.sandbox.market import Market
from finx_sync.sandbox.robot import Robot

__all__ = ["BitmexVenue", "Refusal"]

DOCUMENTS: Final = "https://www.bitmex.com/app/wsAPI"
OPENINGS: Final = 720
"""Connections an hour, which the welcome counts down (2025); the sandbox counts but does not refuse."""
MAX_ARGS: Final = 20
MAX_ERRORS: Final = 20
ROBOT_INTERVAL: Final = 2000
"""Milliseconds between two acts of the robot."""
ROBOT_SIZE: Final = 100.0


class Refusal(Exception):  # noqa: N818 - not a failure of the sandbox: an answer
    """An answer that is an error; its arguments are BitMEX's status, text and meta object."""

    def __init__(self, status: int, text: str, meta: Mapping[str, Any] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.meta = dict(meta or {})


class BitmexVenue:
    """The service: everything that its connections share; on the event loop only.

    Args:
        hub: the connections.
        market: the one that all venues share.
        secret_of: the secret of a key that is accepted now, else None.
        now: milliseconds since 1970.
        interval: seconds between two steps of the tables.
        robots: whether a robot trades on each account.
    """

    def __init__(
        self,
        hub: Hub,
        market: Market,
        secret_of: Callable[[str], str | None],
        now: Callable[[], int],
        interval: float,
        *,
        robots: bool,
    ) -> None:
        self.hub: Final = hub
        self._wall_clock = now
        self._frozen: int | None = None
        self._robots = robots
        self._secret_of = secret_of
        self._interval = interval
        self._market = BitmexMarket(market)
        self._public = public_tables(self._market)
        self._traders: dict[str, tuple[Trader, Robot]] = {}
        self._sessions: set[_Session] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._opened = 0

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Register the paths."""
        for path in ("/realtime", "/realtimePlatform"):
            router.add_get(path, self._realtime)

    def close(self) -> None:
        """Let time stand still for good: the event loop ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _realtime(self, request: web.Request) -> web.StreamResponse:
        try:
            key = self._key_of(request)
        except Refusal as refusal:
            body = dumps({"error": {"message": refusal.text, "name": "HTTPError"}})
            return web.Response(status=refusal.status, text=body, content_type="application/json")
        connection, response = await self.hub.accept(request, request.path, idle_timeout=math.inf)
        topics = [topic for topic in request.query.get("subscribe", "").split(",") if topic]
        session = _Session(self, connection, key, topics)
        self._sessions.add(session)
        self._wake()
        try:
            await self.hub.serve(connection, session)
        finally:
            self._sessions.discard(session)
        return response

    def _key_of(self, request: web.Request) -> str | None:
        """Whose connection this is; from the headers, or the query as BitMEX's own NodeJS client has it."""
        names = ("api-expires", "api-key", "api-signature")
        given = [request.headers.get(name) or request.query.get(name) for name in names]
        if not any(given):
            return None
        expires, key, signature = (value or "" for value in given)
        self.check_signature(key, expires, signature)
        return key

    def check_signature(self, key: str, expires: str, signature: str) -> None:
        """Let a valid signature pass.

        Raises:
            Refusal: it is none, or not of this key, or too old.
        """
        secret = self._secret_of(key)
        if secret is None:
            raise Refusal(401, "Invalid API Key.")
        message = f"GET/realtime{expires}"
        if not hmac.compare_digest(hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest(), signature):
            raise Refusal(401, "Signature not valid.")
        seconds = self._wall_clock() / 1000
        if not expires.replace(".", "", 1).isdigit() or not float(expires) > seconds:
            raise Refusal(401, f"This request has expired - `expires` is in the past. Current time: {int(seconds)}")

    def welcome(self) -> Row:
        """The first frame of a connection."""
        self._opened += 1
        return {
            "info": "Welcome to the BitMEX Realtime API.",
            "version": "2.0.0",
            "timestamp": iso(self._wall_clock()),
            "docs": DOCUMENTS,
            "heartbeatEnabled": False,
            "limit": {"remaining": max(OPENINGS - self._opened, 1)},
        }

    def trader(self, key: str) -> Trader:
        """A key's account, opened when it is first asked for."""
        if key not in self._traders:
            trader = Trader(self._market, len(self._traders), self.now())
            tick = PRODUCTS["XBTUSD"].tick
            robot = Robot(
                trader.account, "XBTUSD", ROBOT_SIZE, interval=ROBOT_INTERVAL,
                on_tick=lambda price: round(price / tick) * tick,
            )  # fmt: skip
            self._traders[key] = (trader, robot)
        return self._traders[key][0]

    def table(self, name: str, key: str | None) -> Table:
        """A table, as an account sees it.

        Raises:
            Refusal: there is none of that name, or it is an account's and there is no key.
        """
        if name in PRIVATE:
            if key is None:
                raise Refusal(
                    401,
                    "User requested an account-locked subscription but no authorization was provided.",
                    {"notes": f"Account-locked tables include the following: {','.join(PRIVATE)}"},
                )
            return self.trader(key).tables[name]
        if name not in self._public:
            raise Refusal(400, f"Unknown table: {name}")
        return self._public[name]

    # what changes with time

    def now(self) -> int:
        """Milliseconds since 1970 in this market; they stand still while it is paused."""
        return self._wall_clock() if self._frozen is None else self._frozen

    def pause(self) -> None:
        """Let time stand still."""
        self._frozen = self.now()

    def resume(self) -> None:
        """Let time go on, from where it really is."""
        self._frozen = None

    def _wake(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._interval, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.flush()
        if self._sessions or any(trader.switch_at is not None for trader, _ in self._traders.values()):
            self._wake()

    def flush(self) -> None:
        """Bring every table that somebody subscribes up to date, and send what has changed."""
        now = self.now()
        for key, (trader, robot) in self._traders.items():
            if self._robots:
                robot.step(now)
            trader.value(now)
            for name, table in trader.tables.items():
                self._send(name, table.step(None, now), key)
        wanted = {topic for session in self._sessions for topic in session.topics}
        for name, table in self._public.items():
            for symbol in table.symbols or (None,):
                if wanted & set(_topics_of(name, symbol)):
                    self._send(name, table.step(symbol, now), None)

    def catch_up(self, name: str, symbol: str | None, key: str | None) -> None:
        """Send what a table holds back, so that an image of it fits what follows."""
        table, owner = self.table(name, key), key if name in PRIVATE else None
        for one in [symbol] if symbol in table.symbols else table.symbols or (None,):
            self._send(name, table.step(one, self.now()), owner)

    def _send(self, name: str, changes: list[Change], key: str | None) -> None:
        for change in changes:
            text = dumps({"table": name, "action": change.action, "data": change.rows})
            for session in self._sessions:
                if key in (None, session.key):
                    session.send_change(name, change.symbol, text)


class _Session:
    """One connection."""

    def __init__(self, venue: BitmexVenue, connection: Connection, key: str | None, topics: list[str]) -> None:
        self.key = key
        self.topics: dict[str, None] = {}
        self._venue = venue
        self._connection = connection
        self._asked_by_url = topics
        self._errors = 0

    def opened(self) -> None:
        """Welcome the client, and subscribe what its URL names."""
        self._reply(self._venue.welcome())
        if self._asked_by_url:
            request = {"op": "subscribe", "args": self._asked_by_url}
            failures = self._subscribe(self._asked_by_url, request)
            if any(refusal.status != 401 for refusal in failures):
                self._connection.finish(1008, "bad subscription")

    def received(self, text: str) -> None:
        """Answer a command."""
        if text == "ping":
            self._connection.send("pong")
            return
        if text == "help":
            self._reply(_help())
            return
        try:
            request = json.loads(text)
        except (ValueError, RecursionError):
            request = None
        self._venue.hub.note_request(self._connection, _shown(request) if isinstance(request, dict) else text)
        if not isinstance(request, dict):
            self._refuse(Refusal(400, "Unrecognized request. See the docs or send 'help' for more info."), text)
            return
        op, args = request.get("op"), request.get("args")
        try:
            if op == "subscribe":
                self._subscribe(_topics(args), request)
            elif op == "unsubscribe":
                self._unsubscribe(_topics(args), request)
            elif op == "authKeyExpires":
                self._authorize(args, request)
            elif op == "cancelAllAfter":
                self._set_switch(args, request)
            else:
                raise Refusal(400, f"Unknown op: {op}")
        except Refusal as refusal:
            self._refuse(refusal, request)

    def send_change(self, name: str, symbol: str | None, text: str) -> None:
        """Send a message of a table, if this connection subscribes it; once for each topic that it fits."""
        for topic in _topics_of(name, symbol):
            if topic in self.topics:
                self._connection.send(text, topic)

    def _subscribe(self, topics: list[str], request: Row) -> list[Refusal]:
        """Acknowledge every topic first, then send the images; returns what was refused."""
        granted, failures = [], []
        for topic in topics:
            try:
                self._check(topic)
            except Refusal as refusal:
                failures.append(refusal)
                self._refuse(refusal, request)
                continue
            granted.append(topic)
            self._note(topic)
            self._reply({"success": True, "subscribe": topic, "request": request})
        for topic in granted:
            self._send_image(topic)
        return failures

    def _check(self, topic: str) -> None:
        name, colon, symbol = topic.partition(":")
        table = self._venue.table(name, self.key)
        if topic in self.topics:
            raise Refusal(
                400, f"You are already subscribed to this topic:{topic}. Please see the documentation at {DOCUMENTS}."
            )
        known = table.symbols or tuple(PRODUCTS)
        if colon and symbol not in known and symbol != "*":
            raise Refusal(400, "Unknown or expired symbol.")

    def _send_image(self, topic: str) -> None:
        name, _, symbol = topic.partition(":")
        chosen: Row = {"account": self._venue.trader(self.key).number} if name in PRIVATE and self.key else {}
        wanted = symbol if symbol not in ("", "*") else None
        if wanted is not None:
            chosen["symbol"] = wanted
        self._venue.catch_up(name, wanted, self.key)
        rows = self._venue.table(name, self.key).image(wanted, self._venue.now())
        self._connection.send(dumps(TABLES[name].head(name, chosen) | {"data": rows}), topic)
        self.topics[topic] = None

    def _unsubscribe(self, topics: list[str], request: Row) -> None:
        for topic in topics:
            if topic in self.topics:
                del self.topics[topic]
                self._connection.leave(topic)
                self._venue.hub.note_subscriptions(self._connection)
                self._reply({"success": True, "unsubscribe": topic, "request": request})
            else:
                self._refuse(Refusal(400, f"You are not subscribed to this topic:{topic}."), request)

    def _note(self, topic: str) -> None:
        self._connection.join(topic)
        self._venue.hub.note_subscriptions(self._connection)

    def _authorize(self, args: Any, request: Row) -> None:
        """``authKeyExpires``; a failure ends the connection, as the documentation says."""
        if self.key is not None:
            raise Refusal(400, "This connection is already authenticated.")
        try:
            key, expires, signature = args
            if not isinstance(expires, int):
                raise Refusal(401, "Signature not valid.")
            self._venue.check_signature(str(key), str(expires), str(signature))
        except (TypeError, ValueError):
            raise Refusal(400, "authKeyExpires takes [apiKey, expires, signature].") from None
        except Refusal as refusal:
            self._refuse(refusal, request)
            self._connection.finish(1008, "bad credentials")
            return
        self.key = key
        self._reply({"success": True, "request": request})

    def _set_switch(self, args: Any, request: Row) -> None:
        """``cancelAllAfter``: milliseconds, 0 ends it."""
        if self.key is None:
            raise Refusal(401, "Authorization Required")
        if isinstance(args, list) and len(args) == 1:
            args = args[0]
        if not isinstance(args, int) or args < 0:
            raise Refusal(400, "cancelAllAfter takes a number of milliseconds.")
        now = self._venue.now()
        self._venue.trader(self.key).switch_at = now + args if args else None
        self._reply({"now": iso(now), "cancelTime": iso(now + args) if args else 0, "request": request})

    def _reply(self, value: Any) -> None:
        self._connection.send(dumps(value))

    def _refuse(self, refusal: Refusal, request: Any) -> None:
        self._reply({"status": refusal.status, "error": refusal.text, "meta": refusal.meta, "request": request})
        self._errors += 1
        if self._errors >= MAX_ERRORS:
            self._connection.finish(1008, "too many errors")


def _topics_of(name: str, symbol: str | None) -> tuple[str, ...]:
    """The topics that a message about a symbol belongs to."""
    return (name, f"{name}:*", f"{name}:{symbol}")


def _topics(args: Any) -> list[str]:
    topics = args if isinstance(args, list) else [args]
    if not topics or not all(isinstance(topic, str) for topic in topics):
        raise Refusal(400, "args must be a topic or an array of topics.")
    if len(topics) > MAX_ARGS:
        raise Refusal(400, f"Too many args sent. Max length is {MAX_ARGS}")
    return topics


def _shown(request: Row) -> Row:
    """A request as it is recorded: without the key and its signature."""
    return {**request, "args": "***"} if str(request.get("op")).startswith("auth") else request


def _help() -> Row:
    return {
        "info": "See https://www.bitmex.com/app/wsAPI and https://www.bitmex.com/explorer for more documentation.",
        "usage": 'Send JSON in the form {"op": "string", "args": ["string"]}',
        "ops": ["authKey", "authKeyExpires", "cancelAllAfter", "subscribe", "unsubscribe"],
        "subscribe": "To subscribe, send: {op: subscribe, args: [subscriptionTopic, ...]}",
        "subscriptionSubjects": {
            "authenticationRequired": list(PRIVATE),
            "public": [name for name in TABLES if name not in PRIVATE],
        },
    }
