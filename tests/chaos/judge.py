"""Whether every numbered message was handled once or is inside a reported gap. The server's log is the judge's book.

The witness stands on the dispatch thread and keeps only what it needs: where each name is, and what was missing when it
went on. The verdict compares that with what the server sent.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from finx_sync import ContractTick, SpotTick
from finx_sync.errors import UnreadableMessageError
from finx_sync.notices import Interval

NUMBER = re.compile(r'"seq"[:;](\d+)[,;]"connection"[:;](\d+)')
"""A message's number and connection, also where a sign of its JSON is damaged."""
NAME = re.compile(r'"(?:instrument_name|pair)"[:;]"([^"]+)"')
IN_TRANSIT = 3.0
"""Seconds that a message may be on its way, behind a throttled or delayed line, before the gap that swallows it."""
CLOCK_SLACK = 0.5
"""Seconds after the first message behind a gap in which the server may still write to a connection that is gone."""


class Told(NamedTuple):
    """A gap that was reported: its times, UNIX seconds."""

    start: float
    end: float


class Skip(NamedTuple):
    """A name went on from one message to another that is not its next one.

    Attributes:
        name: whose.
        before, after: (connection, number); `before` is (0, 0) at the very beginning.
        told: the gaps that were reported between the two.
    """

    name: str
    before: tuple[int, int]
    after: tuple[int, int]
    told: tuple[Told, ...]


@dataclass
class Verdict:
    """What the comparison gave.

    Attributes:
        sent, handled, unreadable, in_gaps, after_the_end: numbered messages; the last four make up the first.
        gaps: how many were reported.
        faults: sentences; none where all is well.
    """

    sent: int = 0
    handled: int = 0
    unreadable: int = 0
    in_gaps: int = 0
    after_the_end: int = 0
    gaps: int = 0
    faults: list[str] = field(default_factory=list)


class Witness:
    """Sees what handlers are given: `message`, `tick`, `error` and `gap` are handlers; `expect` is for the judge."""

    def __init__(self) -> None:
        self.handled = 0
        self.gaps = 0
        self.unreadable: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self.skips: list[Skip] = []
        self.faults: list[str] = []
        self.position: dict[str, tuple[int, int]] = {}
        self._text = ""
        self._told: dict[str, list[Told]] = defaultdict(list)  # since the name's last message
        self._awaited: dict[str, tuple[int, int]] = {}
        self._all_there = threading.Event()

    # Handlers, on the dispatch thread

    def message(self, text: str) -> None:
        """`on_message`: called right before the typed handler of the same message."""
        self._text = text

    def tick(self, tick: ContractTick | SpotTick) -> None:
        """`on_contract` and `on_spot`."""
        found = NUMBER.search(self._text)
        if found is None:
            self.faults.append(f"a tick without a number was handled: {self._text[-80:]}")
            return
        number, connection = int(found[1]), int(found[2])
        self.saw(tick.name, connection, number)

    def saw(self, name: str, connection: int, number: int) -> None:
        """A numbered message was handled."""
        self.handled += 1
        here, before = (connection, number), self.position.get(name, (0, 0))
        self.position[name] = here
        if here != (before[0], before[1] + 1):
            if here <= before:
                self.faults.append(f"{name}: {here} was handled after {before}: twice, or out of order")
            self.skips.append(Skip(name, before, here, tuple(self._told[name])))
        if self._told[name]:
            self._told[name].clear()
        if self._awaited and here > self._awaited.get(name, here):
            self._awaited.pop(name, None)
            if not self._awaited:
                self._all_there.set()

    def error(self, error: object) -> None:
        """`on_error`: of a message that could not be read, the text came before."""
        if not isinstance(error, UnreadableMessageError):
            self.faults.append(f"on_error was told {error!r}")
            return
        number, name = NUMBER.search(self._text), NAME.search(self._text)
        if number is not None and name is not None:  # else an answer was damaged, which has no number
            self.unreadable[name[1]].append((int(number[2]), int(number[1])))

    def gap(self, gap: object) -> None:
        """`on_gap`."""
        self.gaps += 1
        for name in gap.names:  # type: ignore[attr-defined]
            self._told[name].append(Told(gap.start, gap.end))  # type: ignore[attr-defined]

    # The judge's thread

    def expect(self, marks: dict[str, tuple[int, int]], timeout: float) -> bool:
        """Wait until each name has gone beyond its mark (connection, number); returns whether it has.

        Args:
            marks: by name.
            timeout: seconds.
        """
        self._all_there.clear()
        self._awaited = {name: mark for name, mark in marks.items() if self.position.get(name, (0, 0)) <= mark}
        # A name may have gone on between the two looks; its next message will tell.
        return not self._awaited or self._all_there.wait(timeout)

    def missing(self) -> list[str]:
        """The names that `expect` still waits for."""
        return sorted(self._awaited)


