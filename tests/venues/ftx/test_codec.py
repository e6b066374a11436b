"""FTX's codec: what is sent, what is read, which request an answer belongs to, and a capture of the real service."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finx_sync.messages import Message
from finx_sync.venues.base import (
    Authentication,
    Confirmed,
    Ignored,
    KeepAliveReply,
    Notify,
    Reconnect,
    Refused,
    Request,
    ServerError,
    Subscription,
    Unknown,
    Unreadable,
)
from finx_sync.venues.ftx import (
    FtxBook,
    FtxCodec,
    FtxCredentials,
    FtxFill,
    FtxMarkets,
    FtxOrder,
    FtxPay,
    FtxTicker,
    FtxTrade,
)
from finx_sync.venues.ftx.conversation import FtxConversation
from finx_sync.venues.ftx.messages import BookUpdate, FtxAnswer, FtxEvents, FtxOrderBook, GroupedBookUpdate
from finx_sync.venues.ftx.requests import CHANNELS, sign, subscription_to
from finx_sync.venues.ftx.state import FtxState
from tests.material import material

KEY = FtxCredentials("sandbox-key", "sandbox-secret")
TICKER = {
    "bid": 39170.0, "ask": 39171.0, "bidSize": 0.067, "askSize": 0.0004, "last": 39168.0, "time": 1642753717.9538262,
}  # fmt: skip
FILL = {
    "fee": 78.05799225, "feeRate": 0.0014, "future": "BTC-PERP", "id": 7828307, "liquidity": "taker",
    "market": "BTC-PERP", "orderId": 38065410, "tradeId": 19129310, "price": 3723.75, "side": "buy", "size": 14.973,
    "time": "2019-05-07T16:40:58.358438+00:00", "type": "order", "baseCurrency": None, "quoteCurrency": None,
    "feeCurrency": "USD",
}  # fmt: skip
ORDER = {
    "id": 24852229, "clientId": None, "market": "XRP-PERP", "type": "limit", "side": "buy", "size": 42353.0,
    "price": 0.2977, "reduceOnly": False, "ioc": False, "postOnly": False, "status": "closed", "filledSize": 100.0,
    "remainingSize": 0.0, "avgFillPrice": 0.2978, "liquidation": False, "createdAt": "2021-05-02T22:40:07.217963+00:00",
}  # fmt: skip
TRADE = {
    "id": 1473821857, "price": 32818.0, "size": 0.0376, "side": "sell", "liquidation": False,
    "time": "2021-07-22T22:45:25.398750+00:00",
}  # fmt: skip
MARKET = {"name": "BTC-PERP", "enabled": True, "priceIncrement": 1.0, "type": "future", "future": {"expired": False}}


def decode(codec: FtxCodec, *frames: Any) -> list[Any]:
    """Payloads through the codec."""
    texts = [frame if isinstance(frame, str) else json.dumps(frame) for frame in frames]
    return codec.decode([text.encode() for text in texts])


def update(channel: str, data: Any, market: str | None = "BTC-PERP", kind: str = "update") -> dict[str, Any]:
    """A frame with data."""
    return {"channel": channel, **({} if market is None else {"market": market}), "type": kind, "data": data}


def error(message: str, code: int = 400) -> dict[str, Any]:
    """An error frame, which does not repeat what it is about."""
    return {"type": "error", "code": code, "msg": message}


def read(frame: dict[str, Any]) -> Any:
    """The one message of a frame."""
    (message,) = decode(FtxCodec(), frame)
    if isinstance(message, FtxEvents):
        (message,) = message.events
    return message


class Run:
    """One run of a stream as its state sees it: requests are told before answers are read.

    Attributes:
        connection: that is asked and read now.
    """

    def __init__(self) -> None:
        self.state = FtxState()
        self.codec = FtxCodec()
        self.connection = "first"

    def ask(self, *subscriptions: Subscription, op: Any = "subscribe", login: bool = False) -> None:
        """Send requests."""
        for _ in range(2 * login):
            self.state.requested(self.connection, Request("login", "open"))
        for one in subscriptions:
            self.state.requested(self.connection, Request("", op, (one,)))

    def read(self, *frames: Any) -> list[Any]:
        """What follows from frames on the connection, one thing for each."""
        return [self._meaning(message) for message in decode(self.codec, *frames)]

    def _meaning(self, message: Any) -> Any:
        if type(message) not in FtxState.takes:
            return message
        outcome = self.state.take(message, self.connection, 0.0, ())
        return next(command for command in outcome.commands if not isinstance(command, Notify))


def connected(*subscriptions: Subscription, login: bool = False) -> Run:
    """A run that has asked for something on a new connection."""
    run = Run()
    run.ask(*subscriptions, login=login)
    run.read({"type": "pong"})
    return run


# What is sent


def test_signature_is_openssls() -> None:
    """The exchange would refuse the key."""
    vector = json.loads(material("vectors/signatures.json").read_text())["ftx"]
    assert sign(vector["secret"], vector["time"]) == vector["sign"]


def test_each_connect_signs_anew_and_logs_in_twice() -> None:
    """A login that is sent again after a reconnect is stale and refused; and success is silent, so nobody knows."""
    codec = FtxCodec()
    first, second = codec.opening(KEY, 1557246346.499), codec.opening(KEY, 2e9)
    assert first[0] == first[1] != second[0]
    message = json.loads(first[0])
    assert message["op"] == "login"
    assert message["args"]["time"] == 1557246346499
    assert "subaccount" not in message["args"]
    assert KEY.secret not in first[0]
    assert json.loads(codec.opening(FtxCredentials("k", "s", "desk 1"), 2e9)[0])["args"]["subaccount"] == "desk 1"
    assert codec.opening(None, 2e9) == []
    assert "sandbox" not in repr(KEY)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (subscription_to("ticker", "BTC-PERP"), {"channel": "ticker", "market": "BTC-PERP"}),
        (
            subscription_to("orderbookGrouped", "BTC-PERP"),
            {"channel": "orderbookGrouped", "market": "BTC-PERP", "grouping": 500},
        ),
        (
            subscription_to("orderbookGrouped", "XRP/USD"),
            {"channel": "orderbookGrouped", "market": "XRP/USD", "grouping": 0.0005},
        ),
        (subscription_to("orderbook", "XRP/USD"), {"channel": "orderbook", "market": "XRP/USD"}),
        (subscription_to("markets"), {"channel": "markets"}),
        (subscription_to("fills"), {"channel": "fills"}),
    ],
)
def test_subscriptions_are_spelled_as_documented(wanted: Subscription, expected: dict[str, Any]) -> None:
    """The server would not understand what is asked for."""
    codec = FtxCodec()
    codec.groupings = {"BTC-PERP": 500.0, "XRP/USD": 0.0005}
    assert json.loads(codec.subscribe(None, wanted) or "") == {"op": "subscribe", **expected}
    assert json.loads(codec.unsubscribe(None, wanted) or "") == {"op": "unsubscribe", **expected}


def test_ping_is_json_every_fifteen_seconds() -> None:
    """A server that only knows FTX's own pings would close the connection."""
    (ping,) = FtxCodec().periodic(None)
    assert (ping.interval, ping.text) == (15.0, '{"op":"ping"}')


