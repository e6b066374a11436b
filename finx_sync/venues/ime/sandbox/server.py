"""IME live data in the sandbox: two endpoints with contracts in the URL, and a bus with a channel for each contract.

Source: IME Live Data WebSocket documentation. As described there, a publisher publishes each contract's data on its own
Pub/Sub channel whenever it has changed, and each endpoint forwards it in its own envelope.

Assumptions where it is silent: the credential is the sandbox's key, as a bearer token, in ``X-API-Key``, in the query
(``token``, ``access_token``) or in a cookie (``session``, ``token``). A wrong credential, an unknown contract, or no
contract is refused with HTTP 403 in the handshake, as the service's web framework does before it accepts a connection,
or with 1008 after the handshake if a test requests that. There is no snapshot. The market never closes, and its day
begins at midnight UTC.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
from datetime import datetime, timezone
from typing import Any, Final

from aiohttp import web

from finx_sync.sandbox.bus import Bus
from finx_sync.sandbox.connection import ClientConnection
from finx_sync.sandbox.host import SandboxHost, dumps
from finx_sync.sandbox.prices import DAY_MS, unit_noise

__all__ = ["CONTRACTS", "ImeServer"]

logger = logging.getLogger("finx_sync.sandbox")

CONTRACTS: Final = {"ContractA": ("12345", "BTC"), "ContractB": ("67890", "ETH"), "ContractC": ("24680", "SOL")}
"""The contracts' names, each with its id and the currency whose price it follows."""
RIALS: Final = 100
"""The price of a contract in rials for each dollar of its currency's price."""
LIFE: Final = 500
"""Milliseconds between two changes of a contract's data; each contract has its own phase."""
ENDPOINTS: Final = {"name": ("contract_names", "contractName"), "id": ("contract_id", "ContractId")}
"""The query parameter and the envelope field of each endpoint."""

Data = dict[str, Any]


