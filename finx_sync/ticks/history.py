"""`TickHistory`: what `get_tick_history` returns."""

from __future__ import annotations

import datetime as dt
import html
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, SupportsIndex, overload

from finx_sync.messages import Tick
from finx_sync.moments import EARLIEST_SECONDS, Moment, TimeOfDay, on_day, read_any
from finx_sync.ticks import export
from finx_sync.ticks.bars import Bars, bars_of
from finx_sync.ticks.columns import Columns, micros, moment
from finx_sync.ticks.spans import Span, read_span

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

__all__ = ["TickHistory", "Unproven"]

SHOWN: Final = 5
"""Rows at either end that a notebook shows."""


NO_START: Final = -(2**62)
NO_END: Final = 2**62
"""Microseconds that are before, and after, everything."""
Place = Moment | TimeOfDay
"""A moment, a date, or a time of day."""


class Unproven(NamedTuple):
    """A stretch of time, UTC, both ends in it, in which ticks may be missing."""

    start: dt.datetime
    end: dt.datetime

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M:%S.%f} to {self.end:%Y-%m-%d %H:%M:%S.%f}"


class TickHistory(Sequence[Tick]):
    """The ticks of one pair, sorted by time; those of one moment by exchange and price.

    A sequence of `Tick`, made when you look at it; kept as columns, 18 bytes a row. Slices by number are what they are
    for a list; slices by time, ``history["12:00":"13:00"]`` or with datetimes, have the first moment and not the last.

    Attributes:
        pair: like "BTC:USD".
        complete: whether it is proven that nothing is missing.
        unproven: where it is not; empty when `complete`.
    """

    def __init__(self, pair: str, columns: Columns, unproven: Sequence[Unproven] = ()) -> None:
        self.pair = pair
        self.unproven = tuple(unproven)
        self._columns = columns

    @property
    def complete(self) -> bool:
        """Whether it is proven that nothing is missing."""
        return not self.unproven

    # A sequence

    def __len__(self) -> int:
        return len(self._columns)

    @overload
    def __getitem__(self, index: int) -> Tick: ...
    @overload
    def __getitem__(self, index: slice) -> TickHistory: ...
    def __getitem__(self, index: int | slice) -> Tick | TickHistory:
        if isinstance(index, slice):
            if not all(one is None or isinstance(one, SupportsIndex) for one in (index.start, index.stop)):
                return self.between(index.start, index.stop)[:: index.step]
            return TickHistory(self.pair, self._columns.part(index.start, index.stop, index.step), self.unproven)
        place = range(len(self))[index]
        return next(iter(self._columns.part(place, place + 1).ticks(self.pair)))

    def __iter__(self) -> Iterator[Tick]:
        return iter(self._columns.ticks(self.pair))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def between(self, start: Place | None = None, end: Place | None = None) -> TickHistory:
        """The ticks from `start` on and before `end`; None leaves a side open.

        Args:
            start: a moment, like a datetime or "2022-06-15T12:00"; a date, which means its midnight; or a time of day,
                which means the first day's. What has no zone is UTC.
            end: likewise.

        Raises:
            InvalidInputError: it is none of these.
        """
        first = NO_START if start is None else self._stamp(start)
        last = NO_END if end is None else self._stamp(end)
        unproven = [one for one in self.unproven if micros(one.end) >= first and micros(one.start) < last]
        return TickHistory(self.pair, self._columns.between(first, last), unproven)

    def _stamp(self, when: Place) -> int:
        found = read_any(when, EARLIEST_SECONDS)
        if isinstance(found, dt.time):
            first = moment(self._columns.stamps[0]) if len(self) else moment(0)
            day, clock = on_day(first.date(), found)
            found = dt.datetime.combine(day, clock)
        elif not isinstance(found, dt.datetime):
            found = dt.datetime.combine(found, dt.time())
        return micros(found)

    # Columns, for those who need neither ticks nor frames

    @property
    def timestamps(self) -> memoryview:
        """Microseconds since the UNIX epoch, 64-bit integers; not to be written to."""
        return memoryview(self._columns.stamps).toreadonly()

    @property
    def prices(self) -> memoryview:
        """64-bit floats, NaN where there was none; not to be written to."""
        return memoryview(self._columns.prices).toreadonly()

    @property
    def exchanges(self) -> list[str]:
        """The exchanges that occur, by name."""
        names = list(self._columns.names)
        return sorted(name for number in set(self._columns.codes) if (name := names[number]) is not None)

    # Elsewhere

    def to_pandas(self) -> pd.DataFrame:
        """A frame by time in UTC, with pair and exchange as categories and price as a float.

        Raises:
            MissingExtraError: pandas is not installed (extra ``frames``).
        """
        frame = export.to_pandas(self._columns, self.pair)
        frame.attrs["complete"] = self.complete
        return frame

    def to_polars(self) -> pl.DataFrame:
        """The columns datetime, pair, exchange and price.

        Raises:
            MissingExtraError: Polars is not installed (extra ``polars``).
        """
        return export.to_polars(self._columns, self.pair)

    def to_arrow(self) -> pa.Table:
        """The columns datetime, pair, exchange and price.

        Raises:
            MissingExtraError: PyArrow is not installed (extra ``arrow``).
        """
        return export.to_arrow(self._columns, self.pair)

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write a Parquet file of `to_arrow`'s table.

        Raises:
            MissingExtraError: PyArrow is not installed (extra ``arrow``).
        """
        export.to_parquet(self._columns, self.pair, path)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write datetime, pair, exchange and price, with a line of names above. Needs no extra."""
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            export.to_csv(self._columns, self.pair, file)

    def bars(self, every: Span = "1min", *, by_exchange: bool = False) -> Bars:
        """Open, high, low, close and count.

        Args:
            every: length of a bar, like "1min" or a timedelta; bars begin at multiples of it, from midnight UTC on.
            by_exchange: bars of each exchange instead of all together.

        Raises:
            InvalidInputError: `every` is no length of time.
        """
        return bars_of(self._columns, self.pair, read_span(every), by_exchange=by_exchange)

    # To be seen

    def __repr__(self) -> str:
        return f"<TickHistory {self._described()}>"

    def _described(self) -> str:
        text = f"{self.pair}, {len(self):,} ticks"
        if len(self):
            first, last = (moment(self._columns.stamps[place]) for place in (0, -1))
            until = f"{last:%H:%M:%S}" if first.date() == last.date() else f"{last:%Y-%m-%d %H:%M:%S}"
            text += f", {first:%Y-%m-%d %H:%M:%S} to {until} UTC, {', '.join(self.exchanges)}"
        return text if self.complete else f"{text}, NOT PROVEN COMPLETE"

    def _repr_html_(self) -> str:
        places = range(len(self))
        rows: list[Any] = [self[place] for place in places[:SHOWN]]
        if len(self) > 2 * SHOWN:
            rows.append(None)
        rows += [self[place] for place in places[max(SHOWN, len(self) - SHOWN) :]]
        cells = "".join(
            "<tr><td>⋮</td><td></td><td></td></tr>"
            if tick is None
            else f"<tr><td>{tick.date} {html.escape(tick.time)}</td><td>{html.escape(tick.exchange or '')}</td>"
            f"<td>{'' if tick.price is None else repr(tick.price)}</td></tr>"
            for tick in rows
        )
        note = "".join(f"<br>not proven complete: {one}" for one in self.unproven[:SHOWN])
        head = "<tr><th>time (UTC)</th><th>exchange</th><th>price</th></tr>"
        return f"<table><caption>{html.escape(self._described())}{note}</caption>{head}{cells}</table>"
