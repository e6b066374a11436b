"""Messages of a recording, in pieces that are decoded together."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, Final, TypeVar

from finx_sync.recorder.format import Received, Started

__all__ = ["SETTLE_INTERVAL", "Chunk", "chunks"]

T = TypeVar("T")

SIZE: Final = 512
"""Messages that are decoded together where nothing has to be waited for, and the rest of their batch."""
SETTLE_INTERVAL: Final = 0.5
"""Recorded seconds between two looks at what is taken to flow, in recordings that do not say when the stream looked."""


class Chunk:
    """Messages of one or several batches, in order. `arrived` has one and the same object for all of a batch."""

    __slots__ = ("arrived", "numbers", "payloads", "times")

    def __init__(self, payloads: list[Any], times: list[float], arrived: list[float], numbers: list[int]) -> None:
        self.payloads = payloads
        self.times = times
        self.arrived = arrived
        self.numbers = numbers

    @classmethod
    def of(cls, record: Received) -> Chunk:
        """A record's, with each message's own facts."""
        spread = record.spread
        return cls(record.payloads, spread(record.at), spread(record.arrived), spread(record.numbers))

    def end_of_batch(self, begin: int) -> int:
        """Where the batch ends that a message belongs to."""
        arrived, end = self.arrived, begin + 1
        while end < len(arrived) and arrived[end] is arrived[begin]:
            end += 1
        return end

    def end_of_stretch(self, begin: int, end: int) -> int:
        """Where a part has to end so that it lies between two looks, whatever the speed: so that these are alike."""
        stretch = self.arrived[begin] // SETTLE_INTERVAL
        if self.arrived[end - 1] // SETTLE_INTERVAL == stretch:
            return end
        return next(place for place in range(begin, end) if self.arrived[place] // SETTLE_INTERVAL != stretch)

    def part(self, begin: int, end: int) -> Chunk:
        """Some of them."""
        return Chunk(self.payloads[begin:end], self.times[begin:end], self.arrived[begin:end], self.numbers[begin:end])


def chunks(records: Iterator[T], *, one_by_one: bool) -> Generator[Chunk | T]:
    """Batches joined as far as nothing comes between them and nobody waits; everything else as it is.

    Args:
        records: a recording's.
        one_by_one: whether each batch is waited for.
    """
    is_old = False  # the look is a record of its own since version 2
    for record in records:
        if not isinstance(record, Received):
            is_old = is_old or isinstance(record, Started)
            yield record
            continue
        whole = Chunk.of(record)
        count, position = len(whole.payloads), 0
        while position < count:
            # A batch stays whole: it is judged as one.
            end = whole.end_of_batch(position if one_by_one else min(position + SIZE, count) - 1)
            if is_old:
                end = whole.end_of_stretch(position, end)
            yield whole.part(position, end) if position or end < count else whole
            position = end
