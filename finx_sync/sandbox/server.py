"""The sandbox's server: a socket, a thread, an event loop, and controls for tests.

Two threads meet here: the caller's and the one named "finx-sync sandbox". The caller's thread binds the port, so that
a port in use raises an error there; afterwards it only submits coroutines to the loop and waits for their results. All
other socket I/O happens on the loop. The venues are those of the registry, each with its own paths, all on the same
market.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, TypeVar

from aiohttp import web

from finx_sync.errors import ConfigError, FinxSyncError, InvalidInputError, StreamTimeoutError, UsageError
from finx_sync.sandbox.connection import BACKLOG_LIMIT, Limits
from finx_sync.sandbox.history import PriceHistory
from finx_sync.sandbox.host import SandboxHost, SandboxVenue, dumps
from finx_sync.sandbox.hub import ConnectionInfo, Hub
from finx_sync.sandbox.market import Market
from finx_sync.venues.registry import find, load_all

__all__ = ["Sandbox"]

logger = logging.getLogger("finx_sync.sandbox")

THREAD_NAME: Final = "finx-sync sandbox"
CALL_TIMEOUT: Final = 10.0
"""Seconds within which the loop has to finish a call."""
MAX_PORT: Final = 65_535
ACCEPT_BACKLOG: Final = 512
_T = TypeVar("_T")


class Sandbox:
    """A local market-data server, HTTP and WebSocket on one port, that speaks the protocols of all venues.

    Args:
        host: the address to listen on.
        port: the port to listen on; 0 chooses a free one, which a restart uses again.
        seed: equal seeds give equal prices and history.
        keys: the accepted keys.
        secret: the secret of every key, for venues with signed requests.
        robots: whether a robot trades on each account, so that private streams have something to show.
        redis_url: the Redis server on which IME's data is published, a Pub/Sub channel for each contract; None for
            inside the process.
        numbered: whether to add to each streamed message a sequence number ``seq``, per connection and name, from 1,
            and the id of its ``connection``.
        contract_interval: seconds between two messages of a contract stream.
        spot_interval: seconds between two messages of a spot stream.
        exchange_interval: seconds between two updates of the exchanges' tables.
        idle_timeout: seconds without a message from the client after which its connection is closed (FinX docs: five
            minutes).
        ssl_context: for ``wss`` and ``https``.
        backlog_limit: the number of characters that may be queued for a client that does not read; beyond that, its
            connection is closed with 1013.
        clock: returns the current time, seconds since 1970.

    Raises:
        ConfigError: an interval or timeout is not above 0, or `port` is out of range.
        InvalidInputError: `keys` is a single text.
    """

    def __init__(
        self,
        *,
        # where
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        # what
        seed: int = 20220805,
        keys: Iterable[str] = ("sandbox-key",),
        secret: str = "sandbox-secret",  # noqa: S107 - public
        robots: bool = True,
        redis_url: str | None = None,
        numbered: bool = False,
        # pace, seconds
        contract_interval: float = 0.1,
        spot_interval: float = 0.1,
        exchange_interval: float = 0.1,
        idle_timeout: float = 300.0,
        # limits
        backlog_limit: int = BACKLOG_LIMIT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        for name, value in (
            ("contract_interval", contract_interval),
            ("spot_interval", spot_interval),
            ("exchange_interval", exchange_interval),
            ("idle_timeout", idle_timeout),
        ):
            if not value > 0:
                raise ConfigError(f"{name} is {value!r}; it must be above 0 seconds")
        if not 0 <= port <= MAX_PORT:
            raise ConfigError(f"port is {port!r}; it must be 0 to {MAX_PORT}")
        self._host = host
        self._port = port
        self._ssl_context = ssl_context
        self._keys = _checked_keys(keys)
        self._clock = clock
        self._market = Market(seed)
        self._history = PriceHistory(seed, self._market.path)
        self._hub = Hub(Limits(idle_timeout, backlog_limit))
        self._secret = secret
        services = SandboxHost(
            hub=self._hub,
            market=self._market,
            history=self._history,
            now=self._now,
            accepts=self._accepts,
            secret_of=self._secret_of,
            contract_interval=contract_interval,
            spot_interval=spot_interval,
            exchange_interval=exchange_interval,
            robots=robots,
            numbered=numbered,
            redis_url=redis_url,
            call=self._call,
        )
        self._venues = _venues(services)
        # Guards the fields below against threads that start or stop at the same time; never held during a wait for the
        # loop.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def __repr__(self) -> str:
        """Show the address and whether the sandbox is running, but never the keys."""
        state = "running" if self.is_running else "stopped"
        return f"<Sandbox {self._host}:{self._port} {state}>"

    # lifecycle

    def start(self, timeout: float = 10.0) -> Sandbox:
        """Start the server; return when clients can connect.

        Args:
            timeout: seconds.

        Raises:
            ConfigError: the address is not available, most often because the port is in use.
            StreamTimeoutError: the start took longer than `timeout`.
            UsageError: the sandbox is already running.
        """
        with self._lock:
            if self._thread is not None:
                raise UsageError("the sandbox is already running; stop() it first")
            listener = self._listen()
            ready: concurrent.futures.Future[None] = concurrent.futures.Future()
            thread = threading.Thread(target=self._run, args=(listener, ready), name=THREAD_NAME, daemon=True)
            self._thread = thread
            thread.start()
        try:
            ready.result(timeout)
        except concurrent.futures.TimeoutError:
            self.stop()
            raise StreamTimeoutError(f"the sandbox did not start within {timeout:g} s; pass a longer timeout") from None
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, timeout: float = 5.0) -> None:
        """Close every connection, release the port and join the thread; does nothing if already stopped.

        Args:
            timeout: seconds.

        Raises:
            StreamTimeoutError: the thread is still alive after `timeout`.
        """
        with self._lock:
            thread, loop, stopping = self._thread, self._loop, self._stopping
        if thread is None:
            return
        if loop is not None and stopping is not None:
            # A RuntimeError means that the loop has just closed by itself; the join below is then short.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stopping.set)
        thread.join(timeout)
        if thread.is_alive():
            raise StreamTimeoutError(f"the sandbox did not stop within {timeout:g} s; call stop() again")
        with self._lock:
            # Another thread may have stopped and restarted the sandbox during the join.
            if self._thread is thread:
                self._thread = None

    def serve_forever(self) -> None:
        """Start the server if it is not running, and block until Ctrl+C or until another thread stops it."""
        if not self.is_running:
            self.start()
        with self._lock:
            thread = self._thread
        try:
            while thread is not None and thread.is_alive():
                # A join without a timeout cannot be interrupted on Windows.
                thread.join(1.0)
        except KeyboardInterrupt:
            pass
        finally:
            self.stop()

    def __enter__(self) -> Sandbox:
        """Start the server unless it is already running."""
        return self if self.is_running else self.start()

    def __exit__(self, *exc: object) -> None:
        """Stop the server."""
        self.stop()

    @property
    def is_running(self) -> bool:
        """Whether clients can connect."""
        with self._lock:
            return self._thread is not None and self._thread.is_alive()

    @property
    def url(self) -> str:
        """``ws://127.0.0.1:PORT``, or ``wss://`` with an `ssl_context`; without a trailing slash."""
        return self._url("wss" if self._ssl_context else "ws")

    @property
    def http_url(self) -> str:
        """``http://127.0.0.1:PORT``, or ``https://`` with an `ssl_context`; without a trailing slash."""
        return self._url("https" if self._ssl_context else "http")

    # for tests

    def set_keys(self, *keys: str) -> None:
        """Accept only these keys from now on, as FinX does every 24 hours.

        On an open connection this takes effect with its next message.
        """
        self._keys = _checked_keys(keys)

    def connections(self) -> list[ConnectionInfo]:
        """Return the open websockets, oldest first."""
        return self._hub.snapshot()

    @property
    def requests(self) -> list[tuple[int, Any]]:
        """The latest 10,000 requests, oldest first, as (connection id, parsed message), the key replaced by ``***``."""
        return self._hub.requests()

    def sent_count(self, name: str, connection: int | None = None) -> int:
        """Return how many messages of a stream were written: on one connection, or on all so far.

        "Written" means passed to the transport. Messages that a reset connection still had in its buffer are included.
        """
        return self._hub.sent_count(name, connection)

    def sent_numbers(self, name: str, connection: int) -> range:
        """Return the sequence numbers of a name that were written on a connection; published messages have none."""
        return range(1, self._hub.numbered_count(name, connection) + 1)

    def sent_at(self, name: str, connection: int) -> list[float]:
        """Return when each sequence number was written, seconds since 1970, in the order of the numbers."""
        return self._hub.numbered_at(name, connection)

    def numbered_connections(self) -> list[int]:
        """Return the ids of the connections whose sequence numbers are kept, including closed ones, oldest first."""
        return self._hub.numbered_connections()

    def wait_for_subscribers(self, name: str, count: int = 1, timeout: float = 5.0) -> bool:
        """Wait until at least `count` open connections stream `name`; return whether they do."""
        return self._hub.wait_for_subscribers(name, count, timeout)

    def wait_for_connections(self, count: int, timeout: float = 5.0) -> bool:
        """Wait until exactly `count` websockets are open; return whether they are."""
        return self._hub.wait_for_connections(count, timeout)

    def publish(self, name: str, fields: dict[str, Any]) -> int:
        """Send a message with exactly these fields on every connection that streams `name`.

        Returns:
            The number of these connections.
        """
        return self.publish_raw(name, dumps(fields))

    def publish_raw(self, name: str, *texts: str) -> int:
        """Send arbitrary texts, in this order, on every connection that streams `name`.

        Waits up to a second for clients that are behind, and then closes them with 1013 as slow consumers.

        Returns:
            The number of these connections.
        """
        return self._call(self._hub.publish(name, texts), timeout=None)

    def controls(self, venue: str) -> Any:
        """Return a venue's controls for tests, as in ``sandbox.controls("bitmex").place("XBTUSD", "buy", 100)``.

        Raises:
            ConfigError: there is no such venue, or the sandbox does not support it.
        """
        if venue not in self._venues:
            find(venue)  # if the venue is unknown or cannot be imported, this raises an error that says so
            raise ConfigError(f"the sandbox does not support the venue {venue!r}; choose another venue")
        return self._venues[venue].controls

    def disconnect_all(self, code: int = 1001, reason: str = "") -> int:
        """Close every websocket and wait until all are closed; return how many there were."""
        return self._call(self._hub.end_all(code, reason))

    def abort_all(self) -> int:
        """Reset every websocket's TCP connection, without a close frame; return how many there were."""
        return self._call(self._hub.abort_all())

    # on the caller's thread

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            listener = socket.create_server((self._host, self._port), family=family, backlog=ACCEPT_BACKLOG)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {self._host}:{self._port}: {error}; choose another port, or 0 for any"
            ) from error
        self._port = listener.getsockname()[1]
        return listener

    def _url(self, scheme: str) -> str:
        if self._port == 0:
            raise UsageError("the sandbox has no port yet; call start()")
        # A client cannot connect to a wildcard address.
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104 - compared
        return f"{scheme}://[{host}]:{self._port}" if ":" in host else f"{scheme}://{host}:{self._port}"

    def _call(self, work: Coroutine[Any, Any, _T], timeout: float | None = CALL_TIMEOUT) -> _T:
        with self._lock:
            if self._loop is None:
                work.close()
                raise UsageError("the sandbox is not running; call start()")
            pending = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return pending.result(timeout)
        except concurrent.futures.CancelledError:
            raise UsageError("the sandbox was stopped during the call; call start() and repeat the call") from None
        except concurrent.futures.TimeoutError:
            pending.cancel()
            raise StreamTimeoutError(f"the sandbox did not finish the call within {timeout} s; try again") from None

    # on the sandbox's thread

    def _run(self, listener: socket.socket, ready: concurrent.futures.Future[None]) -> None:
        try:
            asyncio.run(self._serve(listener, ready))
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)
        finally:
            listener.close()

    async def _serve(self, listener: socket.socket, ready: concurrent.futures.Future[None]) -> None:
        stopping = asyncio.Event()
        with self._lock:
            self._loop, self._stopping = asyncio.get_running_loop(), stopping
        # Websockets are closed below, before the clean-up; `shutdown_timeout` applies to plain HTTP requests only.
        runner = web.AppRunner(self._application(), access_log=None, handle_signals=False, shutdown_timeout=0.5)
        await runner.setup()
        try:
            site = web.SockSite(runner, listener, ssl_context=self._ssl_context, backlog=ACCEPT_BACKLOG)
            await site.start()
            ready.set_result(None)
            await stopping.wait()
            await site.stop()
            await self._hub.end_all(1001, "going away")
        finally:
            # A closing loop accepts calls without ever running them. `_call` submits under the lock, so no call can
            # come after this assignment; calls submitted before it start during the `sleep`, so that `asyncio.run`
            # cancels them at its end and no caller waits forever.
            with self._lock:
                self._loop = self._stopping = None
            await asyncio.sleep(0)
            await runner.cleanup()

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[_forget_the_departed])
        for venue in self._venues.values():
            venue.add_to(app)
        return app

    def _secret_of(self, key: str) -> str | None:
        return self._secret if self._accepts(key) else None

    def _accepts(self, key: str) -> bool:
        return key in self._keys

    def _now(self) -> int:
        return int(self._clock() * 1000)


@web.middleware
async def _forget_the_departed(request: web.Request, handler: Callable[..., Any]) -> web.StreamResponse:
    """Keep a client that disconnected during the upgrade out of the error log: tests of connecting do so often."""
    try:
        response: web.StreamResponse = await handler(request)
    except ConnectionError:
        return web.Response()
    return response


def _venues(host: SandboxHost) -> dict[str, SandboxVenue]:
    """Create every venue's part of the sandbox; a failure is logged, so that it does not affect the other venues."""
    made: dict[str, SandboxVenue] = {}
    for venue in load_all(lambda error: logger.warning("the sandbox starts without a venue: %s", error)):
        try:
            if venue.sandbox is not None:
                made[venue.name] = venue.sandbox(host)
        except FinxSyncError:  # an invalid setting, which the caller can correct
            raise
        except Exception:  # code of another package may raise anything
            logger.exception("the sandbox starts without the venue %s, whose part of it failed", venue.name)
    return made


def _checked_keys(keys: Iterable[str]) -> frozenset[str]:
    if isinstance(keys, str):
        raise InvalidInputError("keys is one text; pass a list or tuple of texts")
    return frozenset(keys)
