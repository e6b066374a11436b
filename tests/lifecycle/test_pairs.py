"""Every pair of lifecycle methods at the same time, on two threads."""

from __future__ import annotations

import itertools
import random
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from finx_sync import FinxSyncError, State, StreamManager
from finx_sync.errors import StreamTimeoutError, UsageError
from tests.lifecycle.interrupted import NAME, RUNNING, make, none_left, ours
from tests.lifecycle.test_signals import tick
from tests.scripted import ScriptedServer
from tests.waiting import books_balance, wait_until

PATIENCE = 20.0
CALLS: dict[str, Callable[[StreamManager, Path], object]] = {
    "start": lambda stream, folder: stream.start(),
    "run": lambda stream, folder: stream.run(),
    "with": lambda stream, folder: enter(stream),
    "replay": lambda stream, folder: stream.replay(folder / "made.finxrec", speed="max"),
    **RUNNING,
}
PAIRS = tuple(itertools.combinations_with_replacement(CALLS, 2))


def enter(stream: StreamManager) -> None:
    with stream:
        stream.take(1)


class Witness:
    """A handler that notices when two threads call it at once."""

    def __init__(self) -> None:
        self._busy = threading.Lock()
        self.overlaps = 0

    def __call__(self, message: Any) -> None:
        if self._busy.acquire(blocking=False):
            self._busy.release()
        else:
            self.overlaps += 1


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    """One for all rounds."""
    with ScriptedServer(tick) as server:
        yield server


@pytest.fixture
def folder(server: ScriptedServer, tmp_path: Path) -> Path:
    """With a recording to replay."""
    stream = make(server.url)
    with stream.record(tmp_path / "made.finxrec"), stream:
        stream.take(20, timeout=20)
    return tmp_path


def both(stream: StreamManager, names: tuple[str, str], folder: Path, moments: random.Random) -> None:
    """Two calls at once, and a stop while they may still be at it; raises what is no error of the library's."""
    barrier = threading.Barrier(3)
    defects: list[BaseException] = []

    def call(name: str) -> None:
        barrier.wait(PATIENCE)
        try:
            CALLS[name](stream, folder)
        except FinxSyncError:
            pass  # such as: it is running already
        except BaseException as error:  # noqa: BLE001  # shown below
            defects.append(error)

    threads = [threading.Thread(target=call, args=(name,), name=f"caller of {name}", daemon=True) for name in names]
    for thread in threads:
        thread.start()
    barrier.wait(PATIENCE)
    threads[0].join(moments.uniform(0, 0.02))
    dispatching = [name for name in ours() if name == "finx-sync dispatch"]
    assert len(dispatching) <= 1, f"{names}: {len(dispatching)} sessions at once"
    for _ in range(5):  # a start that comes after the stop is another one
        stream.stop()
        for thread in threads:
            thread.join(PATIENCE / 5 if thread.is_alive() else 0)
        if not any(thread.is_alive() for thread in threads):
            break
    assert not any(thread.is_alive() for thread in threads), f"{names} hang:\n{stacks()}"
    stream.stop()
    assert not defects, (names, defects)


def stacks() -> str:
    """What all threads are doing."""
    named = {one.ident: one.name for one in threading.enumerate()}
    return "\n".join(
        f"{named.get(ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
    )


def try_pair(names: tuple[str, str], running: bool, server: ScriptedServer, folder: Path, seed: int) -> None:
    """One round."""
    stream, witness = make(server.url), Witness()
    stream.on_contract(witness)
    if running:
        stream.start()
    both(stream, names, folder, random.Random(seed))
    assert none_left(), f"{names} have left {ours()}, {stream!r}"
    assert stream.state in (State.NEW, State.STOPPED), (names, stream)
    assert witness.overlaps == 0, f"{names}: a handler was called by two threads at once"
    assert books_balance(stream), (names, stream.stats())
    if (recording := stream._recording) is not None:
        recording.stop()  # type: ignore[attr-defined]


def test_every_pair_of_calls_at_once(server: ScriptedServer, folder: Path) -> None:
    """A bot with several threads would hang, run two streams at once, or leave threads that nothing ends."""
    for number, names in enumerate(PAIRS):
        try_pair(names, number % 2 == 1, server, folder, number)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_a_thousand_pairs_of_calls_at_once(server: ScriptedServer, folder: Path) -> None:
    """What goes well once would fail a program that runs for a year."""
    for number in range(max(1000, 10 * len(PAIRS))):
        try_pair(PAIRS[number % len(PAIRS)], number // len(PAIRS) % 2 == 1, server, folder, number)


def start_two(server: ScriptedServer) -> None:
    stream, barrier = make(server.url), threading.Barrier(2)
    outcomes: list[BaseException | None] = []

    def start() -> None:
        barrier.wait(PATIENCE)
        try:
            stream.start()
        except BaseException as error:  # noqa: BLE001  # looked at below
            outcomes.append(error)
        else:
            outcomes.append(None)

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert wait_until(lambda: stream.state is State.OPEN), stream.dump()
    assert outcomes.count(None) == 1, outcomes
    assert sum(isinstance(outcome, UsageError) for outcome in outcomes) == 1, outcomes
    try:
        stream.take(1, NAME, timeout=PATIENCE)
    except StreamTimeoutError:
        pytest.fail(f"an open stream has brought no message:\n{stream.dump()}")
    assert ours().count("finx-sync dispatch") == 1
    stream.stop()
    assert none_left(), ours()


def test_of_two_starts_at_once_one_wins(server: ScriptedServer) -> None:
    """Two sessions would run: handlers called twice, and one of them for ever, whatever stop() does."""
    for _ in range(30):
        start_two(server)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_of_a_thousand_pairs_of_starts_one_wins(server: ScriptedServer) -> None:
    """What goes well thirty times would fail a program that runs for a year."""
    for _ in range(1000):
        start_two(server)
