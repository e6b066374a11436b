"""A place to listen in on what the connections bring, before it waits for the handlers: for recordings."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from finx_sync.pipeline.queue import Batch

__all__ = ["Tap", "Taps"]


class Tap(Protocol):
    """Whoever listens in. Called on the io threads and others; must not block, nor change what it is given."""

    def received(self, batch: Batch) -> None:
        """A batch came in; it is queued for the handlers next."""

    def note(self, event: object, arrived: float | None = None, at: float | None = None) -> None:
        """Something else happened that the messages' meaning may depend on; see `finx_sync.session.tapped`.

        Args:
            event: what.
            arrived: when, monotonic; None for now.
            at: the same as UNIX seconds.
        """


class Taps:
    """Holds the tap of a stream, from one run to the next. Costs one look a batch while there is none.

    Attributes:
        tap: who listens in now; replaced by any thread.
        order: held while something is told to the tap and put into the inbox, so that both have it in the same order.
            Reentrant, since a signal handler may stop the stream in the midst of it.
    """

    def __init__(self) -> None:
        self.tap: Tap | None = None
        self.order = threading.RLock()

    def forked(self) -> None:
        """In the child of a fork: whoever held the lock has not come along."""
        self.order = threading.RLock()
