"""Recordings of streams that read a feed: a replay gives the same messages, gaps, states and last values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finx_sync import StreamManager
from finx_sync.recorder import format as formats
from finx_sync.recorder.reader import RecordingReader
from finx_sync.stream import Stream
from finx_sync.venues.bitmex import BitmexStream
from tests.redis_server import RedisServer
from tests.relay.test_source import OTHER, OTHER_TAG, PAIR, TAG, spot, tick
from tests.relay.writing import FeedWriter
from tests.waiting import Collector


def noted(stream: Stream[Any]) -> list[Any]:
    """Everything that handlers get, from now on."""
    seen: list[Any] = []
    stream.on_gap(seen.append)
    stream.on_state(lambda change: seen.append((change.old, change.new, str(change.reason or ""))))
    return seen


@pytest.mark.parametrize("speed", [1000.0, "max"])
def test_a_replay_gives_the_same(redis_server: RedisServer, tmp_path: Path, speed: Any) -> None:
    """What a bot did could not be repeated, or a gap would be forgotten by the recording."""
    with redis_server.client() as client:
        writer = FeedWriter(client, subscriptions=(TAG, OTHER_TAG))
        writer.write(tick(1), (OTHER_TAG, spot(5, OTHER)), last=True)
        stream = StreamManager(url=redis_server.url, flight_recorder=False)
        stream.subscribe_spot(PAIR, OTHER)
        seen, prices = noted(stream), Collector()
        stream.on_spot(lambda one: seen.append((one.pair, one.price, one.received_at)))
        stream.on_spot(lambda one: prices(one.price))
        with stream.record(tmp_path / "feed.finxrec"):
            stream.start(10)
            writer.write(tick(2), tick(3))
            writer.skip(4)
            writer.write(tick(4))
            writer.begin_term(previous=None)
            writer.notice("@gap", start=1.0, end=writer.at, names=[OTHER], reason="server", missed=None)
            writer.write(tick(5), at=writer.at + 1)
            prices.wait(lambda got: got == [2, 3, 4, 5])
            stream.stop()
    player = StreamManager("key", flight_recorder=False)
    again = noted(player)
    player.on_spot(lambda one: again.append((one.pair, one.price, one.received_at)))
    player.replay(tmp_path / "feed.finxrec", speed=speed)
    assert sum(not isinstance(one, tuple) for one in seen) == 3
    assert again == seen
    for name, price in ((PAIR, 5), (OTHER, 5)):
        assert player.latest(name) == stream.latest(name)
        assert player.latest(name).price == price  # type: ignore[union-attr]
        assert player.coverage(name) == stream.coverage(name)


def test_tables_are_replayed(redis_server: RedisServer, tmp_path: Path) -> None:
    """The tables of a reader that came late would be empty in the replay."""
    with redis_server.client() as client:
        tag = "topic:margin"
        writer = FeedWriter(client, "BitMEX", feed="bitmex", subscriptions=(tag,))
        writer.write((tag, b'{"table":"margin","action":"partial","keys":["account"],"data":[{"account":1,"n":1}]}'))
        writer.snapshot(tag)
        stream = BitmexStream(url=redis_server.url, flight_recorder=False)
        stream.subscribe("margin")
        rows = Collector()
        stream.on_table(rows)
        with stream.record(tmp_path / "tables.finxrec"), stream:
            writer.write((tag, b'{"table":"margin","action":"update","data":[{"account":1,"n":2}]}'))
            rows.wait(lambda got: len(got) == 2)
    player, again = BitmexStream(flight_recorder=False), Collector()
    player.on_table(again)
    player.replay(tmp_path / "tables.finxrec", speed="max")
    assert again.items == rows.items
    assert [row["n"] for row in player.storage.rows("margin")] == [2]


def test_keys_are_taken_out_of_last_values(redis_server: RedisServer, tmp_path: Path) -> None:
    """A server that echoes a key would have it in the recording of everybody who reads the feed."""
    with redis_server.client() as client:
        writer = FeedWriter(client, subscriptions=(TAG,))
        echo = spot(1).replace(b'"X"', b'"APIKey=very-secret-key-1"')
        writer.write((TAG, echo), last=True)
        stream = StreamManager("very-secret-key-1", url=redis_server.url, flight_recorder=False)
        stream.subscribe_spot(PAIR)
        with stream.record(tmp_path / "echo.finxrec", compress=False), stream:
            assert stream.latest(PAIR) is not None
    records = [one for one in RecordingReader(tmp_path / "echo.finxrec") if isinstance(one, formats.Known)]
    assert len(records) == 1
    assert b"very-secret-key-1" not in (tmp_path / "echo.finxrec").read_bytes()
