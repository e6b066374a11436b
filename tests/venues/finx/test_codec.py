"""FinX's codec: payloads to messages, by shape."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finx_sync.errors import UnreadableMessageError
from finx_sync.messages import ContractTick, Message, SpotTick, Tick
from finx_sync.venues.base import Authentication, KeepAliveReply, ServerError, Subscription, Unknown, Unreadable
from finx_sync.venues.finx import FinxCodec, HistoryReply, NameList, Raw, parse_reply
from tests.scripted import CONTRACT, GREEKS, SPOT, TICK

CODEC = FinxCodec("wss://host")
COMPACT = (",", ":")


def decode(value: Any, **dumps: Any) -> Any:
    """One payload through the codec."""
    text = value if isinstance(value, str) else json.dumps(value, **dumps)
    (message,) = CODEC.decode([text.encode()])
    return message


def test_documented_contract_becomes_typed() -> None:
    """A user would read wrong prices or greeks."""
    tick = decode(CONTRACT, separators=COMPACT)
    assert isinstance(tick, ContractTick)
    assert (tick.instrument_name, tick.mark_price, tick.delta, tick.gamma) == (
        "BTC-26AUG22-20000-C",
        0.1553,
        0.83341,
        6e-05,
    )
    assert tick.timestamp == 1659760300724
    assert tick.datetime is not None
    assert tick.datetime.isoformat() == "2022-08-06T04:31:40.724000+00:00"
    assert tick.keys() == list(CONTRACT)
    assert {name: str(value) for name, value in tick.items() if isinstance(value, str)} == {
        name: CONTRACT[name] for name in ("redis_key", "underlying_index", "state", "instrument_name")
    }


@pytest.mark.parametrize("dumps", [{}, {"separators": COMPACT}, {"indent": 2}, {"sort_keys": True}])
def test_layout_of_json_does_not_matter(dumps: dict[str, Any]) -> None:
    """A server that writes spaces or another key order would lose its messages to `unclaimed`."""
    assert decode(CONTRACT, **dumps) == decode(CONTRACT, separators=COMPACT)
    assert decode(SPOT, **dumps) == decode(SPOT, separators=COMPACT)


def test_future_lacks_greeks() -> None:
    """A future's missing greeks would be zeros, or kill the message."""
    tick = decode({name: value for name, value in CONTRACT.items() if name not in GREEKS}, separators=COMPACT)
    assert isinstance(tick, ContractTick)
    assert tick.delta is None
    assert "delta" not in tick
    assert tick.get("delta", 7) == 7
    with pytest.raises(KeyError):
        tick["delta"]
    assert not set(GREEKS) & set(tick.to_dict())
    assert tick["mark_price"] == 0.1553


def test_empty_field_is_none_and_present() -> None:
    """An option that did not trade would become unreadable, or look as if the field was not sent."""
    tick = decode({**CONTRACT, "last_price": "", "state": "", "low": None}, separators=COMPACT)
    assert isinstance(tick, ContractTick)
    assert (tick.last_price, tick.state, tick.low) == (None, None, None)
    assert "last_price" in tick
    assert tick["last_price"] is None


def test_numbers_may_be_numbers() -> None:
    """A server that stops quoting its numbers would break every bot."""
    tick = decode({**CONTRACT, "mark_price": 0.5, "timestamp": 1}, separators=COMPACT)
    assert (tick.mark_price, tick.timestamp) == (0.5, 1)


@pytest.mark.parametrize("bad", ["nan", "inf", "-inf", "Infinity", "1e999", "abc", " 5", "0x10", True, [1], {}])
def test_impossible_number_is_unreadable(bad: object) -> None:
    """A bot would compute with NaN, or a single bad field would stop the stream."""
    message = decode({**CONTRACT, "mark_price": bad}, separators=COMPACT)
    assert isinstance(message, Unreadable)
    assert "mark_price" in str(message.error)


@pytest.mark.parametrize("field", ["redis_key", "instrument_name"])
def test_either_name_identifies_a_contract(field: str) -> None:
    """A message that lacks one of its two equal names would be lost."""
    tick = decode({name: value for name, value in CONTRACT.items() if name != field})
    assert isinstance(tick, ContractTick)
    assert tick.name == "BTC-26AUG22-20000-C"
    assert field not in tick


def test_unknown_fields_are_ignored() -> None:
    """A field that FinX adds tomorrow would break today's client."""
    assert decode({**CONTRACT, "seq": 5, "new": {"deep": [1]}}, separators=COMPACT) == decode(CONTRACT)


def test_both_spot_shapes() -> None:
    """Spot rates of the newer or the older servers would not reach on_spot."""
    new = decode(SPOT, separators=COMPACT)
    assert isinstance(new, SpotTick)
    assert (new.pair, new.price, new.unix_date, new["unixDate"]) == (
        "BTC:USDC",
        23233.684999999998,
        1659897295,
        1659897295,
    )
    assert "date" not in new
    old = decode({"results": "streaming", "resultData": TICK})
    assert isinstance(old, SpotTick)
    assert old.unix_date == 1655328460
    assert old.datetime is not None
    assert old.datetime.microsecond == 453000
    assert old.keys() == ["pair", "exchange", "price", "date", "time"]


