"""Deribit's protocol, without a socket."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

import pytest

from finx_sync.errors import ConfigError, UnreadableMessageError
from finx_sync.messages import ContractTick, SpotTick
from finx_sync.venues.base import (
    Authentication,
    Confirmed,
    Ignored,
    KeepAliveReply,
    Reconnect,
    Refused,
    ServerError,
    Several,
    Subscription,
    Unknown,
    Unreadable,
)
from finx_sync.venues.deribit import ChannelUpdate, DeribitCodec
from finx_sync.venues.deribit.state import RpcAnswer
from tests.material import material
from tests.scripted import CONTRACT

GREEKS = ("vega", "theta", "rho", "gamma", "delta")
STATS = ("volume", "price_change", "low", "high")
TOP = [name for name in CONTRACT if name not in (*GREEKS, *STATS, "redis_key")]
OF_OPTIONS = {"underlying_price", "underlying_index", "mark_iv", "interest_rate", "bid_iv", "ask_iv", *GREEKS}

OPTION: dict[str, Any] = {
    name: value if name in ("underlying_index", "state", "instrument_name") else float(value)
    for name, value in CONTRACT.items()
    if name in TOP
}
OPTION["timestamp"] = 1659760300724
OPTION |= {
    box: {name: float(CONTRACT[name]) for name in names} for box, names in (("greeks", GREEKS), ("stats", STATS))
}
"""The contract message of FinX's documentation, as Deribit says it."""

PERPETUAL: dict[str, Any] = {
    "timestamp": 1626993723632,
    "stats": {"volume_usd": 1.0, "volume_notional": 2.0, "volume": 3.5, "price_change": -4.0, "low": 5.0, "high": 6.0},
    "state": "open",
    "settlement_price": 7.0,
    "open_interest": 8,
    "min_price": 9.5,
    "max_price": 10.5,
    "mark_price": 11.5,
    "last_price": 12.5,
    "interest_value": 0.5,
    "instrument_name": "BTC-PERPETUAL",
    "index_price": 13.5,
    "funding_8h": 1e-05,
    "estimated_delivery_price": 14.5,
    "current_funding": 0.0,
    "best_bid_price": 15.5,
    "best_bid_amount": 16.0,
    "best_ask_price": 17.5,
    "best_ask_amount": 18.0,
}
A, B = Subscription("contract", "BTC-26AUG22-20000-C"), Subscription("spot", "BTC:USD")
A_CHANNEL, B_CHANNEL = "ticker.BTC-26AUG22-20000-C.100ms", "deribit_price_index.btc_usd"


def note(channel: str, data: Any, **options: Any) -> str:
    """A notification, spaced as Deribit does."""
    frame = {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}}
    return json.dumps(frame, **{"separators": (",", ":"), **options})


def decode(*texts: str) -> list[Any]:
    """What texts mean."""
    return DeribitCodec("wss://host").decode([text.encode() for text in texts])


class Run:
    """One run of a stream as its state sees it: requests are told before answers are read."""

    def __init__(self, interval: Any = "100ms") -> None:
        self.codec = DeribitCodec("wss://host", interval)
        self.state = self.codec.new_state()
        self._asked = 0

    def ask(self, *subscriptions: Subscription) -> str:
        """Send a request that subscribes."""
        (request,) = self.codec.subscribe_all(None, subscriptions, self._asked)
        self._asked += 1
        self.state.requested("connection", request)
        return request.text

    def answer(self, text: str, **outcome: Any) -> Any:
        """What the server's answer to a request means."""
        return self.read(json.dumps({"jsonrpc": "2.0", "id": json.loads(text)["id"], **outcome}))[0]

    def read(self, *texts: str) -> list[Any]:
        """What follows from payloads, one thing for each."""
        return [
            self.state.take(one, "connection", 0.0, ()).commands[0] if isinstance(one, RpcAnswer) else one
            for one in decode(*texts)
        ]


