"""Damaged messages of every venue: real frames, of which values, keys, sizes and depths are changed.

`VENUES` has the frames, as the venues' documentation and captures show them; `Mutator` damages them, the same way for
the same seed.
"""

from __future__ import annotations

import copy
import json
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from finx_sync import StreamManager
from finx_sync.stream import Stream
from finx_sync.venues.bitmex import BitmexStream
from finx_sync.venues.ftx import FtxStream
from finx_sync.venues.ime import ImeStream
from tests.scripted import CONTRACT, SPOT, TICK
from tests.venues.bitmex.test_codec import QUOTE, SUBSCRIBE
from tests.venues.deribit.test_codec import A_CHANNEL, B_CHANNEL, OPTION, PERPETUAL
from tests.venues.ftx.test_codec import FILL, MARKET, ORDER, TICKER, TRADE
from tests.venues.ime.test_codec import NOTHING

__all__ = ["VENUES", "Mutator", "Venue", "deep_payloads"]

ADDRESS: Final = "ws://127.0.0.1:9"
KEYS: Final = {"api_key": "sandbox-key", "api_secret": "sandbox-secret"}
OPTION_NAME: Final = CONTRACT["instrument_name"]


@dataclass(frozen=True)
class Venue:
    """One venue.

    Attributes:
        stream: makes a stream that has asked for what the frames are about; it is never connected.
        frames: JSON values of every kind that the server sends.
        texts: what it sends that is no JSON.
    """

    stream: Callable[[], Stream]
    frames: tuple[Any, ...]
    texts: tuple[str, ...] = ()


def _finx() -> Stream:
    stream = StreamManager("sandbox-key", url=ADDRESS, overlap=0.1)
    stream.subscribe_contract(OPTION_NAME)
    stream.subscribe_spot("BTC:USDC")
    return stream


def _deribit() -> Stream:
    stream = StreamManager(environment="deribit", url=ADDRESS)
    stream.subscribe_contract(OPTION_NAME, "BTC-PERPETUAL")
    stream.subscribe_spot("BTC:USD")
    return stream


def _bitmex() -> Stream:
    return BitmexStream(
        "XBTUSD", url=ADDRESS, channels=["quote", "trade", "orderBookL2", "orderBook10", "chat"], deletes=True, **KEYS
    )


def _ftx() -> Stream:
    stream = FtxStream(url=ADDRESS, **KEYS)
    stream.subscribe_ticker("BTC-PERP")
    stream.subscribe_trades("BTC-PERP")
    stream.subscribe_orderbook("BTC-PERP")
    stream.subscribe_orderbook_grouped("BTC-PERP", 10)
    stream.subscribe_markets()
    stream.subscribe_fills()
    stream.subscribe_orders()
    stream.subscribe_ftxpay()
    return stream


def _ime() -> Stream:
    return ImeStream(url=ADDRESS, names=["ContractA"], ids=[7], auth="sandbox-key")


def _note(channel: str, data: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}}


def _table(table: str, action: str, *rows: Any, **more: Any) -> dict[str, Any]:
    return {"table": table, "action": action, "data": list(rows), **more}


def _update(channel: str, data: Any, kind: str = "update") -> dict[str, Any]:
    return {"channel": channel, "market": "BTC-PERP", "type": kind, "data": data}


_BOOK_ROW: Final = {"symbol": "XBTUSD", "id": 8799967650, "side": "Sell", "size": 5, "price": 32350.0}
_BITMEX_ORDER: Final = {"orderID": "a", "symbol": "XBTUSD", "ordStatus": "New", "leavesQty": 5, "price": 1.0}
_FTX_BOOK: Final = {
    "time": 1626993925.3, "checksum": 0, "bids": [[32818.0, 0.5], [32817.0, 1.0]], "asks": [[32819.0, 0.25]],
    "action": "partial",
}  # fmt: skip

