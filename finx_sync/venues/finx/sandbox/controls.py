"""Controls of the sandbox's FinX for tests; any thread may use them."""

from __future__ import annotations

from collections.abc import Iterable

from finx_sync.sandbox.history import day_start
from finx_sync.sandbox.host import SandboxHost
from finx_sync.sandbox.market import SpotTrade, check_pair
from finx_sync.venues.finx.sandbox.codec import tick_row

__all__ = ["FinxControls"]


class FinxControls:
    """Reads and sets the price history of FinX in the sandbox.

    Args:
        host: the sandbox.
    """

    def __init__(self, host: SandboxHost) -> None:
        self._host = host

    def set_history(self, pair: str, date: str, rows: Iterable[tuple[int, str, float]]) -> None:
        """Replace the ticks of a day, for tests of histories: bursts, equal times, empty days.

        Args:
            pair: like ``BTC:USD``.
            date: like ``2022-06-15``.
            rows: (milliseconds since the start of the day, exchange, price), in any order.

        Raises:
            InvalidInputError: the pair or the date is invalid, or a time is outside the day.
        """
        start = day_start(date)
        trades = [SpotTrade(check_pair(pair), start + at, exchange, price) for at, exchange, price in rows]
        self._host.history.set_day(pair, start, trades)

    def history_table(self, pair: str, date: str) -> list[dict[str, str]]:
        """Return all rows that `tickHistory` can return for a day, sorted by time.

        Args:
            pair: like ``BTC:USD``.
            date: ``YYYY-MM-DD``. Today has rows up to now, and a day in the future has none.
        """
        return [
            tick_row(trade) for trade in self._host.history.day(check_pair(pair), day_start(date), self._host.now())
        ]
