"""How much of a feed is kept: never more than the limits, and never much less."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finx_sync.errors import ConfigError
from finx_sync.relay.trimming import Limits, Trimming
from finx_sync.relay.wire import Position

ENTRIES = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 5000), st.floats(0, 5)), min_size=1, max_size=150)
LIMITS = st.builds(Limits, st.integers(1, 2000), st.integers(1, 100_000), st.floats(0.1, 100))


@given(ENTRIES, LIMITS)
def test_what_is_kept(entries: list[tuple[int, int, float]], limits: Limits) -> None:
    """Redis would fill up; or what a late reader needs would be gone too early."""
    trimming, kept = Trimming(limits), []
    offset, now = 0, 0.0
    for records, size, pause in entries:
        now += pause
        offset += records
        trimming.added(Position(1, offset), records, size, now)
        kept.append((Position(1, offset), records, size, now))
        before = kept
        if (cut := trimming.due(now)) is not None:
            kept = [entry for entry in kept if entry[0] >= cut]
            assert len(kept) < len(before), "a cut removes something"
        assert kept, "the newest stays"
        if len(kept) > 1:
            assert sum(entry[1] for entry in kept) <= limits.records
            assert sum(entry[2] for entry in kept) <= limits.size
            assert now - kept[0][3] <= limits.seconds * 1.02
        if cut is not None:  # the last step that was cut off was needed
            step_records = limits.records // 100 + 50
            step_size = limits.size // 100 + 5000
            assert (
                sum(entry[1] for entry in kept) > limits.records - step_records
                or sum(entry[2] for entry in kept) > limits.size - step_size
                or now - before[0][3] > limits.seconds
            )


@given(ENTRIES, LIMITS)
def test_the_older_half(entries: list[tuple[int, int, float]], limits: Limits) -> None:
    """An order book's image would be deleted before the venue was asked for another."""
    trimming, offset, now, added = Trimming(limits), 0, 0.0, []
    for records, size, pause in entries:
        now += pause
        offset += records
        trimming.added(Position(1, offset), records, size, now)
        added.append((Position(1, offset), records, size, now))
        half, cut = trimming.half(now), trimming.due(now)
        if cut is not None:
            assert half is not None
            assert half >= Position(1, cut.offset - 1), "it is asked for before it is deleted"
        if half is not None:
            newer = [entry for entry in added if entry[0] > half]
            assert sum(entry[1] for entry in newer) <= limits.records / 2


@pytest.mark.parametrize("wrong", [{"records": 0}, {"size": -1}, {"seconds": "x"}, {"records": True}])
def test_limits(wrong: dict[str, object]) -> None:
    """Everything would be deleted at once."""
    with pytest.raises(ConfigError, match="keep_"):
        Limits(**wrong)  # type: ignore[arg-type]
