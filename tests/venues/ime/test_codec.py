"""IME's protocol, without a socket."""

from __future__ import annotations

import copy
import datetime as dt
import json
import re
from typing import Any

import pytest

from finx_sync.errors import ConfigError, UnreadableMessageError
from finx_sync.redaction import redact
from finx_sync.venues.base import ServerError, Subscription, Unknown, Unreadable
from finx_sync.venues.ime import (
    Aggregate,
    AllowedRange,
    Bearer,
    ContractInfo,
    Cookie,
    Credentials,
    Header,
    ImeCodec,
    ImeContract,
    Limit,
    QueryToken,
)
from tests.material import material

NOTHING: dict[str, Any] = {
    "BestLimit": {
        level: {"buy_quantity": 0, "buy_price": 0, "sell_quantity": 0, "sell_price": 0} for level in ("1", "2", "3")
    },
    "Aggregate": {
        "date": "",
        "time": "",
        "trade_count": 0,
        "total_volume": 0,
        "total_value": 0,
        "closing_price": 0,
        "last_price": 0,
        "low_price": 0,
        "high_price": 0,
        "open_price": 0,
        "previous_close": 0,
    },
    "AllowedPriceRange": {"minAllowedPrice": 1, "maxAllowedPrice": 9999999999},
    "ContractInfo": {"open_interest": 0, "open_interest_changes": 0},
}
"""The example of the documentation."""


def frame(data: Any = NOTHING, **fields: Any) -> str:
    """A message by name."""
    envelope = {"channel": "IME Stream", "contractName": "ContractA", "timestamp": "2026-05-23T15:10:00.000000"}
    return json.dumps({**envelope, **fields, "data": data})


def decode(*texts: str) -> list[Any]:
    """What texts mean."""
    return ImeCodec("wss://host").decode([text.encode() for text in texts])


def changed(**sections: dict[str, Any]) -> dict[str, Any]:
    """The example with some values."""
    data = copy.deepcopy(NOTHING)
    for name, values in sections.items():
        for field, value in values.items():
            if isinstance(value, dict):
                data[name][field].update(value)
            else:
                data[name][field] = value
    return data


def test_the_documented_example_says_nothing() -> None:
    """A bot would trade on a price of zero, or be allowed 9999999999."""
    (message,) = decode(frame())
    assert type(message) is ImeContract
    assert (message.name, message.contract_name, message.contract_id) == ("ContractA", "ContractA", None)
    assert message.limits == (Limit(), Limit(), Limit())
    assert message.aggregate == Aggregate()
    assert message.allowed == AllowedRange()
    assert message.info == ContractInfo()
    assert message.datetime == dt.datetime(2026, 5, 23, 15, 10)
    assert message["data"] == NOTHING
    assert message.keys() == ["channel", "contractName", "timestamp", "data"]


def test_what_is_said_is_typed_and_what_is_not_is_none() -> None:
    """A quantity would be lost, or nothing be taken for zero."""
    (message,) = decode(
        frame(
            changed(
                BestLimit={"1": {"buy_quantity": 5, "buy_price": 100}, "2": {"sell_quantity": 0, "sell_price": 120.5}},
                Aggregate={"date": "1405/03/02", "trade_count": 0, "last_price": 110, "open_price": "109"},
                AllowedPriceRange={"minAllowedPrice": 90, "maxAllowedPrice": 130},
                ContractInfo={"open_interest": 7},
            )
        )
    )
    assert message.best == Limit(buy_quantity=5, buy_price=100)
    assert message.limits[1] == Limit(sell_quantity=0, sell_price=120.5)
    assert message.limits[2] == Limit()
    assert (message.aggregate.date, message.aggregate.time) == ("1405/03/02", None)
    assert (message.aggregate.trade_count, message.aggregate.total_volume) == (0, 0)
    assert (message.aggregate.last_price, message.aggregate.open_price, message.aggregate.low_price) == (110, 109, None)
    assert message.aggregate.previous_close is None
    assert message.allowed == AllowedRange(90, 130)
    assert message.info == ContractInfo(7, 0)
    assert message["data"]["Aggregate"]["last_price"] == 110


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"minAllowedPrice": 1, "maxAllowedPrice": 200}, AllowedRange(1, 200)),
        ({"minAllowedPrice": 50, "maxAllowedPrice": 9999999999}, AllowedRange(50, None)),
        ({"minAllowedPrice": 0, "maxAllowedPrice": 0}, AllowedRange()),
    ],
)
def test_bounds_of_the_allowed_range(bounds: dict[str, Any], expected: AllowedRange) -> None:
    """A bound would be lost, or a placeholder be taken for one."""
    assert decode(frame({**NOTHING, "AllowedPriceRange": bounds}))[0].allowed == expected


