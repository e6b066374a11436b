"""One direction of a proxied connection, on a clock of its own."""

from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from finx_sync.testing.shaper import TrafficShaper

steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.binary(max_size=50)),
        st.tuples(st.just("hold"), st.floats(0.1, 2)),
        st.tuples(st.just("delay"), st.floats(0.1, 2)),
        st.tuples(st.just("throttle"), st.floats(5, 500)),
        st.tuples(st.just("split"), st.integers(1, 5)),
        st.tuples(st.just("clear"), st.none()),
        st.tuples(st.just("wait"), st.floats(0.01, 3)),
    ),
    max_size=20,
)


def taken(shaper: TrafficShaper, now: float, most: float = math.inf) -> bytes:
    """All that may leave now."""
    out = bytearray()
    while len(out) < most and (piece := shaper.take(now)) is not None:
        out += piece
        shaper.sent(len(piece), now)
    return bytes(out)


@given(steps)
def test_order_and_bytes_are_kept_whatever_happens(script: list[tuple[str, object]]) -> None:
    """A fault of time would lose or shuffle data, which TCP never does."""
    shaper, now, came, left = TrafficShaper(), 0.0, b"", b""
    for what, value in script:
        if what == "put":
            assert isinstance(value, bytes)
            came += value
            shaper.put(value, now)
        elif what == "wait":
            assert isinstance(value, float)
            now += value
        elif what == "clear":
            shaper.clear()
        elif what == "split":
            assert isinstance(value, int)
            shaper.split(value, 0.01, 10)
        elif what == "throttle":
            assert isinstance(value, float)
            shaper.throttle(value, now + 1)
        elif what == "hold":
            assert isinstance(value, float)
            shaper.hold(now + value)
        else:
            assert isinstance(value, float)
            shaper.delay(value, now + 1)
        left += taken(shaper, now)
    for _ in range(10_000):
        when = shaper.next_at(now)
        if when is None:
            break
        now = max(now, when)
        left += taken(shaper, now)
    assert left == came
    assert shaper.is_empty
    assert not shaper.is_full


def test_hold_lets_nothing_out_before_its_end() -> None:
    """A black hole would leak."""
    shaper = TrafficShaper()
    shaper.hold(5.0)
    shaper.put(b"abc", 1.0)
    assert shaper.take(4.9) is None
    assert shaper.next_at(4.9) == 5.0
    assert shaper.is_held(4.9)
    assert taken(shaper, 5.0) == b"abc"
    shaper.hold(math.inf)
    shaper.put(b"d", 6.0)
    assert shaper.next_at(1e9) is None


def test_delay_shifts_everything_by_the_same_time() -> None:
    """Latency would be something else than asked for."""
    shaper = TrafficShaper()
    shaper.delay(0.5, math.inf)
    for at in (1.0, 1.1, 1.2):
        shaper.put(str(at).encode(), at)
    assert [taken(shaper, at) for at in (1.49, 1.5, 1.6, 1.7)] == [b"", b"1.0", b"1.1", b"1.2"]


def test_nothing_overtakes_when_a_delay_ends() -> None:
    """Bytes would change places."""
    shaper = TrafficShaper()
    shaper.delay(1.0, 5.0)
    shaper.put(b"a", 4.9)
    shaper.put(b"b", 5.0)
    assert taken(shaper, 5.5) == b""
    assert taken(shaper, 5.9) == b"ab"


def test_throttle_keeps_the_rate() -> None:
    """A throttled line would be as fast as before, or stand still."""
    shaper = TrafficShaper()
    shaper.throttle(100.0, math.inf)
    shaper.put(bytes(300), 0.0)
    passed = [len(taken(shaper, at / 100)) for at in range(300)]
    assert 240 <= sum(passed) <= 300
    assert max(passed) == 5


def test_split_gives_pieces_and_then_the_rest() -> None:
    """A reader would never see half a header."""
    shaper = TrafficShaper()
    shaper.split(1, 0.25, 3)
    shaper.put(b"abcdef", 0.0)
    pieces = []
    for tick in itertools.count():
        piece = shaper.take(tick / 4)
        if piece is None:
            break
        pieces.append(bytes(piece))
        shaper.sent(len(piece), tick / 4)
    assert pieces == [b"a", b"b", b"c", b"def"]


def test_a_partial_send_leaves_the_rest() -> None:
    """Bytes that a full socket did not take would be lost."""
    shaper = TrafficShaper()
    shaper.put(b"abc", 0.0)
    shaper.sent(1, 0.0)
    assert taken(shaper, 0.0) == b"bc"


def test_a_full_lane_says_so() -> None:
    """A black hole would fill the memory."""
    shaper = TrafficShaper(limit=4)
    shaper.hold(math.inf)
    shaper.put(b"abc", 0.0)
    assert not shaper.is_full
    shaper.put(b"d", 0.0)
    assert shaper.is_full
    shaper.drop()
    assert not shaper.is_full
    assert shaper.is_empty


def test_clear_lets_out_what_was_held() -> None:
    """A cleared proxy would go on being faulty."""
    shaper = TrafficShaper()
    shaper.hold(math.inf)
    shaper.delay(9.0, math.inf)
    shaper.throttle(1.0, math.inf)
    shaper.split(1, 1.0, math.inf)
    shaper.put(b"abcdef", 1.0)
    shaper.clear()
    assert shaper.take(1.0) == b"abcdef"
