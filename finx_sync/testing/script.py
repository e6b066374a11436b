"""Scripts of faults and their times, written by hand or drawn from a seed, and the thread that plays them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from finx_sync.errors import InvalidInputError
from finx_sync.testing.faults import (
    Answer,
    BlackHole,
    Close,
    Corrupt,
    Cut,
    Delay,
    Fault,
    Mute,
    Reset,
    Split,
    SwallowHandshake,
    Throttle,
)

__all__ = ["RECOVERABLE", "Performance", "Step", "random_script"]

RECOVERABLE: Final[Mapping[str, tuple[Fault, ...]]] = {
    "cut": (Cut(),),
    "reset": (Reset(),),
    "black hole": (BlackHole(),),
    "black hole to client": (BlackHole("to_client"),),
    "black hole to server": (BlackHole("to_server"),),
    "short black hole": (BlackHole(lasting=0.2),),
    "delay": (Delay(0.1, lasting=0.5),),
    "throttle": (Throttle(100_000, lasting=0.5),),
    "split": (Split(count=2_000),),
    "corrupt header": (Corrupt("header"),),
    "corrupt utf8": (Corrupt("utf8"),),
    "corrupt json": (Corrupt("json"),),
    "mute": (Mute(),),
    "close 1001": (Close(1001, "going away"),),
    "close 1012": (Close(1012, "service restart"),),
    "close with a forbidden code": (Close(1005),),
    "swallowed handshake": (SwallowHandshake(), Cut()),
    "429": (Answer(429, retry_after=1), Cut()),
    "503": (Answer(503), Cut()),
    "redirect": (Answer(302, location="http://127.0.0.1:9/"), Cut()),
}
"""Kinds of faults that a good client survives, by name. Those of the handshake also cut, to cause a handshake."""

SPREAD: Final = 0.25
"""How far a drawn time may deviate from an even pace, as a fraction of the time between two steps."""


@dataclass(frozen=True)
class Step:
    """One step of a script.

    Attributes:
        at: seconds after the start.
        faults: the arguments of `FaultProxy.inject` at that time.
        name: the name of the kind, for logs and reports.
    """

    at: float
    faults: tuple[Fault, ...]
    name: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.at < math.inf:
            raise InvalidInputError(f"at is {self.at!r}; it is a number of seconds, 0 or more")
        if not self.faults or not all(isinstance(fault, Fault) for fault in self.faults):
            raise InvalidInputError("faults is a tuple of one fault or more, like (Cut(),)")


def random_script(
    seed: int, *, count: int, duration: float, kinds: Mapping[str, Sequence[Fault]] = RECOVERABLE
) -> list[Step]:
    """Draw a script: each kind equally often (give or take one), in random order and at random times.

    Args:
        seed: equal seeds and arguments give equal scripts.
        count: the number of steps.
        duration: seconds over which they are spread, almost evenly.
        kinds: the faults of each kind, by its name.

    Raises:
        InvalidInputError: `count` or `duration` is not above 0, or there are no kinds.
    """
    if count < 1 or not 0 < duration < math.inf or not kinds:
        raise InvalidInputError("a script needs a count of 1 or more, a duration above 0 seconds, and kinds")
    random = Random(f"script {seed}")
    names = list(kinds)
    random.shuffle(names)
    drawn = [names[number % len(names)] for number in range(count)]
    random.shuffle(drawn)
    pace = duration / count
    return [
        Step(round((number + 0.5 + random.uniform(-SPREAD, SPREAD)) * pace, 3), tuple(kinds[name]), name)
        for number, name in enumerate(drawn)
    ]


class Performance:
    """A script that is being played, on its own thread; made by `FaultProxy.play`.

    Args:
        script: the steps; they are sorted by their times.
        inject: called with each step at its time, on that thread.
    """

    def __init__(self, script: Sequence[Step], inject: Callable[[Step], object]) -> None:
        self._steps = sorted(script, key=lambda step: step.at)
        self._inject = inject
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="finx-sync fault proxy script", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        start = time.monotonic()
        for step in self._steps:
            if self._stopping.wait(max(0.0, start + step.at - time.monotonic())):
                return
            self._inject(step)

    def wait(self, timeout: float) -> bool:
        """Wait until the last step has been injected or `stop` was called; returns False if the timeout came first.

        Args:
            timeout: seconds.
        """
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Inject no further step. Returns at once."""
        self._stopping.set()