def test_an_option_has_finx_fields_in_finx_order() -> None:
    """A handler written for FinX would not find what it looks for."""
    (tick,) = decode(note("ticker.BTC-26AUG22-20000-C.100ms", OPTION))
    assert type(tick) is ContractTick
    assert tick.keys() == list(CONTRACT)
    texts = ("redis_key", "underlying_index", "state", "instrument_name")
    assert tick.to_dict() == {name: value if name in texts else float(value) for name, value in CONTRACT.items()}
    assert tick.datetime == dt.datetime(2022, 8, 6, 4, 31, 40, 724000, dt.timezone.utc)


def test_a_perpetual_lacks_what_only_options_have() -> None:
    """A future would seem to have greeks, or could not be read."""
    (tick,) = decode(note("ticker.BTC-PERPETUAL.100ms", PERPETUAL))
    assert tick.keys() == [name for name in CONTRACT if name not in OF_OPTIONS]
    assert (tick.delta, tick.mark_iv, tick.underlying_index) == (None, None, None)
    assert (tick.redis_key, tick.mark_price, tick.volume, tick.high) == ("BTC-PERPETUAL", 11.5, 3.5, 6.0)
    with pytest.raises(KeyError):
        tick["delta"]


def test_null_is_no_value_and_no_field_is_no_key() -> None:
    """A contract without trades would be unreadable, or show what was never said."""
    untraded = {**OPTION, "last_price": None, "stats": dict.fromkeys(STATS)}
    (tick,) = decode(note(A_CHANNEL, untraded))
    assert (tick["last_price"], tick["volume"], tick["low"]) == (None, None, None)
    assert tick.keys() == list(CONTRACT)
    unquoted = {**OPTION, "bid_iv": None}
    del unquoted["ask_iv"], unquoted["settlement_price"]
    (tick,) = decode(note(A_CHANNEL, unquoted))
    assert (tick["bid_iv"], tick["mark_iv"], tick["delta"]) == (None, 72.12, 0.83341)
    assert set(CONTRACT) - set(tick.keys()) == {"ask_iv", "settlement_price"}
    (unpriced,) = decode(note(A_CHANNEL, {**OPTION, "mark_iv": None}))
    assert unpriced["mark_iv"] is None
    assert unpriced.keys() == list(CONTRACT)
    (named,) = decode(note("ticker.X.raw", {"instrument_name": "X"}))
    assert named.keys() == ["redis_key", "instrument_name"]


def test_spaces_and_other_orders_make_no_difference() -> None:
    """A server that writes its JSON otherwise would not be understood."""
    shuffled = dict(reversed(OPTION.items()))
    frame = {"params": {"data": shuffled, "channel": A_CHANNEL}, "method": "subscription", "jsonrpc": "2.0"}
    expected = decode(note(A_CHANNEL, OPTION))
    assert decode(json.dumps(frame)) == expected
    assert decode(note(A_CHANNEL, OPTION, indent=1)) == expected
    index = {"timestamp": 1626993723632, "price": 1.5, "index_name": "btc_usd"}
    assert decode(note(B_CHANNEL, index, indent=1)) == decode(note(B_CHANNEL, index))


def test_an_index_price_is_a_spot_tick() -> None:
    """Spot handlers would get nothing."""
    index = {"timestamp": 1626993723632, "price": 32201.67, "index_name": "btc_usd"}
    (tick,) = decode(note(B_CHANNEL, index))
    assert type(tick) is SpotTick
    assert tick.to_dict() == {
        "pair": "BTC:USD",
        "unixDate": 1626993723,
        "UTCDate": "2021-07-22T22:42:03.632Z",
        "exchange": "DERIBIT",
        "price": 32201.67,
    }
    assert tick.name == B.name


def test_requests_are_deribit_own() -> None:
    """The server would not understand."""
    codec = DeribitCodec("wss://host", "agg2")
    assert codec.url(None, "") == "wss://host/ws/api/v2"
    assert DeribitCodec("wss://host/ws/api/v2/").url(None, "") == "wss://host/ws/api/v2"
    (opening,) = map(json.loads, codec.opening(None, 0.0))
    assert (opening["method"], opening["params"]) == ("public/set_heartbeat", {"interval": 30})
    subscribe = json.loads(codec.subscribe_all(None, [A, B], 0)[0].text)
    assert subscribe["jsonrpc"] == "2.0"
    assert subscribe["method"] == "public/subscribe"
    assert subscribe["params"] == {"channels": ["ticker.BTC-26AUG22-20000-C.agg2", B_CHANNEL]}
    unsubscribe = json.loads(codec.unsubscribe(None, B) or "")
    assert (unsubscribe["method"], unsubscribe["params"]) == ("public/unsubscribe", {"channels": [B_CHANNEL]})
    assert len({opening["id"], subscribe["id"], unsubscribe["id"]}) == 3
    assert list(codec.periodic(None)) == []
    with pytest.raises(ConfigError, match="agg2"):
        DeribitCodec("wss://host", "1s")  # type: ignore[arg-type]


