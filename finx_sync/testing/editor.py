"""Just enough of RFC 6455 and HTTP to damage messages on purpose. No I/O, no clock.

It shares no code with the client's own frame reader or the sandbox, so that a mistake there cannot cancel itself out.
A `Conversation` reads both directions of one connection. What is not a websocket passes through unchanged.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final, NamedTuple

__all__ = ["Conversation", "Edit", "FrameEditor", "WholeFrame", "close_frame", "http_answer"]

MAX_HEAD: Final = 64 * 1024
"""Bytes of a request's or an answer's head; a longer one passes unchanged."""
MAX_EDITED: Final = 16 * 1024 * 1024
"""Bytes of a frame that is held until it is complete, to be damaged; a longer one passes."""

_TEXT, _CONTINUATION, _FIRST_CONTROL, _CLOSE = 0x1, 0x0, 0x8, 0x8
_JSON_SIGNS: Final = {ord("{"): b"(", ord("}"): b")", ord("["): b"<", ord("]"): b">", ord(":"): b";", ord(","): b";"}
"""What "json" damage puts in place of each character."""


@dataclass(frozen=True)
class WholeFrame:
    """One complete frame.

    Attributes:
        raw: all its bytes.
        head: how many of them are the header, including the mask.
        mask: four bytes; empty if the frame is not masked.
    """

    raw: bytes
    head: int
    mask: bytes

    @property
    def is_whole_text(self) -> bool:
        """Whether it is a complete text message, not compressed."""
        return self.raw[0] == 0x80 | _TEXT

    def payload(self) -> bytes:
        """The payload, unmasked."""
        data = self.raw[self.head :]
        return bytes(byte ^ self.mask[at % 4] for at, byte in enumerate(data)) if self.mask else data

    def with_byte(self, at: int, byte: int) -> bytes:
        """The frame with one byte of its payload replaced, masked like the rest."""
        raw = bytearray(self.raw)
        raw[self.head + at] = byte ^ (self.mask[at % 4] if self.mask else 0)
        return bytes(raw)


Edit = Callable[[WholeFrame], "bytes | None"]
"""Returns a frame's new bytes; None if the frame is not suitable, so that the next one is tried."""