def test_control_frames_by_shape() -> None:
    """A refused key would pass for an unknown message, and start() would say that all is well."""
    assert decode('{"isAuth": true}') == Authentication(True)
    assert decode('{"isAuth":false}') == Authentication(False)
    assert decode('{"keepAlive": true}') == KeepAliveReply()
    assert decode('{"error":"no such pair"}') == ServerError("no such pair")
    assert isinstance(decode(TICK), Tick)


@pytest.mark.parametrize("text", ['{"hello": 1}', "[1]", "5", '"x"', "null", "{}", "[]", '["BTC-PERPETUAL"]'])
def test_unknown_shape_is_unknown(text: str) -> None:
    """A new kind of message would be reported as an error."""
    assert isinstance(decode(text), Unknown)


@pytest.mark.parametrize(
    "text", ["", "{", "ping", '{"a":}', '{"redis_key":"BTC"', "[" * 100_000, '{"redis_key":' + "[" * 100_000]
)
def test_malformed_json_is_unreadable(text: str) -> None:
    """A torn message would kill the dispatch thread."""
    message = decode(text)
    assert isinstance(message, Unreadable)
    assert len(str(message.error)) < 1000


@given(
    st.lists(
        st.one_of(
            st.text(),
            st.recursive(
                st.none() | st.booleans() | st.floats() | st.text(),
                lambda x: (
                    st.lists(x)
                    | st.dictionaries(
                        st.sampled_from([*CONTRACT, *SPOT, *TICK, "isAuth", "results", "resultData", "0"]) | st.text(),
                        x,
                    )
                ),
            ).map(json.dumps),
        )
    )
)
def test_decode_never_raises(texts: list[str]) -> None:
    """One message that nobody foresaw would end the stream."""
    messages = CODEC.decode([text.encode("utf-8", "surrogatepass") for text in texts])
    assert len(messages) == len(texts)


@given(st.sampled_from(sorted(CONTRACT)), st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_round_trips(field: str, value: float) -> None:
    """A price would lose digits on its way through the decoder."""
    if isinstance(getattr(decode(CONTRACT), field), float):
        assert getattr(decode({**CONTRACT, field: repr(value)}), field) == value


def test_messages_are_frozen() -> None:
    """A handler could change what the next handler sees."""
    with pytest.raises(AttributeError):
        decode(CONTRACT).mark_price = 1.0


def test_history_reply_keeps_every_row() -> None:
    """Rows of a history page would be lost when some lack a field."""
    rows = {str(index): TICK for index in range(3)}
    reply = parse_reply(json.dumps(rows))
    assert isinstance(reply, HistoryReply)
    assert len(reply.rows) == 3
    reply = parse_reply(json.dumps({**rows, "3": {name: value for name, value in TICK.items() if name != "exchange"}}))
    assert isinstance(reply, HistoryReply)
    assert [row.exchange for row in reply.rows] == ["COINBASE"] * 3 + [None]
    assert parse_reply("{}") == HistoryReply([])


def test_other_replies() -> None:
    """A function's answer would be taken for another's."""
    assert parse_reply('["BTC-PERPETUAL"]') == NameList(["BTC-PERPETUAL"])
    assert parse_reply('{"securityId":"X"}') == Raw({"securityId": "X"})
    for bad in ("{", json.dumps({"0": {**TICK, "price": "x"}}), json.dumps({**TICK, "price": "nan"})):
        with pytest.raises(UnreadableMessageError):
            parse_reply(bad)


def test_urls_of_every_form() -> None:
    """A server of another revision could not be reached."""
    assert CODEC.url("a/b c", "") == "wss://host/streaming/a%2Fb%20c"
    assert (
        FinxCodec("wss://host/", "streamer", stream_per_url=True).url("k", "BTC:USD") == "wss://host/streamer/k/BTC:USD"
    )
    assert FinxCodec("wss://host/", "root").url("k", "") == "wss://host/"


def test_requests_are_the_documented_ones() -> None:
    """FinX would not understand what it is asked for."""
    contract = CODEC.subscribe("k", Subscription("contract", "BTC-PERPETUAL"))
    spot = CODEC.subscribe("k", Subscription("spot", "BTC:USDC"))
    assert contract is not None
    assert spot is not None
    assert json.loads(contract) == {
        "APIKey": "k",
        "functionName": "getDeribitContractStream",
        "instrumentName": "BTC-PERPETUAL",
    }
    assert json.loads(spot) == {"APIKey": "k", "functionName": "getSpotRates", "pair": "BTC:USDC"}
    assert FinxCodec("wss://h", stream_per_url=True).subscribe("k", Subscription("spot", "A:B")) is None
    assert CODEC.unsubscribe("k", Subscription("spot", "A:B")) is None


def test_a_hostile_server_cannot_forge_bookkeeping() -> None:
    """A server could mark its ticks as backfilled, or give them a time of arrival."""
    names = {field.encode_name for field in msgspec.structs.fields(Message)}
    assert not names & set(CONTRACT)
    assert all(name.startswith("@") for name in names)
    assert math.isclose(decode({**CONTRACT, "received_at": 5.0}).received_at, 0.0)


def test_a_broken_message_among_different_ones_spares_the_others() -> None:
    """One torn message in a mixed read would take its neighbours with it."""
    payloads = [json.dumps(value, separators=COMPACT).encode() for value in (CONTRACT, {"redis_key": 5}, SPOT)]
    messages = CODEC.decode(payloads)
    assert [type(message) for message in messages] == [ContractTick, Unreadable, SpotTick]