# What is read


def test_ticker_is_typed_and_is_a_state() -> None:
    """A bot would read wrong prices, or a burst would queue old ones."""
    ticker = read(update("ticker", TICKER))
    assert isinstance(ticker, FtxTicker)
    assert FtxTicker.is_state
    assert (ticker.market, ticker.bid, ticker.ask, ticker.bid_size) == ("BTC-PERP", 39170.0, 39171.0, 0.067)
    assert ticker["askSize"] == 0.0004
    assert ticker["market"] == ticker.name == "BTC-PERP"
    assert ticker.datetime.isoformat() == "2022-01-21T08:28:37.953826+00:00"
    assert ticker.to_dict() == {"market": "BTC-PERP", **TICKER}


def test_missing_and_null_prices_are_none_and_told_apart() -> None:
    """An empty side of a book would break the stream, or an old frame would invent fields."""
    ticker = read(update("ticker", {**TICKER, "bid": None}))
    assert ticker.bid is None
    assert "bid" in ticker
    old = read(update("ticker", {name: value for name, value in TICKER.items() if not name.endswith("Size")}))
    assert (old.bid, old.bid_size) == (39170.0, None)
    assert "bidSize" not in old
    with pytest.raises(KeyError):
        old["bidSize"]


def test_private_messages_are_typed_events() -> None:
    """A fill or an order would lose a field, or be replaced by a newer one."""
    fill, order = read(update("fills", FILL, None)), read(update("orders", ORDER, None))
    assert isinstance(fill, FtxFill)
    assert not any(kind.is_state for kind in (FtxFill, FtxOrder, *FtxCodec.message_types[2:]))
    assert (fill.id, fill.market, fill.price, fill.fee, fill.liquidity) == (
        7828307, "BTC-PERP", 3723.75, 78.05799225, "taker",
    )  # fmt: skip
    assert fill.to_dict() == FILL
    assert fill.datetime.year == 2019
    assert isinstance(order, FtxOrder)
    assert order.to_dict() == ORDER
    assert not order.is_filled
    assert order.name == "XRP-PERP"