VENUES: Final[dict[str, Venue]] = {
    "finx": Venue(
        _finx,
        (
            CONTRACT,
            SPOT,
            TICK,
            {"results": "streaming", "resultData": TICK},
            {"isAuth": True},
            {"isAuth": False},
            {"keepAlive": True},
            {"error": "the server is busy"},
            {"0": TICK, "1": TICK},
            [OPTION_NAME, "BTC-PERPETUAL"],
        ),
    ),
    "deribit": Venue(
        _deribit,
        (
            _note(A_CHANNEL, OPTION),
            _note("ticker.BTC-PERPETUAL.100ms", PERPETUAL),
            _note(B_CHANNEL, {"timestamp": 1659760300724, "price": 1.0, "index_name": "btc_usd"}),
            _note("trades.BTC-PERPETUAL.100ms", [{"price": 1.0, "amount": 10}]),
            {"jsonrpc": "2.0", "id": 1, "result": "ok", "usIn": 1, "usOut": 2, "usDiff": 1, "testnet": False},
            {"jsonrpc": "2.0", "id": 2, "result": {"version": "1.2.26"}},
            {"jsonrpc": "2.0", "id": 3, "result": [A_CHANNEL, B_CHANNEL]},
            {"jsonrpc": "2.0", "id": 3, "error": {"code": 11050, "message": "bad_request", "data": {"reason": "x"}}},
            {"jsonrpc": "2.0", "id": 1, "error": {"code": 10028, "message": "too_many_requests"}},
            {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}},
        ),
    ),
    "bitmex": Venue(
        _bitmex,
        (
            _table("quote", "partial", QUOTE, keys=[], filter={"symbol": "XBTUSD"}, types={"symbol": "symbol"}),
            _table("quote", "insert", QUOTE, QUOTE),
            _table("trade", "partial", keys=[], filter={"symbol": "XBTUSD"}, attributes={"timestamp": "sorted"}),
            _table("trade", "insert", {"symbol": "XBTUSD", "side": "Buy", "size": 1, "price": 32180.0}),
            _table("orderBookL2", "partial", _BOOK_ROW, keys=["symbol", "id", "side"], filter={"symbol": "XBTUSD"}),
            _table("orderBookL2", "update", {**_BOOK_ROW, "size": 7}),
            _table("orderBookL2", "delete", {name: _BOOK_ROW[name] for name in ("symbol", "id", "side")}),
            _table("orderBook10", "partial", {"symbol": "XBTUSD", "bids": [[1.0, 2]], "asks": []}, keys=["symbol"]),
            _table("order", "partial", _BITMEX_ORDER, keys=["orderID"], foreignKeys={"symbol": "instrument"}),
            _table("order", "update", {**_BITMEX_ORDER, "ordStatus": "Filled", "leavesQty": 0}),
            {"info": "Welcome to the BitMEX Realtime API.", "version": "2.0.0", "limit": {"remaining": 39}},
            {"success": True, "subscribe": "trade:XBTUSD", "request": SUBSCRIBE},
            {"now": "2015-09-02T14:18:43.536Z", "cancelTime": 0, "request": {}},
            {"status": 400, "error": "Unknown table: wibble", "meta": {}, "request": SUBSCRIBE},
            {"status": 429, "error": "Rate limit exceeded", "meta": {"retryAfter": 1}, "request": SUBSCRIBE},
            {"status": 401, "error": "Signature not valid.", "meta": {}, "request": {}},
            {"status": 419, "error": "Access token expired"},
        ),
        ("pong",),
    ),
    "ftx": Venue(
        _ftx,
        (
            _update("ticker", TICKER),
            _update("trades", [TRADE, TRADE]),
            _update("orderbook", _FTX_BOOK, "partial"),
            _update("orderbook", {**_FTX_BOOK, "action": "update"}),
            _update("orderbookGrouped", {"bids": [[32810.0, 0.5]], "asks": []}, "partial"),
            _update("markets", {"action": "partial", "data": {"BTC-PERP": MARKET}}, "partial"),
            _update("fills", FILL),
            _update("orders", ORDER),
            _update("ftxpay", {"status": "complete", "amount": 5}),
            {"type": "pong"},
            {"type": "subscribed", "channel": "ticker", "market": "BTC-PERP"},
            {"type": "unsubscribed", "channel": "markets"},
            {"type": "info", "code": 20001, "msg": "restart"},
            {"type": "error", "code": 400, "msg": "No such market: BTC-PERP"},
            {"type": "error", "code": 400, "msg": "Invalid login credentials"},
            {"type": "error", "code": 500, "msg": "Internal server error"},
        ),
    ),
    "ime": Venue(
        _ime,
        (
            {
                "channel": "IME Stream",
                "contractName": "ContractA",
                "timestamp": "2026-05-23T15:10:00.000000",
                "data": NOTHING,
            },
            {
                "channel": "IME Stream",
                "ContractId": 7,
                "timestamp": "2026-05-23T15:10:00.000000",
                "data": {"Aggregate": {"last_price": 5, "trade_count": 1}, "BestLimit": {"1": {"buy_price": 3}}},
            },
            {"error": "contract not found"},
            {"detail": [{"loc": ["query"], "msg": "field required"}]},
        ),
    ),
}