class ImeServer:
    """The service: everything that its connections share; on the event loop only.

    Args:
        host: the sandbox.
        bus: the message bus between the publisher and the connections.

    Attributes:
        accepts_first: whether to refuse clients with 1008 after the handshake instead of HTTP 403.
    """

    def __init__(self, host: SandboxHost, bus: Bus) -> None:
        self.accepts_first = False
        self._hub = host.hub
        self._market = host.market
        self._bus = bus
        self._accepts = host.accepts
        self._now = host.now
        self._interval = host.exchange_interval
        self._listeners: dict[str, set[ImeSession]] = {name: set() for name in CONTRACTS}
        self._is_failing = False
        self._publisher: asyncio.Task[None] | None = None

    def add_to(self, app: web.Application) -> None:
        """Register the paths, and run the publisher while the application runs."""
        for kind in ENDPOINTS:
            app.router.add_get(f"/live/data/websocket/contract/{kind}", self._serve)
        app.on_startup.append(self._begin)
        app.on_cleanup.append(self._end)

    async def _begin(self, app: web.Application) -> None:
        await self._bus.open([_channel(name) for name in CONTRACTS], self._heard)
        self._publisher = asyncio.get_running_loop().create_task(self._publish_changes())

    async def _end(self, app: web.Application) -> None:
        if self._publisher is not None:
            self._publisher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._publisher
        await self._bus.close()

    # Publisher

    async def _publish_changes(self) -> None:
        last: dict[str, Data] = {}
        while True:
            now = self._now()
            for name in CONTRACTS if self._bus.is_shared else [one for one in CONTRACTS if self._listeners[one]]:
                data = self.data(name, now)
                if data != last.get(name):
                    last[name] = data
                    await self.publish(name, data)
            await asyncio.sleep(self._interval)

    async def publish(self, name: str, data: Data) -> None:
        """Publish a contract's data on its channel."""
        moment = datetime.fromtimestamp(self._now() / 1000, timezone.utc).replace(tzinfo=None)
        text = dumps({"timestamp": moment.isoformat(timespec="microseconds"), "data": data})
        try:
            await self._bus.publish(_channel(name), text)
        except Exception as error:  # noqa: BLE001  # any error of the bus's library; the next change is published again
            logger.log(logging.DEBUG if self._is_failing else logging.WARNING, "the sandbox cannot publish: %s", error)
            self._is_failing = True
        else:
            self._is_failing = False

    def data(self, name: str, now: int) -> Data:
        """Return a contract's data at `now`, milliseconds since 1970."""
        _, base = CONTRACTS[name]
        phase = int(LIFE * unit_noise("phase", name))
        stands_since = (now - phase) // LIFE * LIFE + phase
        price, midnight = self._market.path.price, now // DAY_MS * DAY_MS
        close, opened = round(price(base, midnight) * RIALS), round(price(base, midnight + 1) * RIALS)
        last = round(price(base, stands_since) * RIALS)
        low, high = sorted((opened, last))
        trades = (stands_since - midnight) // 20_000
        moment = datetime.fromtimestamp(stands_since / 1000, timezone.utc)

        def quantity(side: str, level: int) -> int:
            return 1 + int(50 * unit_noise(side, level, name, stands_since))

        return {
            "BestLimit": {
                str(level): {
                    "buy_quantity": quantity("buy", level),
                    "buy_price": last - 10 * level,
                    "sell_quantity": quantity("sell", level),
                    "sell_price": last + 10 * level,
                }
                for level in (1, 2, 3)
            },
            "Aggregate": {
                "date": f"{moment:%Y-%m-%d}",
                "time": f"{moment:%H:%M:%S}",
                "trade_count": trades,
                "total_volume": trades * 3,
                "total_value": trades * 3 * last,
                "closing_price": last,
                "last_price": last,
                "low_price": low,
                "high_price": high,
                "open_price": opened,
                "previous_close": close,
            },
            "AllowedPriceRange": {"minAllowedPrice": round(close * 0.9), "maxAllowedPrice": round(close * 1.1)},
            "ContractInfo": {"open_interest": 1000 + trades, "open_interest_changes": trades},
        }

    # Endpoints

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        kind = request.path.rpartition("/")[2]
        parameter, field = ENDPOINTS[kind]
        asked = request.query.getall(parameter, [])
        names = {name if kind == "name" else number: name for name, (number, _) in CONTRACTS.items()}
        refused = not asked or not set(asked) <= set(names) or not self._is_authorized(request)
        if refused and not self.accepts_first:
            raise web.HTTPForbidden
        shown = "&".join(f"{parameter}={one}" for one in asked)
        connection, response = await self._hub.accept(request, f"{request.path}?{shown}", idle_timeout=math.inf)
        session = ImeSession(self, connection, {} if refused else {names[one]: one for one in asked}, field)
        try:
            await self._hub.serve(connection, session)
        finally:
            for name in session.asked:
                self._listeners[name].discard(session)
        return response

    def _is_authorized(self, request: web.Request) -> bool:
        found = [request.headers.get("X-API-Key"), request.query.get("token"), request.query.get("access_token")]
        found += [request.headers.get("Authorization", "").removeprefix("Bearer ")]
        found += [request.cookies.get("session"), request.cookies.get("token")]
        return any(key and self._accepts(key) for key in found)

    def listen(self, session: ImeSession) -> None:
        """Forward what is published about a session's contracts to the session."""
        for name in session.asked:
            self._listeners[name].add(session)
        self._hub.note_subscriptions(session.connection)

    def _heard(self, channel: str, text: str) -> None:
        name = channel.rpartition(":")[2]
        if listeners := self._listeners.get(name):
            message = json.loads(text)
            for session in listeners:
                session.send(name, message)


class ImeSession:
    """One connection, with its contracts, each mapped to the name or id in the URL."""

    def __init__(self, venue: ImeServer, connection: ClientConnection, asked: dict[str, str], field: str) -> None:
        self._venue = venue
        self.connection: Final = connection
        self.asked: Final = asked
        self._field = field

    def opened(self) -> None:
        """Start forwarding, or refuse the connection."""
        if not self.asked:
            self.connection.finish(1008, "")
            return
        for one in self.asked.values():
            self.connection.join(one)
        self._venue.listen(self)

    def received(self, text: str) -> None:
        """Ignore the message; the protocol has no client messages."""

    def send(self, name: str, message: dict[str, Any]) -> None:
        """Forward published data in the endpoint's envelope."""
        one = self.asked[name]
        envelope = {"channel": "IME Stream", self._field: one, **message}
        self.connection.send(dumps(envelope), one)


def _channel(name: str) -> str:
    return f"ime:contract:{name}"
