"""Websocket clients: FinX's streaming paths, IME's, and the gateway's own protocol."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import WSMsgType, web

from finx_sync.errors import InvalidInputError
from finx_sync.gateway.access import Access, RefusedError
from finx_sync.gateway.clients import Client, ClientLimits
from finx_sync.gateway.hub import Hub
from finx_sync.gateway.items import Form, envelope_frame, payload_frame, text_frame
from finx_sync.gateway.keys import Key
from finx_sync.gateway.names import TagReader

__all__ = ["WebSockets"]

MAX_MESSAGE: Final = 64 * 1024
"""Bytes of a client's message; a longer one is closed with 1009."""
CLOSE_TIMEOUT: Final = 1.0
HEARTBEAT: Final = 30.0
"""Seconds between two pings; a client that answers none is gone."""
VIOLATION: Final = 1008
TRY_LATER: Final = 1013


class WebSockets:
    """The websocket paths.

    Args:
        hub: the hub.
        access: who may connect.
        tags: reads names.
        limits: what a client may cost.
    """

    def __init__(self, hub: Hub, access: Access, tags: TagReader, limits: ClientLimits) -> None:
        self._hub = hub
        self._access = access
        self._tags = tags
        self._limits = limits

    def add_to(self, router: web.UrlDispatcher, *, serves_finx: bool, serves_ime: bool) -> None:
        """Register the paths."""
        router.add_get("/v1/ws", self._own)
        if serves_finx:
            for prefix in ("streaming", "streamer"):
                router.add_get(f"/{prefix}/{{key}}", self._finx)
        if serves_ime:
            router.add_get("/live/data/websocket/contract/name", self._ime)
            router.add_get("/live/data/websocket/contract/id", self._ime)

    async def _own(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, request.query.get("key") or _bearer(request), envelope_frame, _OwnSession)

    async def _finx(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, unquote(request.match_info["key"]), payload_frame, _FinxSession)

    async def _ime(self, request: web.Request) -> web.StreamResponse:
        by_name = request.path.endswith("/name")
        names = request.query.getall("contract_names" if by_name else "contract_id", [])
        tags = [self._tags.read(f"contract:{name}") for name in names]
        key = request.query.get("token") or request.query.get("access_token") or _bearer(request)

        def session(sockets: WebSockets, client: Client, key: Key, answer: Callable[[bytes], None]) -> _Session:
            return _ImeSession(sockets, client, key, answer, tags)

        return await self._serve(request, key, payload_frame, session)

    async def _serve(
        self, request: web.Request, given: str | None, form: Form, make: Callable[..., _Session]
    ) -> web.StreamResponse:
        access = self._access
        access.check_origin(request.headers.get("Origin"), request.host)
        # FinX's own answer to a wrong key comes on the open connection, so that its clients understand it.
        key = access.keys.find(given)
        if key is None and make is not _FinxSession:
            access.check_key(given)
        websocket = web.WebSocketResponse(
            compress=False, max_msg_size=MAX_MESSAGE, heartbeat=HEARTBEAT, timeout=CLOSE_TIMEOUT
        )
        with access.entered(key or Key("")):
            await websocket.prepare(request)
            transport = request.transport
            if transport is None:
                return websocket
            ending: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

            def close(code: int, reason: str) -> None:
                if not ending.done():
                    ending.set_result((code, reason))

            client = Client(transport, form, self._limits, close, key.name if key else "")
            self._hub.add(client)
            session = make(self, client, key, lambda text: transport.write(text_frame(text)))
            try:
                session.opened()
                await self._talk(websocket, session, ending, transport)
            finally:
                client.is_closed = True
                self._hub.remove(client)
        return websocket

    async def _talk(
        self,
        websocket: web.WebSocketResponse,
        session: _Session,
        ending: asyncio.Future[tuple[int, str]],
        transport: asyncio.Transport,
    ) -> None:
        reading = asyncio.ensure_future(_read(websocket, session))
        either: set[asyncio.Future[Any]] = {reading, ending}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            reading.cancel()
        (outcome,) = await asyncio.gather(reading, return_exceptions=True)
        code, reason = 1000, ""
        if ending.done():
            code, reason = ending.result()
        elif isinstance(outcome, tuple):
            code, reason = outcome
        try:
            await asyncio.wait_for(websocket.close(code=code, message=reason.encode()), CLOSE_TIMEOUT)
        except (asyncio.TimeoutError, ConnectionError):
            transport.abort()

    def subscribe(self, client: Client, key: Key, names: list[Any], since: str | None = None) -> None:
        """Subscribe a client.

        Raises:
            InvalidInputError: a name is none.
            RefusedError: the key does not allow it.
        """
        tags = [self._tags.read(name) for name in names]
        self._access.check_names(key, tags, client.tags)
        self._hub.subscribe(client, tags, since)

    def unsubscribe(self, client: Client, names: list[Any]) -> None:
        """Unsubscribe a client.

        Raises:
            InvalidInputError: a name is none.
        """
        for name in names:
            self._hub.unsubscribe(client, self._tags.read(name))