class FrameEditor:
    """The frames of one direction: passes them on, and changes, drops or adds some.

    Attributes:
        muted: whether messages that begin from now on are dropped; control frames pass.
        has_closed: whether a close frame has passed.
        has_ended: whether the frame of `end_with` was returned; from then on all input is dropped.
    """

    def __init__(self) -> None:
        self.muted = False
        self.has_closed = False
        self.has_ended = False
        self._edits: deque[Edit] = deque()
        self._last: bytes | None = None
        self._buffer = bytearray()  # the beginning of a header, or a frame that is held until it is complete
        self._left = 0  # payload bytes of the current frame that are still to come
        self._dropping = False  # whether the current frame's payload is dropped
        self._message_dropped = False  # whether the current message is dropped, with all its fragments

    def edit(self, edit: Edit) -> None:
        """Change the next suitable frame."""
        self._edits.append(edit)

    def end_with(self, frame: bytes) -> None:
        """Insert `frame` after the current frame, and pass nothing after it; ``feed(b"")`` returns it if it is due."""
        self._last = frame

    def clear(self) -> None:
        """Cancel mute and pending edits."""
        self.muted = False
        self._edits.clear()

    def release(self) -> bytes:
        """Return the bytes that wait for the rest of a header: these are not frames after all."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def feed(self, data: bytes) -> bytes:
        """Take bytes, and return those that may pass. Bytes of an incomplete header wait for the rest."""
        if self.has_ended:
            return b""
        buffer = self._buffer
        buffer += data
        out: list[bytes | bytearray] = []
        at = kept = 0  # the bytes from `kept` to `at` have been looked at and pass unchanged
        while True:
            step = min(self._left, len(buffer) - at)
            if self._dropping:
                out.append(buffer[kept:at])
                kept = at + step
            at += step
            self._left -= step
            if self._left:
                break
            self._dropping = False
            if self._last is not None:
                self.has_ended = True
                return b"".join((*out, buffer[kept:at], self._last))
            header = _header(buffer, at)
            if header is None:
                break
            if self._edits and not self.muted and header.length <= MAX_EDITED:
                end = at + header.size + header.length
                if end > len(buffer):
                    break
                changed = self._edited(WholeFrame(bytes(buffer[at:end]), header.size, header.mask))
                if changed is not None:
                    out += [buffer[kept:at], changed]
                    at = kept = end
                    continue
            self._begin(buffer[at], header.length)
            if self._dropping:
                out.append(buffer[kept:at])
                kept = at + header.size
            at += header.size
        out.append(buffer[kept:at])
        del buffer[:at]
        return b"".join(out)

    def _edited(self, frame: WholeFrame) -> bytes | None:
        changed = self._edits[0](frame)
        if changed is not None:
            self._edits.popleft()
        return changed

    def _begin(self, first: int, length: int) -> None:
        """A frame begins: decide whether it is dropped."""
        opcode = first & 0x0F
        self._left = length
        if opcode >= _FIRST_CONTROL:
            self.has_closed = self.has_closed or opcode == _CLOSE
            return
        if opcode != _CONTINUATION:  # dropping half a message would be a different fault
            self._message_dropped = self.muted
        self._dropping = self._message_dropped


class _Header(NamedTuple):
    size: int
    length: int
    mask: bytes


def _header(buffer: bytearray, at: int) -> _Header | None:
    """Parse the header at `at`; None while it is incomplete."""
    available = len(buffer) - at
    if available < 2:
        return None
    length = buffer[at + 1] & 0x7F
    size = {126: 4, 127: 10}.get(length, 2)
    masked = buffer[at + 1] & 0x80
    if available < size + (4 if masked else 0):
        return None
    if size > 2:
        (length,) = struct.unpack_from("!H" if size == 4 else "!Q", buffer, at + 2)
    if not masked:
        return _Header(size, length, b"")
    return _Header(size + 4, length, bytes(buffer[at + size : at + size + 4]))


# Damage

Damage = Callable[[WholeFrame, Random], "tuple[bytes, str] | None"]


def damage_header(frame: WholeFrame, random: Random) -> tuple[bytes, str] | None:
    """Change a message's header into one that RFC 6455 5.2 forbids in either direction."""
    if not frame.is_whole_text:
        return None
    first, second = frame.raw[0], frame.raw[1]
    choices = {
        "a reserved bit": (first | random.choice((0x10, 0x20, 0x40)), second),
        "a reserved opcode": (first & 0xF0 | random.choice((0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xF)), second),
        "the mask bit": (first, second ^ 0x80),
        "a continuation of nothing": (first & 0xF0, second),
    }
    name = random.choice(list(choices))
    changed = bytes(choices[name]) + frame.raw[2:]
    return changed, f"{name}: header {frame.raw[:2].hex()} became {changed[:2].hex()}"


def damage_utf8(frame: WholeFrame, random: Random) -> tuple[bytes, str] | None:
    """Put a byte that never occurs in UTF-8 into a text."""
    length = len(frame.raw) - frame.head
    if not frame.is_whole_text or not length:
        return None
    at = random.randrange(length)
    byte = random.choice((0xC0, 0xC1, 0xF5, 0xFF))
    return frame.with_byte(at, byte), f"byte {at} of {length} became {byte:02x}"


def damage_json(frame: WholeFrame, random: Random) -> tuple[bytes, str] | None:
    """Replace one bracket, colon or comma of a JSON text, outside of its strings."""
    if not frame.is_whole_text:
        return None
    text = frame.payload()
    if text[:1] not in (b"{", b"["):
        return None
    at = random.choice(_sign_places(text))
    new = _JSON_SIGNS[text[at]]
    return frame.with_byte(at, new[0]), f"byte {at} of {len(text)}, {chr(text[at])!r}, became {new.decode()!r}"


def _sign_places(text: bytes) -> list[int]:
    places, in_string, escaped = [], False, False
    for at, byte in enumerate(text):
        if in_string:
            in_string = escaped or byte != ord('"')
            escaped = byte == ord("\\") and not escaped
        elif byte == ord('"'):
            in_string = True
        elif byte in _JSON_SIGNS:
            places.append(at)
    return places


