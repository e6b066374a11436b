"""An output gets everything that the pipeline delivers, with its payloads: a relay does. Handlers get messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, Protocol

from finx_sync.messages import Message

__all__ = ["NOTICES", "Outlet", "Output", "Topic"]

Topic = Literal["gap", "state", "error", "added", "removed"]
NOTICES: Final = frozenset({"gap", "state", "error"})
"""The topics of handlers whose events an output gets too."""


class Output(Protocol):
    """Gets every message that is delivered, in order, with its payload, whether a handler wants it or not.

    A message that a filter holds comes when it is released, and one that is a duplicate or is replaced by a newer one
    while the pipeline catches up does not come at all. Called on the dispatch thread; it must not raise.
    """

    def take(self, messages: Sequence[Message], payloads: Sequence[bytes], received_at: float) -> None:
        """Take messages that were received together.

        Args:
            messages: decoded messages.
            payloads: the bytes that each was decoded from.
            received_at: when they were received, UNIX seconds.
        """

    def add(self, message: Message, payload: bytes, received_at: float) -> None:
        """Take one message; see `take`."""

    def notice(self, topic: Topic, value: Any) -> None:
        """Take an event that has its place among the messages.

        Args:
            topic: "gap", "state" or "error", as for handlers; "added" or "removed" for a subscription.
            value: the `Gap`, `StateChange`, error or `Subscription`.
        """


class Outlet:
    """Where a stream's output is attached. It outlasts single runs.

    Attributes:
        output: the output; None, the usual case, costs nothing. Replaced in one assignment, on any thread; the dispatch
            thread reads it once for each part of a batch.
    """

    def __init__(self) -> None:
        self.output: Output | None = None
