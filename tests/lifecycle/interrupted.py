"""A program that a signal interrupts at random moments of calls, again and again; see `test_signals`.

Run as ``python -m tests.lifecycle.interrupted {stop|ctrl_c} SEED URL FOLDER CALL=ROUNDS...``. With "stop" the signal
handler calls `stop()`, with "ctrl_c" it raises KeyboardInterrupt. It prints each call that it begins with, and "ok" at
the end; or it ends with a traceback. A hang shows the stacks of all threads.
"""

from __future__ import annotations

import faulthandler
import itertools
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from finx_sync import Backoff, FinxSyncError, State, StreamManager
from finx_sync.recorder.writer import Recording
from finx_sync.stream.lifecycle import Lifecycle
from finx_sync.stream.recordings import Recordable

NAME = "BTC-26AUG22-20000-C"
FIRST = 0.006
"""Seconds in which a start is at its most vulnerable."""
CLEAN = (Lifecycle.start, Lifecycle.run, Lifecycle.__enter__, Recordable.record, Recordable.replay)
"""What leaves nothing behind when it is interrupted; other calls leave the stream as it was."""
ROUND_LIMIT = 30.0
"""Seconds of one round, after which it hangs."""
_numbers = itertools.count()


def ours() -> list[str]:
    """The library's threads."""
    return [one.name for one in threading.enumerate() if one.name.startswith("finx-sync")]


def none_left() -> bool:
    """Whether the library's threads have ended, or end soon."""
    deadline = time.monotonic() + 5.0
    while ours():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def nobody(tick: object) -> None:
    """A handler."""


def with_block(stream: StreamManager, folder: Path) -> None:
    with stream:
        stream.wait_for(lambda tick: False)


def iterate(stream: StreamManager, folder: Path) -> None:
    for _ in stream.ticks():
        pass


def on_and_off(stream: StreamManager, folder: Path) -> None:
    stream.on_contract(nobody)
    stream.on_drift(nobody)
    stream.off(nobody)


def subscribe(stream: StreamManager, folder: Path) -> None:
    name = f"ETH-26AUG22-{next(_numbers)}-C"
    stream.subscribe_contract(name)
    stream.unsubscribe_contract(name)


def record(stream: StreamManager, folder: Path) -> None:
    begin_recording(stream, folder).stop()


def subscribe_recorded(stream: StreamManager, folder: Path) -> None:
    """Holds the lock that keeps the recording in the order of the queue."""
    with begin_recording(stream, folder):
        subscribe(stream, folder)


def begin_recording(stream: StreamManager, folder: Path) -> Recording:
    return stream.record(folder / f"{os.getpid()}-{next(_numbers)}.finxrec")


def look(stream: StreamManager, folder: Path) -> None:
    assert stream.latest(NAME) is None or stream.guard(NAME, 60).message is not None
    _ = stream.coverage(NAME), stream.last_message_age(NAME), stream.state, stream.failure, stream.is_connected
    _ = stream.stats(), repr(stream)


NEW: dict[str, Callable[[StreamManager, Path], object]] = {
    "run": lambda stream, folder: stream.run(),
    "start": lambda stream, folder: stream.start(),
    "with": with_block,
    "replay": lambda stream, folder: stream.replay(folder / "made.finxrec", speed=20),
}
"""Calls on a stream that does not run."""
RUNNING: dict[str, Callable[[StreamManager, Path], object]] = {
    "stop": lambda stream, folder: stream.stop(),
    "drain": lambda stream, folder: stream.stop(drain=True),
    "take": lambda stream, folder: stream.take(1),
    "ticks": iterate,
    "wait_for": lambda stream, folder: stream.wait_for(lambda tick: False),
    "stats": lambda stream, folder: str(stream.stats()),
    "dump": lambda stream, folder: stream.dump(),
    "on_off": on_and_off,
    "subscribe": subscribe,
    "reconnect_now": lambda stream, folder: stream.reconnect_now(),
    "reconnect_at": lambda stream, folder: stream.reconnect_at(time.time() + 60),
    "rotate_key": lambda stream, folder: stream.rotate_key("sandbox-key"),
    "record": record,
    "subscribe_recorded": subscribe_recorded,
    "look": look,
}
"""Calls on a stream that runs, repeated until the signal comes."""


