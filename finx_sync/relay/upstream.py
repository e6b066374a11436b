"""What a relay needs of the stream that it follows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from finx_sync.errors import FinxSyncError
from finx_sync.pipeline.output import Output
from finx_sync.state import State
from finx_sync.venues.base import Codec, Subscription

__all__ = ["Followed", "Upstream"]


class Upstream(Protocol):
    """A stream, as a relay sees it. Any thread."""

    @property
    def codec(self) -> Codec:
        """The venue's codec."""

    @property
    def kinds(self) -> Sequence[str]:
        """The kinds of the venue's tags."""

    @property
    def can_overlap(self) -> bool:
        """Whether the venue sends the same to all connections, so that payloads can be compared."""

    @property
    def has_images(self) -> bool:
        """Whether the venue sends images that later messages change."""

    @property
    def state(self) -> State:
        """The stream's state."""

    def desired(self) -> Sequence[Subscription]:
        """What is subscribed to."""

    def last_values(self) -> Iterable[tuple[bytes, float, bytes]]:
        """The newest payload of each tag, and before it when it was received, UNIX seconds."""

    def attach(self, output: Output) -> None:
        """Have an output get what is delivered, from now on and in later runs.

        Raises:
            UsageError: the stream has one already.
        """

    def detach(self, output: Output) -> None:
        """End that."""

    def subscribe(self, subscriptions: Iterable[Subscription]) -> None:
        """Subscribe to more; names that cannot be right are reported, not raised."""

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription."""

    def ask_again(self, subscriptions: Sequence[Subscription]) -> None:
        """Subscribe anew, so that the venue sends an image."""

    def complain(self, error: FinxSyncError, what: str) -> None:
        """Report an error to the stream's `on_error` handlers if it runs, else to the log."""


class Followed(Protocol):
    """A stream, as `Relay` is given it."""

    def _upstream(self) -> Upstream: ...
