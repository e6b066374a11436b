"""Messages of several batches that came one after the other, to be decoded together."""

from __future__ import annotations

from dataclasses import dataclass

from finx_sync.events import Connection

__all__ = ["BatchRow"]


@dataclass(frozen=True, slots=True)
class BatchRow:
    """Messages in order, each with its own facts.

    Attributes:
        payloads: of the messages.
        at: when each was received, UNIX seconds.
        arrived: the same on the monotonic clock; one and the same object for all messages of a batch.
        connections: which brought each.
    """

    payloads: list[bytes]
    at: list[float]
    arrived: list[float]
    connections: list[Connection]

    def __len__(self) -> int:
        return len(self.payloads)

    def end_of_batch(self, begin: int) -> int:
        """Where the batch ends that a message belongs to."""
        arrived, end = self.arrived, begin + 1
        while end < len(arrived) and arrived[end] is arrived[begin]:
            end += 1
        return end
