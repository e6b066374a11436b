"""What earlier relays have written is trimmed too."""

from __future__ import annotations

from finx_sync import Relay
from finx_sync.relay.survey import survey
from finx_sync.relay.wire import Position
from tests.redis_server import RedisServer
from tests.relay.feeds import KEYS, PATIENCE, Venue, read, stream_to
from tests.waiting import wait_until


def test_what_is_found(redis_server: RedisServer) -> None:
    """A stream would be trimmed too much or too little after each start of a relay."""
    with redis_server.client() as client:
        assert survey(client, "s") == []
        for term, entries in ((5, 1000), (7, 1), (9, 30)):
            for number in range(1, entries + 1):
                fields = {"@": f"{term * 1000 + number}.0", "a:b": "x" * 100, "@state": "{}"}
                client.xadd("s", fields, id=f"{term}-{2 * number}")  # type: ignore[arg-type]
        client.xtrim("s", minid="5-1001", approximate=False)
        client.response_callbacks.clear()
        found = survey(client, "s")
        memory = client.execute_command("MEMORY USAGE", "s")  # type: ignore[no-untyped-call]
    assert sum(one.records for one in found) == 1000 + 2 + 60
    assert abs(sum(one.size for one in found) - memory) < 1000
    assert [one.until for one in found] == sorted(one.until for one in found)
    assert {Position(5, 2000), Position(7, 2), Position(9, 60)} <= {one.until for one in found}
    assert all(one.at == one.until.term * 1000 + one.until.offset / 2 for one in found)
    assert max(one.records for one in found) <= 60


def test_relays_that_are_restarted_often(redis_server: RedisServer) -> None:
    """Each would leave what the one before it has written, until Redis is full."""
    with Venue() as venue:
        for _ in range(8):
            with Relay(stream := stream_to(venue), redis_server.url, keep_records=500) as relay, stream:
                assert relay.wait_until_leading(PATIENCE)
                for count in (50, 100, 150):
                    venue.send(50)
                    assert wait_until(lambda: relay.stats().written >= count, PATIENCE)  # noqa: B023
        feed = read(redis_server, is_trimmed=True)
        assert 300 <= len(feed.payloads) <= 600
        assert feed.payloads == venue.sent[-len(feed.payloads) :]
        assert redis_server.call("EXISTS", KEYS.stream)
