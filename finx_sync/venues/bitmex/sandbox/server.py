"""BitMEX's realtime service in the sandbox: the handshake, commands and tables.

Sources: BitMEX documentation, *WebSocket API*; frames captured in 2021; errors that public clients quote. ``/realtime``
and ``/realtimePlatform`` both serve every table. Credentials are headers or query parameters with the same names, or
are sent later by ``authKeyExpires``; topics are requested by ``?subscribe=a,b`` or by commands.

Assumptions where the sources are silent:

- The acknowledgements of topics in the URL contain a request that names them all. If such a topic is refused, the
  connection is closed with 1008, except for an account's table without a key, which the official client always
  requests.
- A command that cannot be parsed or is unknown gets an error 400; after 20 errors the connection is closed with 1008.
- An expired signature is answered with "This request has expired".
- Orders come from the sandbox's controls and from a robot that trades XBTUSD, not from REST requests.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
from typing import Final

from aiohttp import web

from finx_sync.sandbox.host import SandboxHost, dumps
from finx_sync.sandbox.robot import Robot
from finx_sync.venues.bitmex.sandbox.account import BitmexTrader
from finx_sync.venues.bitmex.sandbox.market import PRODUCTS, BitmexMarket, Row, iso
from finx_sync.venues.bitmex.sandbox.schema import PRIVATE
from finx_sync.venues.bitmex.sandbox.session import DOCUMENTS, BitmexRefusal, BitmexSession, topics_of
from finx_sync.venues.bitmex.sandbox.tables import Change, ServedTable, public_tables

__all__ = ["BitmexServer"]

OPENINGS: Final = 720
"""Connections per hour, which the welcome message counts down (2025); the sandbox counts but never refuses."""
ROBOT_INTERVAL: Final = 2000
"""Milliseconds between two actions of the robot."""
ROBOT_SIZE: Final = 100.0


class BitmexServer:
    """The service: everything that its connections share; on the event loop only.

    Args:
        host: the sandbox.
    """

    def __init__(self, host: SandboxHost) -> None:
        self.hub: Final = host.hub
        self._wall_clock = host.now
        self._frozen: int | None = None
        self._robots = host.robots
        self._secret_of = host.secret_of
        self._interval = host.exchange_interval
        self._market = BitmexMarket(host.market)
        self._public = public_tables(self._market)
        self._traders: dict[str, tuple[BitmexTrader, Robot]] = {}
        self._sessions: set[BitmexSession] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._opened = 0

    def add_to(self, app: web.Application) -> None:
        """Register the paths, and stop the timer when the application ends."""
        for path in ("/realtime", "/realtimePlatform"):
            app.router.add_get(path, self._realtime)
        app.on_cleanup.append(self._close)

    async def _close(self, app: web.Application) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _realtime(self, request: web.Request) -> web.StreamResponse:
        try:
            key = self._key_of(request)
        except BitmexRefusal as refusal:
            body = dumps({"error": {"message": refusal.text, "name": "HTTPError"}})
            return web.Response(status=refusal.status, text=body, content_type="application/json")
        connection, response = await self.hub.accept(request, request.path, idle_timeout=math.inf)
        topics = [topic for topic in request.query.get("subscribe", "").split(",") if topic]
        session = BitmexSession(self, connection, key, topics)
        self._sessions.add(session)
        self._wake()
        try:
            await self.hub.serve(connection, session)
        finally:
            self._sessions.discard(session)
        return response

    def _key_of(self, request: web.Request) -> str | None:
        """Return the key of a connection, from its headers or, as with BitMEX's NodeJS client, from the query."""
        names = ("api-expires", "api-key", "api-signature")
        given = [request.headers.get(name) or request.query.get(name) for name in names]
        if not any(given):
            return None
        expires, key, signature = (value or "" for value in given)
        self.check_signature(key, expires, signature)
        return key

    def check_signature(self, key: str, expires: str, signature: str) -> None:
        """Check a signature.

        Raises:
            BitmexRefusal: the key is unknown, or the signature is wrong or has expired.
        """
        secret = self._secret_of(key)
        if secret is None:
            raise BitmexRefusal(401, "Invalid API Key.")
        message = f"GET/realtime{expires}"
        if not hmac.compare_digest(hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest(), signature):
            raise BitmexRefusal(401, "Signature not valid.")
        seconds = self._wall_clock() / 1000
        if not expires.replace(".", "", 1).isdigit() or not float(expires) > seconds:
            raise BitmexRefusal(
                401, f"This request has expired - `expires` is in the past. Current time: {int(seconds)}"
            )

    def welcome(self) -> Row:
        """Return the first frame of a connection."""
        self._opened += 1
        return {
            "info": "Welcome to the BitMEX Realtime API.",
            "version": "2.0.0",
            "timestamp": iso(self._wall_clock()),
            "docs": DOCUMENTS,
            "heartbeatEnabled": False,
            "limit": {"remaining": max(OPENINGS - self._opened, 1)},
        }

    def trader(self, key: str) -> BitmexTrader:
        """Return a key's account, which is opened on first use."""
        if key not in self._traders:
            trader = BitmexTrader(self._market, len(self._traders), self.now())
            tick = PRODUCTS["XBTUSD"].tick
            robot = Robot(
                trader.account, "XBTUSD", ROBOT_SIZE, interval=ROBOT_INTERVAL,
                on_tick=lambda price: round(price / tick) * tick,
            )  # fmt: skip
            self._traders[key] = (trader, robot)
        return self._traders[key][0]

    def table(self, name: str, key: str | None) -> ServedTable:
        """Return a table, which may be that of an account.

        Raises:
            BitmexRefusal: there is no table with that name, or it belongs to an account and there is no key.
        """
        if name in PRIVATE:
            if key is None:
                raise BitmexRefusal(
                    401,
                    "User requested an account-locked subscription but no authorization was provided.",
                    {"notes": f"Account-locked tables include the following: {','.join(PRIVATE)}"},
                )
            return self.trader(key).tables[name]
        if name not in self._public:
            raise BitmexRefusal(400, f"Unknown table: {name}")
        return self._public[name]

    # Time

    def now(self) -> int:
        """Return the market's time in milliseconds since 1970, which does not advance while it is paused."""
        return self._wall_clock() if self._frozen is None else self._frozen

    def pause(self) -> None:
        """Stop the market's time."""
        self._frozen = self.now()

    def resume(self) -> None:
        """Set the market's time to the real time, and let it advance again."""
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
        """Update every subscribed table, and send the changes."""
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
                if wanted & set(topics_of(name, symbol)):
                    self._send(name, table.step(symbol, now), None)

    def catch_up(self, name: str, symbol: str | None, key: str | None) -> None:
        """Send the changes that a table has not sent yet, so that an image of it is consistent with later changes."""
        table, owner = self.table(name, key), key if name in PRIVATE else None
        for one in [symbol] if symbol in table.symbols else table.symbols or (None,):
            self._send(name, table.step(one, self.now()), owner)

    def _send(self, name: str, changes: list[Change], key: str | None) -> None:
        for change in changes:
            text = dumps({"table": name, "action": change.action, "data": change.rows})
            for session in self._sessions:
                if key in (None, session.key):
                    session.send_change(name, change.symbol, text)
