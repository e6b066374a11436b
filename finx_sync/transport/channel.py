"""The socket of one connection, used by websocket-client during the handshake and by the read loop afterwards.

During the handshake websocket-client reads the answer byte by byte, with blocking calls that nothing can interrupt.
The channel reads it in bulk instead, within the attempt's deadline, checks it with `handshake`, returns it in the
pieces that websocket-client asks for, and keeps what the server sent after it for the frame reader.
"""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import threading
from collections.abc import Sequence
from typing import Final

from finx_sync import forks
from finx_sync.errors import ConnectTimeoutError
from finx_sync.transport.dial import Attempt
from finx_sync.transport.handshake import (
    MAX_HEAD,
    SWITCHING_PROTOCOLS,
    check_begin,
    check_upgrade,
    key_of,
    read_answer,
)
from finx_sync.transport.waker import Poller

__all__ = ["Channel"]

END_OF_HEAD: Final = b"\r\n\r\n"
BODY_TIMEOUT: Final = 0.5
"""Seconds that an error page may take once the headers have come."""


class Channel:
    """A connected, non-blocking socket. Used by the io thread, except for `shutdown` and `close`.

    Args:
        sock: from `dial`, or the user's own prepared socket.
        attempt: the connection attempt, whose deadline limits the handshake.
        subprotocols: those offered to the server.
    """

    def __init__(self, sock: socket.socket, attempt: Attempt, subprotocols: Sequence[str] = ()) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._attempt = attempt
        self._owner = threading.get_ident()
        self._poller = Poller(sock, attempt.waker)
        self._subprotocols = tuple(subprotocols)
        self._key = b""
        self._answer = io.BytesIO()
        forks.watch(self, Channel.forked)

    gettimeout: Final = staticmethod(float)
    """Returns 0.0 (non-blocking), so that websocket-client calls `send` and `recv` once and trusts the result."""

    def settimeout(self, timeout: float | None) -> None:
        """Do nothing: the attempt's deadline applies."""

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self.sock.fileno()

    @property
    def _closed(self) -> bool:
        return self.sock.fileno() < 0

    def send(self, data: bytes) -> int:
        """Send the whole handshake request: websocket-client calls this once and ignores what was not sent."""
        self._key = key_of(data)
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.sock.send(rest) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._attempt.wait(self._poller, "sending the handshake", write=True)
            except ssl.SSLWantReadError:
                self._attempt.wait(self._poller, "sending the handshake", read=True)
        return len(data)

    def recv(self, size: int) -> bytes:
        """Return the next bytes of the handshake's answer; b"" if the server has closed the connection."""
        self._answer = io.BytesIO(self._receive_answer())
        # websocket-client reads the head byte by byte: every call after this first one is answered in C.
        self.recv = self._answer.read  # type: ignore[method-assign, assignment]
        return self._answer.read(size)

    def _receive_answer(self) -> bytes:
        """Receive the head and whatever came with it; if the server refuses, the head and the body."""
        data = b""
        while (end := data.find(END_OF_HEAD)) < 0:
            more = self._receive("waiting for the handshake's answer")
            if not more:
                return data
            data += more
            check_begin(data[: MAX_HEAD + 1])
        answer = read_answer(data[:end])
        check_upgrade(answer, self._key, self._subprotocols)
        if answer.status == SWITCHING_PROTOCOLS:
            return data
        return answer.with_body(self._receive_body(data[end + 4 :], answer.body_length))

    def _receive_body(self, body: bytes, length: int) -> bytes:
        """Receive an error page, or as much of it as comes soon: the status is what counts, and it is known."""
        self._attempt.hurry(BODY_TIMEOUT)
        try:
            while len(body) < length and (more := self._receive("reading the server's refusal")):
                body += more
        except (ConnectTimeoutError, OSError):
            pass
        return body[:length]

    def _receive(self, doing: str) -> bytes:
        while True:
            self._attempt.remaining(doing)
            try:
                return self.sock.recv(4096)
            except (BlockingIOError, ssl.SSLWantReadError):
                self._attempt.wait(self._poller, doing, read=True)
            except ssl.SSLWantWriteError:
                self._attempt.wait(self._poller, doing, write=True)

    def take_rest(self) -> bytes:
        """What came after the handshake: the first frames."""
        return self._answer.read()

    def shutdown(self, how: int = socket.SHUT_RDWR) -> None:
        """End sending, reading or both on the TCP connection. Any thread."""
        with contextlib.suppress(OSError):
            # Not SSLSocket's own method, which drops the TLS state while another thread may be reading with it.
            socket.socket.shutdown(self.sock, how)

    def forked(self) -> None:
        """In the child of a fork: close the descriptor of the parent's socket, without notifying the peer."""
        self.sock.close()

    def close(self) -> None:
        """Close the socket at once; from another thread, make the io thread do so."""
        if threading.get_ident() == self._owner:
            self.sock.close()
        else:
            # Legacy code may call this through `app.sock`. A poll does not end when its descriptor is closed, and the
            # number may be reused at once. A shutdown ends the poll, and the io thread closes the socket.
            self.shutdown()
