"""One line goes from an old connection to a new one, both open for a moment. On the dispatch thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any

from finx_sync.dispatch.delivery import Judgement
from finx_sync.dispatch.inbox import Connection
from finx_sync.messages import Message
from finx_sync.session.overlap import Overlap, Verdict
from finx_sync.venues.base import Subscription

__all__ = ["Handover", "Kept"]

Kept = tuple[Message, bytes, float]
"""A message of the new connection that nobody has seen yet: itself, its payload, when it was received."""

_AS_JUDGED = {
    Verdict.DELIVER: Judgement.PASS,
    Verdict.DUPLICATE: Judgement.DUPLICATE,
    Verdict.KEEP: Judgement.KEPT,
}


class Handover:
    """The overlaps of a line's subscriptions.

    Args:
        old: the connection that serves the line.
        wishes: tells what it was asked for, wanted or not: some venues cannot take a subscription back, and what is
            wanted again is asked of the new one. Once that is open they become no more: what is wanted later is asked
            of the new one alone.
        deliver: hands a message on.
        retire: closes the old connection, unless the new one has failed; returns whether it does. Called first of all
            when the new one is to take over, so that this is settled.
        cancel: gives the new connection up; called when the old one goes before the new one is open.

    Attributes:
        new: the other connection; None until it is open, which `opened` tells.
        deadline: when the overlap ends, proven or not; monotonic.
    """

    def __init__(
        self,
        old: Connection,
        wishes: Callable[[], Iterable[Subscription]],
        *,
        deliver: Callable[[Message, bytes, float], object],
        retire: Callable[[], bool],
        cancel: Callable[[], object],
    ) -> None:
        self.old = old
        self.new: Connection | None = None
        self.deadline = float("inf")
        self._deliver = deliver
        self.retire = retire
        self.cancel = cancel
        self._wishes = wishes
        self._overlaps: dict[Subscription, Overlap[Kept]] = {wish: Overlap() for wish in wishes()}
        self._last_old: float | None = None

    def opened(self, new: Connection, deadline: float) -> None:
        """The new connection is open; its messages follow."""
        self.new, self.deadline = new, deadline
        for wish in self._wishes():
            self._overlaps.setdefault(wish, Overlap())

    def compares(self, wish: Subscription) -> bool:
        """Whether both connections bring it."""
        return wish in self._overlaps

    def is_complete(self, wanted: Container[Subscription]) -> bool:
        """Whether every subscription that is `wanted` has gone over."""
        return all(overlap.switched for wish, overlap in self._overlaps.items() if wish in wanted)

    def judge(  # a message's five facts
        self,
        wish: Subscription,
        message: Message,
        payload: bytes,
        received_at: float,
        connection: Connection,
    ) -> Judgement:
        """What becomes of a message of either connection."""
        overlap = self._overlaps.get(wish)
        if overlap is None and self.new is None:  # wanted since this began, and soon of both
            overlap = self._overlaps[wish] = Overlap()
        if overlap is None:
            return Judgement.PASS
        if connection is self.new:
            return _AS_JUDGED[overlap.new(payload, (message, payload, received_at))]
        if connection is not self.old:
            return Judgement.PASS
        self._last_old = received_at
        verdict = overlap.old(payload)
        if verdict is Verdict.DELIVER and overlap.switched:  # what the new one brought beyond it follows
            self._deliver(message, payload, received_at)
            for kept in _drain(overlap):
                self._deliver(*kept)
            return Judgement.DUPLICATE  # one of the two that met here; the other was handed on just now
        return _AS_JUDGED[verdict]

    def finish(self) -> tuple[list[Subscription], list[Kept]]:
        """The old connection goes. Returns whose messages may be missing, and what only the new one brought."""
        doubtful = [wish for wish, overlap in self._overlaps.items() if overlap.give_up()]
        return doubtful, [kept for overlap in self._overlaps.values() for kept in _drain(overlap)]

    def dissolve(self) -> tuple[list[Subscription], int]:
        """The new connection failed, and the old one goes on.

        Returns:
            Whose messages may be missing, since the new one had taken over; and how many messages of the new one are
            dropped, since the old one brings them too.
        """
        gone_over = [wish for wish, overlap in self._overlaps.items() if overlap.switched]
        return gone_over, sum(len(overlap.kept) for overlap in self._overlaps.values())

    def echoes(self) -> dict[Subscription, deque[bytes]]:
        """What the new connection has brought and the old one still will."""
        echoes = {wish: overlap.echoes() for wish, overlap in self._overlaps.items()}
        return {wish: payloads for wish, payloads in echoes.items() if payloads}

    def doubt_since(self, now: float) -> float:
        """From when on messages may be missing, UNIX seconds."""
        return now if self._last_old is None else self._last_old


def _drain(overlap: Overlap[Any]) -> Iterator[Any]:
    while overlap.kept:
        yield overlap.kept.popleft()[1]
