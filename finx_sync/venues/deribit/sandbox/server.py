"""Deribit's websocket in the sandbox, ``/ws/api/v2``: JSON-RPC requests, channels, heartbeats and limits.

Sources: Deribit API documentation, *JSON-RPC*, *Rate Limits*, *public/subscribe*, *public/set_heartbeat*,
*public/get_instruments*, *RPC Error Codes*; frames captured in July 2021.

Assumptions where these are silent: the channel of an unlisted name is left out of the accepted ones. The answer lists
the accepted channels in reverse alphabetical order, as in the captured frames. The first notification is sent at once,
and the others at intervals even if nothing has changed. A connection that exceeds the limits is closed with 1008 after
an error, and one that does not answer a test request with 1001. A test request is sent after a silent interval, and
must be answered within another interval. No tokens are issued: `public/auth` logs in the connection.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from finx_sync.errors import InvalidInputError
from finx_sync.sandbox.chain import instruments
from finx_sync.sandbox.connection import ClientConnection
from finx_sync.sandbox.host import SandboxHost, dumps
from finx_sync.venues.deribit.sandbox.codec import (
    INDEXES,
    instrument_object,
    settlement_currency,
    summary_object,
    ticker_object,
)

__all__ = ["DeribitServer", "DeribitSession", "Pace"]

CURRENCIES: Final = ("BTC", "ETH", "SOL", "USDC", "USDT", "EURR", "any")
SHORTEST_HEARTBEAT: Final = 10
CHANNELS_AT_ONCE: Final = 500
REQUESTS: Final = (20.0, 100.0)
SUBSCRIPTIONS: Final = (3.3, 10.0)
"""The rates of all requests and of subscription requests: requests per second, and the size of a burst."""

Params = dict[str, Any]


class DeribitRefusal(Exception):  # noqa: N818 - it is not an error of the program
    """Raised for a request that is answered with an error object."""

    def __init__(self, code: int, message: str, **data: Any) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, **({"data": data} if data else {})}


@dataclass(frozen=True)
class Pace:
    """Seconds between two notifications of a channel.

    Attributes:
        ticker: the interval of a ``100ms`` ticker; ``raw`` is twice as fast, ``agg2`` twenty times slower.
        index: the interval of an index price.
    """

    ticker: float
    index: float

    def of(self, channel: str) -> float:
        """Return the interval of a channel, in seconds."""
        if channel.startswith("deribit_price_index."):
            return self.index
        return self.ticker * {"raw": 0.5, "agg2": 20.0}.get(channel.rpartition(".")[2], 1.0)


class _Bucket:
    """A token bucket that limits the rate of requests."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = self._left = burst
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Take a token; return whether there was one. `now` is seconds on a monotonic clock."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class DeribitServer:
    """The Deribit service: everything that its connections share; on the event loop only.

    Args:
        host: the sandbox.

    Attributes:
        refusals: errors for the next requests, as (method, error).
        sessions: the open connections.
    """

    def __init__(self, host: SandboxHost) -> None:
        self.hub: Final = host.hub
        self.market: Final = host.market
        self.pace: Final = Pace(host.contract_interval, host.spot_interval)
        self.secret_of: Final = host.secret_of
        self.now: Final = host.now
        self.refusals: list[tuple[str, dict[str, Any]]] = []
        self.sessions: set[DeribitSession] = set()

    def add_to(self, app: web.Application) -> None:
        """Register the path."""
        app.router.add_get("/ws/api/v2", self._serve)
        app.router.add_get("/ws/api/v2/", self._serve)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        connection, response = await self.hub.accept(request, request.path, idle_timeout=math.inf)
        session = DeribitSession(self, connection)
        self.sessions.add(session)
        try:
            await self.hub.serve(connection, session)
        finally:
            self.sessions.discard(session)
            session.end_heartbeat()
        return response

    def data(self, channel: str) -> dict[str, Any]:
        """Return a channel's current data.

        Raises:
            InvalidInputError: there is no such instrument or index.
        """
        now = self.now()
        kind, _, rest = channel.partition(".")
        if kind == "ticker":
            return ticker_object(self.market.ticker(rest.rpartition(".")[0], now))
        return {"timestamp": now, "price": self.index_price(rest), "index_name": rest}

    def index_price(self, name: str) -> float:
        """Return the current price of an index.

        Raises:
            InvalidInputError: there is no such index.
        """
        if name not in INDEXES:
            raise InvalidInputError(f"unknown index {name!r}")
        base, quote = INDEXES[name].split(":")
        price, now = self.market.path.price, self.now()
        return round(price(base, now) / (price(quote, now) if quote != "USD" else 1.0), 4)

    def is_listed(self, channel: str) -> bool:
        """Return whether a channel exists."""
        parts = channel.split(".")
        if parts[0] == "deribit_price_index":
            return channel.partition(".")[2] in INDEXES
        return (
            len(parts) == 3
            and parts[0] == "ticker"
            and parts[1] in instruments(self.now())
            and parts[2] in ("100ms", "agg2", "raw")
        )


