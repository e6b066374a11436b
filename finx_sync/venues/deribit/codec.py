"""Deribit's codec for JSON-RPC: requests, their answers, heartbeats and notifications.

Sources: Deribit API documentation, *JSON-RPC*, *Notifications*, *public/subscribe*, *public/unsubscribe*,
*public/set_heartbeat*, *public/test*, *RPC Error Codes*; frames captured in July 2021. Assumptions where they are
silent: a channel that is missing from the accepted ones is refused; a temporary error (too many requests, maintenance)
leads to a reconnect, because a new connection requests all subscriptions in few requests.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, get_args

import msgspec

from finx_sync.errors import ConfigError, UnreadableMessageError
from finx_sync.messages import ContractTick, SpotTick, without_internal
from finx_sync.venues.base import (
    Authentication,
    Codec,
    Decoded,
    Ignored,
    KeepAliveReply,
    Reconnect,
    Request,
    ServerError,
    Several,
    Subscription,
    Unknown,
    Unreadable,
    VenueState,
    words,
)
from finx_sync.venues.deribit.state import DeribitState, RpcAnswer
from finx_sync.venues.deribit.tickers import ChannelUpdate, index_of, read_index, read_ticker, tick_of
from finx_sync.venues.finx.codec import CONTRACT, SPOT, Interval

__all__ = ["DeribitCodec", "Interval", "rpc", "websocket_url", "words_of"]

PATH: Final = "/ws/api/v2"

HEARTBEAT_INTERVAL: Final = 30
"""Seconds, at least 10: the interval of the server's heartbeats. The server closes a connection that does not answer
its test requests."""
HEARTBEAT_ID: Final = 1
TEST_ID: Final = 2
UNSUBSCRIBE_ID: Final = 3
FIRST_ID: Final = 4
"""The first id of subscription requests, which have different ids on one connection."""
CHANNELS_AT_ONCE: Final = 250
CHANNELS_AT_MOST: Final = 500
REQUESTS_AT_ONCE: Final = 8
"""The server accepts a burst of ten subscription requests, and has refused a large one with "request entity too large".
So requests are small, unless there would be too many of them."""
SHORT: Final = 200
"""Bytes; heartbeats are shorter, tickers longer."""
PASSING: Final = frozenset({10028, 10041, 10047, 10066, 11051, 13028, 13888})
"""The codes of temporary errors: too many requests, settlement, a full queue, too many concurrent requests,
maintenance, service unavailable, timeout."""


def websocket_url(base_url: str) -> str:
    """Return the URL of the websocket; `base_url` may already contain the path."""
    return base_url.rstrip("/").removesuffix(PATH) + PATH


def rpc(number: int, method: str, /, **params: Any) -> str:
    """Return a JSON-RPC request."""
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}, separators=(",", ":"))


def words_of(error: Any) -> str:
    """Return the text of an error object, preceded by its code."""
    if not isinstance(error, dict):
        return words(error)
    said = f"{words(error.get('code'))}: {words(error.get('message'))}"
    if not error.get("data"):
        return said
    try:
        return f"{said} {json.dumps(error['data'])}"
    except (RecursionError, ValueError):
        return f"{said} {words(error['data'])}"


class DeribitCodec(Codec):
    """Deribit's codec.

    Args:
        base_url: ``wss://host``.
        interval: how often the server sends a ticker.

    Raises:
        ConfigError: the interval is unknown.
    """

    venue = "Deribit"
    message_types = (ContractTick, SpotTick, ChannelUpdate)
    kinds = {ContractTick: CONTRACT, SpotTick: SPOT}  # noqa: RUF012  # a ClassVar of the base

    def __init__(self, base_url: str, interval: Interval = "100ms") -> None:
        if interval not in get_args(Interval):
            raise ConfigError(f"interval must be '100ms', 'agg2' or 'raw', not {interval!r}")
        super().__init__(base_url)
        self._interval = interval

    def new_state(
        self,
        lock: AbstractContextManager[Any] | None = None,
        after: VenueState | None = None,
        *,
        everything: bool = False,
    ) -> DeribitState:
        return DeribitState(self._channel)

    def url(self, key: Any, endpoint: str) -> str:
        return websocket_url(self.base_url)

    def opening(self, key: Any, now: float) -> Sequence[str]:
        return [rpc(HEARTBEAT_ID, "public/set_heartbeat", interval=HEARTBEAT_INTERVAL)]

    def reflex(self, payloads: Sequence[bytes]) -> Sequence[str]:
        """Answer test requests on the io thread, so that a slow handler cannot cause the server to disconnect."""
        return [
            rpc(TEST_ID, "public/test") for payload in payloads if len(payload) < SHORT and b'"test_request"' in payload
        ]

    def subscribe(self, key: Any, subscription: Subscription) -> str | None:
        return self.subscribe_all(key, [subscription], 0)[0].text

    def subscribe_all(self, key: Any, subscriptions: Sequence[Subscription], first: int) -> list[Request]:
        needed = -(-len(subscriptions) // REQUESTS_AT_ONCE)
        size = min(max(needed, CHANNELS_AT_ONCE), CHANNELS_AT_MOST)
        parts = [tuple(subscriptions[begin : begin + size]) for begin in range(0, len(subscriptions), size)]
        return [self._ask(number, part) for number, part in enumerate(parts, FIRST_ID + first)]

    def unsubscribe(self, key: Any, subscription: Subscription) -> str | None:
        return rpc(UNSUBSCRIBE_ID, "public/unsubscribe", channels=[self._channel(subscription)])

    def probe(self, key: Any) -> str | None:
        return rpc(TEST_ID, "public/test")

    def _ask(self, number: int, subscriptions: tuple[Subscription, ...]) -> Request:
        text = rpc(number, "public/subscribe", channels=[self._channel(subscription) for subscription in subscriptions])
        return Request(text, "subscribe", subscriptions, number)

    def _channel(self, subscription: Subscription) -> str:
        if subscription.kind == SPOT:
            return f"deribit_price_index.{index_of(subscription.name)}"
        return f"ticker.{subscription.name}.{self._interval}"

    # Decoding

    def decode(self, payloads: Sequence[bytes]) -> list[Decoded]:
        messages: list[Decoded] = []
        append, readers = messages.append, _BY_CHANNEL
        for payload in payloads:
            try:
                append(readers[payload[CHANNEL_AT]](payload))
            except _NOT_PLAIN:
                append(_decode_frame(payload))
        return messages


CHANNEL_AT: Final = len('{"jsonrpc":"2.0","method":"subscription","params":{"channel":"')
_BY_CHANNEL: Final[dict[int, Callable[[bytes], Decoded]]] = {ord("t"): read_ticker, ord("d"): read_index}
"""The first letter of the channel suggests the kind of notification; decoding confirms it."""
_NOT_PLAIN: Final = (msgspec.MsgspecError, ValueError, LookupError, OverflowError, RecursionError)
"""The errors of decoding if it is another kind, or if fields are missing."""


def _decode_frame(payload: bytes) -> Decoded:
    """Decode a frame that is not a ticker or an index price in the usual form."""
    text = str(payload, "utf-8", "replace")  # the transport has validated UTF-8, but a replay may not have
    try:
        frame = msgspec.json.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return Unreadable(UnreadableMessageError(f"not JSON: {error}", text))
    if not isinstance(frame, dict):
        return Unknown()
    if "method" in frame:
        try:
            return _notification(frame, payload)
        except _NOT_PLAIN as error:
            return Unreadable(UnreadableMessageError(str(error), text))
    return _answer(frame) if "result" in frame or "error" in frame else Unknown()


def _answer(frame: dict[str, Any]) -> Decoded:
    """Interpret the answer to a request by its id; for subscription requests, `DeribitState` does the rest."""
    number, result, error = frame.get("id"), frame.get("result"), frame.get("error")
    number = number if isinstance(number, int) else None
    if error is not None:
        return _failure(number, error)
    if number == HEARTBEAT_ID:
        return Authentication(accepted=True)  # there is no key: any successful answer is enough
    if number == TEST_ID:
        return KeepAliveReply()
    if number is None or number < FIRST_ID:
        return Ignored()
    accepted = [one for one in result if isinstance(one, str)] if isinstance(result, list) else []
    return RpcAnswer(number, frozenset(accepted))


def _failure(number: int | None, error: Any) -> Decoded:
    said = words_of(error)
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, int) and code in PASSING:
        return Reconnect(said)
    if number == HEARTBEAT_ID:  # a server without heartbeats can still be used
        return Several((Authentication(accepted=True), ServerError(said)))
    if number is None or number < FIRST_ID:
        return ServerError(said)
    return RpcAnswer(number, error=said)


def _notification(frame: dict[str, Any], payload: bytes) -> Decoded:
    """Decode a notification of any form.

    Raises:
        msgspec.MsgspecError, ValueError, LookupError, OverflowError: it has invalid values.
    """
    if frame["method"] == "heartbeat":
        return Ignored()  # `reflex` has already answered test requests
    if frame["method"] != "subscription":
        return Unknown()
    params = frame["params"]
    update = msgspec.convert(without_internal(params) if isinstance(params, dict) else params, ChannelUpdate)
    if update.channel.startswith("ticker."):
        return tick_of(update.data)
    if update.channel.startswith("deribit_price_index."):
        return read_index(payload)
    return update
