"""BitMEX's realtime protocol: topics, tables, and the frames around them.

Sources: BitMEX documentation, *WebSocket API* and *API Key Usage*; frames captured in July 2021; BitMEX's own clients.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import urlsplit, urlunsplit

import msgspec

from finx_sync.config import SANDBOX
from finx_sync.errors import UnreadableMessageError
from finx_sync.messages import Message, without_internal
from finx_sync.venues.base import (
    Authentication,
    Codec,
    Confirmed,
    Decoded,
    Ignored,
    KeepAliveReply,
    Periodic,
    Postponed,
    Reconnect,
    Refused,
    ServerError,
    Several,
    Subscription,
    Unknown,
    Unreadable,
    VenueState,
    words,
)
from finx_sync.venues.base.columns import TableFormat
from finx_sync.venues.bitmex.columns import formats
from finx_sync.venues.bitmex.messages import TableUpdate
from finx_sync.venues.bitmex.state import BitmexState
from finx_sync.venues.bitmex.topics import PLATFORM_ENDPOINT, TOPIC, covers, endpoint_of, split_topic

__all__ = ["ENVIRONMENTS", "EXAMPLE", "BitmexCodec", "BitmexCredentials", "sign"]

EXAMPLE: Final = "wss://ws.bitmex.com/realtime"
ENVIRONMENTS: Final[dict[str, str | None]] = {
    "production": EXAMPLE,
    "test": "wss://ws.testnet.bitmex.com/realtime",
    SANDBOX: None,
}
PLATFORMS: Final = {
    EXAMPLE: "wss://www.bitmex.com/realtimePlatform",
    "wss://ws.testnet.bitmex.com/realtime": "wss://testnet.bitmex.com/realtimePlatform",
}
"""Where announcements and the like come from, since November 2021; elsewhere it is the same host."""

SIGNED_PATH: Final = "/realtime"
"""What a websocket's signature is of, on whatever path it is opened."""
SIGNATURE_LIFE: Final = 300
"""Seconds that a signature is good for; so much may the local clock be slow."""
SWITCH_INTERVAL: Final = 15.0
"""Seconds between two renewals of the dead man's switch, as the documentation recommends."""
IDLE: Final = 5.0
"""Seconds of silence before a ping, as the documentation recommends."""
PING: Final = "ping"
"""Plain text, not JSON; answered with "pong"."""
RETRY_AFTER: Final = 5.0
"""Seconds before a subscription that the server had no room for is asked for again, unless it says when."""

RATE_LIMITED: Final = frozenset({429, 503})
TOKEN_EXPIRED: Final = 419
BAD_KEY: Final = ("Signature not valid", "Invalid API Key")
ALREADY: Final = "You are already subscribed"


@dataclass(frozen=True, repr=False)
class BitmexCredentials:
    """An API key and its secret; never shown."""

    key: str
    secret: str

    def __repr__(self) -> str:
        return "BitmexCredentials(***)"


def sign(secret: str, verb: str, path: str, expires: int, body: str = "") -> str:
    """The signature of a request (documentation, *API Key Usage*): HMAC-SHA256 in lower-case hex.

    Args:
        secret: the API secret.
        verb: in capitals.
        path: with its query, but without one for a websocket.
        expires: UNIX seconds; the server takes any number greater than its own time.
        body: of the request.
    """
    return hmac.new(secret.encode(), f"{verb}{path}{expires}{body}".encode(), hashlib.sha256).hexdigest()


