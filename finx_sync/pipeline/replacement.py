"""One endpoint goes from an old connection to a new one, both open for a moment. On the dispatch thread."""

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
"""A message of the new connection that nobody has seen yet: itself, its payload, when it was received."""

MAX_KEPT_BYTES: Final = 64 * 1024 * 1024
"""Bytes of the new connection's messages that are kept until it has proven itself; beyond, it takes over as it is."""


class Replacement:
    """The overlaps of an endpoint's subscriptions.

    Args:
        old: the connection that serves the endpoint.
        candidate: opens the new one, and knows what the old one was asked for, wanted or not: some venues cannot take a
            subscription back, and what is wanted again is asked of the new one. Once that is open nothing is added:
            what is wanted later is asked of the new one alone.
        delivery: hands messages on.
        now: UNIX seconds.

    Attributes:
        new: the other connection; None until it is open.
        deadline: when the overlap ends, proven or not; monotonic.
        doubt_since: from when on messages of the old connection may be missing, UNIX seconds.
        read_at: since when the server has read what the new connection asks for, UNIX seconds; None if not known.
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
        self._numbers = count()  # of the new connection's messages, so that those of all names keep their order
        self._kept_bytes = 0

    def opened(self, new: Connection, deadline: float) -> None:
        """The new connection is open; its messages follow."""
        self.new, self.deadline = new, deadline
        for subscription in self.candidate.carried():
            self._overlaps.setdefault(subscription, Overlap())

    def compares(self, subscription: Subscription) -> bool:
        """Whether both connections bring it."""
        return subscription in self._overlaps

    def is_complete(self, wanted: Container[Subscription]) -> bool:
        """Whether every subscription that is `wanted` has gone over."""
        return all(overlap.switched for subscription, overlap in self._overlaps.items() if subscription in wanted)

    def check(  # a message's five facts
        self,
        subscription: Subscription,
        message: Message,
        payload: bytes,
        received_at: float,
        connection: Connection,
        *,
        is_echo: bool,
    ) -> Verdict:
        """What becomes of a message of either connection; an echo has been handed on before, but is compared."""
        overlap = self._overlaps.get(subscription)
        if overlap is None and self.new is None:  # wanted since this began, and soon of both
            overlap = self._overlaps[subscription] = Overlap()
        if overlap is None:
            return Verdict.PASS
        if connection is self.new:
            verdict = overlap.new(payload, (next(self._numbers), (message, payload, received_at)))
            if verdict is Verdict.HOLD:
                self._kept_bytes += len(payload)
                if self._kept_bytes > MAX_KEPT_BYTES:
                    self.deadline = 0.0  # proven or not, as if the time were up
            return verdict
        if connection is not self.old:
            return Verdict.PASS
        self.doubt_since = received_at
        verdict = overlap.old(payload)
        if verdict is Verdict.PASS and overlap.switched:  # what the new one brought beyond it follows
            if is_echo:
                self._delivery.duplicates(1)  # neither of the two that met here is handed on
            else:
                self._delivery.deliver(message, payload, received_at)
            for _, kept in _drain(overlap):
                self._delivery.deliver(*kept)
            return Verdict.DUPLICATE  # one of the two that met here; the other was handed on just now
        return verdict

    def finish(self) -> tuple[list[Subscription], list[Kept]]:
        """The old connection goes. Returns whose messages may be missing, and what only the new one brought."""
        doubtful = [subscription for subscription, overlap in self._overlaps.items() if overlap.finish()]
        return doubtful, self.release()

    def dissolve(self) -> tuple[list[Subscription], int]:
        """The new connection failed, and the old one goes on.

        Returns:
            Whose messages may be missing, since the new one had taken over; and how many messages of the new one are
            dropped, since the old one brings them too.
        """
        gone_over = [subscription for subscription, overlap in self._overlaps.items() if overlap.switched]
        return gone_over, sum(len(overlap.kept) for overlap in self._overlaps.values())

    def release(self) -> list[Kept]:
        """What the new connection alone has brought so far, in order; it is kept no more."""
        numbered = [kept for overlap in self._overlaps.values() for kept in _drain(overlap)]
        return [kept for _, kept in sorted(numbered, key=itemgetter(0))]

    def echoes(self, connection: Connection) -> dict[Subscription, deque[bytes]]:
        """What this one of the two still will bring, now that the other one, which has brought it, is gone."""
        is_new = connection is self.new
        echoes = {subscription: one.owed() if is_new else one.echoes() for subscription, one in self._overlaps.items()}
        return {subscription: payloads for subscription, payloads in echoes.items() if payloads}

    def unproven(self, covered_until: float) -> list[Subscription]:
        """What the new connection may not have been subscribed to yet when the old one last brought something."""
        if self.read_at is not None and covered_until >= self.read_at:
            return []
        return [subscription for subscription, overlap in self._overlaps.items() if overlap.is_unproven]


def _drain(overlap: Overlap[Any]) -> Iterator[Any]:
    while overlap.kept:
        yield overlap.kept.popleft()[1]
