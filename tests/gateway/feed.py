"""A server that speaks the gateway's protocol to the page, and does what a test tells it to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

PAGE = Path(__file__).parents[2] / "finx_sync" / "gateway" / "page"
POLICY = "default-src 'self'"
_T = TypeVar("_T")


class FeedServer:
    """One feed for pages.

    Args:
        tags: what it has.
        value: a tag to its payload, sent when somebody subscribes.
        key: what clients must send; "" for none.

    Attributes:
        resumed: the `since` of every subscription.
        requests: the paths that were asked for.
    """

    def __init__(self, tags: Iterable[str], value: Callable[[str], Any], key: str = "") -> None:
        self.tags = list(tags)
        self.key = key
        self.resumed: list[str | None] = []
        self.requests: list[str] = []
        self.messages = 0
        self._value = value
        self._clients: dict[web.WebSocketResponse, set[str]] = {}
        self._offset = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="feed server", daemon=True)
        self._flood: asyncio.Task[None] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> FeedServer:
        self._thread.start()
        self.call(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the server's thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def send(self, tag: str, data: Any, at: float | None = None) -> None:
        """Send a payload to those who subscribed to its tag."""
        self.call(self._send(tag, data, time.time() if at is None else at))

    def tell(self, **envelope: Any) -> None:
        """Send an envelope to all."""
        self.call(self._tell(envelope))

    def cut(self) -> None:
        """Close every connection without a closing handshake."""
        self.call(self._cut())

    def flood(self, per_second: int) -> None:
        """Send that many payloads a second, of all subscribed tags in turn; 0 stops it."""
        self.call(self._start_flood(per_second))

    @property
    def subscribed(self) -> set[str]:
        """What is subscribed now."""
        return {tag for tags in list(self._clients.values()) for tag in tags}

    # on the server's thread

    async def _start(self) -> None:
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/", self._index)
        app.router.add_get("/v1/feed", self._about)
        app.router.add_get("/v1/ws", self._connect)
        app.router.add_static("/page", PAGE)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        await self._start_flood(0)
        await self._cut()
        await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(request.path)
        answer: web.StreamResponse = await handler(request)
        if not answer.prepared:
            answer.headers["Content-Security-Policy"] = POLICY
        return answer

    async def _index(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(PAGE / "index.html")

    async def _about(self, request: web.Request) -> web.Response:
        if self.key and request.query.get("key") != self.key:
            return web.json_response({"error": "wrong key"}, status=401)
        about = {
            "venue": "finx", "feed": "sandbox", "live": True, "why": "", "tags": self.tags, "recent_gaps": [],
            "clients": len(self._clients),
        }  # fmt: skip
        return web.json_response(about)

    async def _connect(self, request: web.Request) -> web.WebSocketResponse:
        if self.key and request.query.get("key") != self.key:
            raise web.HTTPUnauthorized
        client = web.WebSocketResponse(compress=False)
        await client.prepare(request)
        self._clients[client] = set()
        try:
            async for message in client:
                await self._receive(client, json.loads(message.data))
        finally:
            self._clients.pop(client, None)
        return client

    async def _receive(self, client: web.WebSocketResponse, said: dict[str, Any]) -> None:
        if "subscribe" in said:
            self.resumed.append(said.get("since"))
        self._clients[client].difference_update(said.get("unsubscribe", []))
        for tag in said.get("subscribe", []):
            self._clients[client].add(tag)
            await client.send_str(self._frame(tag, json.dumps(self._value(tag)), time.time()))

    def _frame(self, tag: str, payload: str, at: float) -> str:
        self._offset += 1
        self.messages += 1
        return f'{{"position":"1700000000000-{self._offset}","at":{at:.6f},"tag":{json.dumps(tag)},"data":{payload}}}'

    async def _send(self, tag: str, data: Any, at: float) -> None:
        await self._send_text(tag, self._frame(tag, json.dumps(data), at))

    async def _send_text(self, tag: str, text: str) -> None:
        for client, tags in list(self._clients.items()):
            if tag in tags:
                with contextlib.suppress(ConnectionError):
                    await client.send_str(text)

    async def _tell(self, envelope: dict[str, Any]) -> None:
        for client in list(self._clients):
            await client.send_str(json.dumps(envelope))

    async def _cut(self) -> None:
        for client in list(self._clients):
            if client._req is not None and client._req.transport is not None:
                client._req.transport.abort()

    async def _start_flood(self, per_second: int) -> None:
        if self._flood is not None:
            self._flood.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._flood
            self._flood = None
        if per_second:
            self._flood = asyncio.create_task(self._pour(per_second))

    async def _pour(self, per_second: int) -> None:
        """Keep to the rate on average, in small steps; what a step cannot send is not made up for."""
        payloads: dict[str, str] = {}
        step = 0.02
        while True:
            begun = self._loop.time()
            tags = sorted(self.subscribed)
            for number in range(int(per_second * step) if tags else 0):
                tag = tags[(self._offset + number) % len(tags)]
                if tag not in payloads:
                    payloads[tag] = json.dumps(self._value(tag))
                await self._send_text(tag, self._frame(tag, payloads[tag], time.time()))
            await asyncio.sleep(max(begun + step - self._loop.time(), 0.001))
