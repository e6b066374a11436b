"""A short recorded run of faults for every venue, and what the comparison of its replay must notice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.chaos.recorded import VENUES, differences, run


@pytest.mark.long
@pytest.mark.timeout(240)
@pytest.mark.parametrize("venue", VENUES)
def test_a_replay_is_what_was_live(venue: str, tmp_path: Path) -> None:
    """A backtest would see other messages, gaps or states than the bot did, or in another order."""
    outcome = run(venue, tmp_path, seconds=3, each=1, seed=20)
    assert not outcome.faults, outcome.table()
    assert not outcome.differences, outcome.table()
    assert outcome.live["message"] > 50
    assert outcome.live["gap"] > 5
    assert outcome.live["state"] > 10


LIVE: list[tuple[Any, ...]] = [
    ("state", "new", "open"),
    ("message", "Tick", "1"),
    ("gap", 1.0),
    ("message", "Tick", "2"),
]


@pytest.mark.parametrize(
    "replayed",
    [LIVE[:-1], LIVE[1:], [*LIVE, LIVE[1]], [LIVE[0], LIVE[2], LIVE[1], LIVE[3]], [*LIVE[:2], ("gap", 1.5), LIVE[3]]],
    ids=["less", "no state", "twice", "another order", "another gap"],
)
def test_a_difference_is_noticed(replayed: list[tuple[Any, ...]]) -> None:
    """A run would call a wrong replay the same."""
    assert differences(LIVE, LIVE) == []
    assert differences(LIVE, replayed)
