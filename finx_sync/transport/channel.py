"""The socket of one connection, as websocket-client sees it during the handshake and the read loop afterwards.

During the handshake websocket-client reads the response byte by byte with blocking calls that nothing can end.
The channel reads it in bulk instead, within the attempt's deadline, hands it out in the pieces asked for, and
keeps what the server sent behind it for the frame reader.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import Final

from finx_sync.errors import HandshakeError
from finx_sync.redaction import redact
from finx_sync.transport.dial import Attempt
from finx_sync.transport.waker import Poller

__all__ = ["Channel"]

MAX_HANDSHAKE: Final = 64 * 1024
"""Bytes of a handshake's answer, headers and error page together."""


class Channel:
    """A connected, non-blocking socket. Used by the io thread, but for `shutdown` and `close`.

    Args:
        sock: from `dial`, or the user's own prepared socket.
        attempt: its deadline bounds the handshake.
    """

    def __init__(self, sock: socket.socket, attempt: Attempt) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._attempt = attempt
        self._owner = threading.get_ident()
        self._poller = Poller(sock, attempt.waker)
        self._head = b""
        self._read = 0

    # What websocket-client calls: a timeout of 0 makes it call `send` and `recv` once, and believe them.
    def gettimeout(self) -> float:
        """0: non-blocking."""
        return 0.0

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
        if not self._read:
            self._receive_head()
        elif not self._head:
            self._head = self._receive()
        piece, self._head = self._head[:size], self._head[size:]
        return piece

    def _receive_head(self) -> None:
        while b"\r\n\r\n" not in self._head:
            more = self._receive()
            if not more:
                return
            self._head += more
        _refuse_redirect(self._head)

    def _receive(self) -> bytes:
        while True:
            try:
                data = self.sock.recv(4096)
                break
            except (BlockingIOError, ssl.SSLWantReadError):
                self._attempt.wait(self._poller, "waiting for the handshake's answer", read=True)
            except ssl.SSLWantWriteError:
                self._attempt.wait(self._poller, "waiting for the handshake's answer", write=True)
        self._attempt.remaining("reading the handshake's answer")
        self._read += len(data)
        if self._read > MAX_HANDSHAKE:
            raise HandshakeError(
                f"the handshake's answer is longer than {MAX_HANDSHAKE} bytes; is it a websocket server?"
            )
        return data

    def take_rest(self) -> bytes:
        """What came behind the handshake: the first frames."""
        rest, self._head = self._head, b""
        return rest

    def shutdown(self, how: int = socket.SHUT_RDWR) -> None:
        """Tell the peer that nothing more is sent or read. Any thread."""
        with contextlib.suppress(OSError):
            # Not SSLSocket's own: that takes TLS away under the feet of a thread that is reading.
            socket.socket.shutdown(self.sock, how)

    def close(self) -> None:
        """Close the socket at once; from another thread, make the io thread do so."""
        if threading.get_ident() == self._owner:
            self.sock.close()
        else:  # legacy code, through `app.sock`; a descriptor that is closed during a poll leaves the poll waiting
            self.shutdown()


def _refuse_redirect(head: bytes) -> None:
    """A redirect would carry the key, which stands in the URL, to a place that the user never named."""
    lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    status = lines[0].split(" ")[1:2]
    if not (status and status[0].isdigit() and status[0].startswith("3")):
        return
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    where = redact(headers.get("location", "nowhere"))
    raise HandshakeError(
        f"the server redirects (HTTP {status[0]}) to {where}; redirects are not followed, "
        "since the URL holds the key: use the new address if you trust it",
        int(status[0]),
        {name: redact(value) for name, value in headers.items()},
    )
