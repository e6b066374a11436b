"""Judges what a reader or client got by the upstream's own numbers. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

__all__ = ["Verdict", "judge"]


@dataclass
class Verdict:
    """The outcome of one reader.

    Attributes:
        messages: how many it got.
        missing: how many numbers were missing, all of them inside reported gaps unless there are faults.
        gaps: how many gaps were reported.
        reasons: how many of each reason.
        faults: sentences; none where all is well.
    """

    messages: int = 0
    missing: int = 0
    gaps: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def _whole(lines: Iterable[str]) -> Iterator[str]:
    """The lines without those that a process was writing when it was killed: before a "begin", and at the end."""
    before = ""
    for line in lines:
        if line != "begin\n":
            yield from [before] if before else []
        before = line
    if before.endswith("\n"):
        yield before


def judge(lines: Iterable[str]) -> Verdict:
    """Judge the lines of one reader: each name's numbers rise by one, except where a gap of that name was reported.

    A hole must have its gap between the two messages around it, and a gap that says how many messages are missing must
    not say fewer than the numbers do.
    """
    verdict = Verdict()
    newest: dict[str, int] = {}
    open_gaps: dict[str, list[int | None]] = {}  # what was reported for a name since its last message
    counted: dict[str, int] = {}
    known = 0
    for line in _whole(lines):
        if line == "begin\n":  # it was killed and started again, and begins with what comes then
            newest, open_gaps = {}, {}
            continue
        if line.startswith("gap "):
            gap = json.loads(line[4:])
            verdict.gaps += 1
            verdict.reasons[gap["reason"]] = verdict.reasons.get(gap["reason"], 0) + 1
            known += gap["missed"] or 0
            for name in gap["names"]:
                open_gaps.setdefault(name, []).append(gap["missed"])
            continue
        name, text = line.split()
        number, before = int(text), newest.get(name)
        reported = open_gaps.pop(name, [])
        newest[name] = number
        verdict.messages += 1
        if before is None or number == before + 1:
            continue
        if number <= before:
            verdict.faults.append(f"{name}: {number} came after {before}")
            continue
        hole = number - before - 1
        verdict.missing += hole
        if not reported:
            verdict.faults.append(f"{name}: {hole} after {before} are missing, and no gap says so")
        elif None not in reported:
            counted[name] = counted.get(name, 0) + hole
    if sum(counted.values()) > known:
        verdict.faults.append(f"{sum(counted.values())} messages are missing in gaps that name only {known}")
    return verdict
