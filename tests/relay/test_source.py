"""Streams that read a feed from a real Redis: the same handlers, states, gaps and limits as from the venue itself."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from finx_sync import ConfigError, ConnectError, MissingKeyError, State, StreamManager
from finx_sync.errors import (
    ConnectionLostError,
    FinxSyncError,
    SlowConsumerError,
    StaleDataError,
    SubscriptionRefusedError,
    UnreadableMessageError,
)
from finx_sync.notices import Gap
from finx_sync.pipeline.backfill import Fetched
from finx_sync.relay import feed, reader
from finx_sync.relay.wire import partition_of
from finx_sync.venues.bitmex import BitmexStream
from finx_sync.venues.finx import FinxCodec
from finx_sync.venues.ftx import FtxStream
from finx_sync.venues.ime import ImeStream
from tests.redis_server import RedisServer
from tests.relay.writing import TERM, FeedWriter
from tests.waiting import FAST, Collector, books_balance, wait_until

PAIR, OTHER = "BTC:USDC", "ETH:USDC"
TAG, OTHER_TAG = f"spot:{PAIR}", f"spot:{OTHER}"


def spot(price: float, pair: str = PAIR) -> bytes:
    """A spot rate, with line breaks."""
    rate = {"pair": pair, "unixDate": 1, "UTCDate": "2022-08-07T18:34:55.000Z", "exchange": "X", "price": str(price)}
    return json.dumps(rate, indent=1).encode()


def tick(price: float) -> tuple[str, bytes]:
    return TAG, spot(price)


@pytest.fixture
def writer(redis_server: RedisServer) -> Iterator[FeedWriter]:
    with redis_server.client() as client:
        yield FeedWriter(client, subscriptions=(TAG, OTHER_TAG))


class Seen:
    """A stream of one pair, and everything that its handlers get."""

    def __init__(self, server: RedisServer | str, **options: Any) -> None:
        url = server if isinstance(server, str) else server.url
        self.stream = StreamManager(url=url, **{"reconnect": FAST, "flight_recorder": False, **options})
        self.all: list[Any] = []
        self.prices = Collector()
        self.gaps, self.states, self.errors = Collector(), Collector(), Collector()
        self.stream.on_spot(lambda one: self.all.append(one.price))
        self.stream.on_spot(lambda one: self.prices(one.price))
        self.stream.on_gap(self.all.append)
        self.stream.on_gap(self.gaps)
        self.stream.on_state(lambda change: self.states(change.new))
        self.stream.on_error(self.errors)
        self.stream.subscribe_spot(PAIR)

    def wait_for(self, *prices: float) -> None:
        self.prices.wait(lambda got: got == list(prices))


@pytest.fixture
def see(redis_server: RedisServer) -> Iterator[Callable[..., Seen]]:
    """Starts a stream, and stops it."""
    made: list[Seen] = []

    def make(*, start: bool = True, **options: Any) -> Seen:
        seen = Seen(redis_server, **options)
        made.append(seen)
        if start:
            seen.stream.start(10)
        return seen

    yield make
    with contextlib.suppress(AssertionError):
        redis_server.resume()
    for seen in made:
        seen.stream.stop()
        assert books_balance(seen.stream)


def test_messages_come_in_order_and_complete(writer: FeedWriter, see: Callable[..., Seen]) -> None:
    """A reader would lose messages of the feed, mix them up, or repeat them."""
    seen = see()
    sent: list[float] = []
    for number in range(400):
        prices = [number + place / 100 for place in range(1 + number % 50)]
        writer.write(*(tick(price) for price in prices), (OTHER_TAG, spot(0, OTHER)))
        sent += prices
    seen.wait_for(*sent)
    assert seen.all == sent
    assert seen.states.items == [State.CONNECTING, State.OPEN]
    assert seen.stream.stats().messages.received == len(sent)  # those of other names are left out before the queue


def test_last_values_are_there_at_once(writer: FeedWriter, see: Callable[..., Seen]) -> None:
    """A bot would wait for the next message of a quiet name, or get an old one as if it were new."""
    writer.write(tick(1), (OTHER_TAG, spot(5, OTHER)), at=time.time() - 100, last=True)
    seen = see()
    newest = seen.stream.latest(PAIR)
    assert newest is not None
    assert (newest.price, newest.received_at) == (1, pytest.approx(writer.at, abs=1e-5))
    assert seen.stream.latest(OTHER) is None  # nobody asked for it
    assert 99 < seen.stream.last_message_age(PAIR) < 200  # type: ignore[operator]
    with pytest.raises(StaleDataError):
        seen.stream.guard(PAIR, max_age=2)
    writer.write(tick(2), at=time.time())
    seen.wait_for(2)
    assert seen.stream.guard(PAIR, max_age=60).message.price == 2
    assert [one.kind for one in seen.stream.coverage(PAIR)] == ["received"]
    seen.stream.subscribe_spot(OTHER)
    assert wait_until(lambda: seen.stream.latest(OTHER))
    writer.write((OTHER_TAG, spot(6, OTHER)))
    seen.wait_for(2, 6)


def test_an_iterator_gets_what_comes(writer: FeedWriter, see: Callable[..., Seen]) -> None:
    """Scripts that iterate would need other code for a feed on Redis."""
    seen = see()
    ticks = seen.stream.ticks(timeout=10)
    writer.write(tick(1), tick(2))
    assert [next(ticks).price, next(ticks).price] == [1, 2]
    ticks.close()


def test_holes_are_reported_once_and_before_the_next_message(writer: FeedWriter, see: Callable[..., Seen]) -> None:
    """What was trimmed would be missing in silence, or in the wrong place."""
    seen = see()
    writer.write(tick(1))
    writer.skip(7)
    before = writer.at
    writer.write(tick(2))
    seen.wait_for(1, 2)
    (gap,) = seen.gaps.items
    assert (gap.names, gap.reason, gap.missed) == ((PAIR,), "trimmed", 7)
    assert (gap.start, gap.end) == (pytest.approx(before, abs=1e-5), pytest.approx(writer.at, abs=1e-5))
    assert seen.all == [1, gap, 2]
    assert [one.missed for one in seen.stream.coverage(PAIR) if one.kind == "missing"] == [7]


def test_gaps_of_the_relay_are_reported_for_wanted_names(writer: FeedWriter, see: Callable[..., Seen]) -> None:
    """A gap of the relay's own would be lost, or a reader would hear of gaps in what it does not read."""
    seen = see()
    writer.notice("@gap", start=1.0, end=2.0, names=[OTHER], reason="server", missed=None)
    writer.notice("@gap", start=3.0, end=4.0, names=[OTHER, PAIR], reason="server", missed=9)
    writer.notice("@gap", start=5.0, end=6.0, names=[], reason="slow consumer", missed=1)
    writer.write(tick(1))
    seen.wait_for(1)
    assert seen.gaps.items == [
        Gap(3.0, 4.0, (PAIR,), "server", 9),
        Gap(5.0, 6.0, (PAIR,), "slow consumer", 1),
    ]


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({}, []),
        ({"previous": f"{TERM}-9"}, [("trimmed", 7)]),
        ({"previous": None}, [("relay lost", None)]),
        ({"previous": f"{TERM}-1"}, [("relay lost", None)]),
    ],
)
def test_another_relay_takes_over(
    writer: FeedWriter, see: Callable[..., Seen], said: dict[str, Any], found: list[Any]
) -> None:
    """A take-over would hide what it lost, or alarm where nothing was."""
    seen = see()
    writer.write(tick(1))
    seen.wait_for(1)
    writer.begin_term(**said)
    writer.write(tick(2))
    seen.wait_for(1, 2)
    assert [(gap.reason, gap.missed) for gap in seen.gaps.items] == found


