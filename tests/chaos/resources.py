"""What a run must leave as it was: threads, descriptors, memory, and the books."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass

MEMORY_LIMIT = 16 * 1024 * 1024
"""Bytes that the process may have grown by meanwhile."""
OUTCOMES = ("handled", "unclaimed", "control", "unreadable", "duplicate", "dropped", "in_flight", "waiting")


@dataclass(frozen=True)
class Resources:
    """What the process holds: threads, open descriptors, resident bytes."""

    threads: int
    descriptors: int
    memory: int

    def __str__(self) -> str:
        return f"{self.threads:>3} threads {self.descriptors:>4} descriptors {self.memory / 2**20:>7.1f} MiB"

    @classmethod
    def held(cls) -> Resources:
        """Look for a second, and take the least memory: messages that are on their way just now are no leak."""
        pause = threading.Event()
        looks = [cls._now()]
        for _ in range(4):
            pause.wait(0.25)
            looks.append(cls._now())
        return cls(looks[-1].threads, looks[-1].descriptors, min(look.memory for look in looks))

    @classmethod
    def _now(cls) -> Resources:
        gc.collect()
        descriptors = memory = 0
        with contextlib.suppress(OSError):  # only Linux tells
            descriptors = len(os.listdir("/proc/self/fd"))
            with open("/proc/self/statm", encoding="ascii") as statm:
                memory = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return cls(threading.active_count(), descriptors, memory)


def differences(held: Mapping[str, Resources]) -> list[str]:
    """Sentences on what is not at the end as it was at the start."""
    faults = []
    for when in ("flowing", "stopped"):
        before, after = held[f"before, {when}"], held[f"after, {when}"]
        if (before.threads, before.descriptors) != (after.threads, after.descriptors):
            faults.append(f"while {when}, {before} became {after}")
    warm = held.get("after the first faults", held["before, flowing"])
    if held["after, flowing"].memory - warm.memory > MEMORY_LIMIT:
        faults.append(f"the memory grew from {warm} to {held['after, flowing']}")
    return faults


def imbalance(counters: Mapping[str, int]) -> list[str]:
    """A sentence if the books do not balance."""
    if counters["received"] == sum(counters[outcome] for outcome in OUTCOMES):
        return []
    return [f"the books do not balance: {counters}"]
