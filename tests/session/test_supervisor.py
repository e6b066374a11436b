"""The connections of one endpoint when the venue's codec is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from finx_sync import InternalError, State
from finx_sync.config import Account
from finx_sync.stream import Stream
from finx_sync.venues.base import Codec, Decoded, Subscription, Unknown
from tests.scripted import ScriptedServer


class Wrong(Codec):
    """A codec that returns texts instead of requests, a likely mistake."""

    venue = "Wrong"
    message_types = ()

    def url(self, key: Any, endpoint: str) -> str:
        return self.base_url

    def subscribe_all(self, key: Any, subscriptions: Sequence[Subscription], first: int) -> list[Any]:
        return ["subscribe" for _ in subscriptions]

    def decode(self, payloads: Sequence[bytes]) -> list[Decoded]:
        return [Unknown() for _ in payloads]


def test_a_codec_that_is_wrong_while_a_connection_opens_ends_the_stream() -> None:
    """`start()` would wait forever for a connection on which nothing has been requested."""
    with ScriptedServer() as server:
        stream: Stream[Any] = Stream(Wrong(server.url), Account(server.url, None), flight_recorder=False)
        stream._subscribe(Subscription("ticker", "A"))
        with pytest.raises(InternalError, match="the codec of Wrong raised AttributeError"):
            stream.start(20)
        assert stream.state is State.FAILED
