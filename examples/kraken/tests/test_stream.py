"""Test the stream with Kraken's part of the sandbox, over real sockets."""

from __future__ import annotations

import pytest
from finx_sync_kraken.messages import KrakenOrderBook, KrakenTicker, KrakenTrade
from finx_sync_kraken.stream import KrakenStream

from finx_sync.errors import ChecksumError, ConfigError, InvalidInputError, SubscriptionRefusedError
from finx_sync.sandbox import Sandbox
from finx_sync.testing import Cut


@pytest.fixture
def finx_sandbox_options() -> dict[str, float]:
    return {"exchange_interval": 0.02}


def test_every_channel_arrives(finx_sandbox: Sandbox) -> None:
    """A handler would never be called."""
    stream, seen = KrakenStream(url=finx_sandbox.url), set()
    for register in (stream.on_ticker, stream.on_trade, stream.on_book):
        register(lambda message: seen.add(type(message)), "BTC/USD")
    stream.subscribe_ticker("BTC/USD")
    stream.subscribe_trades("BTC/USD")
    stream.subscribe_book("BTC/USD", "ETH/USD", depth=25)
    with stream:
        stream.wait_for(lambda message: len(seen) == 3, timeout=10)
        assert seen == {KrakenTicker, KrakenTrade, KrakenOrderBook}
        assert stream.latest("BTC/USD").bid > 0
        stream.wait_for(lambda message: stream.order_book("ETH/USD"), timeout=10)
        book = stream.order_book("BTC/USD")
        assert len(book.bids) == len(book.asks) == 25
        assert book.bids[0][0] < book.asks[0][0]
        stream.unsubscribe_book("BTC/USD")
        assert stream.order_book("BTC/USD") is None


@pytest.mark.parametrize("depth", [10, 100])
def test_books_stay_right(finx_sandbox: Sandbox, depth: int) -> None:
    """Merging would sooner or later lose a level or add a wrong one."""
    errors: list[Exception] = []
    stream = KrakenStream(url=finx_sandbox.url)
    stream.on_error(errors.append)
    stream.subscribe_book("BTC/USD", "ETH/USD", "SOL/USD", depth=depth)
    with stream:
        books = stream.take(150, timeout=10)
    assert not errors
    assert {len(side) for book in books for side in (book.bids, book.asks)} == {depth}
    assert len({book.checksum for book in books}) > 10


def test_a_wrong_checksum(finx_sandbox: Sandbox) -> None:
    """A bot would trade on a book that differs from the server's."""
    errors: list[Exception] = []
    shown: list[object] = []
    stream = KrakenStream(url=finx_sandbox.url)

    @stream.on_error
    def on_error(error: Exception) -> None:
        errors.append(error)
        shown.append(stream.order_book("BTC/USD"))

    stream.subscribe_book("BTC/USD")
    with stream:
        stream.take(2, timeout=10)
        asked = [request for _, request in finx_sandbox.requests if request["method"] == "subscribe"]
        finx_sandbox.controls("kraken").spoil("BTC/USD", 1)
        stream.wait_for(lambda book: errors and stream.order_book("BTC/USD"), timeout=10)
        methods = [request["method"] for _, request in finx_sandbox.requests if request["method"] != "ping"]
    assert isinstance(errors[0], ChecksumError)
    assert len(asked) == len(errors) == 1
    assert shown == [None]
    assert methods == ["subscribe", "unsubscribe", "subscribe"]


def test_a_pair_that_does_not_exist_is_reported(finx_sandbox: Sandbox) -> None:
    """Nothing would show that a pair is misspelt."""
    errors: list[Exception] = []
    stream = KrakenStream(url=finx_sandbox.url)
    stream.on_error(errors.append)
    stream.subscribe_book("FOO/BAR")
    stream.subscribe_ticker("BTC/USD")
    with stream:
        stream.wait_for(lambda ticker: errors, timeout=10)
    (error,) = errors
    assert isinstance(error, SubscriptionRefusedError)
    assert "book" in str(error)
    assert "FOO/BAR" in str(error)


def test_trades_go_on_after_a_lost_connection_without_a_hole_or_a_repetition(fault_proxy, finx_stream_options) -> None:
    """A bot would count trades twice, or miss trades of the outage that Kraken still sends."""
    stream = KrakenStream(url=fault_proxy.url, **finx_stream_options)
    numbers: list[int] = []
    stream.on_trade(lambda trade: numbers.append(trade.trade_id))
    stream.subscribe_trades("BTC/USD")
    with stream:
        stream.take(51, timeout=10)
        fault_proxy.inject(Cut())
        stream.wait_for(lambda trade: stream.stats().reconnects == 1, timeout=10)
        stream.take(1, timeout=10)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_a_recording_gives_the_same_again(finx_sandbox: Sandbox, tmp_path) -> None:
    """Recorded books and trades could not be examined later."""
    path = tmp_path / "kraken.finxrec"

    def collecting(stream: KrakenStream) -> list[object]:
        seen: list[object] = []
        for register in (stream.on_ticker, stream.on_trade, stream.on_book):
            register(seen.append)
        return seen

    live = KrakenStream(url=finx_sandbox.url)
    seen = collecting(live)
    live.subscribe_ticker("BTC/USD")
    live.subscribe_trades("BTC/USD")
    live.subscribe_book("BTC/USD", depth=25)
    with live.record(path), live:
        live.take(200, timeout=10)
    again = KrakenStream(environment="sandbox")
    replayed = collecting(again)
    again.replay(path, speed="max")
    assert {type(message) for message in seen} == {KrakenTicker, KrakenTrade, KrakenOrderBook}
    assert replayed == seen
    again.convert(path, tmp_path / "tables", form="csv")
    tables = {table.name.partition(".")[0]: table.read_text().splitlines() for table in (tmp_path / "tables").iterdir()}
    assert {"kraken_ticker", "kraken_trade", "kraken_book"} <= tables.keys(), tables.keys()
    assert len(tables["kraken_trade"]) == 1 + sum(isinstance(message, KrakenTrade) for message in seen)
    assert len(tables["kraken_book"]) > 50


def test_what_cannot_be_is_refused_at_once() -> None:
    """A mistake would show only when the server answers, or never."""
    stream = KrakenStream(environment="sandbox")
    stream.subscribe_book("BTC/USD", depth=25)
    for mistake in (
        lambda: stream.subscribe_book("BTC/USD"),
        lambda: stream.subscribe_book("ETH/USD", depth=11),
        lambda: stream.subscribe_ticker("BTCUSD"),
        stream.subscribe_trades,
        lambda: stream.on_trade(print, "XBT"),
    ):
        with pytest.raises(InvalidInputError):
            mistake()
    with pytest.raises(ConfigError):
        KrakenStream(environment="prod")
