"""Spot rates of a gap, from tick history."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable

from finx_sync.errors import FunctionTimeoutError
from finx_sync.messages import SpotTick, Tick
from finx_sync.venues.finx import SPOT

__all__ = ["SpotHistory"]

PAGE: int = 1000
"""Rows that one call returns at most (FinX documentation, *Functions*: tickHistory)."""
MILLISECOND = dt.timedelta(milliseconds=1)


class SpotHistory:
    """Asks for pages of tick history until a gap is covered.

    Args:
        page: returns up to `PAGE` rows of a pair after a time of a day, sorted;
            takes pair, date, time and timeout in seconds.
    """

    kind = SPOT

    def __init__(self, page: Callable[[str, dt.date, dt.time | None, float], list[Tick]]) -> None:
        self._page = page

    def fetch(self, name: str, start: float, end: float, timeout: float) -> list[SpotTick]:
        """All rows from `start` to `end`, UNIX seconds, as spot ticks marked as backfilled.

        Raises:
            FunctionTimeoutError: they are too many for `timeout` seconds.
            FinxSyncError: a call failed.
        """
        deadline = time.monotonic() + timeout
        first = dt.datetime.fromtimestamp(int(start), dt.timezone.utc)
        last = dt.datetime.fromtimestamp(end, dt.timezone.utc)
        rows: list[Tick] = []
        for number in range((last.date() - first.date()).days + 1):
            day = first.date() + dt.timedelta(days=number)
            begin = first if number == 0 else dt.datetime.combine(day, dt.time(), dt.timezone.utc)
            rows += self._day(name, begin, last, deadline)
        return [_spot(row) for row in rows]

    def _day(self, name: str, begin: dt.datetime, last: dt.datetime, deadline: float) -> list[Tick]:
        """The rows of one day from `begin` to `last`, page after page."""
        rows: list[Tick] = []
        position = begin
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise FunctionTimeoutError(f"the history of {name} did not come in time")
            # The server's `time` is exclusive; a millisecond earlier, ties with the last row come once more.
            after = None if position.time() == dt.time() else (position - MILLISECOND).time()
            page = [row for row in self._page(name, position.date(), after, left) if row.datetime >= position]
            rows = [row for row in rows if row.datetime < position] + page
            if len(page) < PAGE or page[-1].datetime > last or page[-1].datetime == position:
                return [row for row in rows if row.datetime <= last]
            position = page[-1].datetime

    def moment(self, message: SpotTick) -> float:
        """The tick's own time, UNIX seconds; whole seconds where the live feed says no more."""
        moment = message.datetime
        return 0.0 if moment is None else moment.timestamp()

    def identity(self, message: SpotTick) -> object:
        """A live tick's second, exchange and price."""
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
