"""`FeedReader` over a real Redis: begins where it should, goes on where it was, and says what is missing."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finx_sync.errors import AuthorizationError, ConnectError, ConnectionLostError, FinxSyncError, PeerTimeoutError
from finx_sync.relay.address import RelayAddress
from finx_sync.relay.reader import FeedReader, Hole, LastValue, Notice, Records
from finx_sync.relay.wire import START, Position
from tests.redis_server import RedisServer
from tests.relay.writing import TERM, FeedWriter

A, B = b"spot:A", b"spot:B"


@pytest.fixture
def writer(redis_server: RedisServer) -> Iterator[FeedWriter]:
    with redis_server.client() as client:
        yield FeedWriter(client)


@pytest.fixture
def readers(redis_server: RedisServer) -> Iterator[Any]:
    """Makes readers, and closes them."""
    made: list[FeedReader] = []

    def make(**options: Any) -> FeedReader:
        made.append(FeedReader(RelayAddress.parse(redis_server.url, default_feed="finx"), **options))
        return made[-1]

    yield make
    for reader in made:
        reader.close()


def read(reader: FeedReader, count: int) -> list[Any]:
    """Read until so many payloads have come; returns these and the holes."""
    got: list[Any] = []
    while sum(isinstance(one, bytes) for one in got) < count:
        for part in reader.read(1.0):
            if isinstance(part, Records):
                got += part.payloads
            elif isinstance(part, Hole):
                got.append((part.missed, part.reason))
    return got


def test_it_begins_with_what_there_is(writer: FeedWriter, readers: Any) -> None:
    """A reader would begin without the last values, or would get an old message again as a new one."""
    writer.write((A, b"1"), (B, b"2"), last=True)
    writer.write((A, b"3"), last=True)
    writer.snapshot("table:T")
    writer.client.hset(writer.keys.last, "spot:C", b"damaged")
    writer.client.hset(writer.keys.since, "table:U", b"damaged")
    reader = readers()
    opening = reader.open()
    assert opening.end == reader.position == reader.cursor == writer.position
    assert opening.last[A] == LastValue(writer.position, pytest.approx(writer.at), b"3")  # type: ignore[arg-type]
    assert opening.last[B].payload == b"2"
    assert opening.since == {b"table:T": writer.position}
    assert opening.about["venue"] == "FinX"
    assert set(opening.damaged) == {b"spot:C", b"table:U"}
    assert reader.last_values([A, b"spot:none"]).keys() == {A}
    writer.write((A, b"4"))
    assert read(reader, 1) == [b"4"]


def test_only_some_last_values(writer: FeedWriter, readers: Any) -> None:
    """A reader of one name would fetch the values of ten thousand."""
    writer.write((A, b"1"), (B, b"2"), last=True)
    assert readers().open([A]).last.keys() == {A}
    assert readers().open([]).last == {}


def test_it_reads_everything_from_the_start(writer: FeedWriter, readers: Any) -> None:
    """Order or completeness would be lost where many entries come at once, small and large."""
    sent = []
    for number in range(300):
        payloads = [b"%d.%d\nline" % (number, place) for place in range(1 + number % 7 * 40)]
        writer.write(*((A, payload) for payload in payloads))
        sent += payloads
    reader = readers(since=START)
    reader.open(())
    assert read(reader, len(sent)) == sent
    assert reader.position == writer.position


def test_it_goes_on_after_another_connection(writer: FeedWriter, readers: Any) -> None:
    """A cut would lose messages, or bring them twice."""
    reader = readers()
    reader.open(())
    writer.write((A, b"1"))
    assert read(reader, 1) == [b"1"]
    reader.close()
    writer.write((A, b"2"))
    with pytest.raises(ConnectionLostError):
        reader.read(0.01)
    reader.open(())
    writer.write((A, b"3"))
    assert read(reader, 2) == [b"2", b"3"]


def test_a_resume_token_may_be_any_record(writer: FeedWriter, readers: Any) -> None:
    """A client that has had half of an entry would get it again, or not the rest."""
    writer.write(*((A, b"%d" % number) for number in range(5)))
    last = writer.position
    reader = readers(since=Position(last.term, last.offset - 2))
    reader.open(())
    assert read(reader, 2) == [b"3", b"4"]


def test_what_was_trimmed_is_a_hole(writer: FeedWriter, readers: Any) -> None:
    """A reader that was too slow would not know what it has missed."""
    reader = readers()
    reader.open(())
    writer.write((A, b"1"))
    assert read(reader, 1) == [b"1"]
    for number in range(2, 6):
        writer.write((A, b"%d" % number))
    writer.client.xtrim(writer.keys.stream, maxlen=2, approximate=False)
    assert read(reader, 2) == [(2, "trimmed"), b"4", b"5"]


def test_redis_was_emptied(redis_server: RedisServer, writer: FeedWriter, readers: Any) -> None:
    """After FLUSHALL a cursor beyond the end would wait in silence."""
    reader = readers()
    reader.open(())
    writer.write((A, b"1"))
    assert read(reader, 1) == [b"1"]
    redis_server.flush()
    while reader.cursor != START:  # noticed by an idle reader
        assert reader.read(1.0) == []
    writer.write((A, b"2"))
    assert read(reader, 1) == [b"2"]
    writer.write((A, b"3"), (A, b"4"))
    redis_server.flush()  # these are gone
    writer.write((A, b"5"))
    assert read(reader, 1) == [(2, "trimmed"), b"5"]


def test_a_stream_that_was_set_back(redis_server: RedisServer, writer: FeedWriter, readers: Any) -> None:
    """After a failover that lost entries, those that are left would be read twice."""
    reader = readers(since=START)
    reader.open(())
    for number in range(4):
        writer.write((A, b"%d" % number))
    assert read(reader, 4) == [b"0", b"1", b"2", b"3"]
    entries = writer.client.execute_command("XRANGE", writer.keys.stream, "-", "+")
    redis_server.flush()
    for key, fields in list(entries)[:3]:  # the copy has not got the last two
        writer.client.xadd(writer.keys.stream, fields, id=key)
    reader.close()
    reader.open(())
    assert reader.cursor == START
    writer.begin_term(previous=str(Position(TERM, 3)))  # that is all that it knows
    writer.write((A, b"next"))
    assert read(reader, 1) == [(None, "relay lost"), b"next"]


def test_another_relay_joins(writer: FeedWriter, readers: Any) -> None:
    """A take-over without a loss would be reported as one."""
    reader = readers()
    reader.open(())
    writer.write((A, b"1"))
    writer.begin_term()
    writer.write((A, b"2"))
    assert read(reader, 2) == [b"1", b"2"]


def test_interrupt_ends_what_runs_and_nothing_else(writer: FeedWriter, readers: Any) -> None:
    """A stop would wait for a blocking read, or later reads would fail, too."""
    reader = readers()
    reader.open(())
    caught: list[BaseException] = []
    begun = threading.Event()

    def reading() -> None:
        begun.set()
        try:
            while True:
                reader.read(1.0)
        except FinxSyncError as error:
            caught.append(error)

    thread = threading.Thread(target=reading)
    thread.start()
    begun.wait(10)
    reader.interrupt()
    thread.join(10)
    assert isinstance(caught[0], ConnectionLostError)
    reader.open(())
    writer.write((A, b"1"))
    assert read(reader, 1) == [b"1"]
    reader.interrupt()  # nothing runs
    with pytest.raises(ConnectionLostError, match="interrupted"):
        reader.read(0.01)


def test_a_redis_that_stops_answering(redis_server: RedisServer, writer: FeedWriter, readers: Any) -> None:
    """A frozen Redis would be waited for without an end."""
    reader = readers()
    reader.open(())
    redis_server.pause()
    try:
        with pytest.raises(PeerTimeoutError):
            reader.read(0.01)
        with pytest.raises(ConnectError):
            reader.open(())
    finally:
        redis_server.resume()
    reader.open(())
    writer.write((A, b"1"))
    assert read(reader, 1) == [b"1"]


def test_no_redis(redis_server: RedisServer, readers: Any) -> None:
    """It would be tried again in secret, or raise what only redis-py knows."""
    redis_server.kill()
    with pytest.raises(ConnectError):
        readers().open()


def test_a_reader_that_may_not_read(redis_server: RedisServer, writer: FeedWriter) -> None:
    """What is refused would look like a network that fails, and be tried for ever."""
    redis_server.call("ACL", "SETUSER", "guest", "on", ">open-sesame-9", "~other*", "+@all")
    url = f"redis://guest:open-sesame-9@127.0.0.1:{redis_server.port}"
    for address in (url, url.replace("sesame", "wrong")):
        reader = FeedReader(RelayAddress.parse(address, default_feed="finx"))
        with pytest.raises(AuthorizationError) as caught:
            reader.open()
        assert "open-" not in str(caught.value)


def test_a_reader_needs_few_rights(redis_server: RedisServer, writer: FeedWriter) -> None:
    """Readers would need the right to write, or more than the documentation says."""
    page = (Path(__file__).parents[2] / "docs" / "relay-readers.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"A reader needs only the commands (.*?)and\s+`ZADD`", page, re.DOTALL)
    commands = [f"+{name.lower()}" for name in re.findall(r"`(\w+)`", listed)]
    assert len(commands) > 8
    redis_server.call("ACL", "SETUSER", "guest", "on", ">open-sesame-9", "~finx_sync:*", *commands)
    url = f"redis://guest:open-sesame-9@127.0.0.1:{redis_server.port}"
    reader = FeedReader(RelayAddress.parse(url, default_feed="finx"))
    end = reader.open([A]).end
    assert end is not None
    writer.write((A, b"1"))
    assert read(reader, 1) == [b"1"]
    assert list(reader.between(end, writer.position))
    with pytest.raises(AuthorizationError):
        reader.demand([A], 1.0)
    reader.close()


def test_reading_again_between_two_positions(writer: FeedWriter, readers: Any) -> None:
    """A table that begins with a snapshot could not be built by whoever comes late."""
    first = writer.write((A, b"image"))
    writer.write((B, b"other"), (A, b"change"))
    reader = readers()
    end = reader.open(()).end
    writer.write((A, b"later"))
    parts = list(reader.between(first, end))
    assert [entry for entry, _ in parts] == [first, end]
    assert [payload for _, found in parts for one in found for payload in one.payloads] == [
        b"image",
        b"other",
        b"change",
    ]
    writer.client.xtrim(writer.keys.stream, maxlen=2, approximate=False)
    assert next(reader.between(first, end))[0] == end
    assert read(reader, 1) == [b"later"]


def test_partitions_are_read_apart(redis_server: RedisServer, readers: Any) -> None:
    """Messages of one partition would appear in another."""
    with redis_server.client() as client:
        zero, one = FeedWriter(client, partitions=2), FeedWriter(client, None, partition=1)
        first, second = readers(), readers(partition=1)
        assert first.open(()).about["partitions"] == "2"
        assert second.open(()).about == {}
        zero.write((A, b"0"))
        one.write((B, b"1"))
        assert read(first, 1) == [b"0"]
        assert read(second, 1) == [b"1"]


def test_demand(writer: FeedWriter, readers: Any) -> None:
    """A relay on demand would not know what its readers want, or for how long."""
    reader = readers()
    reader.open(())
    reader.demand([A, B], 30.0)
    seconds, _ = writer.client.time()
    demanded = dict(writer.client.zrange(writer.keys.demand, 0, -1, withscores=True))
    assert demanded.keys() == {A, B}
    assert all(seconds <= until <= seconds + 31 for until in demanded.values())


def test_deleted_and_foreign_entries(writer: FeedWriter, readers: Any) -> None:
    """An entry that somebody deleted or wrote by hand would end the reading."""
    reader = readers()
    reader.open(())
    gone = writer.write((A, b"1"))
    writer.client.xdel(writer.keys.stream, str(gone))
    writer.notice("@odd", x=1)
    writer.write((A, b"2"))
    got: list[Any] = []
    while not any(isinstance(part, Records) for part in got):
        got += reader.read(1.0)
    assert [type(part) for part in got] == [Hole, Notice, Records]