def test_older_order_lacks_fields() -> None:
    """The documentation's older example would not be read."""
    old = {name: value for name, value in ORDER.items() if name not in ("liquidation", "createdAt")}
    order = read(update("orders", old, None))
    assert order.liquidation is None
    assert order.datetime is None
    assert order.to_dict() == old


def test_trades_come_in_lists() -> None:
    """All but the first trade of a frame would be lost."""
    (frame,) = decode(FtxCodec(), update("trades", [TRADE, {**TRADE, "id": 2}], "BTC-1231"))
    assert [trade.id for trade in frame.events] == [1473821857, 2]
    trade = frame.events[0]
    assert isinstance(trade, FtxTrade)
    assert (trade.market, trade.side, trade.datetime.microsecond) == ("BTC-1231", "sell", 398750)


def test_markets_have_their_data_inside_data() -> None:
    """Every market would be lost: this channel alone wraps its data twice."""
    frame = update("markets", {"data": {"BTC-PERP": MARKET}, "action": "partial"}, None, "partial")
    markets = read(frame)
    assert isinstance(markets, FtxMarkets)
    assert (markets.action, markets["BTC-PERP"]["priceIncrement"]) == ("partial", 1.0)
    assert markets.keys() == ["BTC-PERP"]


def test_grouped_book_tells_its_action_outside() -> None:
    """The grouped book's image would be taken for an update, and the book stay empty."""
    frame = read(update("orderbookGrouped", {"bids": [[100, 1]], "asks": []}, kind="partial"))
    assert (type(frame), frame.action, frame.checksum, frame.bids) == (
        GroupedBookUpdate,
        "partial",
        None,
        [(100.0, 1.0)],
    )


def test_payments_are_handed_on_as_they_are() -> None:
    """A payment would be lost because no source shows its fields."""
    payment = read(update("ftxpay", {"app": {"id": 1}, "status": "paid"}, None))
    assert isinstance(payment, FtxPay)
    assert (payment["status"], payment.to_dict()) == ("paid", {"app": {"id": 1}, "status": "paid"})


@pytest.mark.parametrize(
    "frame",
    [
        update("ticker", {**TICKER, "bid": "39170"}),
        update("ticker", TICKER, None),
        '{"channel": "ticker", "market": "A", "type": "update", "data": {"bid": 1e999, "ask": 1, "bidSize": 1, '
        '"askSize": 1, "last": 1, "time": 1}}',
        update("fills", {**FILL, "id": None}, None),
        update("trades", {"id": 1}),
        update("orderbook", {"bids": [[1]], "asks": []}),
        {"no": "type"},
        "[]",
        "{",
        '{"type": "update", "channel": "ticker", "market": "A"}',
    ],
)
def test_what_is_no_message_is_told_so(frame: Any) -> None:
    """Garbage would end the stream or pass for a price."""
    (message,) = decode(FtxCodec(), frame)
    assert isinstance(message, Unreadable)


@pytest.mark.parametrize("frame", [update("candles", {}), {"type": "hello"}])
def test_unknown_frames_are_no_errors(frame: dict[str, Any]) -> None:
    """A channel that is added later would break old programs."""
    assert decode(FtxCodec(), frame) == [Unknown()]


@given(st.permutations(list(update("ticker", TICKER))), st.sampled_from([(",", ":"), (", ", ": ")]))
def test_layout_of_json_does_not_matter(order: list[str], separators: tuple[str, str]) -> None:
    """FTX-TR writes its frames without spaces, and a simulator may order the keys otherwise."""
    frame = update("ticker", TICKER)
    text = json.dumps({name: frame[name] for name in order}, separators=separators)
    (message,) = decode(FtxCodec(), text)
    assert message == read(frame)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_decoding_never_raises(payload: bytes) -> None:
    """One bad frame would end the stream."""
    (message,) = FtxCodec().decode([payload])
    assert isinstance(message, (Unreadable, Unknown, Message)) or message is not None


