"""`Gateway`: the sockets, the thread and the event loop of a gateway, from start to stop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final

from aiohttp import web

from finx_sync.config import is_feed_url
from finx_sync.errors import ConfigError, FinxSyncError, StreamTimeoutError, UsageError
from finx_sync.gateway.access import Access, RefusedError
from finx_sync.gateway.clients import ClientLimits
from finx_sync.gateway.hub import Hub
from finx_sync.gateway.keys import KeyRing
from finx_sync.gateway.names import TagReader
from finx_sync.gateway.pages import Pages
from finx_sync.gateway.sources import FeedSource, Handover, Source, StreamSource
from finx_sync.gateway.tcp import LineServer
from finx_sync.gateway.websockets import WebSockets
from finx_sync.relay.address import RelayAddress
from finx_sync.venues import registry

__all__ = ["Gateway"]

logger = logging.getLogger("finx_sync.gateway")

THREAD_NAME: Final = "finx-sync gateway"
BACKLOG: Final = 1024
LOOK_INTERVAL: Final = 0.1
ROUND_INTERVAL: Final = 1.0
DRAIN: Final = 5.0
"""Seconds that clients have to leave after they were told to."""
REQUEST_TIMEOUT: Final = 10.0
"""Seconds for a client's request; a connection on which none comes is closed."""