def judge(
    witness: Witness,
    log: Iterable[tuple[int, str, list[float]]],
    coverage: Mapping[str, Sequence[Interval]],
    ended_at: float,
) -> Verdict:
    """Compare what was handled with what was sent.

    Args:
        witness: after the stream has ended.
        log: (connection, name, the time at which each number was sent).
        coverage: the stream's own, by name.
        ended_at: when the stream was stopped, UNIX seconds; what was on its way then counts apart.
    """
    verdict = Verdict(handled=witness.handled, gaps=witness.gaps, faults=list(witness.faults))
    sent: dict[str, dict[int, list[float]]] = defaultdict(dict)
    for connection, name, times in log:
        sent[name][connection] = times
        verdict.sent += len(times)
    for skip in witness.skips:
        _judge_skip(skip, sent[skip.name], coverage[skip.name], witness, verdict)
    for name, connections in sent.items():
        _judge_end(name, witness, connections, ended_at, verdict)
    verdict.unreadable = sum(map(len, witness.unreadable.values()))
    if verdict.sent != verdict.handled + verdict.unreadable + verdict.in_gaps + verdict.after_the_end:
        verdict.faults.append(f"the sum is wrong: {verdict}")
    return verdict


def _between(
    before: tuple[int, int], after: tuple[int, int], connections: dict[int, list[float]]
) -> dict[tuple[int, int], float]:
    """What was sent after one message and before another: (connection, number) with its time."""
    return {
        (connection, number): time
        for connection, times in connections.items()
        if before[0] <= connection <= after[0]
        for number, time in enumerate(times, 1)
        if before < (connection, number) < after
    }


def _judge_skip(
    skip: Skip,
    connections: dict[int, list[float]],
    coverage: Sequence[Interval],
    witness: Witness,
    verdict: Verdict,
) -> None:
    lost = _between(skip.before, skip.after, connections)
    for told in witness.unreadable[skip.name]:
        lost.pop(told, None)
    verdict.in_gaps += len(lost)
    if not lost:
        return
    first, last = min(lost.values()), max(lost.values())
    what = f"{skip.name}: {len(lost)} messages between {skip.before} and {skip.after}"
    if not skip.told:
        verdict.faults.append(f"{what} are missing, and no gap was reported")
    elif first < skip.told[0].start - IN_TRANSIT or last > skip.told[-1].end + CLOCK_SLACK:
        verdict.faults.append(
            f"{what}, sent from {first:.3f} to {last:.3f}, are outside of the gap from {skip.told[0].start:.3f} "
            f"to {skip.told[-1].end:.3f}"
        )
    elif not any(one.kind == "missing" and _meet(one, told) for told in skip.told for one in coverage):
        verdict.faults.append(f"{what} are missing, and coverage() does not know of it")


def _meet(one: Interval, told: Told) -> bool:
    return one.start <= told.end and told.start <= one.end


def _judge_end(
    name: str, witness: Witness, connections: dict[int, list[float]], ended_at: float, verdict: Verdict
) -> None:
    position = witness.position.get(name, (0, 0))
    rest = _between(position, (max(connections) + 1, 0), connections)
    for told in witness.unreadable[name]:
        rest.pop(told, None)
    verdict.after_the_end += len(rest)
    if rest and min(rest.values()) < ended_at - IN_TRANSIT:
        verdict.faults.append(f"{name}: messages since {position} are missing at the end, and no gap was reported")
