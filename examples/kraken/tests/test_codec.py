"""Decode the frames of Kraken's documentation."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from finx_sync_kraken.codec import KrakenCodec
from finx_sync_kraken.messages import BookGranted, BookUpdate, KrakenTicker, Trades

from finx_sync.messages import Message
from finx_sync.venues.base import (
    Confirmed,
    Ignored,
    KeepAliveReply,
    Refused,
    ServerError,
    Subscription,
    Unknown,
    Unreadable,
)

TIMES = '"time_in":"2023-09-25T09:04:31.742599Z","time_out":"2023-09-25T09:04:31.742648Z"'


def decode(text: str):
    (decoded,) = KrakenCodec().decode([text.encode()])
    return decoded


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"channel":"heartbeat"}', Ignored()),
        (
            '{"channel":"status","type":"update","data":[{"api_version":"v2","connection_id":1,"system":"online",'
            '"version":"2.0.0"}]}',
            Ignored(),
        ),
        (
            '{"channel":"status","type":"update","data":[{"system":"maintenance"}]}',
            ServerError("the exchange's state is maintenance"),
        ),
        (f'{{"method":"pong","req_id":5,{TIMES}}}', KeepAliveReply()),
        (
            '{"method":"subscribe","result":{"channel":"ticker","snapshot":true,"symbol":"BTC/USD"},"success":true,'
            f'{TIMES},"req_id":1}}',
            Confirmed(Subscription("ticker", "BTC/USD")),
        ),
        (
            '{"method":"subscribe","result":{"channel":"book","depth":25,"snapshot":true,"symbol":"BTC/USD"},'
            f'"success":true,{TIMES},"req_id":3}}',
            BookGranted(Subscription("book", "BTC/USD"), 25),
        ),
        (
            '{"error":"Currency pair not supported FOO/BAR","method":"subscribe","req_id":1,"success":false,'
            f'"symbol":"FOO/BAR",{TIMES}}}',
            Refused(Subscription("ticker", "FOO/BAR"), "Currency pair not supported FOO/BAR"),
        ),
        ('{"error":"Exceeded msg rate","success":false}', ServerError("Exceeded msg rate")),
        (
            f'{{"method":"unsubscribe","result":{{"channel":"ticker","symbol":"BTC/USD"}},"success":true,{TIMES}}}',
            Ignored(),
        ),
        ('{"channel":"ohlc","type":"update","data":[]}', Unknown()),
    ],
)
def test_what_the_server_says_of_the_protocol(text: str, expected: object) -> None:
    """A subscription would wait for its answer, or the wrong channel would be refused."""
    assert decode(text) == expected


def test_a_ticker() -> None:
    """A price would be in the wrong field."""
    ticker = decode(
        '{"channel":"ticker","type":"snapshot","data":[{"symbol":"ALGO/USD","bid":0.10025,"bid_qty":740.0,'
        '"ask":0.10036,"ask_qty":1361.44813783,"last":0.10035,"volume":997038.98383185,"vwap":0.10148,"low":0.09979,'
        '"high":0.10285,"change":-0.00017,"change_pct":-0.17}]}'
    )
    assert isinstance(ticker, KrakenTicker)
    assert (ticker.symbol, ticker.bid, ticker.ask, ticker["change_pct"]) == ("ALGO/USD", 0.10025, 0.10036, -0.17)


def test_a_trade() -> None:
    """A trade's time would be lost, which `on_drift` and `guard` need."""
    frame = decode(
        '{"channel":"trade","type":"update","data":[{"symbol":"MATIC/USD","side":"sell","price":0.5117,"qty":40.0,'
        '"ord_type":"market","trade_id":4665906,"timestamp":"2023-09-25T07:49:37.708706Z"}]}'
    )
    assert isinstance(frame, Trades)
    (trade,) = frame.trades
    assert (trade.side, trade.trade_id, trade.venue_time) == ("sell", 4665906, 1695628177.708706)


def test_a_book_keeps_its_digits() -> None:
    """Every checksum of a number with a trailing zero would be wrong."""
    book = decode(
        '{"channel":"book","type":"snapshot","data":[{"symbol":"MATIC/USD","bids":[{"price":0.5660,"qty":0.10000000}],'
        '"asks":[],"checksum":2439117997}]}'
    )
    assert isinstance(book, BookUpdate)
    assert book.is_snapshot
    assert [str(number) for number in book.bids[0]] == ["0.5660", "0.10000000"]
    assert book.bids == [(Decimal("0.566"), Decimal("0.1"))]


@pytest.mark.parametrize(
    "number", ["1e999999", "1e-999999", "-1", '"NaN"', '"Infinity"', "null", "1e999999999999999999999", "[]"]
)
def test_no_number_of_a_book_fills_the_memory(number: str) -> None:
    """A level of 1e999999 would be written out with a million digits for each checksum."""
    level = f'{{"price":{number},"qty":1}}'
    frame = (
        f'{{"channel":"book","type":"snapshot","data":[{{"symbol":"A/B","bids":[{level}],"asks":[],"checksum":1}}]}}'
    )
    assert isinstance(decode(frame), Unreadable)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "5", "{}", '"a"', "[" * 100_000, '{"channel":5}', '{"method":"subscribe","success":true}',
        '{"channel":"ticker"}', '{"channel":"ticker","data":[]}', '{"channel":"ticker","data":[{"symbol":5}]}',
        '{"channel":"ticker","data":[{"symbol":"A/B","@received_at":5}]}', '{"channel":"trade","data":[{}]}',
        '{"channel":"book","data":[{"symbol":"A/B"}]}', '{"channel":"status","data":5}',
        '{"method":"subscribe","success":true,"result":{"channel":[]}}', '{"channel":"status"}',
    ],
)  # fmt: skip
def test_no_payload_makes_the_codec_raise(text: str) -> None:
    """One damaged frame would end the stream."""
    assert isinstance(decode(text), (Unknown, Unreadable))
    assert not isinstance(decode(text), Message)


def test_pairs_of_a_channel_are_asked_for_together() -> None:
    """A hundred pairs would need a hundred requests after each reconnect, more than Kraken allows."""
    codec = KrakenCodec("wss://ws.kraken.com")
    codec.depths["B/USD"] = 25
    wanted = [Subscription("ticker", "A/USD"), Subscription("book", "A/USD"), Subscription("book", "B/USD")]
    requests = codec.subscribe_all(None, [*wanted, Subscription("ticker", "B/USD")], 0)
    assert [json.loads(request.text) for request in requests] == [
        {"method": "subscribe", "params": {"channel": "ticker", "symbol": ["A/USD", "B/USD"]}, "req_id": 1},
        {"method": "subscribe", "params": {"channel": "book", "symbol": ["A/USD"], "depth": 10}, "req_id": 3},
        {"method": "subscribe", "params": {"channel": "book", "symbol": ["B/USD"], "depth": 25}, "req_id": 3},
    ]
    many = codec.subscribe_all(None, [Subscription("trade", f"{number}/USD") for number in range(250)], 0)
    assert [len(request.subscriptions) for request in many] == [100, 100, 50]
    assert codec.url(None, "") == "wss://ws.kraken.com/v2"
