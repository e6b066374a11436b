"""The sandbox's record of connections, their requests and the messages sent, readable from any thread.

The event loop writes, tests read. One condition guards the whole record. Nothing is awaited and no socket is touched
while it is held, so a test's thread never delays the loop for longer than a copy takes.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from aiohttp import web

from finx_sync.sandbox.connection import ClientConnection, Limits, ServerSession

__all__ = ["ConnectionInfo", "Hub"]

REQUESTS_KEPT: Final = 10_000
CLOSED_KEPT: Final = 1000
"""The number of closed connections whose counts are kept."""
MAX_MESSAGE_SIZE: Final = 1024 * 1024
"""Bytes; far more than any venue's request. A connection that sends a longer one is closed with 1009."""


@dataclass(frozen=True)
class ConnectionInfo:
    """A snapshot of one open connection.

    Attributes:
        id: unique within the sandbox, from 1.
        path: the request's path, with the key replaced by ``***``.
        opened_at: seconds since 1970.
        subscriptions: the names streamed on it, in the order of subscription.
    """

    id: int
    path: str
    opened_at: float
    subscriptions: list[str] = field(default_factory=list)


class Hub:
    """All connections of one sandbox.

    Args:
        limits: the limits of each connection.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._open: dict[int, tuple[ClientConnection, float]] = {}
        self._subscriptions: dict[int, list[str]] = {}
        self._requests: deque[tuple[int, Any]] = deque(maxlen=REQUESTS_KEPT)
        self._sent: dict[int, Counter[str]] = {}
        self._numbered: dict[int, dict[str, array[float]]] = {}  # when each number was written
        self._sent_ever: Counter[str] = Counter()

    # on the event loop

    async def accept(
        self, request: web.Request, path: str, *, idle_timeout: float | None = None
    ) -> tuple[ClientConnection, web.WebSocketResponse]:
        """Complete the upgrade; the connection is listed from then on until `serve` returns.

        Args:
            request: the upgrade request.
            path: the path for display, without the key.
            idle_timeout: seconds, for a venue whose limit differs from the sandbox's.
        """
        limits = self._limits if idle_timeout is None else replace(self._limits, idle_timeout=idle_timeout)
        # Compression would cost more than it saves on one machine, and no source says that FinX offers it.
        websocket = web.WebSocketResponse(compress=False, max_msg_size=MAX_MESSAGE_SIZE)
        await websocket.prepare(request)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client left during the upgrade")
        number = next(self._numbers)

        def written(name: str | None, numbered: bool) -> None:
            self._count(number, name, numbered)

        connection = ClientConnection(
            number, path, websocket=websocket, transport=transport, limits=limits, written=written
        )
        with self._changed:
            self._open[number] = (connection, time.time())
            self._sent[number], self._numbered[number] = Counter(), {}
        return connection, websocket

    async def serve(self, connection: ClientConnection, session: ServerSession) -> None:
        """Serve a connection until it ends, then remove it from the list."""
        try:
            await connection.run(session)
        finally:
            with self._changed:
                del self._open[connection.number]
                self._subscriptions.pop(connection.number, None)
                self._forget_oldest()
                self._changed.notify_all()

    def note_request(self, connection: ClientConnection, message: Any) -> None:
        """Record a parsed message, without its key."""
        if isinstance(message, dict) and "APIKey" in message:
            message = {**message, "APIKey": "***"}
        with self._changed:
            self._requests.append((connection.number, message))
            self._changed.notify_all()

    def note_subscriptions(self, connection: ClientConnection) -> None:
        """Record the names that a connection currently streams."""
        with self._changed:
            self._subscriptions[connection.number] = list(connection.subscriptions)
            self._changed.notify_all()

    async def publish(self, name: str, texts: Iterable[str]) -> int:
        """Send messages on every connection that streams `name`; return the number of these connections."""
        receivers = [connection for connection in self._connections() if name in connection.subscriptions]
        for text in texts:
            for connection in receivers:
                await connection.send_when_room(text, name)
        return len(receivers)

    async def end_all(self, code: int, reason: str) -> int:
        """Close every open websocket and wait until all are closed; return how many there were."""
        connections = self._connections()
        for connection in connections:
            connection.end(code, reason)
        await _gone(connections)
        return len(connections)

    async def abort_all(self) -> int:
        """Reset every open connection and wait until all are closed; return how many there were."""
        connections = self._connections()
        for connection in connections:
            connection.abort()
        await _gone(connections)
        return len(connections)

    def _connections(self) -> list[ClientConnection]:
        with self._changed:
            return [connection for connection, _ in self._open.values()]

    def _count(self, number: int, name: str | None, numbered: bool) -> None:
        if name is None:
            return
        with self._changed:
            self._sent_ever[name] += 1
            self._sent[number][name] += 1
            if numbered:
                self._numbered[number].setdefault(name, array("d")).append(time.time())

    def _forget_oldest(self) -> None:
        """Delete the counts of all but the latest closed connections; the caller holds the lock."""
        closed = [number for number in self._sent if number not in self._open]
        for number in closed[: max(len(closed) - CLOSED_KEPT, 0)]:
            del self._sent[number], self._numbered[number]

    # from any thread

    def snapshot(self) -> list[ConnectionInfo]:
        """Return the open connections, oldest first."""
        with self._changed:
            return [
                ConnectionInfo(number, connection.path, opened_at, list(self._subscriptions.get(number, ())))
                for number, (connection, opened_at) in self._open.items()
            ]

    def requests(self) -> list[tuple[int, Any]]:
        """Return the latest requests, oldest first, as (connection id, message)."""
        with self._changed:
            return list(self._requests)

    def sent_count(self, name: str, connection: int | None) -> int:
        """Return how many messages of a name were passed to the transport: on one connection, or on all so far."""
        with self._changed:
            return self._sent_ever[name] if connection is None else self._sent.get(connection, Counter())[name]

    def numbered_count(self, name: str, connection: int) -> int:
        """Return the last sequence number of a name that was passed to a connection's transport."""
        with self._changed:
            return len(self._numbered.get(connection, {}).get(name, ()))

    def numbered_at(self, name: str, connection: int) -> list[float]:
        """Return when each sequence number of a name was passed to a connection's transport, seconds since 1970."""
        with self._changed:
            return list(self._numbered.get(connection, {}).get(name, ()))

    def numbered_connections(self) -> list[int]:
        """Return the ids of the connections whose counts are kept, oldest first."""
        with self._changed:
            return list(self._numbered)

    def wait_for_subscribers(self, name: str, count: int, timeout: float) -> bool:
        """Wait until `count` connections stream a name; return whether they do."""
        with self._changed:
            return self._changed.wait_for(
                lambda: sum(name in names for names in self._subscriptions.values()) >= count, timeout
            )

    def wait_for_connections(self, count: int, timeout: float) -> bool:
        """Wait until exactly `count` connections are open; return whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._open) == count, timeout)


async def _gone(connections: list[ClientConnection]) -> None:
    await asyncio.gather(*(connection.gone.wait() for connection in connections))