def test_messages_by_id() -> None:
    """A contract asked for by its id would have no name."""
    by_id = {"channel": "IME Stream", "ContractId": "12345", "timestamp": "2026-05-23T15:10:00.000000", "data": NOTHING}
    (message, number) = decode(json.dumps(by_id), json.dumps({**by_id, "ContractId": 12345}))
    assert (message.name, message.contract_name, message.contract_id) == ("12345", None, "12345")
    assert "contractName" not in message
    assert number.name == "12345"


def test_sections_that_are_not_there_say_nothing() -> None:
    """A server that leaves out what it does not know would be unreadable."""
    (message,) = decode(frame({"News": 1, "Aggregate": None}))
    assert (message.limits, message.aggregate) == ((Limit(), Limit(), Limit()), Aggregate())
    assert message["data"] == {"News": 1, "Aggregate": None}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        frame([]),
        frame({"BestLimit": 1}),
        frame(changed(Aggregate={"last_price": "dear"})),
        frame(contractName=""),
        frame(contractName=5),
    ],
)
def test_what_cannot_be_read_is_told(text: str) -> None:
    """A broken message would stop the stream, or vanish."""
    (message,) = decode(text)
    assert isinstance(message, Unreadable)
    assert isinstance(message.error, UnreadableMessageError)


def test_other_frames() -> None:
    """A server's complaint would pass unseen."""
    assert decode('{"detail":"Not authenticated"}', '{"error":"x"}', "{}", "[]") == [
        ServerError("Not authenticated"),
        ServerError("x"),
        Unknown(),
        Unknown(),
    ]


def test_urls_are_the_documented_ones() -> None:
    """The server would not find the endpoint, or the contracts."""
    codec = ImeCodec("wss://host")
    codec.ids = {"12345", "67890"}
    subscriptions = [Subscription("contract", name) for name in ("ContractA", "ContractB", "12345", "67890")]
    assert [codec.endpoint_of(subscription) for subscription in subscriptions] == ["name", "name", "id", "id"]
    for line, wanted in (("name", subscriptions[:2]), ("id", subscriptions[2:])):
        found = re.search(rf"wss://YOUR_DOMAIN(/\S+/{line}\?\S+)", material("seeds/ime-live-data.md").read_text())
        assert found is not None
        assert codec.url_for(None, line, wanted) == f"wss://host{found[1]}"
    assert not codec.has_main_endpoint
    assert codec.url_for(None, "name", [Subscription("contract", "زعفران &1")]) == (
        "wss://host/live/data/websocket/contract/name?contract_names=%D8%B2%D8%B9%D9%81%D8%B1%D8%A7%D9%86%20%261"
    )


@pytest.mark.parametrize(
    ("auth", "headers", "query"),
    [
        (None, {}, ""),
        ("sandbox-key", {"Authorization": "Bearer sandbox-key"}, ""),
        (Bearer("sandbox-key"), {"Authorization": "Bearer sandbox-key"}, ""),
        (Header("sandbox-key"), {"X-API-Key": "sandbox-key"}, ""),
        (Cookie("sandbox-key"), {"Cookie": "session=sandbox-key"}, ""),
        (Cookie("a;b", "token"), {"Cookie": "token=a%3Bb"}, ""),
        (QueryToken("sandbox-key"), {}, "&token=sandbox-key"),
        (QueryToken("a&b", "access_token"), {}, "&access_token=a%26b"),
    ],
)
def test_credentials_travel_as_wanted_and_are_never_shown(
    auth: str | Credentials | None, headers: dict[str, str], query: str
) -> None:
    """A server would refuse the right secret, or a log would show it."""
    codec = ImeCodec("wss://host")
    url = codec.url_for(auth, "name", [Subscription("contract", "A")])
    assert codec.headers(auth, "name", 0.0) == headers
    assert url == f"wss://host/live/data/websocket/contract/name?contract_names=A{query}"
    assert "sandbox-key" not in redact(url) + repr(auth) * isinstance(auth, Credentials)
    assert "sandbox-key" not in redact("\r\n".join(f"{name}: {value}" for name, value in headers.items()))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Bearer(""),
        lambda: Bearer("a\r\nHost: x"),
        lambda: Header("ключ"),
        lambda: QueryToken("x", "contract_names"),
        lambda: ImeCodec("wss://host").headers(5, "name", 0.0),
    ],
)
def test_credentials_that_cannot_be_right(make: Any) -> None:
    """A header would be split in two, or a secret be logged."""
    with pytest.raises(ConfigError):
        make()


def test_only_the_url_asks() -> None:
    """The service would be sent messages that it does not know."""
    codec, subscription = ImeCodec("wss://host"), Subscription("contract", "A")
    assert codec.url(None, "name") == codec.url_for(None, "name", [])
    assert codec.subscribe(None, subscription) is None
    assert codec.unsubscribe(None, subscription) is None
    assert list(codec.opening(None, 0.0)) == []
