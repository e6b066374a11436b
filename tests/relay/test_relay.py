"""A relay over a real Redis: every payload once, in order, whatever happens to Redis."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from finx_sync import Gap, Relay, RelayError, StreamManager
from finx_sync.errors import ConfigError, ConnectError, UsageError
from finx_sync.relay import wire
from finx_sync.relay.relay import RelayStats
from finx_sync.sandbox import Sandbox
from tests.redis_server import RedisServer
from tests.relay.feeds import KEYS, NAMES, PATIENCE, Venue, judge, read, stream_to
from tests.servers import refused_address
from tests.waiting import wait_until


def balanced(stats: RelayStats) -> bool:
    return stats.received == stats.written + stats.dropped + stats.unneeded + stats.waiting


def wait_for(relay: Relay, written: int) -> None:
    assert wait_until(lambda: relay.stats().written >= written, PATIENCE), relay.stats()
    assert balanced(relay.stats())


@pytest.mark.parametrize("handler", ["none", "one", "two", "by name"])
def test_every_payload_once_in_order(redis_server: RedisServer, handler: str) -> None:
    """Readers would see another market than the venue's, depending on what else the bot does."""
    with Venue() as venue:
        stream = stream_to(venue)
        seen: list[Any] = []
        if handler != "none":
            stream.on_contract(seen.append)
        if handler == "two":
            stream.on_message(seen.append)
        if handler == "by name":
            stream.on_contract(NAMES[0])(seen.append)
        with Relay(stream, redis_server.url) as relay, stream:
            assert relay.wait_until_leading(PATIENCE)
            for count in (1, 3000, 2):
                venue.send(count)
                wait_for(relay, len(venue.sent))
            feed = read(redis_server)
            assert feed.payloads == venue.sent
            assert feed.missing == 0
            counted = stream.stats().messages
            assert counted.handled + counted.unclaimed == 3003
        assert relay.stats().received == relay.stats().written == 3003
        assert not relay.is_leading


def test_what_else_is_written(redis_server: RedisServer) -> None:
    """A reader would not know where it is, what it can have, and what was missed."""
    with Venue() as venue:
        stream = stream_to(venue)
        gaps: list[Gap] = []
        stream.on_gap(gaps.append)
        with Relay(stream, redis_server.url, keep_records=1000) as relay, stream:
            assert relay.wait_until_leading(PATIENCE)
            venue.send(3)
            wait_for(relay, 3)
            venue._connections[0].close_socket()
            assert wait_until(lambda: venue.connections == 1 and len(venue._server.paths) == 2, PATIENCE)
            venue.send(3)
            wait_for(relay, 6)
            stream.unsubscribe_contract(NAMES[2])
            assert wait_until(lambda: _has(redis_server, wire.SUBSCRIPTIONS, "removed"), PATIENCE)
            feed = read(redis_server)
            about = dict(wire.pairs_of(redis_server.call("HGETALL", KEYS.about)))
        term = feed.notices[0]
        assert term[0] == wire.TERM
        assert term[1]["previous"] is None
        assert term[1]["venue"] == "FinX"
        states = [content["state"] for name, content in feed.notices if name == wire.STATE]
        assert states[0] == "open"
        assert "reconnecting" in states
        (gap,) = gaps
        assert feed.gaps() == [{"start": gap.start, "end": gap.end, "reason": gap.reason, "names": list(gap.names)}]
        assert about[b"venue"] == b"FinX"
        assert about[b"keep_records"] == b"1000"
        assert json.loads(about[b"subscriptions"]) == sorted(f"contract:{name}" for name in NAMES[:2])
        last = dict(wire.pairs_of(redis_server.call("HGETALL", KEYS.last)))
        assert {tag: wire.read_last_value(value)[2] for tag, value in last.items()} == {
            wire.tag_of("contract", name): payload for name, payload in zip(NAMES, venue.sent[-3:], strict=True)
        }
        position, at, _ = wire.read_last_value(last[wire.tag_of("contract", NAMES[0])])
        assert position in feed.positions
        assert gap.end <= at + 1e-6, "times are written in microseconds"


def _has(server: RedisServer, name: bytes, key: str) -> bool:
    return any(content.get(key) for notice, content in read(server).notices if notice == name)