def make(url: str) -> StreamManager:
    """A stream as a bot has it."""
    stream = StreamManager("sandbox-key", url=url, reconnect=Backoff(first=0.01, cap=0.05), flight_recorder=False)
    stream.on_contract(nobody)
    stream.subscribe_contract(NAME)
    return stream


class Round:
    """One round: a call, and a signal somewhere in it."""

    def __init__(self, mode: str, call: str, stream: StreamManager, folder: Path) -> None:
        self.stream = stream
        self._mode = mode
        self._name = call
        self._folder = folder
        self.fired = False
        self._armed = False
        self._is_early = True

    def handle(self, _: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if not self._armed:
            return
        self.fired = True
        if self._mode == "ctrl_c":
            # Once more, as a person does: Python itself loses one that comes inside a weak reference's callback.
            signal.setitimer(signal.ITIMER_REAL, 0.5)
            raise KeyboardInterrupt
        self.stream.stop()
        codes = {function.__code__ for function in CLEAN}
        while frame is not None and frame.f_code not in codes:
            frame = frame.f_back
        if frame is None and self._name in NEW and self._is_early:  # a stop of what has not begun is none
            signal.setitimer(signal.ITIMER_REAL, 0.001)

    def run(self, delay: float) -> None:
        """Do it, and look at what is left."""
        clean = False
        try:
            self._armed = True
            signal.setitimer(signal.ITIMER_REAL, delay)
            self._call()
        except KeyboardInterrupt as error:
            clean = self._mode == "ctrl_c" and passed_through(error, *CLEAN)
        except Exception as error:
            if not (self.fired and self._mode == "stop" and isinstance(error, FinxSyncError)):
                raise  # else it is such as "the stream is not running"
        finally:
            self._armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
        if (clean and self._name not in ("record", "subscribe_recorded")) or (
            self._name == "run" and self._mode == "stop"
        ):
            assert none_left(), f"{self._name} has left {ours()} behind, {self.stream!r}"
        if (recording := self.stream._recording) is not None:
            assert not clean, "an interrupted record() has left a recording that nobody can stop"
            recording.stop()  # type: ignore[attr-defined]  # it had been returned, and nobody had kept it yet
        self.stream.stop()
        assert none_left(), f"after stop() there are {ours()}, {self.stream!r}"
        assert self.stream.state in (State.STOPPED, State.NEW), self.stream.state

    def _call(self) -> None:
        if self._name in NEW:
            NEW[self._name](self.stream, self._folder)
            self._is_early = False
            while not self.fired:
                time.sleep(0.0005)
            return
        while not self.fired:
            RUNNING[self._name](self.stream, self._folder)


def passed_through(error: BaseException, *functions: Callable[..., Any]) -> bool:
    """Whether an exception was raised inside one of these functions: else the call had returned before."""
    codes = {function.__code__ for function in functions}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False


def interrupt(mode: str, call: str, rounds: int, seed: int, url: str, folder: Path) -> None:
    """All rounds of one call."""
    moments = random.Random(seed)
    if call == "replay":
        stream = make(url)
        with stream.record(folder / "made.finxrec"), stream:
            stream.take(20, timeout=20)
    again: StreamManager | None = None
    for number in range(rounds):
        faulthandler.dump_traceback_later(ROUND_LIMIT, exit=True)
        stream = again or make(url)  # every other round with one that has been interrupted before
        again = stream if again is None else None
        if call in RUNNING:
            stream.start()
        one = Round(mode, call, stream, folder)
        signal.signal(signal.SIGALRM, one.handle)
        one.run(moments.uniform(1e-5, FIRST if number % 4 else 10 * FIRST))
    faulthandler.cancel_dump_traceback_later()


def main(mode: str, seed: int, url: str, folder: Path, *calls: str) -> None:
    """All calls, one after the other."""
    logging.getLogger("finx_sync").setLevel(logging.CRITICAL)
    for call, _, rounds in (one.partition("=") for one in calls):
        print(call, flush=True)
        interrupt(mode, call, int(rounds), seed, url, folder)
    print("ok")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), *sys.argv[5:])
