"""FTX's order book: the merge, the checksum, the limits on asking again."""

from __future__ import annotations

import json
import zlib
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finx_sync.venues.ftx.book import FtxBook
from finx_sync.venues.ftx.messages import BookUpdate
from finx_sync.venues.ftx.repair import REPAIR_INTERVAL, Once, Repairs
from tests.material import material

Levels = list[tuple[float, float]]


def change(
    bids: Levels, asks: Levels, action: Literal["partial", "update"] = "update", checksum: int | None = None
) -> BookUpdate:
    """What the server says of a book."""
    return BookUpdate(market="A", action=action, bids=bids, asks=asks, checksum=checksum)


def filled(bids: Levels, asks: Levels) -> FtxBook:
    """A book that has had its image."""
    book = FtxBook()
    assert book.apply(change(bids, asks, "partial"))
    return book


def reference(bids: Levels, asks: Levels) -> int:
    """The checksum, word by word as the documentation has it."""
    parts = []
    for level in range(100):
        for side in (bids, asks):
            if level < len(side):
                parts += [str(float(side[level][0])), str(float(side[level][1]))]
    return zlib.crc32(":".join(parts).encode())


@pytest.mark.parametrize(
    ("bids", "asks", "expected"),
    [
        ([(5000.5, 10), (4995, 5)], [(5001, 6), (5002, 7)], 2933775928),
        ([(5000.5, 10), (4995, 5)], [(5001, 6)], 941346228),
    ],
)
def test_documented_books(bids: Levels, asks: Levels, expected: int) -> None:
    """Whole numbers would be written without their `.0`, and every book dropped."""
    floats = [[(float(price), float(size)) for price, size in side] for side in (bids, asks)]
    assert filled(*floats).checksum() == expected


def test_recorded_books() -> None:
    """Tiny sizes (`9e-05`) or sides of unequal length would be written otherwise than the server does."""
    books = json.loads(material("vectors/ftx_orderbook_crc.json").read_text())["books"]
    assert len(books) >= 3
    for vector in books:
        levels = [[(float(price), float(size)) for price, size in vector[side]] for side in ("bids", "asks")]
        assert filled(*levels).checksum() == vector["checksum"]


def test_updates_before_the_image_are_ignored() -> None:
    """A book would be made of changes alone, and a bot trade on it."""
    book = FtxBook()
    assert book.apply(change([(1.0, 1.0)], [], checksum=1))
    assert not book.is_valid
    assert book.bids() == []


def test_wrong_checksum_drops_the_book_until_its_image() -> None:
    """A bot would go on trading on a book that is known to be wrong."""
    book = filled([(1.0, 1.0)], [(2.0, 1.0)])
    assert not book.apply(change([(1.5, 1.0)], [], checksum=1))
    assert not book.is_valid
    assert book.bids() == book.asks() == []
    assert book.apply(change([(1.5, 1.0)], [], checksum=1))  # still waiting: nothing to compare
    assert book.apply(change([(3.0, 1.0)], [(4.0, 2.0)], "partial", reference([(3.0, 1.0)], [(4.0, 2.0)])))
    assert (book.bids(), book.asks(), book.is_crossed) == ([(3.0, 1.0)], [(4.0, 2.0)], False)


prices = st.integers(1, 400).map(lambda tick: tick / 8) | st.floats(1e-9, 1e9)
sizes = st.just(0.0) | st.floats(1e-9, 1e9)
changes = st.lists(st.tuples(prices, sizes), max_size=40)


@given(st.lists(st.tuples(changes, changes), min_size=1, max_size=10))
def test_book_is_that_of_a_plain_dictionary(steps: list[tuple[Levels, Levels]]) -> None:
    """Some order of changes would leave a level that is gone, or the wrong order, or the wrong checksum."""
    book = FtxBook()
    sides: tuple[dict[float, float], dict[float, float]] = ({}, {})
    for number, step in enumerate(steps):
        for side, levels in zip(sides, step, strict=True):
            side.update(levels)
        bids = sorted(((p, s) for p, s in sides[0].items() if s), reverse=True)[:100]
        asks = sorted((p, s) for p, s in sides[1].items() if s)[:100]
        action: Literal["partial", "update"] = "update" if number else "partial"
        assert book.apply(change(*step, action, reference(bids, asks)))
        assert (book.bids(), book.asks()) == (bids, asks)


@given(changes, changes, st.integers(0, 2**32 - 1))
def test_any_other_checksum_is_noticed(bids: Levels, asks: Levels, checksum: int) -> None:
    """A book that differs from the server's would pass."""
    book = filled(bids, asks)
    right = book.checksum()
    assert book.apply(change([], [], checksum=checksum)) == (checksum == right)


@given(st.lists(st.floats(0, 60), min_size=1))
def test_asking_again_is_limited(moments: list[float]) -> None:
    """A server with wrong checksums would be asked thousands of times a second."""
    repairs: Repairs[str] = Repairs()
    asked = []
    for now in sorted(moments):
        repairs.broken("A", now)
        if repairs.is_due("A", now):
            asked.append(now)
    assert asked[0] == min(moments)
    assert all(later - earlier > REPAIR_INTERVAL - 1e-9 for earlier, later in pairwise(asked))


def test_an_image_has_time_to_come_but_a_broken_book_has_not() -> None:
    """A book would be asked for twice at every start; or a wrong one be kept from its repair."""
    repairs: Repairs[str] = Repairs()
    repairs.expected("A", 0.0)
    assert not repairs.is_due("A", 1.0)
    assert repairs.is_due("A", REPAIR_INTERVAL)
    repairs.expected("B", 0.0)
    repairs.broken("B", 1.0)
    assert repairs.waiting == {"B"}
    assert repairs.is_due("B", 1.0)
    assert repairs.waiting == set()


def test_events_are_known_again_and_memory_is_bounded() -> None:
    """A fill that is sent again would be handled twice, or a long run would eat the memory."""
    once = Once(size=2)
    assert [once.is_new(number) for number in (1, 1, 2, 1, 3, 1)] == [True, False, True, False, True, True]
    assert len(once._seen) == 2
