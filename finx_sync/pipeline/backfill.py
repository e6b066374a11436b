"""Filling gaps from history.

History is fetched while the stream goes on. Live messages of the same name are held back until the fetched rows have
been delivered, so that handlers get all of them in order.

Everything here runs on the dispatch thread, except for the fetching, which has a short-lived thread for each gap. That
thread only reads its arguments and queues a `HistoryFetched`, so the two threads share no data that needs a lock.

History and the live feed give the same trade with different precision. A row is therefore known if a live message with
the same second, exchange and price was delivered. Each live message accounts for one row, so true repeats are kept.
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
"""Bytes of live messages of one name that are held back for its gap; beyond this, the gap is not filled."""
REMEMBERED: Final = 256
"""The number of live messages of each name that are kept for the comparison with history."""


@dataclass(frozen=True)
class Fetched:
    """The history of a gap.

    Attributes:
        rows: messages marked as backfilled, sorted by time.
        missing: why rows may be missing; None if the rows are complete.
    """

    rows: list[Any]
    missing: str | None = None


class History(Protocol):
    """The source of the rows. Each venue with history implements it."""

    kind: str
    """The kind of subscription that it can fill."""

    def fetch(self, name: str, start: float, end: float, timeout: float) -> Fetched:
        """Fetch all messages of `name` from `start` to `end`, UNIX seconds.

        Raises:
            FinxSyncError: they could not be fetched within `timeout` seconds, or `end` was called.
        """

    def end(self) -> None:
        """Abort the current fetches, and let every later one fail. Any thread."""

    def moment(self, message: Any) -> float:
        """The message's own time, UNIX seconds."""

    def identity(self, message: Any) -> object:
        """A value that is equal for a live message and its row in history."""


@dataclass
class Filling:
    """One gap being filled.

    Attributes:
        subscription, gap: the gap, and the subscription that it belongs to.
        held: the live messages that are held back.
        size: bytes of their payloads.
    """

    subscription: Subscription
    gap: Gap
    held: list[tuple[Message, bytes, float]] = field(default_factory=list)
    size: int = 0


class Backfill:
    """Fills the gaps of one kind of subscription.

    Args:
        history: the source of the rows.
        delivery: delivers messages to handlers.
        counter: counts the fetched messages.
        emit: queues an event for the dispatch thread, which then calls `finish`. Any thread.
        timeout: seconds for which live messages are held back at most.
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
        self._ended = False  # set once by the dispatch thread; the fetching threads read it
        self._fillings: dict[Subscription, Filling] = {}
        self._recent: dict[Subscription, deque[Any]] = {}

    def fill(self, gap: Gap, subscription: Subscription) -> bool:
        """Begin to fill the gap of one subscription. Returns False if that is not possible."""
        if subscription.kind != self._history.kind or subscription in self._fillings:
            return False
        filling = self._fillings[subscription] = Filling(subscription, gap)
        recent = self._recent.get(subscription)
        start = gap.start if not recent else min(gap.start, self._history.moment(recent[-1]))
        threading.Thread(target=self._fetch, args=(filling, start), name="finx-sync backfill", daemon=True).start()
        return True

    def check(self, subscription: Subscription | None, message: Message, payload: bytes, received_at: float) -> Verdict:
        """Hold a live message back while its gap is being filled; otherwise remember it."""
        if subscription is None or subscription.kind != self._history.kind:
            return Verdict.PASS
        filling = self._fillings.get(subscription)
        if filling is not None:
            filling.held.append((message, payload, received_at))
            filling.size += len(payload)
            if filling.size - len(payload) <= MAX_HELD_BYTES < filling.size:
                logger.warning("the gap of %s is not filled: too many messages came meanwhile", subscription.name)
                # Queued like a real result: `is_waited_for` makes the pipeline ignore whichever of the two is second.
                self._emit(HistoryFetched, filling, Fetched([], "too many messages came meanwhile"))
            return Verdict.HOLD
        self._remember(subscription, message)
        return Verdict.PASS

    def _remember(self, subscription: Subscription, message: Message) -> None:
        self._recent.setdefault(subscription, deque(maxlen=REMEMBERED)).append(message)

    def _fetch(self, filling: Filling, start: float) -> None:
        """Fetch the history and queue the result. Runs on a thread of its own."""
        subscription = filling.subscription
        fetched = Fetched([], "it could not be fetched")
        try:
            fetched = self._history.fetch(subscription.name, start, filling.gap.end, self._timeout)
            if fetched.missing is not None:
                logger.warning("the gap of %s may not be filled completely: %s", subscription.name, fetched.missing)
        except FinxSyncError as error:
            if self._ended:  # set before `History.end` aborts the fetch, so an abort never logs a warning
                return
            logger.warning("the gap of %s could not be filled: %s", subscription.name, error)
        except Exception:
            logger.exception("a defect of finx_sync kept the gap of %s unfilled; please report it", subscription.name)
        self._emit(HistoryFetched, filling, fetched)

    def is_waited_for(self, filling: Filling) -> bool:
        """Whether `filling` is still in progress; False once it has been finished or given up."""
        return self._fillings.get(filling.subscription) is filling

    def finish(self, filling: Filling, fetched: Fetched) -> None:
        """Deliver the missing rows, and then the live messages that were held back."""
        del self._fillings[filling.subscription]
        for row in self._missing(filling, fetched.rows):
            self._remember(filling.subscription, row)
            self._delivery.deliver_uncounted(row)
            self._counter.backfill(1)
        for message, payload, received_at in filling.held:
            self._remember(filling.subscription, message)
            self._delivery.deliver(message, payload, received_at)

    def _missing(self, filling: Filling, rows: list[Any]) -> list[Any]:
        """The rows for which there was no live message."""
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
        """End with the stream: drop the messages that are held back, and count them as dropped."""
        self._ended = True
        self._history.end()
        for filling in self._fillings.values():
            self._counter.settle(dropped=len(filling.held))