names = st.sampled_from(["bid", "data", "bids", "asks", "action", "market", "id", "time"])
values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(names, inner),
    max_leaves=8,
)


@given(values, st.sampled_from(sorted(CHANNELS)))
def test_any_data_is_read_or_refused(data: Any, channel: str) -> None:
    """Data of a shape that nobody expected would raise on the dispatch thread."""
    (message,) = decode(FtxCodec(), update(channel, data))
    assert isinstance(message, (Unreadable, Message))


# Which request an answer belongs to

A, B, FILLS = subscription_to("ticker", "A"), subscription_to("trades", "B"), subscription_to("fills")


def test_acknowledgements_confirm() -> None:
    """Nobody would know that a subscription was granted."""
    run = connected(A, FILLS)
    assert run.read({"type": "subscribed", "channel": "ticker", "market": "A"}) == [Confirmed(A)]
    assert run.read({"type": "subscribed", "channel": "fills"}) == [Confirmed(FILLS)]
    assert run.read({"type": "subscribed", "channel": "fills"}) == [Ignored()]
    assert run.state.answers() == {A: None, FILLS: None}


def test_the_first_subscriptions_are_proven_together() -> None:
    """A gap would be told once for each subscription, with a slightly different end each time."""
    run, granted = Run(), {"type": "subscribed", "channel": "ticker", "market": "A"}
    for run.connection in ("first", "second"):
        run.ask(A)
        run.state.opened(run.connection, "", 0.0)
        assert run.read(granted, {"type": "pong"}) == [Ignored(), KeepAliveReply()]
        run.ask(A)
        assert run.read(granted) == [Confirmed(A)]
        run.state.closed(run.connection, "", 0.0)


def test_an_error_belongs_to_the_first_request_without_an_answer() -> None:
    """The wrong subscription would be given up, and the refused one asked for for ever."""
    run = connected(A, B, FILLS)
    assert run.read(
        {"type": "subscribed", "channel": "ticker", "market": "A"},
        error("Something new"),
        error("Not logged in"),
        error("Something else"),
    ) == [Confirmed(A), Refused(B, "400: Something new"), Refused(FILLS, "400: Not logged in"),
          ServerError("400: Something else")]  # fmt: skip
    assert run.state.answers() == {A: None, B: "400: Something new", FILLS: "400: Not logged in"}


def test_an_error_that_names_a_market_belongs_to_that_market() -> None:
    """A server that answers out of order would have the wrong subscription given up."""
    run = connected(A, B, FILLS)
    assert run.read(error("No such market: B", 404)) == [Refused(B, "404: No such market: B")]
    assert run.read(error("No such market: C", 404)) == [ServerError("404: No such market: C")]


def test_a_silent_login_is_confirmed_by_the_second() -> None:
    """A login's success could not be told from a server that has not read it yet."""
    run = connected(FILLS, login=True)
    assert run.read(error("Already logged in"), {"type": "subscribed", "channel": "fills"}) == [
        Authentication(True, "400: Already logged in"),
        Confirmed(FILLS),
    ]


def test_a_refused_login_is_fatal_but_gives_no_subscription_up() -> None:
    """A wrong key would show as silence; and after it is mended, the fills would never come."""
    run = connected(FILLS, login=True)
    bad = error("Invalid login credentials")
    refused = Authentication(False, "400: Invalid login credentials")
    assert run.read(bad, bad, error("Not logged in")) == [refused, refused, Ignored()]


def test_answers_of_the_old_connection_are_read_with_its_own_requests() -> None:
    """A slow handler lets a new connection open while frames of the old one wait: they would be mixed up."""
    run = connected(A)
    run.connection = "second"
    run.ask(B)
    run.connection = "first"
    assert run.read(error("late")) == [Refused(A, "400: late")]
    assert run.read(error("later")) == [ServerError("400: later")]
    run.state.closed("first", "", 0.0)
    run.connection = "second"
    assert run.read(error("now")) == [Refused(B, "400: now")]
    assert run.state.answers() == {B: "400: now"}


def test_refused_unsubscribe_gives_nothing_up() -> None:
    """A wish that was renewed meanwhile would be forgotten."""
    run = connected()
    run.ask(A, op="unsubscribe")
    assert run.read(error("Not subscribed")) == [ServerError("400: Not subscribed (to: unsubscribe ticker A)")]
    run.ask(A)
    assert run.read(error("Already subscribed")) == [Confirmed(A)]