class DeribitSession:
    """One connection."""

    def __init__(self, venue: DeribitServer, connection: ClientConnection) -> None:
        self._venue = venue
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._requests, self._subscriptions = _Bucket(*REQUESTS), _Bucket(*SUBSCRIPTIONS)
        self._logged_in = False
        self._interval = 0.0
        self._heartbeat: asyncio.TimerHandle | None = None
        self._heard = self._test_pending = False

    def opened(self) -> None:
        """Do nothing; the client sends the first message."""

    def received(self, text: str) -> None:
        """Answer a request."""
        came = self._venue.now() * 1000
        self._heard, self._test_pending = True, False
        try:
            request = json.loads(text)
        except (ValueError, RecursionError):
            request = None
        self._venue.hub.note_request(self._connection, request if request is not None else text)
        number = request.get("id") if isinstance(request, dict) else None
        after: list[Callable[[], object]] = []
        outcome: dict[str, Any]
        try:
            outcome = {"result": self._result(request, after)}
        except DeribitRefusal as refusal:
            outcome = {"error": refusal.error}
        except InvalidInputError as error:
            outcome = {"error": {"code": 13020, "message": "not_found", "data": {"reason": str(error)}}}
        left = self._venue.now() * 1000
        self._send(
            {
                "jsonrpc": "2.0",
                **({} if number is None else {"id": number}),
                **outcome,
                "usIn": came,
                "usOut": left,
                "usDiff": left - came,
                "testnet": True,
            }
        )
        for act in after:
            act()

    def _result(self, request: Any, after: list[Callable[[], object]]) -> Any:
        """Return the result of a request; add to `after` what to do once it has been answered."""
        if not isinstance(request, dict) or not isinstance(request.get("method"), str) or "id" not in request:
            raise DeribitRefusal(11050, "bad_request")
        method, params = request["method"], request.get("params", {})
        now = self._loop.time()
        allowed = self._requests.take(now)
        if method == "public/subscribe":
            allowed = self._subscriptions.take(now) and allowed
        if not allowed:
            after.append(lambda: self._connection.finish(1008, "too many requests"))
            raise DeribitRefusal(10028, "too_many_requests", wait=1)
        if self._venue.refusals and self._venue.refusals[0][0] == method:
            error = dict(self._venue.refusals.pop(0)[1])
            raise DeribitRefusal(error.pop("code"), error.pop("message"))
        if method.startswith("private/"):
            raise DeribitRefusal(13009, "unauthorized")
        answer = _METHODS.get(method)
        if answer is None:
            raise DeribitRefusal(-32601, "Method not found")
        if not isinstance(params, dict):
            raise DeribitRefusal(-32602, "Invalid params", reason="must be an object", param="params")
        return answer(self, params, after)

    def _send(self, frame: dict[str, Any], channel: str | None = None) -> None:
        self._connection.send(dumps(frame), channel)

    # Channels

    def subscribe(self, params: Params, after: list[Callable[[], object]]) -> list[str]:
        """Subscribe to channels; the answer is sent before the first notification."""
        channels = _channels(params)
        if not self._logged_in and any(channel.endswith(".raw") for channel in channels):
            raise DeribitRefusal(13778, "raw_subscriptions_not_available_for_unauthorized")
        accepted = [channel for channel in channels if self._venue.is_listed(channel)]
        after.extend([self._starter(channel) for channel in accepted])
        after.append(lambda: self._venue.hub.note_subscriptions(self._connection))
        return sorted(set(accepted), reverse=True)

    def _starter(self, channel: str) -> Callable[[], None]:
        def emit() -> None:
            try:
                data = self._venue.data(channel)
            except InvalidInputError:  # the contract has expired
                self._connection.leave(channel)
                return
            params = {"channel": channel, "data": data}
            self._send({"jsonrpc": "2.0", "method": "subscription", "params": params}, channel)

        return lambda: self._connection.subscribe(channel, self._venue.pace.of(channel), emit)

    def unsubscribe(self, params: Params, after: list[Callable[[], object]]) -> list[str]:
        """Unsubscribe from channels; the answer lists those that were subscribed."""
        ended = [channel for channel in _channels(params) if channel in self._connection.subscriptions]
        for channel in ended:
            self._connection.leave(channel)
        self._venue.hub.note_subscriptions(self._connection)
        return ended

    # Heartbeats

    def set_heartbeat(self, params: Params, after: list[Callable[[], object]]) -> str:
        """Send heartbeats at intervals, and test requests to a silent client."""
        interval = params.get("interval")
        if not isinstance(interval, (int, float)) or interval < SHORTEST_HEARTBEAT:
            raise DeribitRefusal(
                -32602, "Invalid params", reason=f"must be at least {SHORTEST_HEARTBEAT}", param="interval"
            )
        self._beat_every(float(interval))
        return "ok"

    def disable_heartbeat(self, params: Params, after: list[Callable[[], object]]) -> str:
        """Stop sending heartbeats."""
        self.end_heartbeat()
        return "ok"

    def demand(self, within: float) -> None:
        """Send a test request now, and disconnect the client if it does not answer within `within` seconds."""
        self._heard = False
        self._beat_every(within)
        self._beat()

    def end_heartbeat(self) -> None:
        """Stop the timer."""
        if self._heartbeat is not None:
            self._heartbeat.cancel()

    def _beat_every(self, interval: float) -> None:
        self.end_heartbeat()
        self._interval, self._test_pending = interval, False
        self._heartbeat = self._loop.call_later(interval, self._beat)

    def _beat(self) -> None:
        if self._test_pending:
            self._connection.end(1001, "no answer to a test request")
            return
        self._test_pending = not self._heard
        kind = "test_request" if self._test_pending else "heartbeat"
        self._heard = False
        self._send({"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": kind}})
        self.end_heartbeat()
        self._heartbeat = self._loop.call_later(self._interval, self._beat)

    # Requests for data

    def auth(self, params: Params, after: list[Callable[[], object]]) -> dict[str, Any]:
        """Log in with client credentials."""
        key, secret = params.get("client_id"), params.get("client_secret")
        known = self._venue.secret_of(key) if isinstance(key, str) else None
        if params.get("grant_type") != "client_credentials" or known is None or secret != known:
            raise DeribitRefusal(13004, "invalid_credentials")
        self._logged_in = True
        return {"expires_in": 900, "scope": "connection", "token_type": "bearer"}

    def test(self, params: Params, after: list[Callable[[], object]]) -> dict[str, str]:
        """Return the version, which shows that the server is alive."""
        return {"version": "1.2.26"}

    def get_time(self, params: Params, after: list[Callable[[], object]]) -> int:
        """Return the time in milliseconds."""
        return self._venue.now()

    def get_instruments(self, params: Params, after: list[Callable[[], object]]) -> list[dict[str, Any]]:
        """Return the listed instruments of a currency; the sandbox has no expired ones."""
        currency, kind, now = params.get("currency"), params.get("kind"), self._venue.now()
        if currency not in CURRENCIES:
            raise DeribitRefusal(-32602, "Invalid params", reason="wrong currency", param="currency")
        if kind not in (None, "future", "option"):
            raise DeribitRefusal(-32602, "Invalid params", reason="wrong kind", param="kind")
        if params.get("expired"):
            return []
        listed = [one for one in instruments(now).values() if currency in ("any", settlement_currency(one))]
        return [row for one in listed if (row := instrument_object(one, now))["kind"] == (kind or row["kind"])]

    def get_book_summary_by_currency(self, params: Params, after: list[Callable[[], object]]) -> list[dict[str, Any]]:
        """Return a summary of each listed instrument of a currency."""
        venue = self._venue
        listed = [one["instrument_name"] for one in self.get_instruments({**params, "expired": False}, after)]
        return [summary_object(venue.market.ticker(name, venue.now())) for name in listed]

    def get_instrument(self, params: Params, after: list[Callable[[], object]]) -> dict[str, Any]:
        """Return one instrument."""
        now = self._venue.now()
        return instrument_object(self._venue.market.instrument(str(params.get("instrument_name")), now), now)

    def ticker(self, params: Params, after: list[Callable[[], object]]) -> dict[str, Any]:
        """Return the current ticker of an instrument."""
        return self._venue.data(f"ticker.{params.get('instrument_name')}.raw")

    def get_index_price(self, params: Params, after: list[Callable[[], object]]) -> dict[str, float]:
        """Return the current price of an index."""
        price = self._venue.index_price(str(params.get("index_name")))
        return {"index_price": price, "estimated_delivery_price": price}


def _channels(params: Params) -> list[str]:
    channels = params.get("channels")
    if not isinstance(channels, list) or not all(isinstance(channel, str) for channel in channels):
        raise DeribitRefusal(-32602, "Invalid params", reason="must be a list of texts", param="channels")
    if len(channels) > CHANNELS_AT_ONCE:
        raise DeribitRefusal(-32600, "request entity too large")
    return channels


_METHODS: Final[dict[str, Callable[[DeribitSession, Params, list[Callable[[], object]]], Any]]] = {
    f"public/{method.__name__}": method
    for method in (
        DeribitSession.subscribe,
        DeribitSession.unsubscribe,
        DeribitSession.set_heartbeat,
        DeribitSession.disable_heartbeat,
        DeribitSession.auth,
        DeribitSession.test,
        DeribitSession.get_time,
        DeribitSession.get_instruments,
        DeribitSession.get_instrument,
        DeribitSession.get_book_summary_by_currency,
        DeribitSession.ticker,
        DeribitSession.get_index_price,
    )
}
