"""A place to listen in on what the connections bring, before it waits for the handlers: for recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from finx_sync.dispatch.inbox import Batch

__all__ = ["Tap", "Taps"]


class Tap(Protocol):
    """Whoever listens in. Called on the io threads and others; must not block, nor change what it is given."""

    def received(self, batch: Batch) -> None:
        """A batch came in; it is queued for the handlers next."""

    def note(self, event: object) -> None:
        """Something else happened that the messages' meaning may depend on; see `finx_sync.session.tapped`."""


class Taps:
    """Holds the tap of a stream, from one run to the next. Costs one look a batch while there is none.

    Attributes:
        tap: who listens in now; replaced by any thread.
    """

    def __init__(self) -> None:
        self.tap: Tap | None = None
