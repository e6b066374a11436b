"""Mistakes that a user makes: each is refused by the very call, with a sentence that says what to do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from finx_sync import ConfigError, FinxSyncError, HandlerError, InvalidInputError, StreamManager
from finx_sync.compat.bitmex import BitMEXWebsocket
from finx_sync.compat.ftx import FtxWebsocketClient
from finx_sync.venues.bitmex import BitmexStream
from finx_sync.venues.ftx import FtxStream
from finx_sync.venues.ime import ImeStream

Case = tuple[str, Callable[[Any], object], type[FinxSyncError], str]
OPTION = "BTC-26AUG22-20000-C"


def finx() -> StreamManager:
    return StreamManager(environment="sandbox")


def bitmex() -> BitmexStream:
    return BitmexStream(environment="sandbox")


def ftx() -> FtxStream:
    return FtxStream(environment="sandbox")


def ime() -> ImeStream:
    return ImeStream(environment="sandbox", names="ContractA")


def nothing(*_: object) -> None:
    """A handler."""


FINX: list[Case] = [
    (
        "a pair as a contract",
        lambda s: s.subscribe_contract("BTC:USDC"),
        InvalidInputError,
        "is a pair.*subscribe_spot",
    ),
    ("a contract as a pair", lambda s: s.subscribe_spot(OPTION), InvalidInputError, "not a pair.*subscribe_contract"),
    ("a perpetual as a pair", lambda s: s.subscribe_spot("BTC-PERPETUAL"), InvalidInputError, "subscribe_contract"),
    (
        "a list of contracts",
        lambda s: s.subscribe_contract([OPTION, OPTION]),
        InvalidInputError,
        r"one by one.*\*names",
    ),
    ("a list of pairs", lambda s: s.subscribe_spot(["BTC:USDC"]), InvalidInputError, "one by one"),
    ("no text", lambda s: s.subscribe_contract(5), InvalidInputError, "5 is not a name"),
    ("an empty name", lambda s: s.subscribe_contract(""), InvalidInputError, "not an instrument name"),
    ("a silence below 0", lambda s: s.subscribe_contract(OPTION, stale_after=-1), InvalidInputError, "stale_after"),
    (
        "a silence that is text",
        lambda s: s.subscribe_spot("BTC:USDC", stale_after="5"),
        InvalidInputError,
        "stale_after",
    ),
    ("a pair given up as a contract", lambda s: s.unsubscribe_contract("BTC:USDC"), InvalidInputError, "is a pair"),
    ("a contract given up as a pair", lambda s: s.unsubscribe_spot(OPTION), InvalidInputError, "not a pair"),
    ("a list given up", lambda s: s.unsubscribe_contract([OPTION]), InvalidInputError, "one by one"),
    ("the name first", lambda s: s.on_contract(OPTION, nothing), HandlerError, "handler nothing.*first"),
    ("pair and handler swapped", lambda s: s.on_spot("BTC:USDC", print), HandlerError, "handler print.*first"),
    ("no handler", lambda s: s.on_contract(), HandlerError, "pass a function"),
    ("no handler for pairs", lambda s: s.on_spot(), HandlerError, "pass a function"),
    ("a list of names for a handler", lambda s: s.on_contract(nothing, [OPTION]), InvalidInputError, "one by one"),
    ("a list instead of a handler", lambda s: s.on_contract([OPTION]), HandlerError, "got list"),
    ("a handler of a pair among contracts", lambda s: s.on_contract("BTC:USDC"), InvalidInputError, "is a pair"),
    ("a handler of a contract among pairs", lambda s: s.on_spot(nothing, OPTION), InvalidInputError, "not a pair"),
    ("a yes as text", lambda _: StreamManager(stream_per_url="yes"), ConfigError, "True or False"),  # type: ignore[arg-type]
    ("a handler of no name", lambda s: s.on_contract(""), InvalidInputError, "not an instrument name"),
]
BITMEX: list[Case] = [
    ("the table before the handler", lambda s: s.on_table("quote", nothing), HandlerError, "handler nothing.*first"),
    ("no handler", lambda s: s.on_table(), HandlerError, "pass a function"),
    ("a list of topics", lambda s: s.subscribe(["trade:XBTUSD"]), InvalidInputError, "one by one"),
    ("a list given up", lambda s: s.unsubscribe(["trade:XBTUSD"]), InvalidInputError, "one by one"),
    ("no topic", lambda s: s.subscribe("XBTUSD:trade:x y"), InvalidInputError, "not a topic"),
    ("a list to wait for", lambda s: s.wait_until_filled(["quote:XBTUSD"]), InvalidInputError, "one by one"),
    ("a wait below 0", lambda s: s.wait_until_filled(timeout=-1), InvalidInputError, "timeout"),
    ("a symbol that is none", lambda _: BitmexStream([None], environment="sandbox"), InvalidInputError, "symbols"),  # type: ignore[list-item]
    ("a no as text", lambda _: BitmexStream(environment="sandbox", deletes="no"), ConfigError, "True or False"),  # type: ignore[arg-type]
    ("a client without time", lambda _: BitMEXWebsocket("", "", timeout=-1), InvalidInputError, "not a timeout"),
    (
        "tables without a symbol",
        lambda _: BitmexStream(environment="sandbox", channels="quote"),
        ConfigError,
        "symbols",
    ),
    (
        "a key function",
        lambda _: BitmexStream(environment="sandbox", api_key=str, api_secret=str),  # type: ignore[arg-type]
        ConfigError,
        "must be strings",
    ),
]
FTX: list[Case] = [
    (
        "the market before the handler",
        lambda s: s.on_ticker("BTC-PERP", nothing),
        HandlerError,
        "handler nothing.*first",
    ),
    ("no handler", lambda s: s.on_trade(), HandlerError, "pass a function"),
    ("a handler of no market", lambda s: s.on_ticker("BTC PERP"), InvalidInputError, "not a market"),
    ("a list of markets", lambda s: s.subscribe_ticker(["BTC-PERP"]), InvalidInputError, "one by one"),
    ("no market", lambda s: s.subscribe_trades(), InvalidInputError, "at least one"),
    ("no market given up", lambda s: s.unsubscribe_ticker("BTC PERP"), InvalidInputError, "not a market"),
    ("a yes as a step", lambda s: s.subscribe_orderbook_grouped("BTC-PERP", True), InvalidInputError, "grouping"),
    ("a wait that is no number", lambda s: s.wait_until_subscribed(math.nan), InvalidInputError, "timeout"),
    ("a client without time", lambda _: FtxWebsocketClient(timeout=-1), InvalidInputError, "not a timeout"),
    ("a key that is no text", lambda _: FtxStream(5, 6, environment="sandbox"), ConfigError, "must be strings"),  # type: ignore[arg-type]
]
IME: list[Case] = [
    (
        "the name before the handler",
        lambda s: s.on_contract("ContractA", nothing),
        HandlerError,
        "handler nothing.*first",
    ),
    ("no handler", lambda s: s.on_contract(), HandlerError, "pass a function"),
    ("a handler of no contract", lambda s: s.on_contract(" "), InvalidInputError, "not a contract"),
    ("a list of names", lambda s: s.subscribe_name(["ContractA"]), InvalidInputError, "one by one"),
    ("a yes as an id", lambda s: s.subscribe_id(True), InvalidInputError, "True is not a name"),
    ("a number as a name", lambda s: s.subscribe_name(5), InvalidInputError, "5 is not a name"),
    ("a number given up as a name", lambda s: s.unsubscribe_name(5), InvalidInputError, "5 is not a name"),
    ("names that are none", lambda _: ImeStream(environment="sandbox", names=5.5), InvalidInputError, "names"),  # type: ignore[arg-type]
]
EVERY: list[Case] = [
    ("no event handler", lambda s: s.on_error("error"), HandlerError, "callable"),
    ("an event handler of two", lambda s: s.on_gap(lambda one, two: None), HandlerError, "one argument"),
    ("no handler to remove", lambda s: s.off("print"), HandlerError, "callable"),
    ("the newest of a list", lambda s: s.latest(["NAME"]), InvalidInputError, "one by one"),
    ("the newest of a number", lambda s: s.latest(5), InvalidInputError, "not a name"),
    ("coverage of nothing", lambda s: s.coverage(None), InvalidInputError, "not a name"),
    ("age of a list", lambda s: s.last_message_age(["NAME"]), InvalidInputError, "one by one"),
    ("how many after the name", lambda s: s.take("NAME", 5), InvalidInputError, "count.*'NAME'"),
    ("a yes as how many", lambda s: s.take(True), InvalidInputError, "count"),
    ("less than none", lambda s: s.take(-1), InvalidInputError, "count"),
    ("half a message", lambda s: s.take(2.5), InvalidInputError, "count"),
    ("some of a list", lambda s: s.take(5, ["NAME"]), InvalidInputError, "one by one"),
    ("take: a wait below 0", lambda s: s.take(5, timeout=-1), InvalidInputError, "timeout"),
    ("iterating over a list", lambda s: s.ticks(["NAME"]), InvalidInputError, "one by one"),
    ("ticks: a wait that is text", lambda s: s.ticks(timeout="5"), InvalidInputError, "timeout"),
    ("a size of 0", lambda s: s.ticks(size=0), InvalidInputError, "size"),
    ("waiting for a name", lambda s: s.wait_for("NAME"), HandlerError, "callable"),
    ("wait_for: a wait that is no number", lambda s: s.wait_for(nothing, math.nan), InvalidInputError, "timeout"),
    ("wait_for: a yes as a wait", lambda s: s.wait_for(nothing, True), InvalidInputError, "timeout"),
    ("recording to a number", lambda s: s.record(5), InvalidInputError, "not a path"),
    ("recording to nowhere", lambda s: s.record(""), InvalidInputError, "not a path"),
    ("a no as text", lambda s: s.record("a.finxrec", compress="no"), ConfigError, "True or False"),
    ("a yes as a size", lambda s: s.record("a.finxrec", rotate_bytes=True), ConfigError, "bytes"),
    ("replaying a number", lambda s: s.replay(5), InvalidInputError, "not a path"),
    ("replaying at no speed", lambda s: s.replay("a.finxrec", speed=None), InvalidInputError, "speed"),
    ("start: a wait below 0", lambda s: s.start(-1), InvalidInputError, "timeout"),
    ("start: a wait that is text", lambda s: s.start("5"), InvalidInputError, "timeout"),
]
MAKERS = {finx: FINX, bitmex: BITMEX, ftx: FTX, ime: IME}
CASES = [(make, *case) for make, own in MAKERS.items() for case in (*own, *EVERY)]


@pytest.mark.parametrize(
    ("make", "what", "call", "kind", "words"), CASES, ids=[f"{case[0].__name__}: {case[1]}" for case in CASES]
)
def test_a_mistake_is_refused_at_the_call(
    make: Callable[[], Any], what: str, call: Callable[[Any], object], kind: type[FinxSyncError], words: str
) -> None:
    """A program would run without an error and without data."""
    stream = make()
    before = stream.stats(), repr(stream)
    with pytest.raises(kind, match=words):
        call(stream)
    assert (stream.stats(), repr(stream)) == before  # nothing of it has happened


def test_the_environment_in_the_place_of_the_key() -> None:
    """The program would go to production, with the word "sandbox" for a key."""
    with pytest.raises(ConfigError, match="write environment='sandbox'"):
        StreamManager("sandbox")


def test_what_is_right_stays_allowed() -> None:
    """A program that computes its names would have to look whether there are any."""
    stream = finx()
    stream.subscribe_contract()
    stream.subscribe_contract(*["BTC-PERPETUAL"], "BTC_USDC-26AUG22-20000-C", stale_after=0.5)
    stream.subscribe_spot("btc:usdc")
    stream.on_contract("BTC-PERPETUAL", OPTION)(nothing)
    stream.on_spot(nothing, "BTC:USDC")
    assert stream.off(nothing)
    assert "3 subscriptions" in repr(stream)
    other = ImeStream(environment="sandbox", names=["ContractA"], ids=[5, "6"])
    other.on_contract("5")(nothing)
    assert BitmexStream("XBTUSD", environment="sandbox", channels=["quote"]).topics == ["quote:XBTUSD"]
