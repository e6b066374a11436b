"""Every venue's feed on Redis, and the images that readers of tables and order books begin with."""

from __future__ import annotations

import json
from typing import Any

import pytest

from finx_sync import Relay
from finx_sync.relay import wire
from finx_sync.relay.wire import Position
from finx_sync.sandbox import Sandbox
from finx_sync.venues import registry
from tests.recorder.venues import OPTIONS, SUBSCRIBED, stream_of
from tests.redis_server import RedisServer
from tests.relay.feeds import PATIENCE, read
from tests.waiting import wait_until


@pytest.mark.parametrize("venue", SUBSCRIBED)
def test_every_venue(redis_server: RedisServer, venue: str) -> None:
    """A feed would lack what handlers get, or what a venue's state swallows."""
    with Sandbox(contract_interval=0.02, spot_interval=0.02, exchange_interval=0.02) as sandbox:
        stream: Any = stream_of(venue, sandbox.url, **OPTIONS)
        registry.find(venue).subscribe(stream, SUBSCRIBED[venue])
        texts: list[str] = []
        stream.on_message(texts.append)
        with Relay(stream, redis_server.url) as relay, stream:
            assert relay.wait_until_leading(PATIENCE)
            assert wait_until(lambda: relay.stats().written >= 20, PATIENCE)
            stream.stop()
        counts = stream.stats().messages
        feed = read(redis_server, wire.Keys(venue))
        handed_on = counts.handled + counts.unclaimed - counts.unknown
        received = [text.encode() for text in texts]
        place = 0
        for payload in feed.payloads:  # exactly as received, in order
            place = received.index(payload, place) + 1
        assert feed.missing == 0
        assert 20 <= len(feed.payloads) == relay.stats().written
        assert len(feed.payloads) <= handed_on
        kinds = set(stream._codec.kinds.values())
        entries = redis_server.call("XRANGE", wire.Keys(venue).stream, "-", "+")
        tags = {tag for _, fields in entries for tag, _ in wire.pairs_of(fields) if not tag.startswith(b"@")}
        assert {wire.read_tag(tag).kind for tag in tags} <= kinds


@pytest.mark.parametrize(
    ("venue", "name", "tag"),
    [
        ("bitmex", "orderBookL2_25:XBTUSD", None),
        ("ftx", "orderbook:BTC-PERP", b"orderbook:BTC-PERP"),
    ],
)
def test_an_image_is_always_there(redis_server: RedisServer, venue: str, name: str, tag: bytes | None) -> None:
    """A late reader could not build an order book, since its beginning has been deleted."""
    keys = wire.Keys(venue)
    with Sandbox(exchange_interval=0.01) as sandbox:
        stream: Any = stream_of(venue, sandbox.url, **OPTIONS)
        registry.find(venue).subscribe(stream, (name,))
        with Relay(stream, redis_server.url, keep_seconds=5.0) as relay, stream:
            assert relay.wait_until_leading(PATIENCE)
            assert wait_until(lambda: redis_server.call("HLEN", keys.since) > 0, PATIENCE)
            images = dict(wire.pairs_of(redis_server.call("HGETALL", keys.since)))
            first = min(map(Position.read, images.values()))
            if tag is not None:
                assert list(images) == [tag]
            _, fields = redis_server.call("XRANGE", keys.stream, str(first), str(first))[0]
            image = next(json.loads(value) for name, value in wire.pairs_of(fields) if name in images)
            assert "partial" in json.dumps(image)

            def oldest() -> Position:
                return Position.read(redis_server.call("XRANGE", keys.stream, "-", "+", "COUNT", 1)[0][0])

            def newest_images() -> list[Position]:
                return list(map(Position.read, redis_server.call("HVALS", keys.since)))

            assert wait_until(lambda: oldest() > first, PATIENCE), "the first image has been deleted"
            assert min(newest_images()) >= oldest()


def test_images_of_codecs() -> None:
    """What begins a state would not be known."""
    for venue in SUBSCRIBED:
        codec = stream_of(venue, "ws://127.0.0.1:9")._codec
        for payload, begins in (
            (b'{"table":"quote","action":"partial","keys":[],"data":[],"filter":{}}', venue == "bitmex"),
            (b'{"table":"quote","action":"insert","data":[]}', False),
            (_book("partial"), venue == "ftx"),
            (_book("update"), False),
        ):
            (message,) = codec.decode([payload])
            assert codec.begins_state(message) is begins, (venue, payload)


def _book(action: str) -> bytes:
    data = {"action": action, "bids": [], "asks": [], "time": 1.0, "checksum": 0}
    return json.dumps({"channel": "orderbook", "market": "BTC-PERP", "type": action, "data": data}).encode()
