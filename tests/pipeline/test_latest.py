"""The table of last values, which keeps what came and reads it when asked."""

from __future__ import annotations

import json

import pytest

from finx_sync.messages import SpotTick
from finx_sync.pipeline import latest
from finx_sync.pipeline.latest import LastTable
from finx_sync.venues.finx import FinxCodec

SPOT = {"pair": "A:B", "unixDate": 1, "UTCDate": "1970-01-01T00:00:01.000Z", "exchange": "X", "price": "2.5"}


@pytest.fixture
def table() -> LastTable:
    """Of FinX's spot ticks."""
    return LastTable(FinxCodec("ws://127.0.0.1:9").decode)


def test_a_payload_is_read_when_asked_for(table: LastTable) -> None:
    """`latest` would give something else than the handler was given."""
    table.entries["A:B"] = (json.dumps(SPOT).encode(), 12.5)
    message = table.get("A:B")
    assert isinstance(message, SpotTick)
    assert (message.price, message.received_at) == (2.5, 12.5)
    assert table.get("A:B") == message
    assert table.values() == [message]
    assert table.received_at("A:B") == 12.5


def test_a_message_without_a_payload_stays_as_it_is(table: LastTable) -> None:
    """What was backfilled or derived would be lost."""
    message = SpotTick(pair="A:B", unix_date=1, utc_date=None, exchange="X", price=1.0, received_at=3.0)
    table["A:B"] = message
    assert table.get("A:B") is message
    assert table.values() == [message]
    assert table.received_at("A:B") == 3.0


def test_an_unknown_name(table: LastTable) -> None:
    """Asking for what never came would raise."""
    assert table.get("A:B") is None
    assert table.received_at("A:B") == 0.0
    assert len(table) == 0


def test_names_without_end_do_not_fill_the_memory(table: LastTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that makes up names would; the newest ones stay."""
    monkeypatch.setattr(latest, "MAX_NAMES", 10)
    for number in range(11):
        table.entries[f"N{number}"] = (b"{}", 0.0)
    table.forget_surplus()
    assert list(table.entries) == [f"N{number}" for number in range(5, 11)]
    table.forget_surplus()
    assert len(table) == 6


def test_the_older_half_goes_and_not_what_was_seen_first(table: LastTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of made-up names would push out those that a bot has watched since the start."""
    monkeypatch.setattr(latest, "MAX_NAMES", 10)
    for number in range(11):
        table.entries[f"N{number}"] = (b"{}", float(number))
    table.entries["N0"] = (b"{}", 99.0)
    table.forget_surplus()
    assert set(table.entries) == {"N0", *(f"N{number}" for number in range(6, 11))}


def test_bytes_without_end_do_not_fill_the_memory(table: LastTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few large messages weigh as much as a million small ones; their number says nothing."""
    monkeypatch.setattr(latest, "MAX_BYTES", 1000)
    for number in range(10):
        table.entries[f"N{number}"] = (b"x" * 98, float(number))
    table.forget_heavy()
    assert len(table) == 10, "names and payloads weigh a thousand"
    table.entries["N0"] = (b"x" * 99, 99.0)
    table.forget_heavy()
    assert list(table.entries) == ["N0", *(f"N{number}" for number in range(7, 10))], "the oldest go, to the half"
    table.entries["y" * 900] = (b"x" * 200, 100.0)
    table.forget_heavy()
    assert list(table.entries) == ["y" * 900] or len(table) == 0, "long names weigh, too"


def test_a_decoded_message_weighs_as_well(table: LastTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept without a payload would be kept without a bound."""
    monkeypatch.setattr(latest, "MAX_BYTES", 100_000)
    for number in range(3):
        price = SpotTick(
            pair=f"N{number}", unix_date=1, utc_date=None, exchange="x" * 5000, price=1.0, received_at=number
        )
        table[price.pair] = price
    table.forget_heavy()
    assert list(table.entries) == ["N2"]
