"""Messages of several consecutive batches, to be decoded together."""

from __future__ import annotations

from dataclasses import dataclass

from finx_sync.events import Connection

__all__ = ["BatchRow"]


@dataclass(frozen=True, slots=True)
class BatchRow:
    """Messages in order. The lists have one item for each message.

    Attributes:
        payloads: the payloads.
        at: when each was received, UNIX seconds.
        arrived: when each was received, monotonic seconds; the same float object for all messages of a batch.
        connections: the connection that each was received on.
    """

    payloads: list[bytes]
    at: list[float]
    arrived: list[float]
    connections: list[Connection]

    def __len__(self) -> int:
        return len(self.payloads)

    def end_of_batch(self, begin: int) -> int:
        """The index after the last message of the batch that message `begin` belongs to."""
        arrived, end = self.arrived, begin + 1
        while end < len(arrived) and arrived[end] is arrived[begin]:
            end += 1
        return end
