"""Open, high, low, close and count of equal periods."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from finx_sync.ticks.columns import DAY, Columns, moment, stretch_start
from finx_sync.ticks.extras import numpy, pandas
from finx_sync.ticks.labels import Unproven, to_attributes

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Bar", "Bars", "bars_of"]

Row = tuple[int, str, float, float, float, float, int]
"""Start in microseconds since the epoch, exchange, open, high, low, close, count."""


@dataclass(frozen=True)
class Bar:
    """One period.

    Attributes:
        start: its first moment, UTC.
        open, high, low, close: the first, highest, lowest and last price.
        count: ticks with a price.
        exchange: the one whose ticks these are; None for all together.
    """

    start: dt.datetime
    open: float
    high: float
    low: float
    close: float
    count: int
    exchange: str | None = None


class Bars(Sequence[Bar]):
    """Bars of one pair, by time and then by exchange. A period without a tick has none.

    Attributes:
        pair: like "BTC:USD".
        by_exchange: whether each exchange has bars of its own.
        complete: whether it is proven that no tick behind them is missing.
        unproven: where it is not.
    """

    def __init__(self, pair: str, by_exchange: bool, rows: list[Row], unproven: Sequence[Unproven] = ()) -> None:
        self.pair = pair
        self.by_exchange = by_exchange
        self.unproven = tuple(unproven)
        self._rows = rows

    @property
    def complete(self) -> bool:
        """Whether it is proven that no tick behind them is missing."""
        return not self.unproven

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Bar: ...
    @overload
    def __getitem__(self, index: slice) -> Bars: ...
    def __getitem__(self, index: int | slice) -> Bar | Bars:
        if isinstance(index, slice):
            return Bars(self.pair, self.by_exchange, self._rows[index], self.unproven)
        start, exchange, first, high, low, last, count = self._rows[index]
        return Bar(moment(start), first, high, low, last, count, exchange if self.by_exchange else None)

    def __iter__(self) -> Iterator[Bar]:
        return map(self.__getitem__, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if not self._rows:
            return f"<Bars {self.pair}, none>"
        first, last = moment(self._rows[0][0]), moment(self._rows[-1][0])
        return f"<Bars {self.pair}, {len(self)} from {first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S} UTC>"

    def to_pandas(self) -> pd.DataFrame:
        """A frame of float columns and `count`, by the bar's first moment in UTC (and exchange).

        Its ``attrs`` are those of `TickHistory.to_pandas`.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        np, pd = numpy(), pandas()
        starts, exchanges, *values = zip(*self._rows, strict=True) if self._rows else ((),) * 7
        index: Any = pd.DatetimeIndex(np.array(starts, "datetime64[us]"), name="start").tz_localize("UTC")
        if self.by_exchange:
            index = pd.MultiIndex.from_arrays([index, list(exchanges)], names=["start", "exchange"])
        names = ("open", "high", "low", "close", "count")
        columns = {name: np.array(value, "i8" if name == "count" else "f8") for name, value in zip(names, values)}  # noqa: B905
        frame = pd.DataFrame(columns, index=index)
        frame.attrs.update(to_attributes(self.pair, self.unproven))
        return frame


def bars_of(columns: Columns, pair: str, length: int, *, by_exchange: bool) -> Bars:
    """The bars of some rows; those without a price do not count.

    Args:
        columns: sorted.
        pair: like "BTC:USD".
        length: of a bar, microseconds; bars begin at multiples of it since midnight, and end with the day.
        by_exchange: whether each exchange gets bars of its own.
    """
    parts: list[tuple[str, Columns]] = [("", columns)]
    if by_exchange:
        parts = [(name or "", columns.of_exchange(number)) for name, number in columns.names.items()]
    rows: list[Row] = []
    for exchange, part in parts:
        priced = [price == price for price in part.prices]  # noqa: PLR0124  # false for a missing one
        rows += _bars(part if all(priced) else part.chosen(priced), exchange, length)
    rows.sort()
    return Bars(pair, by_exchange, rows)


def _bars(columns: Columns, exchange: str, length: int) -> Iterator[Row]:
    stamps, prices = columns.stamps, columns.prices
    begin = 0
    while begin < len(stamps):
        start = stretch_start(stamps[begin], length)
        end = bisect_left(stamps, min(start + length, start - start % DAY + DAY), begin)
        part = prices[begin:end]
        yield start, exchange, part[0], max(part), min(part), part[-1], end - begin
        begin = end
