"""Spot rates of a gap, from tick history."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from finx_sync.errors import FinxSyncError
from finx_sync.functions.exchange import Cancel
from finx_sync.messages import SpotTick, Tick
from finx_sync.pipeline.backfill import Fetched
from finx_sync.ticks import TickHistory
from finx_sync.venues.finx import SPOT

__all__ = ["SpotHistory"]


class SpotHistory:
    """Fills a gap with the same pages, and the same proof, as every other history.

    Args:
        between: returns the ticks of a pair from one millisecond since the epoch to another, both included; takes the
            pair, these two, a timeout in seconds, and a `Cancel`.
    """

    kind = SPOT

    def __init__(self, between: Callable[[str, int, int, float, Cancel], TickHistory]) -> None:
        self._between = between
        self._lock = threading.Lock()  # guards what follows; held for assignments only
        self._cancels: set[Cancel] = set()
        self._ended = False

    def fetch(self, name: str, start: float, end: float, timeout: float) -> Fetched:
        """Return all rows from `start` to `end`, UNIX seconds, as spot ticks marked as backfilled.

        Raises:
            FinxSyncError: nothing could be fetched.
        """
        first, last = int(start) * 1000, max(int(start) * 1000, int(end * 1000))
        try:
            with self._cancellable() as cancel:
                history = self._between(name, first, last, timeout, cancel)
        except FinxSyncError as error:
            if not error.history:
                raise
            return Fetched([_spot(row) for row in error.history], str(error))
        why = None if history.complete else f"not proven complete in {history.unproven[0]}"
        return Fetched([_spot(row) for row in history], why)

    @contextmanager
    def _cancellable(self) -> Iterator[Cancel]:
        cancel = Cancel()
        with self._lock:
            self._cancels.add(cancel)
            ended = self._ended
        if ended:  # `end` was called before this call was in the set, and so has not cancelled it
            cancel.set()
        try:
            yield cancel
        finally:
            with self._lock:
                self._cancels.discard(cancel)

    def end(self) -> None:
        """Cancel all running fetches and every later call. May be called from any thread."""
        with self._lock:
            self._ended = True
            cancels = list(self._cancels)
        for cancel in cancels:
            cancel.set()

    def moment(self, message: SpotTick) -> float:
        """Return the tick's own time, UNIX seconds; whole seconds if it came from the live feed."""
        moment = message.datetime
        return 0.0 if moment is None else moment.timestamp()

    def identity(self, message: SpotTick) -> object:
        """Return a live tick's second, exchange and price."""
        return (message.unix_date, message.exchange, message.price)


def _spot(row: Tick) -> SpotTick:
    moment = row.datetime
    return SpotTick(
        pair=row.pair,
        unix_date=int(moment.timestamp()),
        utc_date=f"{row.date}T{row.time}",
        exchange=row.exchange,
        price=row.price,
        date=row.date,
        time=row.time,
        received_at=time.time(),
        backfilled=True,
        absent=(),
    )
