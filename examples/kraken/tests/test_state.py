"""Books and trades, tested without a server."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable

import pytest
from finx_sync_kraken.codec import KrakenCodec
from finx_sync_kraken.messages import BookGranted, BookUpdate, KrakenOrderBook, KrakenTrade, Trades
from finx_sync_kraken.state import KrakenBook, KrakenState

from finx_sync.errors import ChecksumError
from finx_sync.venues.base import Confirmed, Outcome, Report, Resubscribe, Subscription

ASKS = """45285.2/0.00100000 45286.4/1.54571953 45286.6/1.54571109 45289.6/1.54560911 45290.2/0.15890660
45291.8/1.54553491 45294.7/0.04454749 45296.1/0.35380000 45297.5/0.09945542 45299.5/0.18772827"""
BIDS = """45283.5/0.10000000 45283.4/1.54582015 45282.1/0.10000000 45281.0/0.10000000 45280.3/1.54592586
45279.0/0.07990000 45277.6/0.03310103 45277.5/0.30000000 45277.3/1.54602737 45276.6/0.15445238"""
CHECKSUM = 3310070434
BOOK = Subscription("book", "BTC/USD")


def frame(kind: str, bids: str, asks: str, checksum: int) -> BookUpdate:
    def rows(levels: str) -> str:
        pairs = (level.split("/") for level in levels.split())
        return ",".join(f'{{"price":{price},"qty":{qty}}}' for price, qty in pairs)

    text = (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"BTC/USD","bids":[{rows(bids)}],"asks":[{rows(asks)}],'
        f'"checksum":{checksum}}}]}}'
    )
    (update,) = KrakenCodec().decode([text.encode()])
    assert isinstance(update, BookUpdate)
    return update


def trades(*numbers: int) -> Trades:
    rows = [{"symbol": "A/B", "side": "buy", "price": 1, "qty": 1, "trade_id": number} for number in numbers]
    (found,) = KrakenCodec().decode([json.dumps({"channel": "trade", "type": "update", "data": rows}).encode()])
    assert isinstance(found, Trades)
    return found


def test_the_published_checksum() -> None:
    """Every book would be considered wrong."""
    book = KrakenBook()
    assert book.apply(frame("snapshot", BIDS, ASKS, CHECKSUM))
    assert book.checksum() == CHECKSUM


@pytest.mark.parametrize("depth", [10, 25])
def test_levels_deeper_than_the_subscription_are_forgotten(depth: int) -> None:
    """A level without further updates would reappear later, and be wrong."""
    book = KrakenBook()
    book.depth = depth
    book.apply(frame("snapshot", BIDS, ASKS, CHECKSUM))
    best = f"45284.0/0.50000000 {' '.join(BIDS.split()[:-1])}"
    numbers = f"{ASKS} {best}".replace("/", " ").replace(".", "").split()
    assert book.apply(
        frame("update", "45284.0/0.50000000", "", zlib.crc32("".join(one.lstrip("0") for one in numbers).encode()))
    )
    picture = book.picture()
    assert picture is not None
    assert picture.bids[0] == (45284.0, 0.5)
    assert len(picture.bids) == min(depth, 11)


def take(state: KrakenState, message: object, now: float):
    return state.take(message, None, now, {KrakenOrderBook})


def test_a_wrong_checksum_drops_the_book_and_asks_again_but_not_in_a_loop() -> None:
    """A wrong book would be returned, or a server with wrong checksums would get too many requests."""
    state = KrakenState()
    state.added(BOOK, 0.0)
    good, bad = frame("snapshot", BIDS, ASKS, CHECKSUM), frame("snapshot", BIDS, ASKS, 1)
    assert take(state, frame("update", BIDS, "", 1), 0.1).commands == []  # before the snapshot
    assert take(state, good, 0.2).messages[0][0] is KrakenOrderBook
    report, again = take(state, frame("update", "45283.5/0", "", CHECKSUM), 0.3).commands
    assert isinstance(report, Report)
    assert isinstance(report.error, ChecksumError)
    assert again == Resubscribe((BOOK,))
    assert state.book("BTC/USD") is None
    (report,) = take(state, bad, 0.4).commands
    assert isinstance(report, Report)
    assert not state.round(5.2).commands
    assert state.round(5.3).commands == (Resubscribe((BOOK,)),)
    assert not state.round(5.4).commands
    take(state, good, 5.5)
    assert state.book("BTC/USD") is not None


@pytest.mark.parametrize(
    "lose", [lambda state: state.missed("slow consumer", 0.2), lambda state: state.unreadable("", 0.2)]
)
def test_a_lost_update_makes_a_deep_book_doubtful(lose: Callable[[KrakenState], Outcome]) -> None:
    """Levels beyond those in the checksum could be wrong without being noticed."""
    state = KrakenState()
    state.added(BOOK, 0.0)
    assert take(state, BookGranted(BOOK, 25), 0.0).commands == (Confirmed(BOOK),)
    take(state, frame("snapshot", BIDS, ASKS, CHECKSUM), 0.1)
    assert lose(state).commands == (Resubscribe((BOOK,)),)
    assert state.book("BTC/USD") is None


def test_trades_are_handed_on_once_and_in_order() -> None:
    """A bot would count trades twice after a reconnect."""
    state = KrakenState()

    def ids(state: KrakenState, frame: Trades) -> list[int]:
        return [trade.trade_id for kind, trade in take(state, frame, 0.0).messages if kind is KrakenTrade]

    assert ids(state, trades(3, 1, 2)) == [1, 2, 3]
    assert ids(state, trades(2, 3, 4)) == [4]
    assert take(state, trades(3, 4), 0.0).is_duplicate
    assert ids(KrakenState(after=state), trades(4, 5)) == [5]
    state.withheld(trades(4).trades)
    assert ids(state, trades(3, 4)) == [4]
    state.removed(Subscription("trade", "A/B"), 0.0)
    assert ids(state, trades(1)) == [1]