_OURS: Final = ("@received_at", "@backfilled", "@absent", "@market", "@limits", "@aggregate", "@allowed", "@info")
_VALUES: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1, 1.5, -0.0, 1e308, 2**31, 2**53, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400,
    "", " ", "0", "-1", "1e999", "nan", "inf", "x", "\0", "\ufeff", "²", "٣", "\u202e", "A:B", "BTC-PERP",
    "2022-99-99", "25:61:61", "2022-08-07T18:34:55.000Z", [], {}, [[]], [{}], {"": {}}, [None], {"symbol": {}},
    {"symbol": "XBTUSD"}, "partial", "update", "symbol",
)  # fmt: skip
_RAW: Final = (
    b"NaN", b"-Infinity", b"1e999999", b"-0", b"01", b"+1", b"0x1", b"1" * 5000, b"." * 5, b'"\\ud800"',
    b'"\\udc00\\ud800"', b'"\xff"', b'"\xed\xa0\x80"', b'"\\u0000"', b"{", b"[", b'"', b"\\", b"{}{}", b"null", b"",
    b'{"a":1,"a":2}', b"[" * 200_000, b'{"a":' * 100_000,
)  # fmt: skip
_MARK: Final = "\u2603 here \u2603"


class Mutator:
    """Makes damaged payloads of a venue's frames; the same for the same seed."""

    def __init__(self, venue: Venue, seed: int) -> None:
        self._venue = venue
        self._dice = random.Random(seed)
        self._words = sorted({word for frame in venue.frames for word in _words(frame)} | set(_OURS))

    def payload(self) -> bytes:
        """The next one; one in ten is whole, so that what damage leads to is seen too."""
        dice = self._dice
        if self._venue.texts and dice.random() < 0.02:
            return dice.choice(self._venue.texts).encode()
        frame = copy.deepcopy(dice.choice(self._venue.frames))
        kind = dice.random()
        if kind < 0.1:
            return self._text(frame)
        for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
            frame = self._mutated(frame)
        if kind < 0.7:
            return self._text(frame)
        if kind < 0.85:
            return self._text(self._replaced(frame, _MARK)).replace(json.dumps(_MARK).encode(), dice.choice(_RAW), 1)
        return self._torn(self._text(frame))

    def _text(self, frame: Any) -> bytes:
        spaced = self._dice.random() < 0.1
        sorts = self._dice.random() < 0.1
        text = json.dumps(frame, separators=None if spaced else (",", ":"), sort_keys=sorts)
        return text.encode()

    def _mutated(self, frame: Any) -> Any:
        change = self._dice.choice((self._other_value, self._other_key, self._without, self._grown, self._moved))
        return change(frame)

    def _other_value(self, frame: Any) -> Any:
        dice = self._dice
        value: Any = copy.deepcopy(dice.choice(_VALUES))
        if dice.random() < 0.2:
            value = dice.choice(self._words)
        elif dice.random() < 0.05:
            value = nested(dice.choice((20, 100)), dice.choice((list, dict)))
        elif dice.random() < 0.05:
            value = dice.choice(("x", "é", "\0")) * dice.choice((200, 70_000))
        return self._replaced(frame, value)

    def _replaced(self, frame: Any, value: Any) -> Any:
        place = self._dice.choice(list(_places(frame)))
        return _put(frame, place, value)

    def _other_key(self, frame: Any) -> Any:
        """Name a field as another one is, in the same object or anywhere in the protocol, or as one of ours."""
        found = self._some(frame, dict)
        if found is None:
            return self._other_value(frame)
        old, new = self._dice.choice(list(found)), self._dice.choice(self._words)
        found[new] = copy.deepcopy(found[old]) if self._dice.random() < 0.5 else found.pop(old)
        return frame

    def _without(self, frame: Any) -> Any:
        found = self._some(frame, dict) or self._some(frame, list)
        if not found:
            return self._other_value(frame)
        if isinstance(found, dict):
            del found[self._dice.choice(list(found))]
        else:
            found.pop(self._dice.randrange(len(found)))
        return frame

    def _grown(self, frame: Any) -> Any:
        """Repeat an element, or add fields."""
        found = self._some(frame, list)
        if found:
            found.extend(copy.deepcopy(self._dice.choice(found)) for _ in range(self._dice.choice((1, 2, 300))))
        elif (fields := self._some(frame, dict)) is not None:
            fields.update({f"k{number}": number for number in range(self._dice.choice((1, 300)))})
        return frame

    def _moved(self, frame: Any) -> Any:
        """Put a part of another frame in some place."""
        other = self._dice.choice(self._venue.frames)
        return self._replaced(frame, copy.deepcopy(_get(other, self._dice.choice(list(_places(other))))))

    def _some(self, frame: Any, kind: type) -> Any:
        found = [value for place in _places(frame) if isinstance(value := _get(frame, place), kind) and value]
        return self._dice.choice(found) if found else None

    def _torn(self, whole: bytes) -> bytes:
        dice = self._dice
        begin = dice.randint(0, len(whole))
        end = dice.randint(begin, min(len(whole), begin + 40))
        middle = dice.choice((b"", dice.randbytes(dice.randint(0, 8)), whole[:begin]))
        return whole[:begin] + middle + whole[end:]


