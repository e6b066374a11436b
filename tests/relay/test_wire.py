"""What a relay writes: whatever it is made of, it is read back as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finx_sync.relay import wire
from finx_sync.relay.wire import Position
from finx_sync.venues.base import Subscription

NUMBERS = st.integers(0, (1 << 64) - 1)
POSITIONS = st.builds(Position, NUMBERS, NUMBERS)
NAMES = st.text(st.characters(exclude_categories=["Cs"]))
KINDS = st.text("abcXYZ_", min_size=1)


@given(POSITIONS, POSITIONS)
def test_positions(one: Position, other: Position) -> None:
    """A resume token would lead to another place."""
    assert Position.read(str(one)) == Position.read(str(one).encode()) == one
    assert (one < other) == ((one.term, one.offset) < (other.term, other.offset))


@pytest.mark.parametrize(
    "text", ["", "-", "1", "1-", "-1", "a-b", "1-2-3", "+1-2", " 1-2", f"{1 << 64}-1", "\u0661-1", "$"]
)
def test_what_is_no_position(text: str) -> None:
    """A client could send Redis a command in place of a token."""
    with pytest.raises(ValueError, match="is not a position"):
        Position.read(text)


@given(KINDS, NAMES)
def test_tags(kind: str, name: str) -> None:
    """A reader would take a payload for another name's."""
    assert wire.read_tag(wire.tag_of(kind, name)) == Subscription(kind, name)


@given(KINDS, NAMES, st.integers(1, 300))
def test_partitions(kind: str, name: str, partitions: int) -> None:
    """A reader would look for a tag where it is not."""
    number = wire.partition_of(wire.tag_of(kind, name), partitions)
    assert 0 <= number < partitions
    assert number == wire.partition_of(wire.tag_of(kind, name), partitions)


def test_a_partition_stays_where_it_is() -> None:
    """After an update, readers would look elsewhere than relays write."""
    assert [wire.partition_of(wire.tag_of("contract", name), 8) for name in ("A", "B", "BTC-PERPETUAL")] == [0, 2, 5]


@given(POSITIONS, st.floats(0, 2e9), st.binary())
def test_last_values(position: Position, at: float, payload: bytes) -> None:
    """A reader would begin with another price."""
    read = wire.read_last_value(wire.last_value(position, at, payload))
    assert read[0] == position
    assert read[1] == pytest.approx(at, abs=1e-6)
    assert read[2] == payload


@pytest.mark.parametrize("value", [b"", b"1-1", b"1-1 2", b"x 1 y", b"1-1 x y"])
def test_what_is_no_last_value(value: bytes) -> None:
    """A reader would crash on what somebody else wrote."""
    with pytest.raises(ValueError):  # noqa: PT011  # whatever it says
        wire.read_last_value(value)


@given(st.dictionaries(st.text("abc", min_size=1), st.one_of(st.none(), st.text(), st.integers(-9, 9)), max_size=3))
def test_notices(content: dict[str, object]) -> None:
    """A gap would say something else."""
    assert wire.read_notice(wire.notice(**content)) == content


@pytest.mark.parametrize("value", [b"", b"[]", b"{", b"\xff", b"1", b"null"])
def test_notices_of_the_future(value: bytes) -> None:
    """A reader would end with the first newer relay."""
    assert wire.read_notice(value) == {}


@given(st.lists(st.tuples(st.sampled_from([b"@", b"@gap", b"a:b", b"@x"]), st.binary())))
def test_records_are_counted(pairs: list[tuple[bytes, bytes]]) -> None:
    """The arithmetic of what is missing would be wrong."""
    fields = [part for pair in pairs for part in pair]
    assert list(wire.pairs_of(fields)) == pairs
    assert wire.count_records(fields) == sum(name != b"@" for name, _ in pairs)


@given(st.lists(st.integers(1, 50), min_size=2, max_size=20), st.data())
def test_what_is_missing(sizes: list[int], data: st.DataObject) -> None:
    """Trimmed entries would go unnoticed."""
    offsets = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    first = data.draw(st.integers(0, len(sizes) - 2))
    second = data.draw(st.integers(first + 1, len(sizes) - 1))
    before, after = Position(7, offsets[first]), Position(7, offsets[second])
    assert wire.missing_between(before, after, sizes[second]) == sum(sizes[first + 1 : second])
    assert wire.missing_between(before, Position(8, 1), 1) is None


@given(st.lists(st.tuples(st.binary(), st.binary())), st.integers(1, 5))
def test_slices(pairs: list[tuple[bytes, bytes]], size: int) -> None:
    """A pair would be lost between two entries."""
    parts = list(wire.sliced(pairs, size))
    assert [pair for part in parts for pair in part] == pairs
    assert all(0 < len(part) <= size for part in parts)
