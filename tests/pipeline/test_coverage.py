"""Coverage: intervals without a break, whatever happens."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from finx_sync.notices import Interval
from finx_sync.pipeline.coverage import MAX_HOLES, Coverage

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "lose", "regain", "hole", "fill", "end"]),
        st.floats(0, 5, allow_nan=False),
        st.floats(0, 5, allow_nan=False),
    ),
    max_size=40,
)


@given(STEPS)
def test_intervals_follow_each_other(steps: list[tuple[str, float, float]]) -> None:
    """A user could not tell whether a moment is covered, or would find it covered twice."""
    coverage, now = Coverage(), 100.0
    for what, wait, back in steps:
        now += wait
        if what == "lose":
            coverage.lose("A", now - back, "connection lost")
        elif what == "hole":
            coverage.hole(Interval(now - back, now, "missing", "conflated", 1), "A")
        elif what == "fill":
            coverage.fill("A", now - back, now)
        else:
            getattr(coverage, what)("A", now)
        intervals = coverage.of("A", now)
        for one, next_one in pairwise(intervals):
            assert one.start <= one.end == next_one.start <= next_one.end
        if intervals and what != "end":
            assert intervals[-1].end <= max(now, intervals[-1].start)
    assert coverage.of("B", now) == []


def test_an_outage_and_its_end() -> None:
    """An outage would not be shown, or would never end."""
    coverage = Coverage()
    coverage.begin("A", 10.0)
    coverage.lose("A", 20.0, "connection lost")
    assert coverage.of("A", 25.0) == [
        Interval(10.0, 20.0, "received"),
        Interval(20.0, 25.0, "missing", "connection lost"),
    ]
    coverage.regain("A", 30.0)
    coverage.fill("A", 22.0, 28.0)
    assert [(one.start, one.end, one.kind) for one in coverage.of("A", 40.0)] == [
        (10.0, 20.0, "received"),
        (20.0, 22.0, "missing"),
        (22.0, 28.0, "backfilled"),
        (28.0, 30.0, "missing"),
        (30.0, 40.0, "received"),
    ]
    coverage.end("A", 50.0)
    assert coverage.of("A", 99.0)[-1].end == 50.0
    coverage.begin("A", 60.0)
    assert coverage.of("A", 61.0) == [Interval(60.0, 61.0, "received")]


def test_what_happens_before_the_beginning_or_twice_is_nothing() -> None:
    """A late report would write into a record that is not there, or lose what was lost already."""
    coverage = Coverage()
    coverage.lose("A", 1.0, "connection lost")
    coverage.regain("A", 2.0)
    coverage.fill("A", 1.0, 2.0)
    coverage.hole(Interval(1.0, 2.0, "missing", "conflated", 3), "A")
    coverage.end("A", 3.0)
    assert coverage.of("A", 4.0) == []
    coverage.begin("A", 10.0)
    coverage.begin("A", 11.0)
    coverage.lose("A", 12.0, "connection lost")
    coverage.lose("A", 13.0, "suspend")
    coverage.end("A", 14.0)
    coverage.end("A", 15.0)
    assert coverage.of("A", 20.0) == [
        Interval(10.0, 12.0, "received"),
        Interval(12.0, 14.0, "missing", "connection lost"),
    ]


def test_small_holes_become_one_and_memory_is_bounded() -> None:
    """A slow handler conflates hundreds of times a second: a day of it would fill the memory."""
    coverage = Coverage()
    coverage.begin("A", 0.0)
    for number in range(10):
        coverage.hole(Interval(1 + number / 10, 1.05 + number / 10, "missing", "conflated", 2), "A")
    coverage.hole(Interval(1.96, 2.0, "missing", "conflated"), "A")
    (_, hole, _) = coverage.of("A", 3.0)
    assert (hole.start, hole.end, hole.missed) == (1.0, 2.0, None)
    for number in range(3 * MAX_HOLES):
        reason = "conflated" if number % 2 else "slow consumer"
        coverage.hole(Interval(10.0 + 5 * number, 11.0 + 5 * number, "missing", reason, 1), "A")
    intervals = coverage.of("A", 1e6)
    assert sum(one.kind == "missing" for one in intervals) <= MAX_HOLES
    assert intervals[0].start == 0.0
    for number in range(3):  # of one reason: the last ones grow together
        coverage.hole(Interval(1e5 + 5 * number, 1e5 + 1 + 5 * number, "missing", "conflated", 1), "A")
    assert sum(one.kind == "missing" for one in coverage.of("A", 1e6)) <= MAX_HOLES


def test_two_causes_at_one_time_share_it() -> None:
    """A moment that is missing for two reasons would be shown twice."""
    coverage = Coverage()
    coverage.begin("A", 0.0)
    coverage.hole(Interval(1.0, 3.0, "missing", "slow consumer", 5), "A")
    coverage.hole(Interval(2.0, 4.0, "missing", "conflated", 1), "A")
    assert [(one.start, one.end, one.reason) for one in coverage.of("A", 5.0)] == [
        (0.0, 1.0, ""),
        (1.0, 3.0, "slow consumer"),
        (3.0, 4.0, "conflated"),
        (4.0, 5.0, ""),
    ]
