"""Tracking: nothing is handed on twice, and what is missing is counted, however entries are cut, lost or repeated."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finx_sync.relay.tracking import Hole, Notice, Records, Tracker
from finx_sync.relay.wire import START, Position, notice, time_pair

TERM = 1_700_000_000_000

Entry = tuple[bytes, list[bytes]]


def entry(position: Position, *pairs: tuple[bytes, bytes]) -> Entry:
    return str(position).encode(), [part for pair in pairs for part in pair]


def feed(sizes: list[int], splits: bool = False) -> list[Entry]:
    """A term's entries of so many payloads, which are numbered from 1; each begins with its time."""
    entries, offset = [], 0
    for number, size in enumerate(sizes):
        pairs = [time_pair(100.0 + number)]
        for place in range(size):
            if splits and place == size // 2:
                pairs += [time_pair(100.5 + number)]
            offset += 1
            pairs.append((b"spot:A" if offset % 2 else b"spot:B", b"%d" % offset))
        if size:
            entries.append(entry(Position(TERM, offset), *pairs))
    return entries


def numbers(parts: list[Any]) -> list[int]:
    return [int(payload) for part in parts if isinstance(part, Records) for payload in part.payloads]


SIZES = st.lists(st.integers(0, 6), min_size=1, max_size=20)


@given(SIZES, st.lists(st.booleans(), min_size=20, max_size=20), st.booleans(), st.randoms())
def test_what_came_and_what_is_missing_make_the_whole(
    sizes: list[int], lost: list[bool], splits: bool, luck: Any
) -> None:
    """A trimmed message would go unnoticed, or one that came would be reported as missing."""
    entries = [one for one, is_lost in zip(feed(sizes, splits), lost, strict=False) if not is_lost]
    tracker, expected = Tracker(Position(TERM, 0)), 1
    for key, fields in entries:
        repeated = luck.random() < 0.3
        for part in tracker.take(key, fields) + (tracker.take(key, fields) if repeated else []):
            if isinstance(part, Hole):
                assert part.reason == "trimmed"
                assert part.missed
                assert part.start <= part.end
                expected += part.missed
            else:
                assert isinstance(part, Records)
                assert numbers([part]) == list(range(expected, expected + len(part.payloads)))
                expected += len(part.payloads)
                assert part.position == Position(TERM, expected - 1)
        assert tracker.position == Position(TERM, expected - 1)


@given(SIZES, st.integers(0, 130), st.booleans())
def test_any_record_can_be_resumed_from(sizes: list[int], since: int, splits: bool) -> None:
    """A client that resumes in the middle of an entry would get messages twice, or lose some."""
    total = sum(sizes)
    tracker = Tracker(Position(TERM, since))
    got = [part for key, fields in feed(sizes, splits) for part in tracker.take(key, fields)]
    assert numbers(got) == list(range(since + 1, total + 1))
    assert not any(isinstance(part, Hole) for part in got)


def test_notices_stand_in_their_places() -> None:
    """A gap or a state would be reported before or after the wrong message."""
    tracker = Tracker()
    key, fields = entry(
        Position(TERM, 4),
        time_pair(1.0),
        (b"spot:A", b"1"),
        (b"@gap", notice(reason="server")),
        time_pair(2.0),
        (b"spot:A", b"2"),
        (b"@later", b"not JSON"),
    )
    assert tracker.take(key, fields) == [
        Records(Position(TERM, 1), 1.0, [b"spot:A"], [b"1"]),
        Notice(Position(TERM, 2), 1.0, b"@gap", {"reason": "server"}),
        Records(Position(TERM, 3), 2.0, [b"spot:A"], [b"2"]),
        Notice(Position(TERM, 4), 2.0, b"@later", {}),
    ]
    assert (tracker.position, tracker.at) == (Position(TERM, 4), 2.0)


@pytest.mark.parametrize("value", [b"", b"soon", b"nan", b"inf", b"\xff"])
def test_a_damaged_time_is_the_one_before(value: bytes) -> None:
    """One damaged time would end the stream, or give messages a time that compares with nothing."""
    tracker = Tracker(Position(TERM, 1), 5.0)
    (records,) = tracker.take(*entry(Position(TERM, 2), (b"@", value), (b"spot:A", b"1")))
    assert isinstance(records, Records)
    assert records.at == 5.0


@pytest.mark.parametrize(
    ("previous", "missed", "reason"),
    [
        (Position(TERM, 7), 0, ""),
        (Position(TERM, 9), 2, "trimmed"),
        (Position(TERM + 1, 3), None, "trimmed"),
        (Position(TERM, 5), None, "relay lost"),
        (Position(TERM - 1, 9), None, "relay lost"),
        (None, None, "relay lost"),
        ("soon", None, "relay lost"),
        (7, None, "relay lost"),
    ],
)
def test_a_new_term_joins_or_says_what_is_missing(previous: Any, missed: int | None, reason: str) -> None:
    """A relay that took over would leave a gap that nobody hears of, or report one where nothing is missing."""
    tracker = Tracker(Position(TERM, 7), 5.0)
    said = str(previous) if isinstance(previous, Position) else previous
    key, fields = entry(
        Position(TERM + 2, 2), time_pair(9.0), (b"@term", notice(previous=said, relay="second")), (b"spot:A", b"1")
    )
    hole = Hole(Position(TERM, 7), Position(TERM + 2, 2), missed, 5.0, 9.0, reason)  # type: ignore[arg-type]
    found = tracker.take(key, fields)
    assert found[:-2] == ([] if missed == 0 else [hole])
    assert isinstance(found[-2], Notice)
    assert numbers(found) == [1]


def test_a_new_term_whose_beginning_was_trimmed() -> None:
    """It would be taken for one that joins, since nothing says otherwise."""
    tracker = Tracker(Position(TERM, 7), 5.0)
    found = tracker.take(*entry(Position(TERM + 1, 9), time_pair(9.0), (b"spot:A", b"1")))
    assert found[0] == Hole(Position(TERM, 7), Position(TERM + 1, 9), None, 5.0, 9.0, "trimmed")


def test_where_nothing_was_read_nothing_is_missing() -> None:
    """Whoever starts at an empty stream would begin with a gap."""
    for tracker in (Tracker(), Tracker(START)):
        found = tracker.take(*entry(Position(TERM, 9), time_pair(9.0), (b"spot:A", b"9")))
        assert numbers(found) == [9]
        assert len(found) == 1
