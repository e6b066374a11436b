"""The judge itself: it must not pass what it should catch."""

from __future__ import annotations

import json

import pytest

from tests.scale.judge import judge


def gap(*names: str, missed: int | None = None) -> str:
    return "gap " + json.dumps({"names": names, "missed": missed, "reason": "trimmed"}) + "\n"


def test_numbers_in_order_are_well() -> None:
    """Each reader would be judged faulty."""
    verdict = judge(["A 5\n", "B 1\n", "A 6\n", "B 2\n", "A 7"])
    assert (verdict.messages, verdict.missing, verdict.faults) == (4, 0, [])


@pytest.mark.parametrize(
    "lines",
    [
        ["A 1\n", "A 3\n"],
        ["A 1\n", "A 2\n", "A 2\n"],
        ["A 3\n", "A 2\n"],
        [gap("A"), "A 1\n", "A 3\n"],
        ["A 1\n", gap("B"), "A 3\n"],
        ["A 1\n", "A 3\n", gap("A")],
        ["A 1\n", gap("A", missed=1), "A 4\n"],
    ],
    ids=["hole", "repeat", "backwards", "gap too early", "gap of another", "gap too late", "gap too small"],
)
def test_faults_are_found(lines: list[str]) -> None:
    """A lossy feed would pass."""
    assert judge(lines).faults


def test_a_process_that_was_killed_begins_anew() -> None:
    """Its last line, cut short, would be taken for another number; or what it missed while it was dead for a loss."""
    verdict = judge(["\n", "begin\n", "A 12\n", "A 1\n", "begin\n", "A 20\n", "\n", "begin\n", "A 30\n", "A 3"])
    assert (verdict.messages, verdict.faults) == (3, [])


def test_a_hole_in_its_gap_is_well() -> None:
    """A labelled loss would be called a silent one."""
    verdict = judge(["A 1\n", "B 1\n", gap("A", "B", missed=4), "A 4\n", "B 4\n"])
    assert (verdict.missing, verdict.gaps, verdict.faults) == (4, 1, [])
    assert judge(["A 1\n", gap("A"), "A 9\n"]).faults == []
