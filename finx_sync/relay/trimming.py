"""How much of a feed is kept: by the number of its records, by their bytes and by their age. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from finx_sync.errors import ConfigError
from finx_sync.relay.wire import Position

__all__ = ["KEEP_BYTES", "KEEP_RECORDS", "KEEP_SECONDS", "Limits", "Trimming"]

KEEP_RECORDS: Final = 5_000_000
KEEP_BYTES: Final = 512 * 1024 * 1024
KEEP_SECONDS: Final = 3600.0
STEPS: Final = 100
"""A feed is trimmed in steps of about this part of a limit."""


@dataclass(frozen=True)
class Limits:
    """What is kept of one partition; whatever exceeds one of these is deleted.

    Attributes:
        records: their number.
        size: their bytes, without what Redis adds to them.
        seconds: their age.
    """

    records: int = KEEP_RECORDS
    size: int = KEEP_BYTES
    seconds: float = KEEP_SECONDS

    def __post_init__(self) -> None:
        for name, value in (("keep_records", self.records), ("keep_bytes", self.size), ("keep_seconds", self.seconds)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise ConfigError(f"{name} is a number above 0, not {value!r}")


@dataclass(slots=True)
class _Step:
    """Entries that are deleted together: up to which position, how much, and when the first and last were written."""

    until: Position
    records: int
    size: int
    first: float
    last: float


class Trimming:
    """Finds where a partition has to be cut off.

    Args:
        limits: what is kept.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._steps: deque[_Step] = deque()
        self._records = self._size = 0

    def added(self, position: Position, records: int, size: int, now: float) -> None:
        """An entry was written.

        Args:
            position: its ID.
            records: how many it has.
            size: their bytes.
            now: when, in seconds.
        """
        limits = self._limits
        self._records += records
        self._size += size
        if self._steps:
            step = self._steps[-1]
            if (
                step.records + records <= limits.records // STEPS
                and step.size + size <= limits.size // STEPS
                and now - step.first <= limits.seconds / STEPS
            ):
                step.until, step.last = position, now
                step.records += records
                step.size += size
                return
        self._steps.append(_Step(position, records, size, now, now))

    def due(self, now: float) -> Position | None:
        """The position from which on entries are kept, if more than before is to be deleted. The newest always stay."""
        limits, cut = self._limits, None
        while len(self._steps) > 1:
            step = self._steps[0]
            is_old = now - step.last > limits.seconds
            if self._records <= limits.records and self._size <= limits.size and not is_old:
                break
            self._steps.popleft()
            self._records -= step.records
            self._size -= step.size
            cut = Position(step.until.term, step.until.offset + 1)
        return cut

    def half(self, now: float) -> Position | None:
        """The position before which everything is in the older half of what is kept; None if nothing is."""
        limits, found = self._limits, None
        records, size = self._records, self._size
        for step in self._steps:
            is_old = now - step.last > limits.seconds / 2
            if records <= limits.records / 2 and size <= limits.size / 2 and not is_old:
                break
            records -= step.records
            size -= step.size
            found = step.until
        return found