def test_a_sign_of_life(redis_server: RedisServer) -> None:
    """A reader could not tell a quiet market from a dead relay."""
    with Venue() as venue, Relay(stream := stream_to(venue), redis_server.url) as relay, stream:
        assert relay.wait_until_leading(PATIENCE)
        assert wait_until(lambda: read(redis_server).notices[-1][0] == wire.ALIVE, PATIENCE)


def test_the_sandbox_of_each_partition(redis_server: RedisServer) -> None:
    """A tag's messages would be spread over streams, and their order lost."""
    with Sandbox(contract_interval=0.005, spot_interval=0.005, numbered=True) as sandbox:
        stream = StreamManager("sandbox-key", url=sandbox.url, overflow="block")
        for name in ("BTC-26AUG22-20000-C", "BTC-PERPETUAL"):
            stream.subscribe_contract(name)
        for pair in ("BTC:USDC", "BTC:USD"):
            stream.subscribe_spot(pair)
        received: list[str] = []
        stream.on_message(received.append)
        with Relay(stream, redis_server.url, feed="four", partitions=4) as relay, stream:
            assert relay.wait_until_leading(PATIENCE)
            wait_for(relay, 500)
            stream.stop(drain=True)
        written: dict[tuple[str, str], list[int]] = {}
        for number in range(4):
            feed = read(redis_server, wire.Keys("four", number))
            assert feed.missing == 0
            for message in map(json.loads, feed.payloads):
                key = message.get("redis_key") or message["pair"]
                kind = "contract" if "redis_key" in message else "spot"
                assert wire.partition_of(wire.tag_of(kind, key), 4) == number
                written.setdefault((kind, key), []).append(message["seq"])
        assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in written.values())
        assert len(written) == 4
        assert sum(map(len, written.values())) == relay.stats().written
    with pytest.raises(ConfigError, match="partitions"):
        Relay(stream, redis_server.url, feed="four", partitions=2).start()


def test_redis_restarted_and_emptied(redis_server: RedisServer) -> None:
    """The feed would stand still, or go on with numbers that say nothing is missing."""
    with Venue() as venue:
        stream = stream_to(venue)
        errors: list[Any] = []
        stream.on_error(errors.append)
        with Relay(stream, redis_server.url) as relay, stream:
            assert relay.wait_until_leading(PATIENCE)
            venue.send(300)
            wait_for(relay, 300)
            before = read(redis_server)
            redis_server.kill()
            venue.send(300)
            assert wait_until(lambda: errors, PATIENCE)
            assert isinstance(errors[0], RelayError)
            redis_server.restart()
            wait_for(relay, 600)
            assert wait_until(lambda: redis_server.call("EXISTS", KEYS.about, KEYS.lease, KEYS.last) == 3, PATIENCE)
            after = read(redis_server, after=before.positions[-1])
            assert after.payloads == venue.sent[300:]
            assert after.missing == 0, "a reader that was up to date lost nothing"
            assert len(redis_server.call("HKEYS", KEYS.last)) == len(NAMES)
            redis_server.flush()
            venue.send(300)
            wait_for(relay, 900)
            assert read(redis_server, after=after.positions[-1]).payloads == venue.sent[600:]
            assert wait_until(lambda: len(redis_server.call("HKEYS", KEYS.last)) == len(NAMES), PATIENCE)


def test_redis_paused(redis_server: RedisServer) -> None:
    """A batch whose answer was lost would be written twice, or not at all."""
    with Venue() as venue, Relay(stream := stream_to(venue), redis_server.url) as relay, stream:
        assert relay.wait_until_leading(PATIENCE)
        venue.send(100)
        wait_for(relay, 100)
        redis_server.pause()
        venue.send(500)
        assert wait_until(lambda: not relay.stats().is_connected, PATIENCE)
        assert balanced(relay.stats())
        redis_server.resume()
        wait_for(relay, 600)
        feed = read(redis_server)
        assert feed.payloads == venue.sent
        assert feed.missing == 0