def test_many_subscriptions_go_in_few_requests() -> None:
    """A reconnect with a whole chain would run into the limits: so many requests, or so large a one."""
    codec = DeribitCodec("wss://host")
    subscriptions = [Subscription("contract", f"BTC-26AUG22-{strike}-C") for strike in range(4000)]
    for count, sizes in ((600, [250, 250, 100]), (2000, [250] * 8), (2401, [301] * 7 + [294]), (4000, [500] * 8)):
        requests = [json.loads(one.text) for one in codec.subscribe_all(None, subscriptions[:count], 7)]
        assert len({request["id"] for request in requests}) == len(requests)
        assert [len(request["params"]["channels"]) for request in requests] == sizes
    assert codec.subscribe_all(None, [], 0) == []


def test_what_is_accepted_is_confirmed_and_the_rest_refused() -> None:
    """A misspelt contract would be silent for ever."""
    run = Run()
    bad = Subscription("contract", "BTC-1JAN00-1-C")
    text = run.ask(A, bad, B)
    assert run.answer(text, result=[B_CHANNEL, A_CHANNEL], usIn=1, usOut=2, usDiff=1, testnet=False) == Several(
        (Confirmed(A), Refused(bad, "no such channel"), Confirmed(B))
    )
    assert run.answer(text, result=[B_CHANNEL]) == Ignored()  # answered already
    assert run.answer(run.ask(A), result=[[], {}, A_CHANNEL]) == Several((Confirmed(A),))


def test_requests_of_a_lost_connection_are_forgotten() -> None:
    """Ids begin anew on each connection: a late refusal would end another subscription."""
    run = Run()
    text = run.ask(A)
    run.state.closed("connection", "", 0.0)
    assert run.answer(text, result=[]) == Ignored()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            {"code": -32602, "message": "Invalid params", "data": {"reason": "bad", "param": "channels"}},
            Several((Refused(A, '-32602: Invalid params {"reason": "bad", "param": "channels"}'),)),
        ),
        ({"code": 13009, "message": "unauthorized"}, Several((Refused(A, "13009: unauthorized"),))),
        ("nonsense", Several((Refused(A, "nonsense"),))),
        ({"code": [1]}, Several((Refused(A, "[1]: None"),))),
        ({"code": 10028, "message": "too_many_requests"}, Reconnect("10028: too_many_requests")),
        ({"code": 11051, "message": "system_maintenance"}, Reconnect("11051: system_maintenance")),
    ],
)
def test_errors_belong_to_their_request(error: Any, expected: Any) -> None:
    """Nobody could tell which contract was refused, or a moment's overload would end a subscription."""
    run = Run()
    assert run.answer(run.ask(A), error=error) == expected


def test_other_answers() -> None:
    """The stream would take an answer for something else."""
    run = Run()
    (opening,) = run.codec.opening(None, 0.0)
    refusal = {"code": -32601, "message": "Method not found"}
    assert run.answer(opening, result="ok") == Authentication(accepted=True)
    assert run.answer(opening, error=refusal) == Several(
        (Authentication(accepted=True), ServerError("-32601: Method not found"))
    )
    unsubscribe = run.codec.unsubscribe(None, A) or ""
    assert run.answer(unsubscribe, result=[A_CHANNEL]) == Ignored()
    assert run.answer(unsubscribe, error=refusal) == ServerError("-32601: Method not found")
    assert decode('{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error"}}') == [
        ServerError("-32700: Parse error")
    ]


