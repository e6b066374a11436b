"""What the gateway passes on, and its forms: each is encoded once, and the same bytes go to all clients. Pure."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any, Final

import msgspec

__all__ = ["Form", "Item", "envelope_frame", "event_chunk", "gap_item", "line", "payload_frame", "text_frame"]

Form = Callable[["Item"], bytes]
"""Encodes an item for one kind of client."""

SHORT: Final = 126
MEDIUM: Final = 1 << 16


class Item:
    """One message, or a gap or a state of the feed.

    Attributes:
        tag: what the payload belongs to, like ``contract:NAME``; "" for what is for everybody.
        token: the position of the feed after this item, for clients that come back; see `Hub.resume`.
        at: when it was received from the venue, UNIX seconds.
        payload: the venue's message, exactly as it was received; the JSON of a gap or a state.
        kind: "data", "gap" or "state".
        is_state: whether a newer item of the same tag says all that this one says.
    """

    __slots__ = ("_forms", "at", "is_state", "kind", "payload", "tag", "token")

    def __init__(
        self, tag: str, token: str, at: float, payload: bytes, *, kind: str = "data", is_state: bool = False
    ) -> None:
        self.tag = tag
        self.token = token
        self.at = at
        self.payload = payload
        self.kind = kind
        self.is_state = is_state
        self._forms: dict[Form, bytes] = {}

    def encoded(self, form: Form) -> bytes:
        """The item in a form; made at the first call."""
        found = self._forms.get(form)
        if found is None:
            found = self._forms[form] = form(self)
        return found


def gap_item(token: str, at: float, **gap: Any) -> Item:
    """A gap, for one client or for all."""
    return Item("", token, at, msgspec.json.encode(gap), kind="gap")


def text_frame(text: bytes) -> bytes:
    """A websocket text frame of a server, which is not masked (RFC 6455, 5.2)."""
    size = len(text)
    if size < SHORT:
        return struct.pack("!BB", 0x81, size) + text
    if size < MEDIUM:
        return struct.pack("!BBH", 0x81, SHORT, size) + text
    return struct.pack("!BBQ", 0x81, SHORT + 1, size) + text


def payload_frame(item: Item) -> bytes:
    """For clients of the venue's own protocol: the payload alone. They have no words for a gap or a state."""
    return text_frame(item.payload) if item.kind == "data" else b""


def _envelope(item: Item) -> bytes:
    head = b'{"position":%b,"at":%.6f,' % (json.dumps(item.token).encode(), item.at)
    if item.kind == "data":
        return head + b'"tag":%b,"data":%b}' % (json.dumps(item.tag).encode(), item.payload)
    return head + b'"%b":%b}' % (item.kind.encode(), item.payload)


def envelope_frame(item: Item) -> bytes:
    """For websocket clients of the gateway's own protocol."""
    return text_frame(_envelope(item))


def line(item: Item) -> bytes:
    """For TCP clients: one line of JSON. Line breaks of a payload can only be between the parts of its JSON."""
    return _envelope(item).replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"


def event_chunk(item: Item) -> bytes:
    """For clients of server-sent events, as a chunk of HTTP/1.1."""
    data = _envelope(item).replace(b"\r", b" ").replace(b"\n", b" ")
    text = b"id: %b\nevent: %b\ndata: %b\n\n" % (item.token.encode(), item.kind.encode(), data)
    return b"%x\r\n%b\r\n" % (len(text), text)