@pytest.mark.parametrize("persistent", [False, True])
def test_a_term_follows_a_term(persistent: bool) -> None:
    """A reader could not tell what a restarted relay has missed."""
    with RedisServer(persistent=persistent) as server, Venue() as venue:
        for count in (1, 2):
            with Relay(stream := stream_to(venue), server.url) as relay, stream:
                assert relay.wait_until_leading(PATIENCE)
                venue.send(30)
                wait_for(relay, 30)
            server.restart()
            feed = read(server)
            if persistent:
                assert judge(venue.sent, feed) == []
                assert len(feed.terms) == count
            else:
                assert not feed.positions
        if persistent:
            terms = [content for name, content in feed.notices if name == wire.TERM]
            assert terms[1]["previous"] == str(max(one for one in feed.positions if one.term == feed.terms[0]))
            (gap,) = feed.gaps()
            assert gap["reason"] == "relay lost"
            assert gap["names"] == sorted(NAMES)
            assert gap["start"] < gap["end"]


def test_dropping(redis_server: RedisServer) -> None:
    """A relay without Redis would fill the memory; or readers would not know what is missing."""
    with Venue() as venue:
        stream = stream_to(venue)
        with Relay(stream, redis_server.url, max_waiting=100_000) as relay, stream:
            assert relay.wait_until_leading(PATIENCE)
            venue.send(10)
            wait_for(relay, 10)
            redis_server.pause()
            venue.send(2000)
            assert wait_until(lambda: relay.stats().received == 2010, PATIENCE)
            stats = relay.stats()
            assert stats.dropped > 1000
            assert balanced(stats)
            assert stats.waiting_bytes < 400_000
            redis_server.resume()
            wait_for(relay, 2010 - stats.dropped)
            feed = read(redis_server)
        missing = judge(venue.sent, feed)
        assert len(missing) == stats.dropped
        gaps = [gap for gap in feed.gaps() if gap["reason"] == "slow consumer"]
        assert sum(gap["missed"] for gap in gaps) == stats.dropped
        assert {name for gap in gaps for name in gap["names"]} == set(NAMES)


def test_blocking(redis_server: RedisServer) -> None:
    """The relay of a recorder of record would leave something out."""
    with Venue() as venue:
        stream = stream_to(venue)
        with Relay(stream, redis_server.url, max_waiting=100_000, overflow="block") as relay, stream:
            assert relay.wait_until_leading(PATIENCE)
            redis_server.pause()
            venue.send(2000)
            assert wait_until(lambda: relay.stats().waiting_bytes > 100_000, PATIENCE)
            assert wait_until(lambda: not relay.stats().is_connected, PATIENCE)
            assert relay.stats().received < 2000
            redis_server.resume()
            wait_for(relay, 2000)
            assert relay.stats().dropped == 0
            assert read(redis_server).payloads == venue.sent


def test_a_blocked_stream_stops(redis_server: RedisServer) -> None:
    """A program whose Redis is gone could not end."""
    with Venue() as venue:
        stream = stream_to(venue)
        relay = Relay(stream, redis_server.url, max_waiting=50_000, overflow="block")
        relay.start()
        stream.start()
        assert relay.wait_until_leading(PATIENCE)
        redis_server.pause()
        venue.send(1000)
        assert wait_until(lambda: relay.stats().waiting_bytes > 50_000, PATIENCE)
        stream.stop()
        assert stream.state.value == "stopped"
        relay.stop(0.1)
        assert balanced(relay.stats())
        assert relay.stats().waiting == 0
        redis_server.resume()


def test_trimming(redis_server: RedisServer) -> None:
    """Redis would fill up; or a trimmed stream would look complete."""
    with Venue() as venue:
        with Relay(stream := stream_to(venue), redis_server.url, keep_records=500) as relay, stream:
            assert relay.wait_until_leading(PATIENCE)
            for _ in range(40):
                venue.send(50)
                wait_for(relay, len(venue.sent))
            feed = read(redis_server, is_trimmed=True)
        assert feed.missing == 0
        assert 300 <= len(feed.payloads) <= 600
        assert feed.payloads == venue.sent[-len(feed.payloads) :]