def test_a_test_request_is_answered_by_reflex() -> None:
    """Deribit would cut the connection while a handler is slow."""
    run = Run()
    asks = '{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}'
    beats = '{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"heartbeat"}}'
    batch = [text.encode() for text in (note(A_CHANNEL, OPTION), beats, asks, note(A_CHANNEL, OPTION))]
    (reply,) = run.codec.reflex(batch)
    assert (json.loads(reply)["method"], json.loads(reply)["params"]) == ("public/test", {})
    assert list(run.codec.reflex(batch[:2])) == []
    assert decode(beats, asks) == [Ignored(), Ignored()]
    assert run.answer(reply, result={"version": "1.2.26"}) == KeepAliveReply()


def test_unanswered_requests_are_forgotten_in_the_end() -> None:
    """A stream that reconnects for months would grow."""
    run = Run()
    first = run.ask(A)
    for _ in range(2000):
        last = run.ask(A)
    assert run.answer(first, result=[A_CHANNEL]) == Ignored()
    assert run.answer(last, result=[A_CHANNEL]) == Several((Confirmed(A),))


def test_other_channels_are_read_as_they_are() -> None:
    """A recording of another program would be full of what cannot be read."""
    messages = decode(note("trades.X.raw", [{"price": 1.5}]), note("book.X.raw", {"bids": []}), note("ticks", None))
    assert [(type(one), one.name, one.data) for one in messages] == [
        (ChannelUpdate, "trades.X.raw", [{"price": 1.5}]),
        (ChannelUpdate, "book.X.raw", {"bids": []}),
        (ChannelUpdate, "ticks", None),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"method":"subscription"}',
        '{"method":"subscription","params":[]}',
        note("ticker.X.raw", {}),
        note("ticker.X.raw", []),
        note("ticker.X.raw", {**OPTION, "delta": 1, "mark_price": "dear"}),
        note("ticker.X.raw", {**OPTION, "mark_price": [1]}),
        note(B_CHANNEL, {"timestamp": 10**20, "price": 1.0, "index_name": "btc_usd"}),
        note(B_CHANNEL, {"timestamp": 1, "price": 1.0}),
        note(1, {}),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_read_is_told(text: str) -> None:
    """A broken message would stop the stream, or vanish."""
    (message,) = decode(text)
    assert isinstance(message, Unreadable)
    assert isinstance(message.error, UnreadableMessageError)


@pytest.mark.parametrize("text", ["[]", "1", "{}", '{"method":"news"}', '{"jsonrpc":"2.0","id":1}'])
def test_readable_json_of_another_shape_is_unknown(text: str) -> None:
    """It would be taken for an error, or for a message."""
    assert decode(text) == [Unknown()]


def test_a_capture_of_the_real_service_is_read_line_by_line() -> None:
    """A frame that Deribit really sends would not be read, or its ticker would not have the seed's 31 fields."""
    capture = material("captures/deribit-2021-07-22.txt").read_text()
    (request,) = re.findall(r"^wss:\S+ <- \S+: (.*)$", capture, re.M)
    lines = re.findall(r"^\d+\.\d+: (.*)$", capture, re.M)
    assert len(lines) == 136
    run = Run("raw")
    tickers = [channel for channel in json.loads(request)["params"]["channels"] if channel.startswith("ticker.")]
    subscriptions = [Subscription("contract", channel.split(".")[1]) for channel in tickers]
    asked = run.ask(*subscriptions)
    lines[0] = lines[0].replace('"id":0', f'"id":{json.loads(asked)["id"]}')
    granted, *messages = run.read(*lines)
    assert granted == Several(tuple(Confirmed(subscription) for subscription in subscriptions))
    counts = {kind: sum(type(one) is kind for one in messages) for kind in (ContractTick, ChannelUpdate)}
    assert counts == {ContractTick: 89, ChannelUpdate: 46}
    for line, tick in zip(lines[1:], messages, strict=True):
        data = json.loads(line)["params"]["data"]
        if isinstance(tick, ContractTick):
            assert tick.keys() == list(CONTRACT)
            flat = {"redis_key": data["instrument_name"], **data, **data["greeks"], **data["stats"]}
            assert tick.to_dict() == {name: flat[name] for name in CONTRACT}
