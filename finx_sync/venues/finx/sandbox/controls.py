"""What tests may ask of the sandbox's FinX, from any thread."""

from __future__ import annotations

from collections.abc import Iterable

from finx_sync.sandbox.history import day_start
from finx_sync.sandbox.host import SandboxHost
from finx_sync.sandbox.market import SpotTrade, check_pair
from finx_sync.venues.finx.sandbox.codec import tick_row

__all__ = ["FinxControls"]


class FinxControls:
    """The past, as the service has it.

    Args:
        host: the sandbox.
    """

    def __init__(self, host: SandboxHost) -> None:
        self._host = host

    def set_history(self, pair: str, date: str, rows: Iterable[tuple[int, str, float]]) -> None:
        """Let a day have other ticks, for tests of histories: bursts, ties, empty days.

        Args:
            pair: like ``BTC:USD``.
            date: like ``2022-06-15``.
            rows: (milliseconds of the day, exchange, price), in any order.

        Raises:
            InvalidInputError: no such pair or date, or a time beyond the day.
        """
        start = day_start(date)
        trades = [SpotTrade(check_pair(pair), start + at, exchange, price) for at, exchange, price in rows]
        self._host.history.set_day(pair, start, trades)

    def history_table(self, pair: str, date: str) -> list[dict[str, str]]:
        """Return all the rows that `tickHistory` can give for a day, in the order of time.

        Args:
            pair: e.g. ``BTC:USD``.
            date: ``YYYY-MM-DD``; of today only what has happened by now, of a day to come nothing.
        """
        return [
            tick_row(trade) for trade in self._host.history.day(check_pair(pair), day_start(date), self._host.now())
        ]
