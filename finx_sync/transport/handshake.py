"""Checks a server's answer to the websocket upgrade, without I/O (RFC 6455 4.1 and 4.2.2, RFC 9112).

websocket-client checks less than the RFC demands, and calls `on_open` before we could refuse. So the answer is checked
here, before websocket-client sees it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from finx_sync.errors import LONGEST_COMPLAINT, HandshakeError
from finx_sync.redaction import escaped, excerpt, shown

__all__ = [
    "MAX_BODY",
    "MAX_HEAD",
    "SWITCHING_PROTOCOLS",
    "HandshakeAnswer",
    "check_begin",
    "check_upgrade",
    "key_of",
    "read_answer",
    "redacted_headers",
]

MAX_HEAD: Final = 64 * 1024
"""Bytes of the status line and the headers."""
MAX_BODY: Final = 16 * 1024
"""Bytes of an error page that are read; the rest is ignored."""

SWITCHING_PROTOCOLS: Final = 101
MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455 1.3."""

_STATUS_LINE: Final = re.compile(r"HTTP/\d\.\d ([1-5]\d\d)(?: .*)?", re.S)


@dataclass(frozen=True)
class HandshakeAnswer:
    """The head of an HTTP answer.

    Attributes:
        status: 100 to 599.
        lines: the status line and the header lines.
        headers: by name in lower case; the values of a header that came twice are joined with a comma.
    """

    status: int
    lines: tuple[str, ...]
    headers: dict[str, str]

    @property
    def body_length(self) -> int:
        """Bytes of the body that are worth reading; 0 where there is none or its length is unknown."""
        length = self.headers.get("content-length", "")
        return min(int(length), MAX_BODY) if re.fullmatch(r"\d{1,18}", length) else 0

    def with_body(self, body: bytes) -> bytes:
        """The answer with as much of its body as came, and a matching length, so that nobody waits for the rest."""
        kept = [line for line in self.lines if not line.lower().startswith("content-length:")]
        if body:
            kept.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*kept, "", ""]).encode() + body


def check_begin(data: bytes) -> None:
    """Refuse an answer that is not HTTP as soon as possible: another kind of server may send no more and wait for us.

    Raises:
        HandshakeError: it does not begin like HTTP, or is too long.
    """
    if data[:5] != b"HTTP/"[: len(data)]:
        begin = excerpt(data.partition(b"\r\n")[0].decode("utf-8", "replace"), 80)
        raise HandshakeError(f"the server did not answer in HTTP, but {begin!r}; is it a websocket server?")
    if len(data) > MAX_HEAD:
        raise HandshakeError(f"the handshake's answer is longer than {MAX_HEAD} bytes; is it a websocket server?")


def read_answer(head: bytes) -> HandshakeAnswer:
    """Parse a head, given without the empty line at its end.

    Raises:
        HandshakeError: it is not HTTP.
    """
    try:
        lines = head.decode("utf-8").split("\r\n")
    except UnicodeDecodeError as error:
        raise HandshakeError(
            "the handshake's answer has headers that are not UTF-8; is it a websocket server?"
        ) from error
    match = _STATUS_LINE.fullmatch(lines[0])
    if match is None:
        raise HandshakeError(f"the server's answer begins {excerpt(lines[0], 80)!r}, which is not an HTTP status line")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or "\n" in line or "\r" in line:
            raise HandshakeError(f"the handshake's answer has a line that is not a header: {excerpt(line, 80)!r}")
        name = name.lower()
        headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
    return HandshakeAnswer(int(match[1]), tuple(lines), headers)


def key_of(request: bytes) -> bytes:
    """The Sec-WebSocket-Key of our own request."""
    match = re.search(rb"\r\nSec-WebSocket-Key: *([^\r\n]+)", request, re.I)
    return match[1] if match else b""


def redacted_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers without their secrets; the name of a header may show that its value is one."""
    return {escaped(name): shown(f"{name}: {value}").partition(": ")[2] for name, value in headers.items()}


def check_upgrade(answer: HandshakeAnswer, key: bytes, subprotocols: Sequence[str]) -> None:
    """Check an answer. One that refuses the upgrade with an HTTP status is left to the caller.

    Args:
        answer: the server's answer.
        key: the Sec-WebSocket-Key of our request.
        subprotocols: those offered to the server.

    Raises:
        HandshakeError: it redirects, or agrees to something other than what was requested.
    """
    headers = answer.headers
    if 300 <= answer.status < 400:
        # Following it would send the key, which is part of the URL, to a place that the user never named.
        where = shown(headers.get("location", "nowhere"), LONGEST_COMPLAINT)
        raise HandshakeError(
            f"the server redirects (HTTP {answer.status}) to {where}; redirects are not followed, "
            "because the URL contains the key: use the new address if you trust it",
            answer.status,
            redacted_headers(headers),
        )
    if answer.status != SWITCHING_PROTOCOLS:
        return
    for name, wanted in (("upgrade", "websocket"), ("connection", "upgrade")):
        if wanted not in [word.strip().lower() for word in headers.get(name, "").split(",")]:
            raise HandshakeError(
                f"the handshake failed: the server said 101 without '{name}: {wanted}'; is it a websocket server?"
            )
    accept = base64.b64encode(hashlib.sha1(key + MAGIC, usedforsecurity=False).digest()).decode()
    if headers.get("sec-websocket-accept") != accept:
        raise HandshakeError(
            "the handshake failed: Sec-WebSocket-Accept does not match our key; something between us and the server, "
            "such as a cache, has answered in its place"
        )
    if extensions := headers.get("sec-websocket-extensions"):
        raise HandshakeError(
            f"the server insists on the extension {excerpt(extensions, 80)!r}, which was not offered; "
            "compression is not supported: turn it off there"
        )
    chosen = headers.get("sec-websocket-protocol")
    if chosen is not None and chosen.lower() not in [one.lower() for one in subprotocols]:
        raise HandshakeError(f"the server chose the subprotocol {excerpt(chosen, 80)!r}, which was not offered")