class Gateway:
    """Serves a feed over websockets, server-sent events and plain TCP.

    Args:
        source: ``redis://…`` for a relay's feed, or the name of an environment of `venue`, like "production" or
            "sandbox".
        venue: the venue's name.
        host: the address to listen on.
        port: for HTTP and websockets; 0 for a free one.
        tcp_port: for newline-delimited JSON; 0 for a free one, None for no such port.
        keys: the file with the clients' keys; None if no key is needed.
        origins: the web pages whose scripts may connect, beside the gateway's own.
        connections: how many clients there may be at a time.
        limits: what a client may cost.
        ssl_context: for ``https``, ``wss`` and TLS on the TCP port.
        api_key: for a source that is an environment.
        url: another server of that environment.

    Raises:
        ConfigError: an argument cannot be right.
    """

    def __init__(
        self,
        source: str,
        *,
        venue: str = "finx",
        host: str = "127.0.0.1",
        port: int = 0,
        tcp_port: int | None = 0,
        keys: str | os.PathLike[str] | None = None,
        origins: Iterable[str] = (),
        connections: int = 20_000,
        limits: ClientLimits | None = None,
        ssl_context: ssl.SSLContext | None = None,
        api_key: str | None = None,
        url: str | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._tcp_port = tcp_port
        self._ssl_context = ssl_context
        self._hub = Hub()
        self._access = Access(KeyRing(None if keys is None else os.fspath(keys)), frozenset(origins), connections)
        self._source, tags = self._open_source(source, registry.find(venue), api_key, url)
        limits = limits or ClientLimits()
        self._pages = Pages(self._hub, self._access, tags, limits)
        self._websockets = WebSockets(self._hub, self._access, tags, limits)
        self._lines = LineServer(self._hub, self._access, tags, limits)
        self._venue = venue
        # Connections that have sent a whole request, and when each of the others was first seen; on the loop's thread.
        self._greeted: set[Any] = set()
        self._silent: dict[Any, float] = {}
        self._lock = threading.Lock()  # guards the fields below against two threads that start or stop at once
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def _open_source(
        self, source: str, venue: registry.Venue, api_key: str | None, url: str | None
    ) -> tuple[Source, TagReader]:
        if is_feed_url(source):
            tags = TagReader(venue.open(url=source)._codec)
            return FeedSource(self._hub, RelayAddress.parse(source, default_feed=venue.name), tags, venue.name), tags
        stream = venue.open(environment=source, url=url, api_key=api_key)
        tags = TagReader(stream._codec)
        return StreamSource(self._hub, stream, tags, venue.name), tags

    def __repr__(self) -> str:
        state = "running" if self._thread is not None else "stopped"
        return f"<Gateway {self._host}:{self._port} {state}>"

    # Life; any thread

    def start(self, timeout: float = 10.0) -> Gateway:
        """Listen; return when clients can connect. The source connects in the background: see ``/readyz``.

        Args:
            timeout: seconds.

        Raises:
            ConfigError: an address cannot be listened on.
            StreamTimeoutError: it took longer than `timeout`.
            UsageError: it is running.
        """
        with self._lock:
            if self._thread is not None:
                raise UsageError("the gateway is running already; stop it first")
            listeners = [self._listen(self._port)]
            self._port = listeners[0].getsockname()[1]
            if self._tcp_port is not None:
                try:
                    listeners.append(self._listen(self._tcp_port))
                except ConfigError:
                    listeners[0].close()
                    raise
                self._tcp_port = listeners[1].getsockname()[1]
            ready: concurrent.futures.Future[None] = concurrent.futures.Future()
            self._thread = threading.Thread(target=self._run, args=(listeners, ready), name=THREAD_NAME, daemon=True)
            self._thread.start()
        try:
            ready.result(timeout)
        except concurrent.futures.TimeoutError:
            self.stop()
            raise StreamTimeoutError(f"the gateway did not start within {timeout:g} s") from None
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, timeout: float = 15.0) -> None:
        """Let nobody in any more, tell every client to go, and end. Clients may connect to another gateway.

        Args:
            timeout: seconds.

        Raises:
            StreamTimeoutError: its thread is still alive after `timeout`.
        """
        with self._lock:
            thread, loop, stopping = self._thread, self._loop, self._stopping
        if thread is None:
            return
        if loop is not None and stopping is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just closed
                loop.call_soon_threadsafe(stopping.set)
        thread.join(timeout)
        if thread.is_alive():
            raise StreamTimeoutError(f"the gateway did not stop within {timeout:g} s")
        with self._lock:
            if self._thread is thread:
                self._thread = None

    close = stop

    def __enter__(self) -> Gateway:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """``http://host:port``, or ``https://…``; known once it has started."""
        return f"{'https' if self._ssl_context else 'http'}://{self._shown_host()}:{self._port}"

    @property
    def ws_url(self) -> str:
        """``ws://host:port``, or ``wss://…``."""
        return "ws" + self.url.removeprefix("http")

    @property
    def tcp_address(self) -> tuple[str, int] | None:
        """Host and port of the TCP port; None if there is none."""
        return None if self._tcp_port is None else (self._shown_host(), self._tcp_port)

    def _shown_host(self) -> str:
        return {"0.0.0.0": "127.0.0.1", "": "127.0.0.1"}.get(self._host, self._host)  # noqa: S104  # compared

    def _listen(self, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            return socket.create_server((self._host, port), family=family, backlog=BACKLOG)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {self._host}:{port}: {error}; choose another port, or 0 for any"
            ) from error

    # The gateway's thread

    def _run(self, listeners: list[socket.socket], ready: concurrent.futures.Future[None]) -> None:
        try:
            asyncio.run(self._serve(listeners, ready))
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)
        finally:
            for listener in listeners:
                listener.close()

    async def _serve(self, listeners: list[socket.socket], ready: concurrent.futures.Future[None]) -> None:
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()
        with self._lock:
            self._loop, self._stopping = loop, stopping
        handover = Handover(self._hub)
        self._hub.on_wanted, self._hub.history = self._source.want, self._source.history
        runner = web.AppRunner(
            self._application(),
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,  # or a client of server-sent events that has left would stay
            shutdown_timeout=1.0,
            keepalive_timeout=REQUEST_TIMEOUT,
        )
        await runner.setup()
        lines: asyncio.Server | None = None
        looking = loop.create_task(self._look(runner))
        try:
            site = web.SockSite(runner, listeners[0], ssl_context=self._ssl_context, backlog=BACKLOG)
            await site.start()
            if len(listeners) > 1:
                lines = await loop.create_server(self._lines, sock=listeners[1], ssl=self._ssl_context, backlog=BACKLOG)
            self._source.start(handover)
            ready.set_result(None)
            await stopping.wait()
            self._access.is_draining = True
            await site.stop()
            await self._drain()
        finally:
            handover.close()
            await loop.run_in_executor(None, self._source.stop)
            looking.cancel()
            if lines is not None:
                lines.close()
            with self._lock:
                self._loop = self._stopping = None
            await runner.cleanup()
            for _ in range(3):  # closed transports close their sockets at the loop's next turns
                await asyncio.sleep(0)

    async def _drain(self) -> None:
        """Tell every client to go, and wait until they have gone."""
        self._hub.end_all(1001, "the gateway ends; connect again")
        deadline = asyncio.get_running_loop().time() + DRAIN
        while self._hub.clients and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)

    async def _look(self, runner: web.AppRunner) -> None:
        """Come back to slow clients, close those that send no request, and read changed keys."""
        loop = asyncio.get_running_loop()
        due = loop.time() + ROUND_INTERVAL
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            self._hub.look()
            if loop.time() >= due:
                due = loop.time() + ROUND_INTERVAL
                self._close_the_silent(runner, loop.time())
                if (error := self._access.keys.reload()) is not None:
                    logger.warning("%s; the keys stay as they were", error)

    def _close_the_silent(self, runner: web.AppRunner, now: float) -> None:
        """Close connections on which no whole request has come in time, which aiohttp would keep for ever."""
        connections = set(runner.server.connections) if runner.server is not None else set()
        self._greeted &= connections
        self._silent = {one: self._silent.get(one, now) for one in connections - self._greeted}
        for connection, since in self._silent.items():
            if now - since > REQUEST_TIMEOUT:
                self._access.refusals.add("no request")
                connection.force_close()

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._greet, _refusals])
        self._pages.add_to(app.router)
        self._websockets.add_to(app.router, serves_finx=self._venue == "finx", serves_ime=self._venue == "ime")
        return app

    @web.middleware
    async def _greet(self, request: web.Request, handler: Callable[..., Any]) -> web.StreamResponse:
        """Note that a whole request has come."""
        self._greeted.add(request.protocol)
        response: web.StreamResponse = await handler(request)
        return response


@web.middleware
async def _refusals(request: web.Request, handler: Callable[..., Any]) -> web.StreamResponse:
    """Answer those who are not let in, and keep those who left meanwhile out of the error log."""
    try:
        response: web.StreamResponse = await handler(request)
    except RefusedError as error:
        return web.Response(status=error.status_code, text=f"{error}\n")
    except FinxSyncError as error:
        return web.Response(status=400, text=f"{error}\n")
    except ConnectionError:
        return web.Response()
    return response