def deep_payloads(venue: Venue, step: int = 1, places: int = 1) -> Iterator[bytes]:
    """Each frame with each of its values nested as deep as decoding just bears, and a little less and more.

    Args:
        venue: whose frames.
        step: levels between two depths.
        places: take one value of so many.
    """
    bearable = _bearable_depth()
    for frame in venue.frames:
        for place in list(_places(frame))[::places]:
            marked = json.dumps(_put(copy.deepcopy(frame), place, _MARK), separators=(",", ":")).encode()
            mark = json.dumps(_MARK).encode()
            if mark not in marked:
                continue
            for depth in range(bearable - 60, bearable + 10, step):
                yield marked.replace(mark, b"[" * depth + b"]" * depth, 1)
                yield marked.replace(mark, b'{"a":' * depth + b"1" + b"}" * depth, 1)


def nested(depth: int, kind: type) -> Any:
    """A value in so many lists or objects."""
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    return value


def _bearable_depth() -> int:
    """How deep lists may be nested for this interpreter's decoder, at this depth of the stack."""
    import msgspec

    low, high = 1, max(sys.getrecursionlimit(), 200_000)
    while low < high:
        middle = (low + high + 1) // 2
        try:
            msgspec.json.decode(b"[" * middle + b"]" * middle)
            low = middle
        except RecursionError:
            high = middle - 1
    return low


Place = tuple[Any, ...]


def _places(value: Any, at: Place = ()) -> Iterator[Place]:
    """The way to each value inside, itself first."""
    yield at
    if isinstance(value, dict):
        for key in value:
            yield from _places(value[key], (*at, key))
    elif isinstance(value, list):
        for index in range(min(3, len(value))):
            yield from _places(value[index], (*at, index))


def _get(value: Any, place: Place) -> Any:
    for step in place:
        value = value[step]
    return value


def _put(value: Any, place: Place, new: Any) -> Any:
    if not place:
        return new
    _get(value, place[:-1])[place[-1]] = new
    return value


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _words(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _words(inner)
    elif isinstance(value, str):
        yield value
