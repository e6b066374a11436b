"""FinX's websocket paths and messages in the sandbox.

Sources: FinX docs, streams and functions pages (rev. 2022-08-05) and their later and earlier revisions, and the finx-io
SDK. The paths, with a key ``K``:

- ``/streaming/K`` and ``/streamer/K``: many streams and functions on one connection. ``/`` is the same, with the key
  only in messages.
- ``/streaming/K/NAME`` and ``/streamer/K/NAME``: one stream without a subscribe message. A pair gets the old frames
  (``{"results": "streaming", ...}``), an instrument gets contract objects, as on ``/streaming/greeks/K/OPTION``.
- ``/backend/PARAMS``: one function by websocket. PARAMS is a query string, or one path segment that holds
  ``key=value&...`` or a JSON object. Without `functionName`, a date means tickHistory, a pair without a date tickSnap,
  and a key alone authenticate.

Assumptions where the sources are silent:

- A bad request is answered with ``{"error": "..."}``. A wrong key is answered with ``{"isAuth": false}`` if the
  function is authenticate. Otherwise it is answered with ``{"error": "Invalid APIKey"}``, and the connection is closed
  with 1008. A message without a key is answered with an error, and the connection stays open; the docs require the key
  in every message.
- A one-shot connection is closed with 1000 after its answer. A subscription has no acknowledgement: its first message
  is sent at once. On ``/streamer/K/NAME`` it is sent one interval after the client's last message, because the SDK
  expects the answer to its authentication first; ``{"message": ...}`` there stops the stream for good, because the SDK
  reads one frame per message. ``/streaming/K/NAME`` starts at once and never stops.
- ``{"message": ...}`` is answered with one frame of the URL's name, or of the pair in the message, or with
  ``{"message": "received"}``.
"""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from aiohttp import web

from finx_sync.errors import InvalidInputError
from finx_sync.sandbox.connection import ClientConnection
from finx_sync.sandbox.host import SandboxHost, dumps
from finx_sync.sandbox.market import PAIRS, check_pair
from finx_sync.venues.finx.sandbox.codec import contract_object, spot_object, stream_frame
from finx_sync.venues.finx.sandbox.functions import Params, ServedFunctions, require

__all__ = ["FinxServer"]

INVALID_KEY: Final = {"error": "Invalid APIKey"}


class FinxServer:
    """The FinX service: everything that its connections share; on the event loop only.

    Args:
        host: the sandbox; if its `numbered` is set, each message contains a ``seq``, counted per connection and name,
            and the number of its ``connection``.
        functions: shared with the REST part.
    """

    def __init__(self, host: SandboxHost, functions: ServedFunctions) -> None:
        self.host: Final = host
        self.hub: Final = host.hub
        self.market: Final = host.market
        self.functions: Final = functions
        self.accepts: Final = host.accepts
        self.now: Final = host.now

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Register the websocket paths. REST paths must be registered first, since ``/backend/`` would match them."""
        router.add_get("/", self._multiplexed)
        for prefix in ("streaming", "streamer"):
            router.add_get(f"/{prefix}/{{key}}", self._multiplexed)
            router.add_get(f"/{prefix}/greeks/{{key}}/{{name}}", self._single)
            router.add_get(f"/{prefix}/{{key}}/{{name}}", self._single)
        router.add_get("/backend/{params:.*}", self._one_shot)
        router.add_get("/backend", self._one_shot)

    async def _multiplexed(self, request: web.Request) -> web.StreamResponse:
        connection, response = await self.hub.accept(request, _shown_path(request))
        await self.hub.serve(connection, _Multiplexed(self, connection, request.match_info.get("key")))
        return response

    async def _single(self, request: web.Request) -> web.StreamResponse:
        connection, response = await self.hub.accept(request, _shown_path(request))
        patient = request.path.startswith("/streamer/")
        session = _Single(self, connection, request.match_info["key"], request.match_info["name"], patient)
        await self.hub.serve(connection, session)
        return response

    async def _one_shot(self, request: web.Request) -> web.StreamResponse:
        connection, response = await self.hub.accept(request, "/backend/***")
        await self.hub.serve(connection, _OneShot(self, connection, request.rel_url.raw_path, request.query_string))
        return response

    def frame(self, name: str, *, old_style: bool) -> dict[str, Any]:
        """Return a stream's current message.

        Args:
            name: a pair or an instrument.
            old_style: whether to return a pair's message as the frame of a stream by URL.

        Raises:
            InvalidInputError: there is no such pair or instrument.
        """
        now = self.now()
        if name in PAIRS:
            trade = self.market.trade(name, now)
            return stream_frame(trade) if old_style else dict(spot_object(trade))
        return dict(contract_object(self.market.ticker(name, now)))


class FinxSession:
    """The common base of the three kinds of connection."""

    def __init__(self, venue: FinxServer, connection: ClientConnection) -> None:
        self._venue = venue
        self._connection = connection

    def _reply(self, value: Any) -> None:
        self._connection.send(dumps(value))

    def _refuse_key(self) -> None:
        self._reply(INVALID_KEY)
        self._connection.finish(1008, "Invalid APIKey")

    def _stream(self, name: str, *, old_style: bool = False, delay: float = 0.0) -> None:
        venue = self._venue
        interval = venue.host.spot_interval if name in PAIRS else venue.host.contract_interval
        number = 0

        def emit() -> None:
            nonlocal number
            try:
                message = venue.frame(name, old_style=old_style)
            except InvalidInputError as error:
                # The contract has expired.
                self._reply({"error": str(error)})
                self._connection.pause(name)
                return
            if venue.host.numbered:
                number += 1
                message["seq"], message["connection"] = number, self._connection.number
            self._connection.send(dumps(message), name, numbered=venue.host.numbered)

        self._connection.subscribe(name, interval, emit, delay)
        venue.hub.note_subscriptions(self._connection)


class _Multiplexed(FinxSession):
    """A connection for many streams and functions, requested by messages."""

    def __init__(self, venue: FinxServer, connection: ClientConnection, key: str | None) -> None:
        super().__init__(venue, connection)
        self._key = key

    def opened(self) -> None:
        """Do nothing; the client sends the first message."""

    def received(self, text: str) -> None:
        """Answer one message, with at most one message unless it subscribes."""
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            message = text
        self._venue.hub.note_request(self._connection, message)
        if not isinstance(message, dict):
            self._reply({"error": "a message must be a JSON object"})
            return
        function = message.get("functionName")
        if function == "authenticate":
            self._reply({"isAuth": self._is_authorized(message.get("APIKey"))})
        elif "APIKey" not in message:
            self._reply({"error": "APIKey is missing; every message must carry it"})
        elif not self._is_authorized(message["APIKey"]):
            self._refuse_key()
        else:
            self._answer(function, message)

    def _is_authorized(self, key: object) -> bool:
        accepts = self._venue.accepts
        return isinstance(key, str) and accepts(key) and (self._key is None or accepts(self._key))

    def _answer(self, function: object, message: Params) -> None:
        try:
            if function is None and "message" in message:
                self._reply(self._lock_step(message["message"]))
            elif function == "getDeribitContractStream":
                name = require(message, "instrumentName")
                self._venue.market.instrument(name, self._venue.now())
                self._stream(name)
            elif function == "getSpotRates":
                self._stream(check_pair(require(message, "pair")))
            else:
                self._reply(self._venue.functions.reply(require(message, "functionName"), message))
        except InvalidInputError as error:
            self._reply({"error": str(error)})

    def _lock_step(self, content: object) -> dict[str, Any]:
        if isinstance(content, dict) and "pair" in content:
            return self._venue.frame(check_pair(require(content, "pair")), old_style=True)
        return {"message": "received"}


class _Single(_Multiplexed):
    """A connection for the one stream that the URL names."""

    def __init__(self, venue: FinxServer, connection: ClientConnection, key: str, name: str, patient: bool) -> None:
        super().__init__(venue, connection, key)
        self._name = name
        self._patient = patient

    def opened(self) -> None:
        """Start the stream, or send an error and close, because this connection has no other use."""
        if not self._is_authorized(self._key):
            self._refuse_key()
            return
        try:
            self._venue.frame(self._name, old_style=True)
        except InvalidInputError as error:
            self._reply({"error": str(error)})
            self._connection.finish(1008, "unknown name")
            return
        host = self._venue.host
        interval = host.spot_interval if self._name in PAIRS else host.contract_interval
        self._stream(self._name, old_style=True, delay=interval if self._patient else 0.0)

    def received(self, text: str) -> None:
        """Answer as usual; on the SDK's path, delay the stream so that the SDK reads the answer first."""
        if self._patient:
            self._connection.postpone(self._name)
        super().received(text)

    def _lock_step(self, content: object) -> dict[str, Any]:
        if self._patient:
            self._connection.pause(self._name)
        return self._venue.frame(self._name, old_style=True)


