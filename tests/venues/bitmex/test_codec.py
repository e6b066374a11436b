"""BitMEX's codec: signatures, addresses, frames, and a capture of the real service."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from finx_sync.errors import UnreadableMessageError
from finx_sync.venues.base import (
    Authentication,
    Confirmed,
    Ignored,
    KeepAliveReply,
    Postponed,
    Reconnect,
    Refused,
    ServerError,
    Several,
    Subscription,
    Unknown,
    Unreadable,
)
from finx_sync.venues.bitmex import BitmexCodec, BitmexCredentials, Storage, TableUpdate
from finx_sync.venues.bitmex.codec import ENVIRONMENTS, sign
from finx_sync.venues.bitmex.topics import parse_topic
from tests.material import material

CODEC = BitmexCodec("wss://host")
KEY = BitmexCredentials("sandbox-key", "sandbox-secret")
TRADE = Subscription("topic", "trade:XBTUSD")
QUOTE = {"timestamp": "2021-07-22T22:36:09.757Z", "symbol": "XBTUSD", "bidSize": 1046200, "bidPrice": 32180}


def decode(*values: Any) -> list[Any]:
    """Payloads through the codec."""
    texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return CODEC.decode([text.encode() for text in texts])


def error(said: str, status: int | None, request: dict[str, Any] | None = None) -> dict[str, Any]:
    """An error frame as BitMEX sends them."""
    return {"status": status, "error": said, "meta": {}, "request": request or {}}


SUBSCRIBE = {"op": "subscribe", "args": ["trade:XBTUSD"]}


def test_signatures_are_those_of_openssl() -> None:
    """BitMEX would refuse the key."""
    vectors = json.loads(material("vectors/signatures.json").read_text())["bitmex"]
    for message, signature in vectors.items():
        if (parts := re.fullmatch(r"(GET)(/[a-z0-9/]*?[a-z])(\d+)", message)) is not None:
            assert sign(vectors["secret"], parts[1], parts[2], int(parts[3])) == signature
            continue
        assert message in ("key", "secret")


def test_headers_are_signed_for_the_moment_of_the_connect() -> None:
    """A reconnect would send a signature that has expired; and the secret must never travel."""
    first, second = CODEC.headers(KEY, "", 1e9), CODEC.headers(KEY, "platform", 2e9)
    assert int(first["api-expires"]) > 1e9
    assert int(second["api-expires"]) > 2e9
    assert first["api-signature"] != second["api-signature"]
    assert second["api-signature"] == sign("sandbox-secret", "GET", "/realtime", int(second["api-expires"]))
    assert second["api-key"] == "sandbox-key"
    assert "secret" not in json.dumps(first)
    assert CODEC.headers(None, "", 1e9) == {}
    assert "sandbox" not in repr(KEY)


@pytest.mark.parametrize(
    ("given", "main", "platform"),
    [
        ("wss://host", "wss://host/realtime", "wss://host/realtimePlatform"),
        ("wss://host:1/realtime?subscribe=x", "wss://host:1/realtime", "wss://host:1/realtimePlatform"),
        ("ws://host/proxy/realtime/", "ws://host/proxy/realtime", "ws://host/proxy/realtimePlatform"),
        (ENVIRONMENTS["production"], "wss://ws.bitmex.com/realtime", "wss://www.bitmex.com/realtimePlatform"),
        (ENVIRONMENTS["test"], "wss://ws.testnet.bitmex.com/realtime", "wss://testnet.bitmex.com/realtimePlatform"),
    ],
)
def test_addresses(given: str, main: str, platform: str) -> None:
    """It would connect to a path that does not exist."""
    codec = BitmexCodec(given)
    assert codec.url(None, codec.endpoint_of(parse_topic("trade:XBTUSD"))) == main
    assert codec.url(None, codec.endpoint_of(parse_topic("chat"))) == platform


def test_commands_are_bitmex_own() -> None:
    """The server would not understand."""
    assert json.loads(CODEC.subscribe(None, TRADE) or "") == SUBSCRIBE
    assert json.loads(CODEC.unsubscribe(None, TRADE) or "") == {"op": "unsubscribe", "args": ["trade:XBTUSD"]}
    assert (CODEC.opening(KEY, 1.0), CODEC.periodic(KEY)) == ([], [])
    switched = BitmexCodec("wss://host", switch_after=60_000)
    (periodic,) = switched.periodic(KEY)
    assert periodic.interval == 15
    assert json.loads(periodic.text) == {"op": "cancelAllAfter", "args": 60_000}
    assert switched.opening(KEY, 1.0) == [periodic.text]


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ("pong", KeepAliveReply()),
        ({"info": "Welcome to the BitMEX Realtime API.", "version": "2.0.0", "heartbeatEnabled": False}, Ignored()),
        ({"success": True, "subscribe": "trade:XBTUSD", "request": SUBSCRIBE}, Confirmed(TRADE)),
        ({"success": True, "subscribe": "trade:XBTUSD"}, Confirmed(TRADE)),
        ({"success": True, "unsubscribe": "trade:XBTUSD", "request": {}}, Ignored()),
        ({"success": True, "request": {"op": "authKeyExpires", "args": ["k", 1, "s"]}}, Ignored()),
        ({"now": "2015-09-02T14:18:43.536Z", "cancelTime": 0, "request": {}}, Authentication(accepted=True)),
        (error("Unknown or expired symbol.", 400, SUBSCRIBE), Refused(TRADE, "400: Unknown or expired symbol.")),
        (
            error("Unknown table: wibble", 400, {"op": "subscribe", "args": "wibble"}),
            Refused(Subscription("topic", "wibble"), "400: Unknown table: wibble"),
        ),
        (error("You are already subscribed to this topic:trade. Please see ...", 400, SUBSCRIBE), Confirmed(TRADE)),
        (error("Signature not valid.", 401), Authentication(False, "Signature not valid.")),
        (error("Invalid API Key.", 401), Authentication(False, "Invalid API Key.")),
        (
            {**error("Rate limit exceeded, retry in 1 seconds.", 429, SUBSCRIBE), "meta": {"retryAfter": 1}},
            Postponed(TRADE, 1.0, "Rate limit exceeded, retry in 1 seconds."),
        ),
        (
            error("Max Pending subscription limit reached, please try again later.", 503, SUBSCRIBE),
            Postponed(TRADE, 5.0, "Max Pending subscription limit reached, please try again later."),
        ),
        (
            error("Rate limit exceeded, retry in 1 seconds.", 429, {"op": "cancelAllAfter", "args": 60_000}),
            Several((Authentication(accepted=True), ServerError("429: Rate limit exceeded, retry in 1 seconds."))),
        ),
        (error("Access token expired", 419), Reconnect("Access token expired")),
        (error("Nonsense", 400, {"op": "wibble"}), ServerError("400: Nonsense")),
        ({"error": "Not a table."}, ServerError("Not a table.")),
        ({"anything": 1}, Unknown()),
        ([1], Unknown()),
    ],
)
def test_frames_that_are_no_table(frame: Any, expected: Any) -> None:
    """A refusal would pass unseen, or a reply be taken for an error."""
    assert decode(frame) == [expected]


@pytest.mark.parametrize(
    "text", ["{", "", '{"table":"quote","action":"upsert","data":[]}', '{"table":"quote"}', "pongs"]
)
def test_payloads_that_cannot_be_read_are_told(text: str) -> None:
    """A broken message would stop the stream or vanish."""
    (message,) = decode(text)
    assert isinstance(message, Unreadable)
    assert isinstance(message.error, UnreadableMessageError)


def test_a_mixed_batch_keeps_its_order() -> None:
    """A reply between two updates would shift what follows it."""
    update = {"table": "quote", "action": "insert", "data": [QUOTE]}
    partial = {**update, "action": "partial", "keys": [], "filter": {"symbol": "XBTUSD"}, "types": {}, "news": 1}
    messages = decode(update, "pong", partial, {"x": 1}, update)
    assert [type(message) for message in messages] == [TableUpdate, KeepAliveReply, TableUpdate, Unknown, TableUpdate]
    assert messages[0].data == [QUOTE]
    assert (messages[0].name, messages[0].key_fields) == ("quote:XBTUSD", None)
    assert (messages[2].key_fields, messages[2].filter) == ([], {"symbol": "XBTUSD"})
    assert (messages[0]["table"], messages[2]["keys"]) == ("quote", [])


def test_every_documented_table_is_read_as_it_is() -> None:
    """A table of the documentation would lose fields."""
    for table, facts in json.loads(material("vectors/bitmex_tables.json").read_text()).items():
        rows = [facts["example"]] if facts["example"] else []
        partial = {name: value for name, value in facts.items() if name not in ("example", "source") and value}
        (message,) = decode({"table": table, "action": "partial", "keys": [], **partial, "data": rows})
        assert message.data == rows
        storage = Storage()
        assert storage.apply(message, 0.0) == rows
        assert storage.keys == {table: facts["keys"] or []}
        if rows:
            assert storage.find_item_by_keys(table, rows[0]) == rows[0]
            assert storage.data[table] == rows


def test_a_capture_of_the_real_service_is_merged_line_by_line() -> None:
    """A frame that BitMEX really sends would not be read, or would leave a book wrong."""
    lines = re.findall(r"^(\d+\.\d+): (.*)$", material("captures/bitmex-2021-07-22.txt").read_text(), re.M)
    assert len(lines) == 2120
    storage = Storage()
    kinds: dict[type, int] = {}
    messages = decode(*(text for _, text in lines))
    for (at, _), message, following in zip(lines, messages, [*messages[1:], None], strict=True):
        kinds[type(message)] = kinds.get(type(message), 0) + 1
        if not isinstance(message, TableUpdate):
            continue
        rows = storage.apply(message, float(at))
        assert len(rows) == len(message.data)
        if message.table == "orderBookL2":
            assert all({"symbol", "id", "side", "size", "price"} == row.keys() for row in rows)
            symbol = message.data[0]["symbol"]
            if not (isinstance(following, TableUpdate) and following.data[0]["symbol"] == symbol):  # at rest
                book = storage.order_book(symbol)
                assert book.bids[0].price < book.asks[0].price
    assert kinds == {TableUpdate: 2089, Confirmed: 30, Ignored: 1}
    assert storage.lost == set()
    assert len(storage.keys) == 3
    assert len({row["symbol"] for row in storage.data["orderBookL2"]}) == 10
