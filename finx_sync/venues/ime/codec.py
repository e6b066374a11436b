"""IME's codec: two endpoints whose URLs name the contracts. The client sends no messages.

Source: IME Live Data WebSocket documentation. Assumption where it is silent: an object with the key ``error`` or
``detail`` is an error message, as the server's web framework would send it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

import msgspec

from finx_sync.errors import UnreadableMessageError
from finx_sync.venues.base import Codec, Decoded, ServerError, Subscription, Unknown, Unreadable, words
from finx_sync.venues.base.columns import TableFormat
from finx_sync.venues.ime.auth import checked_credentials
from finx_sync.venues.ime.columns import formats
from finx_sync.venues.ime.messages import ImeContract, read_contract

__all__ = ["ImeCodec", "Line"]

Line = Literal["name", "id"]
"""The two endpoints. Each has its own connection."""

PATHS: Final = {
    "name": ("/live/data/websocket/contract/name", "contract_names"),
    "id": ("/live/data/websocket/contract/id", "contract_id"),
}
"""The path of each endpoint, and the query parameter that is repeated for each contract."""
CONTRACT: Final = "contract"
"""The kind of every subscription."""


class ImeCodec(Codec):
    """The codec of IME's protocol, for one stream.

    Args:
        base_url: ``wss://host``.

    Attributes:
        ids: the contracts that are subscribed to by id; all others are subscribed to by name. `ImeStream` changes it
            only for contracts without a subscription, so for other threads the endpoint of a subscription is constant.
    """

    venue = "IME"
    message_types = (ImeContract,)
    kinds = {ImeContract: CONTRACT}  # noqa: RUF012  # a ClassVar of the base
    can_overlap = True
    asks_by_url = True

    def __init__(self, base_url: str) -> None:
        super().__init__(base_url)
        self.ids: set[str] = set()

    @property
    def has_main_endpoint(self) -> bool:
        return False

    def endpoint_of(self, subscription: Subscription) -> str:
        return "id" if subscription.name in self.ids else "name"

    def formats(self, decoded: Iterable[Decoded]) -> Sequence[TableFormat]:
        return formats()

    def url(self, key: Any, endpoint: str) -> str:
        return self.url_for(key, endpoint, [])

    def url_for(self, key: Any, endpoint: str, subscriptions: Sequence[Subscription]) -> str:
        path, parameter = PATHS[endpoint]
        credentials = checked_credentials(key)
        pairs = [(parameter, subscription.name) for subscription in subscriptions]
        pairs += [] if credentials is None else list(credentials.query().items())
        return f"{self.base_url}{path}?{urlencode(pairs, quote_via=quote)}"

    def headers(self, key: Any, endpoint: str, now: float) -> dict[str, str]:
        credentials = checked_credentials(key)
        return {} if credentials is None else credentials.headers()

    def decode(self, payloads: Sequence[bytes]) -> list[Decoded]:
        return [_read(payload) for payload in payloads]


_decode = msgspec.json.Decoder().decode


def _read(payload: bytes) -> Decoded:
    text = str(payload, "utf-8", "replace")  # the transport has validated UTF-8, but a replay may not have
    try:
        frame = _decode(text)
        if isinstance(frame, dict) and "data" in frame:
            return read_contract(frame)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return Unreadable(UnreadableMessageError(str(error), text))
    if isinstance(frame, dict) and (said := frame.get("error", frame.get("detail"))) is not None:
        return ServerError(words(said))
    return Unknown()
