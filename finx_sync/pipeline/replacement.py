"""Replaces the connection of an endpoint by a new one while both are open. Runs on the dispatch thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator
from itertools import count
from operator import itemgetter
from typing import Any, Final

from finx_sync.events import Candidate, Connection
from finx_sync.messages import Message
from finx_sync.pipeline.delivery import Delivery
from finx_sync.pipeline.overlap import Overlap, Verdict
from finx_sync.venues.base import Subscription

__all__ = ["Kept", "Replacement"]

Kept = tuple[Message, bytes, float]
"""An undelivered message of the new connection: the message, its payload, when it was received (UNIX seconds)."""

MAX_KEPT_BYTES: Final = 64 * 1024 * 1024
"""Bytes of the new connection's messages kept until it is proven complete; beyond this, it takes over anyway."""


class Replacement:
    """The overlaps of an endpoint's subscriptions.

    Args:
        old: the connection that serves the endpoint.
        candidate: opens the new connection. It knows all subscriptions requested on the old one, including unwanted
            ones that the venue cannot cancel. Subscriptions added once the new connection is open are requested on that
            one only, and have no overlap.
        delivery: delivers messages.
        now: the current time, UNIX seconds.

    Attributes:
        new: the new connection; None until it is open.
        deadline: when the overlap ends in any case, monotonic seconds.
        doubt_since: since when messages of the old connection may be missing, UNIX seconds.
        read_at: when the server had read the requests on the new connection, UNIX seconds; None if unknown.
    """

    def __init__(self, old: Connection, candidate: Candidate, delivery: Delivery, now: float) -> None:
        self.old = old
        self.new: Connection | None = None
        self.deadline = float("inf")
        self.read_at: float | None = None
        self.candidate = candidate
        self.doubt_since = now
        self._delivery = delivery
        self._overlaps: dict[Subscription, Overlap[tuple[int, Kept]]] = {one: Overlap() for one in candidate.carried()}
        self._numbers = count()  # order the new connection's messages across all names
        self._kept_bytes = 0

    def opened(self, new: Connection, deadline: float) -> None:
        """The new connection is open; its messages follow."""
        self.new, self.deadline = new, deadline
        for subscription in self.candidate.carried():
            self._overlaps.setdefault(subscription, Overlap())

    def compares(self, subscription: Subscription) -> bool:
        """Whether both connections carry `subscription`, so that their messages are compared."""
        return subscription in self._overlaps

    def is_complete(self, wanted: Container[Subscription]) -> bool:
        """Whether all `wanted` subscriptions have switched to the new connection."""
        return all(overlap.switched for subscription, overlap in self._overlaps.items() if subscription in wanted)

    def check(
        self,
        subscription: Subscription,
        message: Message,
        payload: bytes,
        received_at: float,
        connection: Connection,
        *,
        is_echo: bool,
    ) -> Verdict:
        """Decide about a message of either connection. An echo was delivered before, but is still compared."""
        overlap = self._overlaps.get(subscription)
        if overlap is None and self.new is None:  # added meanwhile; the new connection will carry it too
            overlap = self._overlaps[subscription] = Overlap()
        if overlap is None:
            return Verdict.PASS
        if connection is self.new:
            verdict = overlap.new(payload, (next(self._numbers), (message, payload, received_at)))
            if verdict is Verdict.HOLD:
                self._kept_bytes += len(payload)
                if self._kept_bytes > MAX_KEPT_BYTES:
                    self.deadline = 0.0  # as if the time were up
            return verdict
        if connection is not self.old:
            return Verdict.PASS
        self.doubt_since = received_at
        verdict = overlap.old(payload)
        if verdict is Verdict.PASS and overlap.switched:  # the newer messages of the new connection follow
            if is_echo:
                self._delivery.duplicates(1)  # the held copy; the echo itself is the DUPLICATE below
            else:
                self._delivery.deliver(message, payload, received_at)
            for _, kept in _drain(overlap):
                self._delivery.deliver(*kept)
            return Verdict.DUPLICATE  # two copies met here; the other one was counted just now
        return verdict

    def finish(self) -> tuple[list[Subscription], list[Kept]]:
        """End the overlap: the old connection is closing.

        Returns:
            The subscriptions whose messages may be missing, and the messages that only the new connection brought.
        """
        doubtful = [subscription for subscription, overlap in self._overlaps.items() if overlap.finish()]
        return doubtful, self.release()

    def dissolve(self) -> tuple[list[Subscription], int]:
        """End the overlap: the new connection has failed, and the old one continues.

        Returns:
            The subscriptions that had switched to the new connection, whose messages may be missing; and the number of
            kept messages of the new connection, which are discarded because the old one brings them too.
        """
        gone_over = [subscription for subscription, overlap in self._overlaps.items() if overlap.switched]
        return gone_over, sum(len(overlap.kept) for overlap in self._overlaps.values())

    def release(self) -> list[Kept]:
        """Remove and return the kept messages of the new connection, in order."""
        numbered = [kept for overlap in self._overlaps.values() for kept in _drain(overlap)]
        return [kept for _, kept in sorted(numbered, key=itemgetter(0))]

    def echoes(self, connection: Connection) -> dict[Subscription, deque[bytes]]:
        """The marks of messages that `connection` will repeat, because the other one delivered them before it ended."""
        is_new = connection is self.new
        echoes = {subscription: one.owed() if is_new else one.echoes() for subscription, one in self._overlaps.items()}
        return {subscription: payloads for subscription, payloads in echoes.items() if payloads}

    def unproven(self, covered_until: float) -> list[Subscription]:
        """The subscriptions that may not have been active on the new connection when the old one ended.

        Args:
            covered_until: when the old connection last received something, UNIX seconds.
        """
        if self.read_at is not None and covered_until >= self.read_at:
            return []
        return [subscription for subscription, overlap in self._overlaps.items() if overlap.is_unproven]


def _drain(overlap: Overlap[Any]) -> Iterator[Any]:
    while overlap.kept:
        yield overlap.kept.popleft()[1]