def test_other_control_frames() -> None:
    """A restart of the server would be waited out, or its pong be taken for news."""
    assert connected().read(
        {"type": "pong"},
        {"type": "info", "code": 20001, "msg": "restart"},
        {"type": "info", "code": 20002, "msg": "hello"},
        {"type": "error", "msg": "Internal server error"},
    ) == [KeepAliveReply(), Reconnect("20001: restart"), Ignored(), Reconnect("Internal server error")]


@given(
    st.lists(
        st.sampled_from([A, B, FILLS, subscription_to("ticker", "B"), subscription_to("orderbook", "A")]), unique=True
    ),
    st.data(),
)
def test_every_request_gets_its_own_answer(subscriptions: list[Subscription], data: st.DataObject) -> None:
    """One grant or refusal in the middle would shift all that follow."""
    run = connected(*subscriptions, login=True)
    for one in subscriptions:
        if data.draw(st.booleans()):
            frame = {
                "type": "subscribed",
                "channel": one.kind,
                **({"market": one.name} if one.name != one.kind else {}),
            }
            assert run.read(frame) == [Confirmed(one)]
        else:
            assert run.read(error("no")) == [Refused(one, "400: no")]


# The real service


def test_capture_is_read_whole_and_every_checksum_is_right() -> None:
    """The real service's frames would be misread, or a sound book be taken for a broken one."""
    lines = material("captures/ftx-2021-07-22.txt").read_text(encoding="utf-8").splitlines()
    payloads = [line.split(": ", 1)[1].encode() for line in lines if re.match(r"\d", line)]
    messages = FtxCodec().decode(payloads)
    assert Counter(type(message).__name__ for message in messages) == {
        "FtxTicker": 988,
        "BookUpdate": 971,
        "FtxAnswer": 30,
        "Trades": 6,
    }
    books: dict[str, FtxBook] = {}
    right = 0
    for message, payload in zip(messages, payloads, strict=True):
        if isinstance(message, (FtxTicker, FtxEvents)):
            data = json.loads(bytes(payload))["data"]
            rows = [message] if isinstance(message, FtxTicker) else message.events
            rest = [{name: value for name, value in row.items() if name != "market"} for row in rows]
            assert rest == ([data] if isinstance(data, dict) else data)
        if isinstance(message, BookUpdate):
            book = books.setdefault(message.market, FtxBook())
            right += message.checksum is not None and book.apply(message)
            assert not book.is_crossed
            assert max(len(book.bids()), len(book.asks())) <= 100
    assert right == 971
    assert len(books) == 10


def test_attributes_are_those_of_the_wire() -> None:
    """`[]` with the wire's name would not find a field."""
    for kind in (FtxTicker, FtxTrade, FtxFill, FtxOrder):
        wire = [field.encode_name for field in msgspec.structs.fields(kind) if field.encode_name[0] != "@"]
        assert list(kind._attributes) == ["market", *wire]


def test_what_came_as_a_dictionary_is_read_as_one() -> None:
    """A payment, whose fields no source names, could not be read at all."""
    payment = FtxPay(data={"id": 7})
    assert ("id" in payment, "size" in payment, len(payment), payment["id"]) == (True, False, 1, 7)
    assert (payment.name, repr(payment)) == ("ftxpay", "FtxPay({'id': 7})")
    markets = FtxMarkets(action="partial", markets={"BTC-PERP": {}})
    assert (markets.name, repr(markets)) == ("markets", "FtxMarkets(partial, 1 markets)")


def test_an_order_book_knows_its_market_and_its_time() -> None:
    """A handler of several books would not know which one it has."""
    book = FtxOrderBook(market="BTC-PERP", bids=[], asks=[], time=1.5)
    assert (book.name, book.datetime) == ("BTC-PERP", dt.datetime(1970, 1, 1, 0, 0, 1, 500_000, dt.timezone.utc))
    assert FtxOrderBook(market="BTC-PERP", bids=[], asks=[]).datetime is None
    assert BookUpdate(market="BTC-PERP", action="update", bids=[], asks=[]).name == "BTC-PERP"


def test_a_login_that_nobody_waits_for_is_no_answer() -> None:
    """A late word about a login would be taken for the answer to a subscription."""
    conversation = FtxConversation()
    assert conversation.answered(FtxAnswer("error", message="Already logged in")) == Authentication(True)
    assert conversation.answered(FtxAnswer("error", said="no")) == ServerError("no")