DAMAGE: Final[dict[str, Damage]] = {"header": damage_header, "utf8": damage_utf8, "json": damage_json}
"""By the `part` of `Corrupt`."""


def close_frame(code: int | None, reason: str) -> bytes:
    """A close frame of a server, valid or not."""
    payload = b"" if code is None else struct.pack("!H", code) + reason.encode()
    return bytes((0x80 | _CLOSE, len(payload))) + payload


# HTTP


def http_answer(status: int, headers: list[tuple[str, str]], body: str) -> bytes:
    """An answer to the handshake that ends the connection."""
    content = body.encode()
    fixed = [("Content-Length", str(len(content))), ("Connection", "close")]
    lines = [
        f"HTTP/1.1 {status} {_PHRASES.get(status, 'Fault')}",
        *(f"{name}: {text}" for name, text in headers + fixed),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + content


_PHRASES: Final = {
    301: "Moved Permanently",
    302: "Found",
    307: "Temporary Redirect",
    308: "Permanent Redirect",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
}


class Conversation:
    """Both directions of one connection, from the HTTP upgrade to the frames.

    The request passes with two changes: `Host` names the target, as it would without the proxy, and the offer of
    compression is removed, so that every message can be read and damaged.

    Args:
        host: the value of the `Host` header.
        opaque: whether to pass everything unchanged, because it is TLS.

    Attributes:
        up, down: the frames to the server, and to the client.
        has_request: whether the head of an HTTP request has been received.
        is_websocket: whether the server has agreed to a websocket.
    """

    def __init__(self, host: str, *, opaque: bool = False) -> None:
        self.up = FrameEditor()
        self.down = FrameEditor()
        self.has_request = False
        self.is_websocket = False
        self._host = host
        self._owed = b""
        self._request: bytearray | None = None if opaque else bytearray()
        self._response: bytearray | None = None
        self._walks_up = False

    def from_client(self, data: bytes) -> bytes:
        """Take what the client sent, and return what goes to the server."""
        if self._walks_up:
            return self.up.feed(data)
        if self._request is None:
            owed, self._owed = self._owed, b""
            return owed + data
        self._request += data
        head, end, rest = bytes(self._request).partition(b"\r\n\r\n")
        if not end and len(head) <= MAX_HEAD and head.startswith(b"GET "[: len(head)]):
            return b""
        self._request = None
        if not end or not head.startswith(b"GET "):
            return head + end + rest
        self.has_request = True
        if not _is_upgrade(head):
            return head + end + rest
        self._response = bytearray()
        self._walks_up = True
        return self._request_head(head) + end + self.up.feed(rest)

    def from_server(self, data: bytes) -> bytes:
        """Take what the server sent, and return what goes to the client."""
        if self.is_websocket:
            return self.down.feed(data)
        if self._response is None:
            return data
        self._response += data
        head, end, rest = bytes(self._response).partition(b"\r\n\r\n")
        if not end and len(head) <= MAX_HEAD and head.startswith(b"HTTP/"[: len(head)]):
            return b""
        self._response = None
        if end and head[8:13].strip() == b"101":
            self.is_websocket = True
            return head + end + self.down.feed(rest)
        self._walks_up, self._owed = False, self.up.release()
        return head + end + rest

    def close(self, frame: bytes) -> bytes:
        """End with a close frame to the client; returns what can be sent now, `from_server` returns the rest."""
        self.down.end_with(frame)
        return self.down.feed(b"") if self.is_websocket else b""

    def _request_head(self, head: bytes) -> bytes:
        lines = []
        for line in head.split(b"\r\n"):
            name = line.partition(b":")[0].strip().lower()
            if name == b"host":
                lines.append(b"Host: " + self._host.encode("ascii"))
            elif name != b"sec-websocket-extensions":
                lines.append(line)
        return b"\r\n".join(lines)


def _is_upgrade(head: bytes) -> bool:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"upgrade" and value.strip().lower() == b"websocket":
            return True
    return False
