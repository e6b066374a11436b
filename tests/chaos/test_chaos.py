"""A short chaos run, over ws and wss, and the judge himself."""

from __future__ import annotations

import pytest

from finx_sync.errors import UnreadableMessageError
from finx_sync.notices import Gap, Interval
from tests.chaos.judge import Witness, judge
from tests.chaos.run import run, run_fatal
from tests.chaos.server import KINDS


@pytest.mark.timeout(150)
@pytest.mark.parametrize("scheme", ["ws", pytest.param("wss", marks=pytest.mark.long)])
def test_a_stream_survives_every_kind_of_fault(scheme: str) -> None:
    """A bot would be stuck, fed twice, or robbed in silence, by what networks and servers do every day."""
    report = run(scheme, seconds=10, rate=500, seed=20, kinds=list(KINDS), each=1)
    assert not report.faults, report.table()
    assert report.verdict.handled > 0
    assert report.verdict.in_gaps > 0
    assert len(report.recoveries) == len(KINDS)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_refused_key_ends_the_stream_and_start_works_again(scheme: str) -> None:
    """A wrong key would be tried for ever, or a good one be locked out until the program is restarted."""
    assert not run_fatal(scheme, seed=1)


# The judge

NAME = "BTC:USDC"
COVERAGE = {NAME: [Interval(9.0, 10.1, "received"), Interval(10.1, 20.1, "missing", "connection lost")]}
LOG = [(1, NAME, [10.0, 11.0, 12.0, 13.0]), (2, NAME, [20.0, 21.0])]


def gap(start: float, end: float, *names: str) -> Gap:
    """A reported gap."""
    return Gap(start, end, names or (NAME,), "connection lost")


def heard(*events: tuple[int, int] | Gap | str) -> Witness:
    """A witness who saw messages (connection, number), gaps, and damaged texts, in this order."""
    witness = Witness()
    for event in events:
        if isinstance(event, Gap):
            witness.gap(event)
        elif isinstance(event, str):
            witness.message(event)
            witness.error(UnreadableMessageError("no JSON", event))
        else:
            witness.saw(NAME, *event)
    return witness


def test_everything_handled_once_is_well() -> None:
    """The run would fail without a fault."""
    verdict = judge(heard((1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2)), LOG, COVERAGE, ended_at=22.0)
    assert verdict.faults == []
    assert (verdict.sent, verdict.handled) == (6, 6)


def test_what_is_in_a_reported_gap_is_well() -> None:
    """The run would fail although the user was told."""
    verdict = judge(heard((1, 1), gap(10.1, 20.1), (2, 1)), LOG, COVERAGE, ended_at=20.5)
    assert verdict.faults == []
    assert (verdict.in_gaps, verdict.after_the_end, verdict.gaps) == (3, 1, 1)


def test_damaged_messages_that_were_reported_are_well() -> None:
    """The run would fail although the user was told."""
    text = '{"pair";"BTC:USDC","price":"1","seq":2,"connection":1}'
    verdict = judge(heard((1, 1), text, (1, 3), (1, 4), (2, 1), (2, 2)), LOG, COVERAGE, ended_at=22.0)
    assert verdict.faults == []
    assert verdict.unreadable == 1


@pytest.mark.parametrize(
    "events",
    [
        ((1, 1), (1, 2), (1, 3), (2, 1), (2, 2)),
        ((1, 1), (1, 3), (1, 4), (2, 1), (2, 2)),
        ((1, 2), (1, 3), (1, 4), (2, 1), (2, 2)),
        ((1, 1), (1, 2), (1, 3), (1, 4), (2, 2)),
        ((1, 1), (1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2)),
        ((1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (1, 4), (2, 2)),
        ((1, 1), gap(10.1, 20.1, "ETH:USDC"), (2, 1), (2, 2)),
        ((1, 1), (2, 1), gap(10.1, 20.1), (2, 2)),
        (gap(10.1, 20.1), (1, 1), (2, 1), (2, 2)),
        ((1, 1), gap(19.0, 20.1), (2, 1), (2, 2)),
        ((1, 1), gap(10.1, 11.0), (2, 1), (2, 2)),
        ((1, 1), (1, 2)),
    ],
    ids=[
        "the end of a connection is missing",
        "one is missing in the middle",
        "the very first is missing",
        "the first of a connection is missing",
        "one twice",
        "one again, later",
        "the gap has another name",
        "the gap is told too late",
        "the gap is told too early",
        "the gap begins too late",
        "the gap ends too early",
        "nothing came any more",
    ],
)
def test_what_is_missing_or_doubled_in_silence_is_found(events: tuple[tuple[int, int] | Gap, ...]) -> None:
    """The run would pass whatever the stream does."""
    assert judge(heard(*events), LOG, COVERAGE, ended_at=60.0).faults


def test_a_gap_that_coverage_does_not_know_is_found() -> None:
    """`coverage` would promise data that never came."""
    witness = heard((1, 1), gap(10.1, 20.1), (2, 1), (2, 2))
    assert not judge(witness, LOG, COVERAGE, ended_at=22.0).faults
    assert judge(witness, LOG, {NAME: [Interval(9.0, 22.0, "received")]}, ended_at=22.0).faults


def test_expect_waits_for_every_name() -> None:
    """A subscription that never came back would be taken for a living one."""
    witness = heard((1, 1))
    assert witness.expect({NAME: (1, 0)}, 0)
    assert not witness.expect({NAME: (1, 1), "ETH:USDC": (1, 1)}, 0)
    witness.saw(NAME, 1, 2)
    assert witness.missing() == ["ETH:USDC"]
