"""Filling gaps from history: fetched beside the stream, handed on in order before the live messages that wait for it.

The dispatch thread owns everything here but the fetching, which has a short-lived thread of its own for each gap.

History and the live feed say the same with different precision, so a row counts as known when a live message of the
same second, exchange and price was handed on, each such message once (a multiset: true repeats are kept).
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from finx_sync.errors import FinxSyncError
from finx_sync.events import HistoryFetched
from finx_sync.messages import Message
from finx_sync.notices import Gap
from finx_sync.pipeline.counters import MessageCounter
from finx_sync.pipeline.delivery import Delivery
from finx_sync.pipeline.overlap import Verdict
from finx_sync.venues.base import Subscription

__all__ = ["Backfill", "Fetched", "Filling", "History"]

logger = logging.getLogger("finx_sync")

MAX_HELD_BYTES: Final = 64 * 1024 * 1024
"""Bytes of live messages of one name that wait for its gap to be filled; beyond, the gap stays one."""
REMEMBERED: Final = 256
"""Live messages of each name that history is compared with."""


@dataclass(frozen=True)
class Fetched:
    """What there is of a gap.

    Attributes:
        rows: messages marked as backfilled, sorted by time.
        missing: why they may not be all; None where they are.
    """

    rows: list[Any]
    missing: str | None = None


class History(Protocol):
    """Where the rows come from. Its class knows the venue."""

    kind: str
    """The kind of subscription that it can fill."""

    def fetch(self, name: str, start: float, end: float, timeout: float) -> Fetched:
        """All messages of `name` from `start` to `end`, UNIX seconds.

        Raises:
            FinxSyncError: they cannot be had in `timeout` seconds, or `end` was called.
        """

    def end(self) -> None:
        """Give up what is being fetched, and whatever is asked for from now on. Any thread."""

    def moment(self, message: Any) -> float:
        """The message's own time, UNIX seconds."""

    def identity(self, message: Any) -> object:
        """What a live message and its row in history have in common."""


@dataclass
class Filling:
    """One gap being filled.

    Attributes:
        subscription, gap: which.
        held: the live messages that wait.
        size: bytes of their payloads.
    """

    subscription: Subscription
    gap: Gap
    held: list[tuple[Message, bytes, float]] = field(default_factory=list)
    size: int = 0


class Backfill:
    """Fills the gaps of one kind of subscription.

    Args:
        history: where rows come from.
        delivery: hands messages on.
        counter: counts what was fetched.
        emit: queues an event for the dispatch thread, which calls `finish` with it.
        timeout: seconds that live messages wait at most.
    """

    def __init__(
        self,
        history: History,
        delivery: Delivery,
        counter: MessageCounter,
        emit: Callable[..., object],
        *,
        timeout: float,
    ) -> None:
        self._history = history
        self._delivery = delivery
        self._counter = counter
        self._emit = emit
        self._timeout = timeout
        self._ended = False
        self._fillings: dict[Subscription, Filling] = {}
        self._recent: dict[Subscription, deque[Any]] = {}

    def fill(self, gap: Gap, subscription: Subscription) -> bool:
        """Begin to fill the gap of one subscription; returns False where that is not possible."""
        if subscription.kind != self._history.kind or subscription in self._fillings:
            return False
        filling = self._fillings[subscription] = Filling(subscription, gap)
        recent = self._recent.get(subscription)
        start = gap.start if not recent else min(gap.start, self._history.moment(recent[-1]))
        threading.Thread(target=self._fetch, args=(filling, start), name="finx-sync backfill", daemon=True).start()
        return True

    def check(self, subscription: Subscription | None, message: Message, payload: bytes, received_at: float) -> Verdict:
        """Keep a live message back while its gap is being filled; remember it otherwise."""
        if subscription is None or subscription.kind != self._history.kind:
            return Verdict.PASS
        filling = self._fillings.get(subscription)
        if filling is not None:
            filling.held.append((message, payload, received_at))
            filling.size += len(payload)
            if filling.size - len(payload) <= MAX_HELD_BYTES < filling.size:
                logger.warning("the gap of %s is not filled: too much came meanwhile", subscription.name)
                self._emit(HistoryFetched, filling, Fetched([], "too much came meanwhile"))
            return Verdict.HOLD
        self._remember(subscription, message)
        return Verdict.PASS

    def _remember(self, subscription: Subscription, message: Message) -> None:
        self._recent.setdefault(subscription, deque(maxlen=REMEMBERED)).append(message)

    def _fetch(self, filling: Filling, start: float) -> None:
        """On its own thread."""
        subscription = filling.subscription
        fetched = Fetched([], "it could not be fetched")
        try:
            fetched = self._history.fetch(subscription.name, start, filling.gap.end, self._timeout)
            if fetched.missing is not None:
                logger.warning("the gap of %s could not be filled for certain: %s", subscription.name, fetched.missing)
        except FinxSyncError as error:
            if self._ended:
                return
            logger.warning("the gap of %s could not be filled: %s", subscription.name, error)
        except Exception:
            logger.exception("filling the gap of %s has met a defect; please report it", subscription.name)
        self._emit(HistoryFetched, filling, fetched)

    def is_waited_for(self, filling: Filling) -> bool:
        """Whether live messages still wait for this one; it may have been given up."""
        return self._fillings.get(filling.subscription) is filling

    def finish(self, filling: Filling, fetched: Fetched) -> None:
        """Hand on what was missing, and then the live messages that have waited."""
        del self._fillings[filling.subscription]
        for row in self._missing(filling, fetched.rows):
            self._remember(filling.subscription, row)
            self._delivery.deliver_uncounted(row)
            self._counter.backfill(1)
        for message, payload, received_at in filling.held:
            self._remember(filling.subscription, message)
            self._delivery.deliver(message, payload, received_at)

    def _missing(self, filling: Filling, rows: list[Any]) -> list[Any]:
        """The rows that no live message has brought."""
        history = self._history
        recent = self._recent.get(filling.subscription, ())
        begin = history.moment(recent[-1]) if recent else filling.gap.start
        end = history.moment(filling.held[0][0]) + 1.0 if filling.held else filling.gap.end
        known = Counter(history.identity(message) for message in recent)
        known.update(history.identity(message) for message, _, _ in filling.held)
        missing = []
        for row in rows:
            if not begin <= history.moment(row) < end:
                continue
            identity = history.identity(row)
            if known[identity]:
                known[identity] -= 1
            else:
                missing.append(row)
        return missing

    def end(self) -> None:
        """The stream ends: what is kept back is dropped, counted."""
        self._ended = True
        self._history.end()
        for filling in self._fillings.values():
            self._counter.settle(dropped=len(filling.held))
