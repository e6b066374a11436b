"""A stream as a relay sees it; see `finx_sync.relay.upstream`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from finx_sync.errors import FinxSyncError, UsageError
from finx_sync.events import ErrorOccurred
from finx_sync.pipeline.output import Outlet, Output
from finx_sync.relay.wire import tag_of
from finx_sync.session.session import Session
from finx_sync.state import ENDED, State
from finx_sync.venues.base import Codec, Resubscribe, Subscription

if TYPE_CHECKING:
    from finx_sync.stream.stream import Stream

__all__ = ["StreamUpstream"]

logger = logging.getLogger("finx_sync")


class StreamUpstream:
    """Gives a relay what it needs of a stream.

    Args:
        stream: the stream.
        codec: its venue's codec.
        outlet: where its output is attached.
    """

    def __init__(self, stream: Stream[Any], codec: Codec, outlet: Outlet) -> None:
        self._stream = stream
        self._outlet = outlet
        self.codec = codec
        self.kinds = tuple(codec.kinds.get(kind, kind.__name__) for kind in codec.message_types)
        self.can_overlap = codec.can_overlap
        self.has_images = type(codec).begins_state is not Codec.begins_state

    @property
    def state(self) -> State:
        """The stream's state."""
        return self._stream.state

    def desired(self) -> list[Subscription]:
        """What is subscribed to."""
        return self._stream._subscriptions.desired()

    def last_values(self) -> Iterator[tuple[bytes, float, bytes]]:
        """See `Upstream`."""
        for kind, table in self._stream._latest.items():
            for name, entry in list(table.entries.items()):
                if isinstance(entry, tuple):
                    yield tag_of(self.codec.kinds.get(kind, kind.__name__), name), entry[1], entry[0]

    def attach(self, output: Output) -> None:
        """See `Upstream`."""
        with self._stream._lifecycle:
            if self._outlet.output is not None:
                raise UsageError("the stream is relayed already; stop() that relay first")
            self._outlet.output = output

    def detach(self, output: Output) -> None:
        """See `Upstream`."""
        with self._stream._lifecycle:
            if self._outlet.output is output:
                self._outlet.output = None

    def subscribe(self, subscriptions: Iterable[Subscription]) -> None:
        """See `Upstream`."""
        known = set(self.codec.kinds.values())
        for one in subscriptions:
            try:
                if one.kind not in known:
                    raise UsageError(f"{self.codec.venue} has no streams of the kind {one.kind!r}")
                self._stream._subscribe(one)
            except FinxSyncError as error:
                self.complain(error, f"a reader of the feed asks for {one.name}")

    def unsubscribe(self, subscription: Subscription) -> None:
        """See `Upstream`."""
        self._stream._unsubscribe(subscription)

    def ask_again(self, subscriptions: Sequence[Subscription]) -> None:
        """See `Upstream`."""
        session = self._stream._session
        wanted = set(self.desired())
        present = tuple(one for one in subscriptions if one in wanted)
        if isinstance(session, Session) and present:
            session.connections.execute(Resubscribe(present))

    def complain(self, error: FinxSyncError, what: str) -> None:
        """See `Upstream`."""
        session = self._stream._session
        if isinstance(session, Session) and session.state.state not in ENDED:
            session.queue.emit(ErrorOccurred, error, what)
        else:
            logger.warning("%s: %s", what, error)
