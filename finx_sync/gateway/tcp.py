"""Newline-delimited JSON over plain TCP: what FinX announced as its "TCP Socket". ``nc`` is a client.

The first line is ``{"names": [...], "key": "...", "since": "..."}``, or, where no key is needed, the names alone,
separated by blanks. Further lines subscribe to more. No source describes such a protocol; this one is the gateway's.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from typing import Final, cast

from finx_sync.errors import FinxSyncError, InvalidInputError
from finx_sync.gateway.access import Access
from finx_sync.gateway.clients import Client, ClientLimits
from finx_sync.gateway.hub import Hub
from finx_sync.gateway.items import line
from finx_sync.gateway.keys import Key
from finx_sync.gateway.names import TagReader

__all__ = ["LineServer"]

MAX_LINE: Final = 64 * 1024
GREETING_TIMEOUT: Final = 10.0
"""Seconds for the first line."""
HEARTBEAT: Final = 15.0
"""Seconds between two empty lines, without which a client that has left would be noticed only at the next message: one
that has closed its half of the connection, as ``nc`` does, may still be reading."""


class LineServer:
    """The TCP port.

    Args:
        hub: the hub.
        access: who may connect.
        tags: reads names.
        limits: what a client may cost.
    """

    def __init__(self, hub: Hub, access: Access, tags: TagReader, limits: ClientLimits) -> None:
        self.hub = hub
        self.access = access
        self.tags = tags
        self.limits = limits

    def __call__(self) -> asyncio.Protocol:
        """The protocol of one connection."""
        return _Lines(self)


class _Lines(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: LineServer) -> None:
        self._server = server
        self._buffer = b""
        self._entered = ExitStack()
        self._key: Key | None = None
        self._client: Client | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(GREETING_TIMEOUT, self._refuse, "no names within 10 s")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        if len(self._buffer) > MAX_LINE:
            self._refuse("the line is too long")
            return
        for text in lines:
            if self._transport is None or self._transport.is_closing():
                return
            if text.strip():
                self._take(text)

    def eof_received(self) -> bool:
        """``echo NAME | nc`` sends its line and closes its half: the other half goes on."""
        if self._buffer.strip():
            self._take(self._buffer)
            self._buffer = b""
        return self._client is not None

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._client is not None:
            self._client.is_closed = True
            self._server.hub.remove(self._client)
        self._entered.close()
        self._transport = None

    def _take(self, text: bytes) -> None:
        try:
            names, key, since = _request(text)
            self._enter(key)
            tags = [self._server.tags.read(name) for name in names]
            assert self._key is not None
            assert self._client is not None
            self._server.access.check_names(self._key, tags, self._client.tags)
            self._server.hub.subscribe(self._client, tags, since)
        except FinxSyncError as error:
            self._refuse(str(error))

    def _enter(self, key: str | None) -> None:
        """Let the client in with its first line."""
        if self._client is not None:
            return
        server, transport = self._server, self._transport
        assert transport is not None
        found = server.access.check_key(key)
        self._entered.enter_context(server.access.entered(found))
        if self._timer is not None:
            self._timer.cancel()
        self._beat()
        self._key = found
        self._client = Client(transport, line, server.limits, lambda code, reason: self._refuse(reason), found.name)
        server.hub.add(self._client)

    def _beat(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._client is not None and not self._client.is_slow:
            transport.write(b"\n")
        self._timer = asyncio.get_running_loop().call_later(HEARTBEAT, self._beat)

    def _refuse(self, why: str) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size():
            transport.abort()  # it does not read, so it would not read this either
        else:
            transport.write(json.dumps({"error": why}).encode() + b"\n")
            transport.close()


def _request(text: bytes) -> tuple[list[object], str | None, str | None]:
    """The names, the key and the position of a line.

    Raises:
        InvalidInputError: it is no request.
    """
    try:
        decoded = text.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise InvalidInputError("a line is UTF-8 text") from None
    if not decoded.startswith("{"):
        return list(decoded.split()), None, None
    try:
        request = json.loads(decoded)
    except (ValueError, RecursionError):
        raise InvalidInputError('a line is JSON like {"names": ["BTC-PERPETUAL"]}, or names') from None
    names, key, since = request.get("names", []), request.get("key"), request.get("since")
    if (
        not isinstance(names, list)
        or not isinstance(key, (str, type(None)))
        or not isinstance(since, (str, type(None)))
    ):
        raise InvalidInputError("names is a list; key and since are texts")
    return names, key, since
