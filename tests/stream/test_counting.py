"""The counters of venues whose messages are taken apart or merged: only the user's handlers count."""

from __future__ import annotations

from typing import Any

import pytest

from finx_sync.sandbox import Sandbox
from finx_sync.stream import Stream
from finx_sync.venues.bitmex import BitmexStream, TableItem
from finx_sync.venues.ftx import FtxStream, FtxTrade
from tests.waiting import books_balance, wait_until

KEYS = {"api_key": "sandbox-key", "api_secret": "sandbox-secret"}


def ftx(url: str) -> FtxStream:
    """A stream of every kind of frame."""
    stream = FtxStream(url=url, **KEYS)
    stream.subscribe_ticker("BTC-PERP")
    stream.subscribe_trades("BTC-PERP")
    stream.subscribe_orderbook("BTC-PERP")
    stream.subscribe_orderbook_grouped("BTC-PERP", 50)
    stream.subscribe_fills()
    stream.subscribe_orders()
    return stream


def bitmex(url: str) -> BitmexStream:
    """A stream of several tables."""
    return BitmexStream("XBTUSD", url=url, channels=["quote", "trade", "orderBookL2"], **KEYS)


@pytest.mark.parametrize("make", [ftx, bitmex])
def test_a_stream_without_handlers_has_none_and_handles_nothing(make: Any) -> None:
    """`stats()` would list functions that nobody registered, and a forgotten handler would look like a busy one."""
    with Sandbox(exchange_interval=0.01) as sandbox:
        stream: Stream = make(sandbox.url)
        assert stream.stats().handlers == ()
        with stream:
            assert wait_until(lambda: stream.stats().messages.unclaimed > 200)
            assert stream.stats().handlers == ()
        counters = stream.stats().messages
        assert (counters.handled, counters.unreadable, counters.unknown) == (0, 0, 0)
        assert books_balance(stream)


def test_a_frame_of_ftx_counts_once_and_for_whom_it_is() -> None:
    """A frame of five trades would count as five, or one of another channel as handled."""
    with Sandbox(exchange_interval=0.01) as sandbox:
        stream = ftx(sandbox.url)
        trades: list[FtxTrade] = []
        frames: list[str] = []
        stream.on_trade(trades.append)
        with stream:
            assert wait_until(lambda: len(trades) > 50)
            stream.off(trades.append)
            stream.stop(drain=True)
        counters = stream.stats().messages
        assert 0 < counters.handled <= len(trades)
        assert counters.unclaimed > counters.handled
        assert books_balance(stream)
        stream = ftx(sandbox.url)
        stream.on_trade(trades.append)
        stream.on_message(frames.append)  # who hears every text handles every message
        with stream:
            assert wait_until(lambda: len(frames) > 100)
            stream.stop(drain=True)
        counters = stream.stats().messages
        assert (counters.unclaimed, counters.duplicate) == (0, 0)
        assert counters.handled + counters.control == len(frames)
        assert [one.name for one in stream.stats().handlers].count("list.append") == 2


def test_a_message_of_bitmex_counts_where_its_table_has_a_handler() -> None:
    """Tables that nobody listens to would count as handled."""
    with Sandbox(exchange_interval=0.01) as sandbox:
        stream = bitmex(sandbox.url)
        rows: list[TableItem] = []
        stream.on_table(rows.append, "quote")
        with stream:
            assert wait_until(lambda: len(rows) > 50)
            stream.stop(drain=True)
        counters = stream.stats().messages
        assert {row.table for row in rows} == {"quote"}
        assert 0 < counters.handled <= len(rows)
        assert counters.unclaimed > 0
        assert [one.calls for one in stream.stats().handlers] == [len(rows)]
        assert books_balance(stream)