class BitmexCodec(Codec):
    """BitMEX's codec.

    Args:
        url: ``wss://host/realtime``; the path may be left out.
        switch_after: milliseconds of the dead man's switch; None for none.
    """

    venue = "BitMEX"
    message_types = (TableUpdate,)
    kinds = {TableUpdate: TOPIC}  # noqa: RUF012  # a ClassVar of the base
    idle_ping = (IDLE, PING)

    def __init__(self, url: str, switch_after: int | None = None) -> None:
        self._switch = None if switch_after is None else _command("cancelAllAfter", switch_after)
        super().__init__(url)

    def go_to(self, url: str) -> None:
        parts = urlsplit(url)
        path = parts.path.rstrip("/") or SIGNED_PATH
        self._url = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
        platform = f"{path.rpartition('/')[0]}/realtimePlatform"
        self._platform_url = PLATFORMS.get(self._url) or urlunsplit((parts.scheme, parts.netloc, platform, "", ""))

    def covers(self, wanted: Collection[Subscription], subscription: Subscription) -> bool:
        table, symbol = split_topic(subscription.name)
        return any(covers(one.name, table, symbol) for one in wanted)

    def endpoint_of(self, subscription: Subscription) -> str:
        return endpoint_of(subscription.name)

    def new_state(
        self,
        lock: AbstractContextManager[Any] | None = None,
        after: VenueState | None = None,
        *,
        everything: bool = False,
    ) -> BitmexState:
        return BitmexState(lock, deletes=everything)

    def begins_state(self, message: Message) -> bool:
        return isinstance(message, TableUpdate) and message.action == "partial"

    def formats(self, decoded: Iterable[Decoded]) -> Sequence[TableFormat]:
        return formats(decoded)

    def url(self, key: Any, endpoint: str) -> str:
        return self._platform_url if endpoint == PLATFORM_ENDPOINT else self._url

    def headers(self, key: Any, endpoint: str, now: float) -> dict[str, str]:
        if not key:
            return {}
        expires = int(now) + SIGNATURE_LIFE
        return {
            "api-expires": str(expires),
            "api-key": key.key,
            "api-signature": sign(key.secret, "GET", SIGNED_PATH, expires),
        }

    def opening(self, key: Any, now: float) -> Sequence[str]:
        return [self._switch] if self._switch else []

    def subscribe(self, key: Any, subscription: Subscription) -> str | None:
        return _command("subscribe", [subscription.name])

    def unsubscribe(self, key: Any, subscription: Subscription) -> str | None:
        return _command("unsubscribe", [subscription.name])

    def probe(self, key: Any) -> str | None:
        return PING

    def periodic(self, key: Any) -> Sequence[Periodic]:
        return [Periodic(SWITCH_INTERVAL, self._switch)] if self._switch else []

    def decode(self, payloads: Sequence[bytes]) -> list[Decoded]:
        messages: list[Decoded] = []
        rest = iter(payloads)
        while len(messages) < len(payloads):
            try:
                messages.extend(map(_decode_table, rest))  # one call in C for a run of table updates
            except _NOT_A_TABLE:  # what was decoded before is in the list, so this is the one that failed
                messages.append(_decode_frame(payloads[len(messages)]))
        return messages


_decode_table = cast(Callable[[bytes], TableUpdate], msgspec.json.Decoder(TableUpdate).decode)
_NOT_A_TABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)


def _command(op: str, args: Any) -> str:
    return json.dumps({"op": op, "args": args}, separators=(",", ":"))


def _decode_frame(payload: bytes) -> Decoded:
    """Read whatever is no table update."""
    text = str(payload, "utf-8", "replace")  # the transport has checked it; a replay may not have
    if text == "pong":
        return KeepAliveReply()
    try:
        frame = msgspec.json.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return Unreadable(UnreadableMessageError(f"not JSON: {error}", text))
    if not isinstance(frame, dict):
        return Unknown()
    if "table" in frame:
        try:
            return msgspec.convert(without_internal(frame), TableUpdate)
        except msgspec.ValidationError as error:
            return Unreadable(UnreadableMessageError(str(error), text))
    if "error" in frame:
        return _error(frame)
    if "cancelTime" in frame:  # only an authorized account is answered so
        return Authentication(accepted=True)
    if frame.get("success") is True:
        granted = frame.get("subscribe")
        return Confirmed(Subscription(TOPIC, granted)) if isinstance(granted, str) else Ignored()
    if "info" in frame:  # the welcome, and the answer to "help"
        return Ignored()
    return Unknown()


def _error(frame: dict[str, Any]) -> Decoded:
    """What an error frame means for us; it echoes the request that it is about."""
    status, said = frame.get("status"), words(frame["error"])
    if not isinstance(status, int):
        status = None
    request = frame.get("request")
    request = request if isinstance(request, dict) else {}
    if status == TOKEN_EXPIRED:
        return Reconnect(said)  # with a fresh signature
    if said.startswith(BAD_KEY):
        return Authentication(False, said)
    args = request.get("args")
    topics = args if isinstance(args, list) else [args]
    if request.get("op") == "subscribe" and len(topics) == 1 and isinstance(topics[0], str):
        subscription = Subscription(TOPIC, topics[0])
        if said.startswith(ALREADY):
            return Confirmed(subscription)
        if status in RATE_LIMITED:
            return Postponed(subscription, _retry_after(frame), said)
        return Refused(subscription, said if status is None else f"{status}: {said}")
    error = ServerError(said if status is None else f"{status}: {said}")
    # On a new connection an error would be taken for a refusal of the key, which a rate limit is not.
    return Several((Authentication(accepted=True), error)) if status in RATE_LIMITED else error


def _retry_after(frame: dict[str, Any]) -> float:
    meta = frame.get("meta")
    seconds = meta.get("retryAfter") if isinstance(meta, dict) else None
    return float(seconds) if isinstance(seconds, (int, float)) and 0 < seconds < 3600 else RETRY_AFTER
