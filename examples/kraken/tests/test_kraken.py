"""Kraken's venue, against its half of the sandbox over real sockets."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from finx_sync_kraken import KrakenBook, KrakenStream, KrakenTicker, KrakenTrade
from finx_sync_kraken.codec import KrakenCodec
from finx_sync_kraken.state import checksum

from finx_sync import InvalidInputError
from finx_sync.errors import ChecksumError, ConfigError, SubscriptionRefusedError
from finx_sync.sandbox import Sandbox
from finx_sync.testing import Cut
from finx_sync.venues.base import Unknown, Unreadable

ASKS = """45285.2 0.00100000 45286.4 1.54571953 45286.6 1.54571109 45289.6 1.54560911 45290.2 0.15890660
45291.8 1.54553491 45294.7 0.04454749 45296.1 0.35380000 45297.5 0.09945542 45299.5 0.18772827"""
BIDS = """45283.5 0.10000000 45283.4 1.54582015 45282.1 0.10000000 45281.0 0.10000000 45280.3 1.54592586
45279.0 0.07990000 45277.6 0.03310103 45277.5 0.30000000 45277.3 1.54602737 45276.6 0.15445238"""
PUBLISHED = 3310070434
"""A book and its checksum, in Kraken's guide."""


def side(text: str) -> list[tuple[Decimal, Decimal]]:
    """Levels of the guide's table."""
    numbers = [Decimal(word) for word in text.split()]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def test_the_published_checksum() -> None:
    """Every book would be taken for wrong, or a wrong one for right."""
    assert checksum(side(ASKS), side(BIDS)) == PUBLISHED


def test_tickers_trades_and_books_arrive(finx_sandbox: Sandbox) -> None:
    """The venue would be a codec without a stream."""
    stream = KrakenStream(url=finx_sandbox.url)
    stream.subscribe_ticker("BTC/USD")
    stream.subscribe_trades("ETH/USD")
    stream.subscribe_book("BTC/USD", "SOL/USD")
    with stream:
        assert stream.wait_for(lambda one: isinstance(one, KrakenTicker), timeout=10).last > 0
        trade = stream.wait_for(lambda one: isinstance(one, KrakenTrade), timeout=10)
        assert (trade.symbol, trade.side) == ("ETH/USD", "buy")
        assert abs(trade.venue_time - trade.received_at) < 3600
        for symbol in ("BTC/USD", "SOL/USD"):
            book = stream.wait_for(lambda one: isinstance(one, KrakenBook) and one.symbol == symbol, timeout=10)  # noqa: B023  # called at once
            assert len(book.bids) == len(book.asks) == 10
            assert book.bids[0][0] < book.asks[0][0]
            assert stream.order_book(symbol) is not None


def test_a_book_with_a_wrong_checksum_is_asked_for_again() -> None:
    """A bot would trade on a book that does not exist."""
    errors: list[Any] = []
    with Sandbox(exchange_interval=0.02) as sandbox:
        stream = KrakenStream(url=sandbox.url)
        stream.on_error(errors.append)
        stream.subscribe_book("BTC/USD")
        with stream:
            stream.take(20, timeout=10)
            sandbox.controls("kraken").wrong_checksums = 1
            stream.wait_for(lambda one: errors, timeout=10)
            assert isinstance(errors[0], ChecksumError)
            assert errors[0].market == "BTC/USD"
            stream.take(20, timeout=10)
            assert len(errors) == 1
            assert stream.order_book("BTC/USD") is not None


def test_a_server_whose_checksums_are_all_wrong_is_not_flooded() -> None:
    """Each wrong image would bring the next request, as fast as the connection is."""
    with Sandbox(exchange_interval=0.01) as sandbox:
        stream = KrakenStream(url=sandbox.url)
        errors: list[Any] = []
        stream.on_error(errors.append)
        stream.subscribe_book("BTC/USD")
        stream.subscribe_ticker("BTC/USD")
        with stream:
            stream.wait_for(lambda one: isinstance(one, KrakenBook), timeout=10)
            sandbox.controls("kraken").wrong_checksums = 10**6
            stream.wait_for(lambda one: len(errors) >= 2, timeout=10)
            for _ in range(50):
                stream.take(1, timeout=10)
            assert len(errors) <= 3
            assert stream.order_book("BTC/USD") is None


