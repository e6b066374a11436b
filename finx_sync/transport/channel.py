"""The socket of one connection, as websocket-client sees it during the handshake and the read loop afterwards.

During the handshake websocket-client reads the response byte by byte with blocking calls that nothing can end.
The channel reads it in bulk instead, within the attempt's deadline, has `handshake` judge it, hands it out in the
pieces asked for, and keeps what the server sent behind it for the frame reader.
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
"""Seconds that an error page may take once the headers are here."""


class Channel:
    """A connected, non-blocking socket. Used by the io thread, but for `shutdown` and `close`.

    Args:
        sock: from `dial`, or the user's own prepared socket.
        attempt: its deadline bounds the handshake.
        subprotocols: those that are offered.
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
    """Returns 0.0 (non-blocking), so websocket-client calls `send` and `recv` once, and believes them."""

    def settimeout(self, timeout: float | None) -> None:
        """Does nothing: the attempt's deadline rules."""

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self.sock.fileno()

    @property
    def _closed(self) -> bool:
        return self.sock.fileno() < 0

    def send(self, data: bytes) -> int:
        """Send the whole of the handshake request: websocket-client asks once, and forgets what was left over."""
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
        """Hand out the next bytes of the handshake's answer; b"" when the server closed."""
        self._answer = io.BytesIO(self._receive_answer())
        # websocket-client takes the head byte by byte: what follows this first call is answered in C.
        self.recv = self._answer.read  # type: ignore[method-assign, assignment]
        return self._answer.read(size)

    def _receive_answer(self) -> bytes:
        """The head and what came with it; a refusal with its body."""
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
        """An error page, or what of it comes soon: the status is what counts, and it is here."""
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
        """What came behind the handshake: the first frames."""
        return self._answer.read()

    def shutdown(self, how: int = socket.SHUT_RDWR) -> None:
        """Tell the peer that nothing more is sent or read. Any thread."""
        with contextlib.suppress(OSError):
            # Not SSLSocket's own: that takes TLS away under the feet of a thread that is reading.
            socket.socket.shutdown(self.sock, how)

    def forked(self) -> None:
        """In the child of a fork: let go of the parent's socket, without a word to the peer."""
        self.sock.close()

    def close(self) -> None:
        """Close the socket at once; from another thread, make the io thread do so."""
        if threading.get_ident() == self._owner:
            self.sock.close()
        else:  # legacy code, through `app.sock`; a descriptor that is closed during a poll leaves the poll waiting
            self.shutdown()