async def _read(websocket: web.WebSocketResponse, session: _Session) -> tuple[int, str] | None:
    """Pass a client's messages on until it leaves; returns a close code and a reason if it is to be closed."""
    async for message in websocket:
        if message.type is WSMsgType.BINARY:
            return 1003, "text messages only"
        if message.type is WSMsgType.TEXT:
            try:
                session.received(message.data)
            except RefusedError as error:
                return (TRY_LATER if error.status_code == 503 else VIOLATION), str(error)
    return None


class _Session:
    """One client's side of a protocol."""

    def __init__(self, sockets: WebSockets, client: Client, key: Key | None, answer: Callable[[bytes], None]) -> None:
        self._sockets = sockets
        self._client = client
        self._key = key
        self._answer = answer

    def opened(self) -> None:
        """The connection is open."""

    def received(self, text: str) -> None:
        """A message has come.

        Raises:
            RefusedError: the client is to be closed.
        """


class _OwnSession(_Session):
    """``{"subscribe": [...], "since": "..."}`` and ``{"unsubscribe": [...]}``; see docs/gateway.md."""

    def received(self, text: str) -> None:
        """See `_Session`."""
        assert self._key is not None
        try:
            request = _object(text)
            subscribe, unsubscribe = request.get("subscribe", []), request.get("unsubscribe", [])
            since = request.get("since")
            if not isinstance(subscribe, list) or not isinstance(unsubscribe, list):
                raise InvalidInputError("subscribe and unsubscribe are lists of names")
            if since is not None and not isinstance(since, str):
                raise InvalidInputError("since is the position of the last message that came")
            self._sockets.unsubscribe(self._client, unsubscribe)
            self._sockets.subscribe(self._client, self._key, subscribe, since)
        except InvalidInputError as error:
            self._answer(json.dumps({"error": str(error)}).encode())


class _FinxSession(_Session):
    """FinX's streams: see the source of each message at `finx_sync.venues.finx.codec`."""

    def received(self, text: str) -> None:
        """See `_Session`."""
        try:
            request = _object(text)
            self._obey(request.get("functionName"), request)
        except InvalidInputError as error:
            self._answer(json.dumps({"error": str(error)}).encode())

    def _obey(self, function: object, request: dict[str, Any]) -> None:
        key = self._key
        if function == "authenticate":
            self._answer(b'{"isAuth":%b}' % (b"false" if key is None else b"true"))
        elif key is None:
            self._answer(b'{"error":"Invalid APIKey"}')
            raise RefusedError(401, "Invalid APIKey")
        elif function == "keepAlive":
            self._answer(b'{"keepAlive":true}')
        elif function == "getDeribitContractStream":
            self._sockets.subscribe(self._client, key, [_prefixed("contract", request.get("instrumentName"))])
        elif function == "getSpotRates":
            self._sockets.subscribe(self._client, key, [_prefixed("spot", request.get("pair"))])
        else:
            raise InvalidInputError("the gateway streams; call functions at the venue itself")


class _ImeSession(_Session):
    """IME's streams, whose URL names the contracts."""

    def __init__(
        self,
        sockets: WebSockets,
        client: Client,
        key: Key | None,
        answer: Callable[[bytes], None],
        tags: list[str],
    ) -> None:
        super().__init__(sockets, client, key, answer)
        self._tags = tags

    def opened(self) -> None:
        """See `_Session`."""
        assert self._key is not None
        self._sockets.subscribe(self._client, self._key, list(self._tags))


def _prefixed(kind: str, name: object) -> str:
    if not isinstance(name, str):
        raise InvalidInputError("the message names nothing to subscribe to")
    return f"{kind}:{name}"


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidInputError("a message must be a JSON object")
    return value


def _bearer(request: web.Request) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else request.headers.get("X-API-Key")
