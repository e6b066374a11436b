"""How a relay goes on where another one has ended."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from finx_sync.relay import wire
from finx_sync.relay.backlog import Received
from finx_sync.relay.joining import Payload, Tail, join, join_tag, read_tail
from finx_sync.relay.wire import Position
from tests.redis_server import RedisServer


def payloads(numbers: list[int], begin: int = 0) -> list[Payload]:
    return [Payload(begin + place, b"%d" % number) for place, number in enumerate(numbers)]


@given(st.data(), st.integers(1, 30))
def test_different_payloads(data: st.DataObject, count: int) -> None:
    """A message would be lost or doubled."""
    sent = payloads(list(range(count)))
    ended = data.draw(st.integers(1, count))
    remembered = data.draw(st.integers(0, ended - 1))
    written = sent[data.draw(st.integers(0, ended - 1)) : ended]
    assert join_tag(sent[remembered:], written) == ended - remembered


@given(st.data(), st.lists(st.integers(0, 1), min_size=1, max_size=12))
def test_equal_payloads(data: st.DataObject, numbers: list[int]) -> None:
    """A price that comes twice would be lost or doubled, where it can be told by the time or by what came before."""
    sent = payloads(numbers)
    ended = data.draw(st.integers(1, len(sent)))
    assert join_tag(sent, sent[:ended]) == ended


def test_what_cannot_be_joined() -> None:
    """Something would be missing, and nobody told."""
    assert join_tag(payloads([5, 6]), payloads([1, 2])) is None
    assert join_tag(payloads([]), payloads([1, 2])) is None
    assert join_tag(payloads([1, 9, 3]), payloads([1, 2, 3])) is None, "these are different feeds"


def received(tag: bytes, numbers: list[int], at: float) -> Received:
    return Received([tag] * len(numbers), [b"%d" % number for number in numbers], at, at)


def test_tags() -> None:
    """A quiet name would get a gap, or one that lacks something would get none."""
    tail = Tail(Position(1, 9), 9.0, {b"a": payloads([1, 2]), b"q": payloads([7]), b"x": payloads([1, 2, 3])})
    items = [received(b"a", [2, 3], 8), received(b"q", [8], 10), received(b"x", [1], 10), received(b"n", [1], 10)]
    joined = join(items, tail, overlaps=True)
    assert joined.skip == {b"a": 1}
    assert joined.broken == {b"x": 2.0}, "its newest payload has not come here yet"
    joined = join(items, tail, overlaps=False)
    assert joined.skip == {b"a": 1}
    assert joined.broken == {b"q": 0.0, b"x": 2.0, b"n": None}


def test_reading_the_end(redis_server: RedisServer) -> None:
    """A relay would compare with too little, or read for ever."""
    for number in range(1, 1001):
        redis_server_call(redis_server, number)
    with redis_server.client() as client:
        client.response_callbacks.clear()
        tail = read_tail(client, "s", {b"a:b": None}, 500.0)
        assert tail.last == Position(1, 2000)
        assert tail.at == 1000.0
        assert [one.payload for one in tail.payloads[b"a:b"]] == [b"%d" % number for number in range(499, 1001)]
        assert list(tail.payloads) == [b"a:b"]
        assert read_tail(client, "nothing", {}, time.time()) == Tail()
        assert len(read_tail(client, "s", {b"a:b": None}, 0.0).payloads[b"a:b"]) == 1000


def redis_server_call(server: RedisServer, number: int, pool: dict[int, object] = {}) -> None:  # noqa: B006
    client = pool.get(server.port) or pool.setdefault(server.port, server.client())
    client.xadd("s", {wire.TIME: float(number), b"a:b": number, b"c:d": "x"}, id=f"1-{2 * number}")  # type: ignore[attr-defined]
    if number == 1000:
        client.close()  # type: ignore[attr-defined]