class _OneShot(FinxSession):
    """A connection for one function, whose parameters are in the URL."""

    def __init__(self, venue: FinxServer, connection: ClientConnection, raw_path: str, query: str) -> None:
        super().__init__(venue, connection)
        self._segment = raw_path.removeprefix("/backend").removeprefix("/")
        self._query = query

    def opened(self) -> None:
        """Answer and close."""
        try:
            params = _parse_params(self._segment, self._query)
        except InvalidInputError as error:
            self._reply({"error": str(error)})
        else:
            self._venue.hub.note_request(self._connection, params)
            self._call(params)
        self._connection.finish(1000, "")

    def received(self, text: str) -> None:
        """Ignore the message: the answer depends only on the URL."""

    def _call(self, params: Params) -> None:
        key = params.get("APIKey")
        authorized = isinstance(key, str) and self._venue.accepts(key)
        function = params.get("functionName") or _inferred_function(params)
        if function == "authenticate":
            self._reply({"isAuth": authorized})
        elif not authorized:
            self._refuse_key()
        else:
            try:
                self._reply(self._venue.functions.reply(str(function), params))
            except InvalidInputError as error:
                self._reply({"error": str(error)})


def _parse_params(segment: str, query: str) -> dict[str, Any]:
    """Read the parameters of a one-shot call; those in the path take precedence over those in the query."""
    params: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
    decoded = unquote(segment)
    if not decoded.startswith("{"):
        # Either the whole segment is encoded ("APIKey%3D...%26pair...") or each value; only the former has no "=".
        return params | dict(parse_qsl(segment if "=" in segment else decoded, keep_blank_values=True))
    try:
        params.update(json.loads(decoded))
    except ValueError:
        raise InvalidInputError("the parameters in the path are not a JSON object") from None
    return params


def _inferred_function(params: Params) -> str:
    if not params.get("pair"):
        return "authenticate"
    return "tickHistory" if params.get("date") else "tickSnap"


def _shown_path(request: web.Request) -> str:
    """Return the path without the key, which is found by its position: a key may be a common word like ``public``."""
    key = request.match_info.get("key")
    if key is None:
        return request.path
    prefix = "/".join(request.path.split("/")[:3]) if "/greeks/" in request.path else f"/{request.path.split('/')[1]}"
    name = request.match_info.get("name")
    return f"{prefix}/***" + (f"/{name}" if name else "")