def test_redis_is_emptied_while_a_stream_reads(
    redis_server: RedisServer, writer: FeedWriter, see: Callable[..., Seen]
) -> None:
    """The stream would be open and silent for ever."""
    seen = see()
    writer.write(tick(1))
    seen.wait_for(1)
    redis_server.flush()
    writer.skip(3)
    writer.write(tick(2))
    seen.wait_for(1, 2)
    redis_server.flush()
    writer.begin_term(previous=None)
    writer.write(tick(3))
    seen.wait_for(1, 2, 3)
    assert [(gap.reason, gap.missed) for gap in seen.gaps.items] == [("trimmed", 3), ("relay lost", None)]


@pytest.mark.parametrize("keep", [True, False])
def test_redis_is_restarted(keep: bool) -> None:
    """A restart would cost messages that Redis has kept, or hide those that it has not."""
    with RedisServer(persistent=True) as server, server.client() as client:
        writer = FeedWriter(client, subscriptions=(TAG,))
        seen = Seen(server)
        with seen.stream:
            writer.write(tick(1))
            seen.wait_for(1)
            seen.stream.reconnect_now()
            writer.write(tick(2), tick(3))
            seen.wait_for(1, 2, 3)
            server.restart(keep=keep)
            seen.states.wait(lambda states: states[-1] is State.OPEN and states.count(State.RECONNECTING) >= 1)
            with server.client() as again:
                writer.client = again
                if not keep:
                    writer.skip(2)  # written and lost while nobody could read
                writer.write(tick(4))
                seen.wait_for(1, 2, 3, 4)
        assert [(gap.reason, gap.missed) for gap in seen.gaps.items] == ([] if keep else [("trimmed", 2)])
        assert seen.stream.stats().reconnects >= 1


