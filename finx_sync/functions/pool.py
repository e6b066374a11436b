"""HTTP/1.1 over connections opened as for streams (`transport.dial`), and kept for the next call.

A timeout on each read does not bound a call: a server that sends an occasional byte could take forever. So
`http.client` gets a socket here that sets the timeout of each read to the time left for the whole call.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
import weakref
import zlib
from collections import deque
from dataclasses import dataclass, replace
from email.message import Message
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from finx_sync import forks
from finx_sync.errors import ConnectionLostError, UnexpectedReplyError
from finx_sync.session.options import Options
from finx_sync.transport.dial import Attempt, dial
from finx_sync.transport.options import target_for
from finx_sync.transport.waker import Waker

__all__ = ["Deadline", "HttpAnswer", "Pool"]

CHUNK: Final = 65_536
KEPT: Final = 10
"""The maximum number of connections that are kept for later calls."""
GZIP: Final = 16 + zlib.MAX_WBITS


class Deadline:
    """The deadline of a call.

    Args:
        timeout: seconds from now.
    """

    def __init__(self, timeout: float) -> None:
        self._ends_at = time.monotonic() + timeout

    @property
    def is_over(self) -> bool:
        """Whether no time is left."""
        return time.monotonic() >= self._ends_at

    def left(self) -> float:
        """The time left, seconds.

        Raises:
            TimeoutError: no time is left.
        """
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError("the call has no time left")
        return left


@dataclass(frozen=True)
class HttpAnswer:
    """The answer of a server.

    Attributes:
        status, reason: of the first line.
        headers: by name, in any case.
        body: decompressed.
    """

    status: int
    reason: str
    headers: Message
    body: bytes


class _SocketReader(io.RawIOBase):
    """Reads from a socket until the deadline."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        self._sock.settimeout(self._deadline.left())
        return self._sock.recv_into(buffer)


class _Connection:
    """One connection. `http.client` uses it as a socket, and needs only these methods.

    Args:
        sock: connected, after the TLS handshake.
        proxy_headers: headers for an HTTP proxy that reads the requests; None if the server reads them itself, so that
            requests do not name the host.
    """

    def __init__(self, sock: socket.socket, proxy_headers: dict[str, str] | None) -> None:
        self._sock = sock
        self._proxy_headers = proxy_headers
        self._deadline = Deadline(0)

    def ask(self, method: str, url: SplitResult, content: bytes | None, deadline: Deadline) -> http.client.HTTPResponse:
        """Send a request, and read the answer up to its body."""
        self._deadline = deadline
        talk = http.client.HTTPConnection(url.hostname or "")
        talk.sock = self
        path = url._replace(scheme="", netloc="", fragment="").geturl() or "/"
        if self._proxy_headers is not None:
            path = f"{url.scheme}://{url.netloc}{path}"
        headers = {"Host": url.netloc, "Accept": "application/json", "Accept-Encoding": "gzip"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        talk.request(method, path, content, {**headers, **(self._proxy_headers or {})})
        return talk.getresponse()

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(self._deadline.left())
        self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_SocketReader(self._sock, self._deadline), CHUNK)

    def close(self) -> None:
        """Do nothing: `http.client` calls this before the body has been read."""

    def end(self) -> None:
        """Close the connection."""
        self._sock.close()


class Pool:
    """Sends requests from any thread, each over a connection that no other request uses at the time.

    Args:
        options: TLS, proxy, the time to connect, and the size limit are taken from here.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        # No lock: a deque's appends and pops are atomic, so only one thread can pop a connection and use it.
        self._idle: deque[tuple[tuple[str, str], _Connection]] = deque()
        weakref.finalize(self, _end_all, self._idle)  # so that a script with a call or two need not close anything
        forks.watch(self, Pool.forked)

    def forked(self) -> None:
        """In a forked child: leave the parent's connections to the parent."""
        self.close()

    def close(self) -> None:
        """Close the connections that are kept for the next call."""
        _end_all(self._idle)

    def exchange(self, method: str, url: str, content: bytes | None, deadline: Deadline) -> HttpAnswer:
        """Send one request, and return the answer to it.

        Raises:
            TimeoutError: the deadline has passed.
            ConnectError: there was no connection.
            ConnectionLostError: the connection ended before the answer was complete, or the answer is not HTTP.
            UnexpectedReplyError: the answer is larger than the limit.
        """
        parts = urlsplit(url)
        # If a kept connection turns out to be closed, the server may have received the request: a POST opens a new one.
        while method == "GET" and (connection := self._take(parts)) is not None:
            try:
                return self._talk(connection, method, parts, content, deadline)
            except ConnectionLostError:  # closed by the server while it was kept
                continue
        return self._talk(self._open(parts, deadline), method, parts, content, deadline)

    def _take(self, url: SplitResult) -> _Connection | None:
        for _ in range(len(self._idle)):
            try:
                origin, connection = self._idle.pop()
            except IndexError:  # another thread was faster
                return None
            if origin == url[:2]:
                return connection
            self._idle.appendleft((origin, connection))
        return None

    def _open(self, url: SplitResult, deadline: Deadline) -> _Connection:
        address = f"ws{url.geturl().removeprefix('http')}"
        target, headers = target_for(address, self._options.proxy, self._options.ssl_context), None
        proxy = target.proxy
        if proxy is not None and proxy.scheme == "http" and target.tls is None:
            # The proxy gets the request itself: many allow CONNECT for HTTPS only.
            target, headers = replace(target, tunnel=False), proxy.login_header()
        waker = Waker()
        try:
            attempt = Attempt(waker, min(deadline.left(), self._options.connect_timeout))
            return _Connection(dial(target, attempt), headers)
        finally:
            waker.close()

    def _talk(
        self, connection: _Connection, method: str, url: SplitResult, content: bytes | None, deadline: Deadline
    ) -> HttpAnswer:
        failure: Exception
        try:
            response = connection.ask(method, url, content, deadline)
            body = _body(response, self._options.max_size)
            if response.will_close or len(self._idle) >= KEPT:
                connection.end()
            else:
                self._idle.append(((url.scheme, url.netloc), connection))
            return HttpAnswer(response.status, response.reason, response.headers, body)
        except (http.client.HTTPException, zlib.error, OSError, ValueError) as error:
            connection.end()
            failure = error
        except BaseException:
            connection.end()
            raise
        if isinstance(failure, TimeoutError) and failure.errno is None:  # our own; the system's has an error number
            raise TimeoutError
        # Raised outside `except`, so that the original, whose attributes may contain the URL, is not its context.
        raise ConnectionLostError(f"the connection ended before the answer: {failure or type(failure).__name__}")


def _end_all(idle: deque[tuple[tuple[str, str], _Connection]]) -> None:
    while idle:
        idle.popleft()[1].end()


def _body(response: http.client.HTTPResponse, limit: int) -> bytes:
    unpacker = zlib.decompressobj(GZIP) if response.headers.get("Content-Encoding", "") == "gzip" else None
    pieces: list[bytes] = []
    size = 0
    while piece := response.read(CHUNK):
        if unpacker is not None:
            piece = unpacker.decompress(piece, limit + 1 - size)
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise UnexpectedReplyError(f"the answer is larger than max_size, {limit} bytes")
    if response.length or (unpacker is not None and not unpacker.eof):
        raise http.client.IncompleteRead(b"", response.length)
    return b"".join(pieces)
