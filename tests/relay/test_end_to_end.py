"""Every venue's stream by way of a relay and Redis: the readers see what the relay's own stream sees."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from finx_sync import State
from finx_sync.relay.relay import Relay
from finx_sync.sandbox import Sandbox
from finx_sync.venues import registry
from finx_sync.venues.ftx import FtxStream
from tests.recorder.venues import OPTIONS, SUBSCRIBED, live
from tests.redis_server import RedisServer
from tests.waiting import books_balance, wait_until

VENUES = ["finx", "deribit", "ftx", "bitmex", "ime"]


class Shown:
    """What a stream's handlers get, as text."""

    def __init__(self, venue: str, stream: Any) -> None:
        self.stream = stream
        self.items: list[str] = []
        self.gaps: list[Any] = []
        self.errors: list[Any] = []
        registry.find(venue).listen(stream, lambda message: self.items.append(repr(message)))
        stream.on_gap(self.gaps.append)
        stream.on_error(self.errors.append)


def reader_of(venue: str, server: RedisServer) -> Any:
    """A stream that reads the venue's feed, without credentials."""
    stream = registry.find(venue).open(url=server.url, **{**OPTIONS, "proxy": None})
    registry.find(venue).subscribe(stream, SUBSCRIBED[venue])
    return stream


@pytest.mark.parametrize("venue", VENUES)
def test_readers_see_what_the_relay_sees(venue: str, redis_server: RedisServer) -> None:
    """A venue's feed would differ behind a relay, for an early reader or for one that comes late."""
    count = 5 if venue == "ime" else 50  # which moves slowly
    with Sandbox(contract_interval=0.02, spot_interval=0.02, exchange_interval=0.02) as sandbox:
        source = Shown(venue, live(venue, sandbox.url))
        relay = Relay(source.stream, redis_server.url)
        with relay, source.stream:
            assert relay.wait_until_leading(10)
            early = Shown(venue, reader_of(venue, redis_server))
            with early.stream:
                assert wait_until(lambda: len(early.items) > count, 20)
                late = Shown(venue, reader_of(venue, redis_server))
                with late.stream:
                    assert late.stream.state is State.OPEN
                    if isinstance(late.stream, FtxStream):
                        late.stream.wait_until_subscribed()
                        assert wait_until(lambda: late.stream.order_book("BTC-PERP"))
                    if venue == "bitmex":
                        late.stream.wait_until_filled("quote:XBTUSD", "margin")
                    assert wait_until(lambda: len(late.items) > count, 20)
                    source.stream.stop(drain=True)
                    assert wait_until(lambda: late.items[-1:] == early.items[-1:] == source.items[-1:])
    for one in (early, late):
        assert books_balance(one.stream)
        assert one.gaps == []
        assert [error for error in one.errors if "closed" not in str(error)] == []
        for name in {_name(item) for item in source.items}:  # tables and books begin earlier than what needs no image
            sent, got = ([item for item in items if _name(item) == name] for items in (source.items, one.items))
            assert got == sent[len(sent) - len(got) :]


def _name(item: str) -> str:
    """The type and the first field, which is the name or the topic."""
    return item.partition(",")[0]


def test_many_readers_of_one_feed(redis_server: RedisServer) -> None:
    """Many bots on one key would disturb each other."""
    with Sandbox(contract_interval=0.02, spot_interval=0.02) as sandbox:
        source = Shown("finx", live("finx", sandbox.url))
        relay = Relay(source.stream, redis_server.url)
        with relay, source.stream:
            assert relay.wait_until_leading(10)
            readers = [Shown("finx", reader_of("finx", redis_server)) for _ in range(20)]
            threads = [threading.Thread(target=one.stream.start) for one in readers]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert wait_until(lambda: all(len(one.items) > 20 for one in readers), 20)
            source.stream.stop(drain=True)
            assert wait_until(lambda: all(one.items[-1] == source.items[-1] for one in readers))
            for one in readers:
                one.stream.stop()
                assert one.items == source.items[-len(one.items) :]