def test_publishing(redis_server: RedisServer) -> None:
    """Consumers that subscribe to channels, as IME's service does, would get nothing."""
    with Venue() as venue, redis_server.client() as client:
        subscription = client.pubsub(ignore_subscribe_messages=True)
        subscription.psubscribe("prices:*")
        subscription.get_message(timeout=5)
        with Relay(stream := stream_to(venue), redis_server.url, publish="prices:{name}") as relay, stream:
            assert relay.wait_until_leading(PATIENCE)
            venue.send(30)
            wait_for(relay, 30)
        got = [subscription.get_message(timeout=5) for _ in range(30)]
        assert [one["data"] for one in got if one] == venue.sent
        assert [one["channel"].decode() for one in got if one][:3] == [f"prices:{name}" for name in NAMES]
        subscription.close()


def test_on_demand(redis_server: RedisServer) -> None:
    """Everything would have to be subscribed to all the time; or a reader's wish would last for ever."""
    with Venue() as venue:
        stream = StreamManager("sandbox-key", url=venue.url)
        errors: list[Any] = []
        stream.on_error(errors.append)
        with Relay(stream, redis_server.url, on_demand=True) as relay, stream:
            assert relay.wait_until_leading(PATIENCE)
            now = int(redis_server.call("TIME")[0])
            redis_server.call("ZADD", KEYS.demand, now + 3, "contract:BTC-PERPETUAL", now + 30, "nonsense:X")
            assert wait_until(lambda: len(stream._subscriptions.desired()) == 1, PATIENCE)
            assert wait_until(lambda: errors, PATIENCE)
            about = redis_server.call("HGET", KEYS.about, "subscriptions")
            assert wait_until(lambda: not stream._subscriptions.desired(), PATIENCE)
            assert about in (b"[]", b'["contract:BTC-PERPETUAL"]')
        assert len(errors) == 1


def test_mistakes(redis_server: RedisServer) -> None:
    """They would be found when the feed is needed."""
    stream = StreamManager("sandbox-key", url="ws://127.0.0.1:9")
    host, port = refused_address()
    for bad in (
        {"partitions": 0},
        {"overflow": "wait"},
        {"keep_seconds": 0},
        {"max_waiting": True},
        {"publish": "x"},
        {"publish": "{nam}"},
        {"publish": "{name"},
        {"feed": "a b"},
        {"kep_records": 1},
    ):
        with pytest.raises(ConfigError):
            Relay(stream, redis_server.url, **bad)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="follows a stream"):
        Relay("stream", redis_server.url)  # type: ignore[arg-type]
    with pytest.raises(ConnectError):
        Relay(stream, f"redis://{host}:{port}").start()
    with Relay(stream, redis_server.url) as relay:
        with pytest.raises(UsageError, match="running"):
            relay.start()
        with pytest.raises(UsageError, match="relayed already"):
            Relay(stream, redis_server.url, feed="other").start()
    relay.stop()
    relay.close()
    with relay:
        assert not relay.is_leading, "the stream is not open"


def test_a_stream_is_relayed_across_its_runs(redis_server: RedisServer) -> None:
    """A bot that restarts its stream would end the feed."""
    with Venue() as venue, Relay(stream := stream_to(venue), redis_server.url) as relay:
        for round_ in (1, 2):
            with stream:
                assert relay.wait_until_leading(PATIENCE)
                assert wait_until(lambda: venue.connections == 1, PATIENCE)
                venue.send(20)
                wait_for(relay, 20 * round_)
        feed = read(redis_server)
        assert feed.payloads == venue.sent
        assert len(feed.terms) == 1
        states = [content["state"] for name, content in feed.notices if name == wire.STATE]
        assert [state for state in states if state in ("open", "stopped")] == ["open", "stopped", "open", "stopped"]


def test_stopping_in_a_handler(redis_server: RedisServer) -> None:
    """A handler that ends everything would wait for itself."""
    with Venue() as venue:
        stream = stream_to(venue)
        relay = Relay(stream, redis_server.url)
        stopped = threading.Event()

        def stop(tick: Any) -> None:
            relay.stop()
            stopped.set()

        stream.on_contract(stop)
        with relay, stream:
            assert relay.wait_until_leading(PATIENCE)
            venue.send(3)
            assert stopped.wait(PATIENCE)