def test_a_redis_that_hangs_is_noticed(
    redis_server: RedisServer, writer: FeedWriter, see: Callable[..., Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen Redis would look like a quiet market, or its return would cost messages."""
    monkeypatch.setattr(reader, "ANSWER_TIMEOUT", 0.5)
    seen = see()
    writer.write(tick(1))
    seen.wait_for(1)
    redis_server.pause()
    seen.states.wait(lambda states: states[-1] is State.RECONNECTING)
    redis_server.resume()
    writer.write(tick(2))
    seen.wait_for(1, 2)
    seen.states.wait(lambda states: states[-1] is State.OPEN)
    assert seen.gaps.items == []


def test_a_silent_relay_is_noticed(
    writer: FeedWriter, see: Callable[..., Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead relay would look like a quiet market."""
    monkeypatch.setattr(feed, "SILENCE", 0.5)
    stale = Collector()
    seen = see(start=False, stale_after=0.2)
    seen.stream.on_stale(stale)
    seen.stream.start(10)
    seen.states.wait(lambda states: states[-1] is State.RECONNECTING)
    stale.wait(lambda found: found and found[0].name == PAIR)
    writer.begin_term(previous=None)
    writer.write(tick(1))
    seen.wait_for(1)
    assert State.OPEN in seen.states.items[seen.states.items.index(State.RECONNECTING) :]
    assert [gap.reason for gap in seen.gaps.items] == ["relay lost"]


def test_a_feed_without_a_relay(writer: FeedWriter, see: Callable[..., Seen]) -> None:
    """A bot would start as if all were well, on the values of yesterday."""
    writer.write(tick(1), last=True)
    writer.client.delete(writer.keys.lease)
    seen = see()
    assert seen.stream.state is State.RECONNECTING
    assert seen.stream.latest(PAIR)
    assert State.OPEN not in seen.states.items
    writer.write(tick(2))
    seen.wait_for(2)
    seen.states.wait(lambda states: states[-1] is State.OPEN)


def test_the_relays_own_state_is_the_readers(writer: FeedWriter, see: Callable[..., Seen]) -> None:
    """A bot would trade on a feed whose relay has lost the venue."""
    seen = see()
    writer.notice("@state", state="reconnecting", reason="cut")
    seen.states.wait(lambda states: states[-1] is State.RECONNECTING)
    writer.notice("@state", state="open", reason="")
    seen.states.wait(lambda states: states[-1] is State.OPEN)
    assert seen.stream.stats().reconnects == 0


def test_what_cannot_be_understood_does_no_harm(writer: FeedWriter, see: Callable[..., Seen]) -> None:
    """One damaged value, or a newer relay, would end all readers."""
    writer.client.hset(writer.keys.last, TAG, "damaged")
    seen = see()
    writer.notice("@from_the_future", x=1)
    writer.add([(b"@", b"no time"), (b"@state", b"[]"), (b"@error", b"7"), (b"@subscriptions", b'{"added":7}')])
    writer.add([(b"@term", b"{}"), (b"\xff\xfe:x", b"\xff"), (TAG.encode(), b"\xff{"), (TAG.encode(), b"{")])
    writer.notice("@error", type="ServerRefusedError", text="the venue says no")
    writer.notice("@error", type="__class__", text="odd")
    writer.write(tick(1))
    seen.wait_for(1)
    assert seen.stream.state is State.OPEN
    errors = seen.errors.wait(lambda got: len(got) >= 6)
    assert sum(isinstance(error, UnreadableMessageError) for error in errors) == 2
    assert [str(error) for error in errors if type(error) is FinxSyncError][-1] == "odd"
    assert "cannot be read" in str(errors[0])


def test_a_slow_handler_holds_the_reading_back(writer: FeedWriter, see: Callable[..., Seen]) -> None:
    """The memory would fill while Redis could keep what waits."""
    gate = threading.Event()
    seen = see(start=False, queue_size=10, overflow="block")
    seen.stream.on_spot(lambda one: gate.wait(10))
    seen.stream.start(10)
    for number in range(200):
        writer.write(tick(number))
    assert wait_until(lambda: seen.stream._session.queue.is_holding)  # type: ignore[union-attr]
    assert seen.stream.stats().messages.waiting < 150
    gate.set()
    seen.wait_for(*range(200))
    assert seen.gaps.items == []


def test_trimming_under_a_reader_that_is_held_back(writer: FeedWriter, see: Callable[..., Seen]) -> None:
    """What Redis had no room for meanwhile would be missing in silence."""
    gate = threading.Event()
    seen = see(start=False, queue_size=10, overflow="block")
    seen.stream.on_spot(lambda one: gate.wait(10))
    seen.stream.start(10)
    for number in range(400):
        writer.write(tick(number))
        if number == 300:
            assert wait_until(lambda: seen.stream._session.queue.is_holding)  # type: ignore[union-attr]
    writer.client.xtrim(writer.keys.stream, maxlen=50, approximate=False)
    gate.set()
    got = seen.prices.wait(lambda prices: prices[-1] == 399)
    (gap,) = seen.gaps.items
    assert got == [*range(350 - gap.missed), *range(350, 400)]
    assert gap.reason == "trimmed"


def test_too_slow_a_handler_can_end_the_stream(writer: FeedWriter, see: Callable[..., Seen]) -> None:
    """The rule that a user chose would not hold for a feed on Redis."""
    gate = threading.Event()
    seen = see(start=False, queue_size=10, overflow="error")
    seen.stream.on_spot(lambda one: gate.wait(10))
    seen.stream.start(10)
    for number in range(50):
        writer.write(tick(number))
    seen.states.wait(lambda states: True)
    assert wait_until(lambda: seen.stream.state is State.FAILED)
    gate.set()
    assert isinstance(seen.stream.failure, SlowConsumerError)


def test_what_the_feed_does_not_contain_is_reported(writer: FeedWriter, see: Callable[..., Seen]) -> None:
    """A bot would wait for ever for a name that nobody relays."""
    seen = see(start=False)
    seen.stream.subscribe_spot("SOL:USDC")
    seen.stream.start(10)
    (error,) = seen.errors.wait(lambda errors: errors)
    assert isinstance(error, SubscriptionRefusedError)
    assert error.name == "SOL:USDC"
    writer.notice("@subscriptions", added=["spot:SOL:USDC"], removed=[TAG])
    _, other = seen.errors.wait(lambda errors: len(errors) == 2)
    assert other.name == PAIR


def test_a_relay_on_demand_is_told(redis_server: RedisServer) -> None:
    """The relay would never subscribe to what its readers want."""
    with redis_server.client() as client:
        writer = FeedWriter(client, on_demand="1")
        seen = Seen(redis_server)
        with seen.stream:
            assert wait_until(lambda: client.zrange(writer.keys.demand, 0, -1) == [TAG.encode()])
            seen.stream.subscribe_spot(OTHER)
            assert wait_until(lambda: len(client.zrange(writer.keys.demand, 0, -1)) == 2)
        assert seen.errors.items == []


def test_start_fails_where_there_is_no_feed(redis_server: RedisServer) -> None:
    """A bot would start, and wait for ever, with a wrong URL."""
    seen = Seen(redis_server)
    with pytest.raises(ConnectError, match="there is no feed 'finx'"):
        seen.stream.start(10)
    redis_server.kill()
    with pytest.raises(ConnectError, match="cannot be reached"):
        seen.stream.start(10)
    assert seen.stream.state is State.FAILED


def test_start_fails_at_another_venues_feed(redis_server: RedisServer) -> None:
    """Messages of another venue would all be unreadable, and nothing would say why."""
    with redis_server.client() as client:
        FeedWriter(client, "Deribit")
        with pytest.raises(ConfigError, match="one of Deribit, and this stream reads those of FinX"):
            Seen(redis_server).stream.start(10)
        stream = StreamManager(environment="deribit", url=f"{redis_server.url}?feed=finx")
        with stream:
            assert stream.is_connected


@pytest.mark.parametrize("when", ["open", "blocked", "hanging", "gone", "held back"])
def test_stop_ends_everything(
    redis_server: RedisServer, writer: FeedWriter, see: Callable[..., Seen], when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop would wait for Redis, and Ctrl+C with it."""
    monkeypatch.setattr(reader, "ANSWER_TIMEOUT", 0.5)
    gate = threading.Event()
    seen = see(start=False, queue_size=4, overflow="block")
    if when == "held back":
        seen.stream.on_spot(lambda one: gate.wait(10))
    seen.stream.start(10)
    if when == "hanging":
        redis_server.pause()
        seen.states.wait(lambda states: states[-1] is State.RECONNECTING)
    elif when == "gone":
        redis_server.kill()
        seen.states.wait(lambda states: states[-1] is State.RECONNECTING)
    elif when == "held back":
        for number in range(20):
            writer.write(tick(number))
        assert wait_until(lambda: seen.stream._session.queue.is_holding)  # type: ignore[union-attr]
        threading.Timer(0.05, gate.set).start()
    session = seen.stream._session
    seen.stream.stop(5)
    assert session is not None
    assert session.has_ended
    assert seen.stream.state is State.STOPPED
    if when == "gone":
        redis_server.start()


def test_a_stop_while_start_waits_for_redis(redis_server: RedisServer, writer: FeedWriter) -> None:
    """A start that hangs could not be given up."""
    redis_server.pause()
    seen = Seen(redis_server)
    starting = threading.Thread(target=seen.stream.start)
    starting.start()
    try:
        seen.states.wait(lambda states: State.CONNECTING in states)
        seen.stream.stop(5)
        starting.join(10)
        assert not starting.is_alive()
        assert seen.stream.state is State.STOPPED
    finally:
        redis_server.resume()


def test_a_stream_can_be_started_again(writer: FeedWriter, see: Callable[..., Seen]) -> None:
    """The second run would go on where the first one was, or not at all."""
    seen = see()
    writer.write(tick(1))
    seen.wait_for(1)
    seen.stream.stop()
    writer.write(tick(2))
    seen.stream.start(10)
    writer.write(tick(3))
    seen.wait_for(1, 3)


def test_several_partitions(redis_server: RedisServer) -> None:
    """Names in other partitions than the first would never come."""
    pairs = [f"P{number}:USDC" for number in range(8)]
    with redis_server.client() as client:
        zero = FeedWriter(client, partitions=2, subscriptions=tuple(f"spot:{pair}" for pair in pairs))
        writers = [zero, FeedWriter(client, None, partition=1)]
        seen = Seen(redis_server)
        seen.stream.subscribe_spot(*pairs)
        with seen.stream:
            for number, pair in enumerate(pairs):
                writers[partition_of(f"spot:{pair}".encode(), 2)].write((f"spot:{pair}", spot(number, pair)))
            seen.prices.wait(lambda got: sorted(got) == list(range(8)))
            writers[1].skip(2)
            last = next(pair for pair in pairs if partition_of(f"spot:{pair}".encode(), 2))
            writers[1].write((f"spot:{last}", spot(9, last)))
            (gap,) = seen.gaps.wait(lambda gaps: gaps)
            of_one = {pair for pair in pairs if partition_of(f"spot:{pair}".encode(), 2)}
            assert of_one <= set(gap.names) <= of_one | {PAIR}
            assert gap.missed == 2


class OneRow:
    """A history with one row, which names how long it was asked for."""

    kind = "spot"

    def fetch(self, name: str, start: float, end: float, timeout: float) -> Fetched:
        (row,) = FinxCodec("").decode([spot(1.5, name)])
        return Fetched([row], None)

    def end(self) -> None:
        """Nothing runs."""

    def moment(self, message: Any) -> float:
        return float(message.price)

    def identity(self, message: Any) -> object:
        return message.price


def test_holes_are_filled_from_history(
    writer: FeedWriter, see: Callable[..., Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`backfill=True` would fill gaps from the venue only, or deliver the rows in the wrong place."""
    seen = see(start=False, backfill=True)
    monkeypatch.setattr(seen.stream, "_history", OneRow)
    seen.stream.start(10)
    writer.write(tick(1), at=time.time() + 1)
    seen.wait_for(1)
    writer.skip(1)
    writer.write(tick(2), at=time.time() + 2)
    seen.wait_for(1, 1.5, 2)
    assert seen.gaps.items == []
    assert "backfilled" in {one.kind for one in seen.stream.coverage(PAIR)}


# Without a key


def test_a_key_is_needed_for_functions_only(
    writer: FeedWriter, see: Callable[..., Seen], redis_server: RedisServer
) -> None:
    """Fifty bots that only stream would all need the key."""
    seen = see()
    with pytest.raises(MissingKeyError, match="no API key"):
        seen.stream.get_tick_snap(PAIR)
    assert "redis://" in repr(seen.stream)
    for make in (BitmexStream, FtxStream, ImeStream):
        assert "redis://" in repr(make(url=redis_server.url))
    BitmexStream(url=redis_server.url).subscribe("margin")
    FtxStream(url=redis_server.url).subscribe_fills()
    with pytest.raises(ConfigError, match="dead_mans_switch"):
        BitmexStream(url=redis_server.url, api_key="k", api_secret="s", dead_mans_switch=True)


def test_functions_go_to_the_environment(writer: FeedWriter, redis_server: RedisServer) -> None:
    """A function would be sent to Redis, or to production instead of the sandbox."""
    with StreamManager(environment="sandbox", url=redis_server.url) as stream:
        assert stream.get_tick_snap("BTC:USD").pair == "BTC:USD"
        assert stream.is_connected


def test_credentials_in_the_url_are_never_shown(redis_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """A password would stand in every log."""
    secret = "open-sesame-9"
    url = f"redis://bot:{secret}@127.0.0.1:{redis_server.port}/0"
    stream = StreamManager(url=url, flight_recorder=False)
    with pytest.raises(FinxSyncError) as caught:
        stream.start(10)
    shown = f"{stream!r} {caught.value} {caught.value!r} {stream.dump()} {caplog.text} {stream._account!r}"
    assert secret not in shown


@pytest.mark.parametrize(
    "url", ["redis://", "redis://host:port", "redis://host?fed=x", "redis+sentinel://host", "redis:x"]
)
def test_a_wrong_url_fails_at_once(url: str) -> None:
    """It would fail at the start, as if the network were to blame."""
    with pytest.raises(ConfigError):
        StreamManager("key", url=url)


# Venues whose messages are changes


def test_a_late_reader_gets_whole_tables(redis_server: RedisServer) -> None:
    """Whoever starts after the relay would have no tables, or only those rows that change."""

    def table(action: str, rows: list[dict[str, Any]], **more: Any) -> bytes:
        return json.dumps({"table": "position", "action": action, "data": rows, **more}).encode()

    with redis_server.client() as client:
        tag = "topic:position:XBTUSD"
        writer = FeedWriter(client, "BitMEX", feed="bitmex", subscriptions=("topic:position", "topic:quote:XBTUSD"))
        old = table("partial", [{"account": 1, "symbol": "XBTUSD", "qty": 0}], keys=["account", "symbol"])
        writer.write((tag, old))
        image = table("partial", [{"account": 1, "symbol": "XBTUSD", "qty": 1}], keys=["account", "symbol"])
        writer.write(("topic:quote:XBTUSD", b'{"table":"quote","action":"insert","data":[]}'), (tag, image))
        writer.snapshot(tag)
        writer.write((tag, table("update", [{"account": 1, "symbol": "XBTUSD", "qty": 2}])))
        rows, errors, gaps = Collector(), Collector(), Collector()
        stream = BitmexStream(url=redis_server.url, flight_recorder=False)
        stream.subscribe("position")
        stream.on_table(lambda row: rows(row.item["qty"]))
        stream.on_error(errors)
        stream.on_gap(gaps)
        with stream:
            stream.wait_until_filled("position")
            writer.write((tag, table("update", [{"account": 1, "symbol": "XBTUSD", "qty": 3}])))
            rows.wait(lambda got: got == [1, 2, 3])
            assert [row["qty"] for row in stream.storage.rows("position")] == [3]
            writer.skip(1)
            writer.write((tag, table("update", [{"account": 1, "symbol": "XBTUSD", "qty": 4}])))
            writer.write(
                (tag, table("partial", [{"account": 1, "symbol": "XBTUSD", "qty": 5}], keys=["account", "symbol"]))
            )
            rows.wait(lambda got: got == [1, 2, 3, 5])  # nothing is known between the gap and the next image
        assert [(gap.reason, gap.missed) for gap in gaps.items] == [("trimmed", 1)]
        assert errors.items == []
        client.xtrim(writer.keys.stream, maxlen=1, approximate=False)
        with stream:
            (error,) = errors.wait(lambda found: found)
            assert isinstance(error, ConnectionLostError)
            assert "snapshot of topic:position:XBTUSD" in str(error)


def test_a_late_reader_gets_whole_books(redis_server: RedisServer) -> None:
    """Whoever starts after the relay would have no order book."""
    book = {"time": 1.0, "checksum": 2933775928, "bids": [[5000.5, 10.0], [4995.0, 5.0]],
            "asks": [[5001.0, 6.0], [5002.0, 7.0]], "action": "partial"}  # fmt: skip
    frame = {"channel": "orderbook", "market": "BTC-PERP", "type": "partial", "data": book}
    with redis_server.client() as client:
        tag = "orderbook:BTC-PERP"
        writer = FeedWriter(client, "FTX", feed="ftx", subscriptions=(tag, "ticker:BTC-PERP"))
        writer.write((tag, json.dumps(frame).encode()))
        writer.snapshot(tag)
        writer.notice("@alive")
        stream = FtxStream(url=redis_server.url, flight_recorder=False)
        stream.subscribe_orderbook("BTC-PERP")
        with stream:
            stream.wait_until_subscribed()
            assert wait_until(lambda: stream.order_book("BTC-PERP"))
            found = stream.order_book("BTC-PERP")
            assert found is not None
            assert found.bids[0] == (5000.5, 10.0)
