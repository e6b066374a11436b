"""A gateway whose feed is on Redis: a real one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from finx_sync import ConfigError
from finx_sync.gateway import Gateway
from finx_sync.gateway.hub import Hub
from tests.gateway.conftest import Served
from tests.gateway.test_protocols import numbers, opened, received
from tests.redis_server import RedisServer
from tests.relay.writing import FeedWriter
from tests.scripted import CONTRACT
from tests.waiting import wait_until


def payload(number: int, name: str = "A") -> bytes:
    return json.dumps({**CONTRACT, "instrument_name": name, "open_interest": str(number)}).encode()


@pytest.fixture
def writer(redis_server: RedisServer) -> Iterator[FeedWriter]:
    with redis_server.client() as client:
        yield FeedWriter(client, subscriptions=("contract:A", "contract:B"))


def gateway_of(redis_server: RedisServer, **options: Any) -> Gateway:
    return Gateway(redis_server.url, **options)


def live(gateway: Gateway) -> Served:
    served = Served(gateway, None)  # type: ignore[arg-type]
    assert wait_until(lambda: served.hub.state.is_live), served.hub.state.why
    return served


def test_what_a_relay_writes_is_served(redis_server: RedisServer, writer: FeedWriter) -> None:
    """A gateway beside a relay would serve nothing, or in another order."""
    writer.write(("contract:A", payload(1)), last=True)
    with gateway_of(redis_server) as gateway:
        client = opened(live(gateway))
        client.send(json.dumps({"subscribe": ["A"]}))
        assert numbers(received(client, 1)) == [1], "the last value"
        writer.write(("contract:A", payload(2)), ("contract:B", payload(3, "B")), ("contract:A", payload(4)))
        found = received(client, 2)
        assert numbers(found) == [2, 4]
        assert found[-1]["position"] == str(writer.position)
        client.close()


def test_a_client_comes_back_to_another_gateway(redis_server: RedisServer, writer: FeedWriter) -> None:
    """What was sent while the first gateway was dead would be lost to its clients."""
    with gateway_of(redis_server) as gateway:
        client = opened(live(gateway))
        client.send(json.dumps({"subscribe": ["A"]}))
        assert wait_until(lambda: gateway._hub.wanted == ["contract:A"])
        writer.write(("contract:A", payload(1)))
        position = received(client, 1)[0]["position"]
        client.close()
    writer.write(("contract:A", payload(2)), ("contract:B", payload(9, "B")))
    writer.notice("@gap", start=1.0, end=2.0, names=["A"], reason="connection lost", missed=None)
    writer.write(("contract:A", payload(3)))
    with gateway_of(redis_server) as gateway:
        served = live(gateway)
        writer.write(("contract:A", payload(4)))
        assert wait_until(lambda: served.hub.state.messages == 1)
        client = opened(served)
        client.send(json.dumps({"subscribe": ["A"], "since": position}))
        found = [json.loads(client.recv()) for _ in range(4)]
        assert [next(key for key in ("data", "gap") if key in one) for one in found] == ["data", "gap", "data", "data"]
        assert numbers([found[0], *found[2:]]) == [2, 3, 4]
        writer.write(("contract:A", payload(5)))
        assert numbers(received(client, 1)) == [5]
        client.close()


def test_what_was_trimmed_is_a_gap_with_its_number(redis_server: RedisServer, writer: FeedWriter) -> None:
    """A client that was away for too long would not know that it has missed something."""
    first = writer.write(("contract:A", payload(1)))
    for number in range(2, 7):
        writer.write(("contract:A", payload(number)))
    redis_server.call("XTRIM", writer.keys.stream, "MINID", f"{first.term}-{first.offset + 3}")
    with gateway_of(redis_server) as gateway:
        client = opened(live(gateway))
        client.send(json.dumps({"subscribe": ["A"], "since": str(first)}))
        gap = json.loads(client.recv())["gap"]
        assert (gap["reason"], gap["missed"]) == ("trimmed", 2)
        assert numbers(received(client, 3)) == [4, 5, 6]
        client.close()


@pytest.mark.parametrize("since", ["no position", "99999999999999-1", "1-1"])
def test_a_position_of_another_feed_is_a_gap(redis_server: RedisServer, writer: FeedWriter, since: str) -> None:
    """A client would be told that nothing is missing."""
    writer.write(("contract:A", payload(1)), last=True)
    with gateway_of(redis_server) as gateway:
        client = opened(live(gateway))
        client.send(json.dumps({"subscribe": ["A"], "since": since}))
        assert json.loads(client.recv())["gap"]["reason"] in ("trimmed", "relay lost")
        client.close()


def test_redis_may_come_later_and_go(redis_server: RedisServer) -> None:
    """A gateway would have to be started again after each restart of Redis."""
    redis_server.kill()
    with gateway_of(redis_server) as gateway:
        hub: Hub = gateway._hub
        assert wait_until(lambda: hub.state.why not in ("", "no message yet"))
        redis_server.start()
        with redis_server.client() as client:
            writer = FeedWriter(client, subscriptions=("contract:A",))
            served = live(gateway)
            reader = opened(served)
            reader.send(json.dumps({"subscribe": ["A"]}))
            assert wait_until(lambda: hub.wanted == ["contract:A"])
            writer.write(("contract:A", payload(1)))
            assert numbers(received(reader, 1)) == [1]
            redis_server.kill()
            state = received(reader, 1, "state")[0]["state"]
            assert not state["live"]
            reader.close()


def test_a_misspelt_source_is_refused() -> None:
    """The gateway would run, and serve nothing."""
    with pytest.raises(ConfigError):
        Gateway("rediss+klaster://127.0.0.1")
