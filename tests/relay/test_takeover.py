"""Two relays of one feed: one writes, and the other goes on where it ends, whatever ends it."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import Any

import pytest

from finx_sync import Relay
from finx_sync.relay import wire
from finx_sync.relay.lease import LEASE_SECONDS
from finx_sync.relay.wire import Position
from tests.redis_server import RedisServer
from tests.relay.feeds import KEYS, PATIENCE, Feed, Venue, judge, read, relay_process, stream_to
from tests.waiting import wait_until


def holder(server: RedisServer) -> Any:
    return server.call("GET", KEYS.lease)


def written(server: RedisServer) -> int:
    return Position.read(server.call("XREVRANGE", KEYS.stream, "+", "-", "COUNT", 1)[0][0]).offset


def wait_for_payloads(server: RedisServer, count: int) -> Feed:
    assert wait_until(lambda: len(read(server).payloads) >= count, PATIENCE)
    return read(server)


@pytest.mark.parametrize("end", ["kill", "terminate", "pause"])
def test_take_over(redis_server: RedisServer, end: str) -> None:
    """Readers would lose messages, or get them twice, whenever a relay dies."""
    with Venue() as venue, relay_process(venue, redis_server) as first:
        assert wait_until(lambda: holder(redis_server), PATIENCE)
        active = holder(redis_server)
        with relay_process(venue, redis_server) as second:
            venue.keep_sending()
            assert wait_until(lambda: len(venue.sent) > 300, PATIENCE)
            begun = time.monotonic()
            if end == "kill":
                first.kill()
            elif end == "terminate":
                first.terminate()
            else:
                first.send_signal(signal.SIGSTOP)
            assert wait_until(lambda: holder(redis_server) not in (active, None), PATIENCE)
            assert wait_until(lambda: len(read(redis_server).terms) == 2, PATIENCE)
            took = time.monotonic() - begun
            assert took < LEASE_SECONDS + 2
            if end == "pause":
                first.send_signal(signal.SIGCONT)
            sent = len(venue.sent)
            assert wait_until(lambda: len(venue.sent) > sent + 100, PATIENCE)
            if end == "pause":
                assert wait_until(lambda: _stands_by(redis_server, first.pid), PATIENCE)
            venue.stop_sending()
            feed = wait_for_payloads(redis_server, len(venue.sent))
            assert judge(venue.sent, feed) == []
            assert feed.missing == 0
            assert feed.gaps() == []
            terms = [content for name, content in feed.notices if name == wire.TERM]
            last_of_first = max(one for one in feed.positions if one.term == feed.terms[0])
            assert [content["previous"] for content in terms] == [None, str(last_of_first)]
            assert second.poll() is None


def _stands_by(server: RedisServer, pid: int) -> bool:
    return f":{pid}:".encode() not in (holder(server) or b"")


def test_back_and_forth(redis_server: RedisServer) -> None:
    """It would work once."""
    with Venue() as venue, contextlib.ExitStack() as all_:
        relays = []
        for number in (1, 2):
            stream = all_.enter_context(stream_to(venue))
            relays.append(all_.enter_context(Relay(stream, redis_server.url)))
            assert relays[0].wait_until_leading(PATIENCE)
            assert wait_until(lambda: venue.connections == number, PATIENCE)  # noqa: B023
        venue.keep_sending()
        for round_ in range(4):
            active, other = relays if round_ % 2 == 0 else relays[::-1]
            sent = len(venue.sent)
            assert wait_until(lambda: len(venue.sent) > sent + 250, PATIENCE)  # noqa: B023
            assert active.is_leading
            active.stop()
            assert other.wait_until_leading(PATIENCE)
            active.start()
        venue.stop_sending()
        feed = wait_for_payloads(redis_server, len(venue.sent))
        assert judge(venue.sent, feed) == []
        assert feed.gaps() == []
        assert len(feed.terms) == 5


def test_a_zombie_is_refused(redis_server: RedisServer) -> None:
    """A relay that slept would write into its successor's feed."""
    with Venue() as venue, Relay(stream := stream_to(venue), redis_server.url) as relay, stream:
        assert relay.wait_until_leading(PATIENCE)
        venue.send(10)
        assert wait_until(lambda: relay.stats().written == 10, PATIENCE)
        term = read(redis_server).positions[-1].term
        later = f"{term + 5}-1"
        redis_server.call("XADD", KEYS.stream, later, "@", "1.0", "@term", '{"previous": null}')
        redis_server.call("SET", KEYS.lease, "another", "PX", "2000")
        venue.send(10)
        assert wait_until(lambda: not relay.is_leading, PATIENCE)
        assert redis_server.call("XREVRANGE", KEYS.stream, "+", "-", "COUNT", 1)[0][0].decode() == later
        assert relay.wait_until_leading(PATIENCE), "when the other one's lease has ended"
        assert wait_until(lambda: len(read(redis_server).terms) == 3, PATIENCE)
        feed = read(redis_server)
        terms = [content for name, content in feed.notices if name == wire.TERM]
        assert terms[-1]["previous"] == later
        venue.send(10)
        feed = wait_for_payloads(redis_server, 20)
        lacking = judge(venue.sent, feed)
        assert set(lacking) <= set(range(10, 20))
        assert not lacking or feed.gaps(), "what the zombie did not write is labelled"


def test_a_relay_whose_stream_is_not_open_does_not_lead(redis_server: RedisServer) -> None:
    """A relay that receives nothing would keep the one out that does."""
    with Venue() as venue:
        closed, stream = stream_to(venue), stream_to(venue)
        with Relay(closed, redis_server.url) as idle, Relay(stream, redis_server.url) as relay, stream:
            assert relay.wait_until_leading(PATIENCE)
            assert not idle.is_leading