def test_trades_that_were_not_handed_on_are_new_to_the_next_run() -> None:
    """What a stop has cut off would be lost, though the server sends it again."""
    state = KrakenCodec().new_state()
    trades = [{"symbol": "A", "side": "buy", "price": 1, "qty": 1, "trade_id": number} for number in (1, 2, 3)]
    frames = [
        json.dumps({"channel": "trade", "type": kind, "data": data}).encode()
        for kind, data in (("snapshot", trades[:1]), ("update", trades), ("snapshot", trades))
    ]
    first, update, again = KrakenCodec().decode(frames)
    assert state.take(first, None, 0.0, ()).messages == []
    made = state.take(update, None, 0.0, ()).messages
    assert [trade.trade_id for _, trade in made] == [2, 3]
    state.withheld([made[1][1]])
    later = KrakenCodec().new_state(after=state)
    assert [trade.trade_id for _, trade in later.take(again, None, 0.0, ()).messages] == [3]


def test_a_book_may_be_wrong_after_a_lost_message() -> None:
    """The checksum covers ten levels; a deeper book would be called verified."""
    state = KrakenCodec(depth=25).new_state()
    frame = {"channel": "book", "type": "snapshot"}
    data = {"symbol": "A", "bids": [], "asks": [], "checksum": 0}
    (image,) = KrakenCodec(depth=25).decode([json.dumps({**frame, "data": [data]}).encode()])
    state.take(image, None, 0.0, ())
    assert state.book("A") is not None
    commands = state.missed("slow consumer", 1.0).commands
    assert [command.subscriptions[0].name for command in commands] == ["A"]
    assert state.book("A") is None


def test_trades_are_handed_on_once_over_a_lost_connection(fault_proxy: Any, finx_stream_options: Any) -> None:
    """The image after a reconnect repeats what was handled before."""
    seen: list[KrakenTrade] = []
    stream = KrakenStream(url=fault_proxy.url, **finx_stream_options)
    stream.on_trade(seen.append)
    stream.subscribe_trades("BTC/USD")
    with stream:
        stream.take(2, timeout=10)
        fault_proxy.inject(Cut())
        stream.wait_for(lambda one: stream.stats().reconnects == 1 and isinstance(one, KrakenTrade), timeout=10)
    numbers = [one.trade_id for one in seen]
    assert numbers == sorted(set(numbers))


def test_a_symbol_that_does_not_exist_is_reported(finx_sandbox: Sandbox) -> None:
    """A typo would be a silent stream."""
    errors: list[Any] = []
    stream = KrakenStream(url=finx_sandbox.url)
    stream.on_error(errors.append)
    stream.subscribe_ticker("FOO/BAR", "BTC/USD")
    with stream:
        stream.wait_for(lambda one: errors, timeout=10)
    assert isinstance(errors[0], SubscriptionRefusedError)
    assert errors[0].name == "FOO/BAR"


def test_a_replay_is_what_was_live(finx_sandbox: Sandbox, tmp_path: Any) -> None:
    """A backtest would see other books than the bot."""
    live: list[Any] = []
    stream = KrakenStream(url=finx_sandbox.url)
    for register in (stream.on_ticker, stream.on_trade, stream.on_book):
        register(live.append)
    stream.subscribe_book("BTC/USD")
    stream.subscribe_trades("BTC/USD")
    with stream.record(tmp_path / "kraken.finxrec"), stream:
        stream.take(20, timeout=10)
        stream.stop(drain=True)
    replayed: list[Any] = []
    again = KrakenStream(environment="sandbox")
    for register in (again.on_ticker, again.on_trade, again.on_book):
        register(replayed.append)
    again.replay(tmp_path / "kraken.finxrec", speed="max")
    assert replayed == live
    assert len(live) >= 20
    rows = again.convert(tmp_path / "kraken.finxrec", tmp_path / "tables", form="csv").rows
    assert rows["kraken_trade"] == sum(isinstance(one, KrakenTrade) for one in live)


def test_what_cannot_be_right_is_refused() -> None:
    """A mistake would be found after the connect, or never."""
    with pytest.raises(ConfigError, match="depth is one of"):
        KrakenStream(depth=7)
    with pytest.raises(InvalidInputError, match="'BTC/USD'"):
        KrakenStream(environment="sandbox").subscribe_ticker("BTCUSD")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"5",
        b"\xff",
        b'{"channel":"book","type":"update","data":[{"symbol":"A"}]}',
        b'{"channel":"book","type":"update","data":[{"symbol":"A","checksum":1,"bids":[{"price":"x","qty":1}]}]}',
        b'{"channel":"ticker","type":"update","data":[]}',
        b'{"channel":"ticker","type":"update","data":5}',
        b'{"channel":"nothing","type":"update"}',
    ],
)
def test_no_payload_makes_the_codec_raise(payload: bytes) -> None:
    """One odd message would end the stream."""
    (decoded,) = KrakenCodec().decode([payload])
    assert isinstance(decoded, (Unknown, Unreadable))
