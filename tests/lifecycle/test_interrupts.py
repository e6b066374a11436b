"""An interrupt at every single step of what the main thread waits on."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import pytest

from finx_sync.interrupts import Flag, Notifier, Task, uninterrupted
from finx_sync.pipeline.iterator import MessageIterator
from finx_sync.pipeline.queue import DroppingQueue
from finx_sync.state import State, StateBox
from finx_sync.venues.ftx.requests import subscription_to
from finx_sync.venues.ftx.stream import FtxStream


@dataclass
class Case:
    """Something that waits, and what others do with it afterwards."""

    wait: Callable[[], object]
    others: Callable[[], object]


def flag() -> Case:
    made = Flag()
    return Case(lambda: made.wait(0.001), made.set)


def notifier() -> Case:
    made = Notifier()
    return Case(lambda: made.wait_for(lambda: False, 0.001), made.notify)


def state() -> Case:
    made = StateBox(lambda change: None)
    return Case(lambda: made.wait(lambda now: now is State.OPEN, 0.001), lambda: made.move(State.CONNECTING))


def moved() -> Case:
    made = StateBox(lambda change: None)
    states = itertools.cycle([State.CONNECTING, State.OPEN])
    return Case(lambda: made.move(next(states)), lambda: made.move(State.RECONNECTING))


def feed() -> Case:
    made = MessageIterator(2, 0.001, lambda feed: None)
    made.put("a message")
    return Case(
        lambda: next(made), lambda: (made.put("another"), made.put("and another"), made.put("more"), made.end())
    )


def dropping() -> Case:
    made = DroppingQueue()

    def others() -> None:
        made.put(None)
        made.drop_oldest(1)
        assert made.get() is None

    return Case(lambda: made.put(None), others)


def answers() -> Case:
    made = FtxStream(url="ws://127.0.0.1:1")
    wanted = {subscription_to("ticker", "BTC-PERP")}
    return Case(
        lambda: made._wait_for_answers(wanted, 0.001), lambda: (made._venue_changes.notify(), made._state.answers())
    )


def task() -> Case:
    made = Task(lambda: 5, "finx-sync test")

    def others() -> None:
        assert made.wait(1.5) or made._thread is None, "it has begun, and does not end"

    return Case(lambda: (made.begin(), made.result()), others)


def undone() -> Case:
    made: list[int] = []

    def others() -> None:
        assert not made, "an interrupted caller has left what nobody can end"

    def action() -> int:
        made.append(5)
        return 5

    return Case(lambda: uninterrupted(action, "finx-sync test", undo=made.remove), others)


def event() -> Case:
    made = threading.Event()
    return Case(lambda: made.wait(0.001), made.set)


def interrupt_at(step: int, wait: Callable[[], object]) -> bool:
    """Raise KeyboardInterrupt at the `step`-th moment of `wait` at which Python looks for signals.

    These are the beginning of a function, and the return of one that is written in C.

    Returns:
        Whether there are so many.
    """
    steps = itertools.count()

    def look(frame: FrameType, what: str, argument: Any) -> None:
        if "weakref" in frame.f_code.co_filename:  # a callback when a thread's object goes, where Python ignores it
            return
        if what in ("call", "c_return") and next(steps) == step:
            sys.setprofile(None)
            raise KeyboardInterrupt

    try:
        sys.setprofile(look)
        wait()
    except KeyboardInterrupt:
        return True
    except Exception:  # noqa: BLE001  # such as: no message came in time
        return False
    finally:
        sys.setprofile(None)
    return False


def holds_up_somebody(make: Callable[[], Case]) -> list[int]:
    """The steps at which an interrupt leaves something that others wait for in vain."""
    bad = []
    for step in range(1, 400):  # the first is the call itself
        case = make()
        if not interrupt_at(step, case.wait):
            assert step > 3, "it was never interrupted"
            return bad
        done = threading.Event()
        failed: list[BaseException] = []

        def others(case: Case = case, done: threading.Event = done, failed: list[BaseException] = failed) -> None:
            try:
                case.others()
            except BaseException as error:  # noqa: BLE001  # shown below
                failed.append(error)
            done.set()

        threading.Thread(target=others, daemon=True).start()
        if not done.wait(2) or failed:
            bad.append(step)
    pytest.fail("it does not come to an end")


@pytest.mark.parametrize("make", [flag, notifier, state, moved, feed, dropping, answers, task, undone])
def test_an_interrupt_at_any_step_holds_up_nobody(make: Callable[[], Case]) -> None:
    """After one Ctrl+C in a hundred the stream's threads would wait for a lock that nobody gives back."""
    assert holds_up_somebody(make) == []


def test_the_check_finds_what_it_is_for() -> None:
    """A check that cannot fail proves nothing: an Event is what the library does without."""
    assert holds_up_somebody(event)
