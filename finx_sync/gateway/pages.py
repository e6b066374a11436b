"""Plain HTTP: server-sent events, the state of the feed, health, metrics, and the page at ``/``."""

from __future__ import annotations

import asyncio
import time
from importlib import resources
from typing import Final

import msgspec
from aiohttp import web

from finx_sync.errors import InvalidInputError
from finx_sync.gateway.access import Access
from finx_sync.gateway.clients import Client, ClientLimits
from finx_sync.gateway.hub import Hub
from finx_sync.gateway.items import event_chunk
from finx_sync.gateway.metrics import CONTENT_TYPE, exposition
from finx_sync.gateway.names import TagReader

__all__ = ["Pages"]

KEEP_ALIVE: Final = 15.0
"""Seconds between two comments to clients of server-sent events, which keep proxies from closing a quiet connection."""
TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}
POLICY: Final = {
    "Content-Security-Policy": "default-src 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class Pages:
    """The paths of plain HTTP.

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
        self._files = _files()

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the paths."""
        router.add_get("/v1/sse", self._events)
        router.add_get("/v1/feed", self._feed)
        router.add_get("/healthz", self._health)
        router.add_get("/readyz", self._ready)
        router.add_get("/metrics", self._metrics)
        router.add_get("/", self._page)
        router.add_get("/page/{file}", self._page)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        access = self._access
        access.check_origin(request.headers.get("Origin"), request.host)
        key = access.check_key(request.query.get("key") or request.headers.get("X-API-Key"))
        try:
            tags = [self._tags.read(name) for name in request.query.getall("names", []) for name in name.split(",")]
        except InvalidInputError as error:
            return web.Response(status=400, text=f"{error}\n")
        access.check_names(key, tags)
        since = request.headers.get("Last-Event-ID") or request.query.get("since")
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        response.enable_chunked_encoding()
        with access.entered(key):
            await response.prepare(request)
            transport = request.transport
            if transport is None:
                return response
            ended = asyncio.Event()
            client = Client(transport, event_chunk, self._limits, lambda code, reason: ended.set(), key.name)
            self._hub.add(client)
            try:
                self._hub.subscribe(client, tags, since)
                while not ended.is_set() and not transport.is_closing():
                    try:
                        await asyncio.wait_for(ended.wait(), KEEP_ALIVE)
                    except asyncio.TimeoutError:
                        if not client.is_slow:
                            transport.write(b"3\r\n:\n\n\r\n")
            finally:
                client.is_closed = True
                self._hub.remove(client)
        return response

    async def _feed(self, request: web.Request) -> web.Response:
        self._access.check_origin(request.headers.get("Origin"), request.host)
        self._access.check_key(request.query.get("key") or request.headers.get("X-API-Key"))
        gaps = [{"at": item.at, **msgspec.json.decode(item.payload)} for item in self._hub.recent_gaps]
        return web.json_response({**self._hub.describe(), "recent_gaps": gaps})

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, request: web.Request) -> web.Response:
        if self._access.is_draining:
            return web.Response(status=503, text="draining\n")
        state = self._hub.state
        return web.Response(text="ready\n") if state.is_live else web.Response(status=503, text=f"{state.why}\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        text = exposition(self._hub, self._access.refusals, time.time())
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _page(self, request: web.Request) -> web.Response:
        name = request.match_info.get("file", "index.html")
        found = self._files.get(name)
        if found is None:
            return web.Response(status=404, text="there is no such page\n")
        content_type, body = found
        return web.Response(body=body, content_type=content_type, charset="utf-8", headers=POLICY)


def _files() -> dict[str, tuple[str, bytes]]:
    """The files of the page, by name."""
    folder = resources.files("finx_sync.gateway") / "page"
    found = {}
    for file in folder.iterdir():
        suffix = "." + file.name.rpartition(".")[2]
        if suffix in TYPES:
            found[file.name] = TYPES[suffix], file.read_bytes()
    return found
