"""What waits for Redis: counted, bounded, and in order."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from finx_sync.relay import wire
from finx_sync.relay.backlog import Backlog, Item, Notice, Received
from finx_sync.relay.call import CallBuilder
from finx_sync.relay.partition import split
from finx_sync.relay.wire import Position

TAGS = (b"contract:A", b"contract:B", b"spot:A")
BATCHES = st.lists(st.lists(st.sampled_from(TAGS), min_size=1, max_size=5), max_size=30)


def batch(tags: list[bytes], number: int, at: float = 1.0, size: int = 10) -> Received:
    return Received(tags, [b"%d" % (number + place) + b"x" * size for place in range(len(tags))], at, at)


def notice(number: int) -> Notice:
    return Notice(wire.ALIVE, {"number": number}, 1.0, 1.0)


def payloads_of(items: list[Item]) -> list[bytes]:
    return [payload for item in items if isinstance(item, Received) for payload in item.payloads]


@given(BATCHES, st.integers(1, 400), st.data())
def test_dropping(batches: list[list[bytes]], limit: int, data: st.DataObject) -> None:
    """The numbers would not add up, or a gap would not say what is missing."""
    backlog = Backlog(limit, "drop")
    sent, got = 0, 0
    missing = 0
    for tags in batches:
        backlog.put(batch(tags, sent))
        backlog.put(notice(sent))
        sent += len(tags)
        counts = backlog.counts()
        assert counts.received == sent
        assert counts.waiting == sent - counts.dropped - got
        if data.draw(st.booleans()):
            items = backlog.take(data.draw(st.integers(1, 10)), 1000)
            missing += sum(sum(item.missing.values()) for item in items if isinstance(item, Notice))
            got += len(payloads_of(items))
            backlog.settle(len(payloads_of(items)))
    items = backlog.take(1000, 1 << 20)
    missing += sum(sum(item.missing.values()) for item in items if isinstance(item, Notice))
    assert missing == backlog.counts().dropped
    assert sent == got + len(payloads_of(items)) + missing
    backlog.close()
    assert backlog.counts().waiting == 0


def test_memory_of_a_relay_on_standby() -> None:
    """It would grow; or lack what the take-over needs."""
    now = [100.0]
    backlog = Backlog(10_000, "block", monotonic=lambda: now[0])
    backlog.stand_by(15.0, has_gap=True)
    for number in range(40):
        now[0] = 100.0 + number
        backlog.put(Received([b"contract:A"], [b"%d" % number], now[0], now[0]))
    items, since = backlog.memory()
    assert payloads_of(items) == [b"%d" % number for number in range(24, 40)]
    assert since == 123.0
    assert backlog.counts().unneeded == 24
    backlog.stop_forgetting()
    backlog.leave_out({b"contract:A": 3}, lambda notice: False)
    assert payloads_of(backlog.take(100, 1000)) == [b"%d" % number for number in range(27, 40)]


def test_waiting_for_room() -> None:
    """The dispatch thread would never go on."""
    backlog = Backlog(30, "block")
    backlog.put(batch([TAGS[0]] * 3, 0))
    through = threading.Event()
    thread = threading.Thread(target=lambda: (backlog.put(batch([TAGS[0]] * 3, 3)), through.set()))
    thread.start()
    assert len(backlog.take(3, 1000)) >= 1
    assert not through.wait(0.2), "what is in flight counts"
    backlog.settle(3)
    assert through.wait(10)
    thread.join()


@given(BATCHES, st.integers(1, 4))
def test_partitions(batches: list[list[bytes]], partitions: int) -> None:
    """A payload would be in two partitions, or in none."""
    items: list[Item] = [batch(tags, 10 * number, float(number)) for number, tags in enumerate(batches)]
    items.append(Notice(wire.GAP, {"start": 0, "end": 1, "reason": "server", "names": ["A", "B"]}, 1.0, 1.0))
    items.append(Notice(wire.STATE, {"state": "open"}, 1.0, 1.0))
    parts = split(items, partitions, ("contract", "spot"))
    for tag in TAGS:
        own = parts[wire.partition_of(tag, partitions)]
        assert _of(tag, own) == _of(tag, items)
    assert sum(len(payloads_of(part)) for part in parts) == len(payloads_of(items))
    named = {
        name for part in parts for item in part if isinstance(item, Notice) for name in item.content.get("names", ())
    }
    assert named == {"A", "B"}
    assert sum(item.name == wire.STATE for part in parts for item in part if isinstance(item, Notice)) == 1


def _of(tag: bytes, items: list[Item]) -> list[bytes]:
    return [
        payload
        for item in items
        if isinstance(item, Received)
        for own, payload in zip(item.tags, item.payloads, strict=True)
        if own == tag
    ]


@given(st.lists(st.tuples(st.integers(1, 4500), st.floats(1, 1e9)), min_size=1, max_size=6), st.integers(0, 1 << 40))
def test_entries(batches: list[tuple[int, float]], before: int) -> None:
    """The offsets of a feed would have holes that nothing fell into."""
    items: list[Item] = []
    for count, at in batches:
        items += [batch([TAGS[place % 3] for place in range(count)], 0, at, 0), notice(count)]
    call = CallBuilder(Position(3, before), lambda tag: tag.startswith(b"contract")).add(items).made()
    position = Position(3, before)
    records: list[tuple[bytes, bytes]] = []
    times: list[float] = []
    for entry in call.entries:
        pairs = list(wire.pairs_of(entry.fields))
        assert len(pairs) <= wire.MAX_PAIRS
        assert pairs[0][0] == wire.TIME
        assert entry.records == wire.count_records(entry.fields)
        assert wire.missing_between(position, entry.position, entry.records) == 0
        position = entry.position
        for tag, value in pairs:
            if tag == wire.TIME:
                at = float(value)
            else:
                records.append((tag, value))
                times.append(at)
    assert [value for tag, value in records if not tag.startswith(b"@")] == payloads_of(items)
    assert call.messages == sum(count for count, _ in batches)
    expected = [item.at for item in items for _ in (item.tags if isinstance(item, Received) else [0])]
    assert all(abs(one - other) < 1e-3 for one, other in zip(times, expected, strict=True))
    finish = call.finish(Position(3, 1), None)
    contracts = min(2, max(count for count, _ in batches))
    assert finish[:3] == [str(position), "3-1", 2 * contracts]
