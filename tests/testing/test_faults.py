"""Faults and scripts as values: checked when made, and repeatable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

import finx_sync.testing as faulty
from finx_sync.errors import InvalidInputError
from finx_sync.testing import (
    RECOVERABLE,
    Answer,
    BlackHole,
    Close,
    Corrupt,
    Cut,
    Delay,
    Fault,
    Mute,
    Split,
    Step,
    Throttle,
    random_script,
)


@pytest.mark.parametrize(
    "make",
    [
        lambda: BlackHole("sideways"),  # type: ignore[arg-type]
        lambda: BlackHole(lasting=0),
        lambda: BlackHole(lasting=float("nan")),
        lambda: Delay(-1),
        lambda: Delay(float("inf")),
        lambda: Throttle(0),
        lambda: Split(0),
        lambda: Split(1.5),  # type: ignore[arg-type]
        lambda: Split(count=0),
        lambda: Split(pause=-1),
        lambda: Corrupt("digit"),  # type: ignore[arg-type]
        lambda: Corrupt("json", direction="both"),  # type: ignore[arg-type]
        lambda: Corrupt(times=0),
        lambda: Mute("nowhere"),  # type: ignore[arg-type]
        lambda: Close(65_536),
        lambda: Close(-1),
        lambda: Close(1000, "x" * 124),
        lambda: Close(None, "no code"),
        lambda: Answer(101),
        lambda: Answer(200, headers=(("A", "b\r\nC: d"),)),
        lambda: Answer(200, headers=(("", "b"),)),
        lambda: Step(-1, (Cut(),)),
        lambda: Step(1, ()),
        lambda: Step(1, ("cut",)),  # type: ignore[arg-type]
        lambda: random_script(1, count=0, duration=1),
        lambda: random_script(1, count=1, duration=0),
        lambda: random_script(1, count=1, duration=1, kinds={}),
    ],
)
def test_nonsense_is_refused_when_it_is_made(make: Callable[[], object]) -> None:
    """A typing error in a test would surface as a fault that never happens."""
    with pytest.raises(InvalidInputError):
        make()


@pytest.mark.parametrize("fault", [fault for faults in RECOVERABLE.values() for fault in faults], ids=repr)
def test_a_fault_prints_as_the_code_that_makes_it(fault: Fault) -> None:
    """A record of a run could not be pasted into a test."""
    assert eval(repr(fault), vars(faulty)) == fault  # noqa: S307 - that it can be is the point


def test_equal_seeds_give_equal_scripts() -> None:
    """A failing run could not be repeated."""
    assert random_script(7, count=50, duration=10) == random_script(7, count=50, duration=10)
    assert random_script(7, count=50, duration=10) != random_script(8, count=50, duration=10)


def test_a_script_has_every_kind_equally_often_in_time_and_in_order() -> None:
    """A run of two hundred faults would leave out the one that matters."""
    script = random_script(1, count=203, duration=600)
    assert set(Counter(step.name for step in script).values()) == {10, 11}
    times = [step.at for step in script]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= 600


def test_retry_after_is_written_as_http_writes_it() -> None:
    """A client would read another time, or none."""
    assert Answer(429, retry_after=2.0, location="/x", headers=(("A", "b"),)).all_headers() == [
        ("Retry-After", "2"),
        ("Location", "/x"),
        ("A", "b"),
    ]
    date = "Sat, 21 Nov 2026 01:00:00 GMT"
    assert Answer(503, retry_after=date).all_headers() == [("Retry-After", date)]
