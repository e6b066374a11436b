"""`TickHistory`: what `get_tick_history` returns."""

from __future__ import annotations

import copy
import datetime as dt
import html
import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, SupportsIndex, overload

from finx_sync.messages import Tick
from finx_sync.moments import EARLIEST_SECONDS, Moment, TimeOfDay, on_day, read_any
from finx_sync.ticks import export, restore
from finx_sync.ticks.bars import Bars, bars_of
from finx_sync.ticks.columns import Columns, micros, moment
from finx_sync.ticks.labels import Rejected, Unproven
from finx_sync.ticks.spans import Span, read_span

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

__all__ = ["TickHistory"]

SHOWN: Final = 5
"""Rows at each end that a notebook shows."""


NO_START: Final = -(2**62)
NO_END: Final = 2**62
"""Microseconds before, and after, every possible tick."""
Place = Moment | TimeOfDay
"""A moment, a date, or a time of day."""


class TickHistory(Sequence[Tick]):
    """The ticks of one pair, sorted by time, then by exchange and price.

    A sequence of `Tick`, each made when you access it; the rows are columns of 18 bytes each. Slices by number work as
    for a list, so ``history[::-1]`` has the newest tick first; slices by time, ``history["12:00":"13:00"]`` or with
    datetimes, include the first moment and not the last. It can be pickled and copied, and read back from the files and
    frames that it was written to.

    Attributes:
        pair: like "BTC:USD".
        complete: whether it is proven that nothing is missing.
        unproven: where it is not; empty when `complete`.
        rejected: rows from the server that are not ticks, each with the reason; their moments are unproven.
        discarded: how many rows of the server's answers were left out, by reason: "another pair", "another day",
            "another exchange" (only where no row was of the requested one).
    """

    def __init__(
        self,
        pair: str,
        columns: Columns,
        unproven: Sequence[Unproven] = (),
        *,
        rejected: Sequence[Rejected] = (),
        discarded: Mapping[str, int] | None = None,
    ) -> None:
        self.pair = pair
        self.unproven = tuple(unproven)
        self.rejected = tuple(rejected)
        self.discarded: dict[str, int] = dict(discarded or {})
        self._columns = columns
        self._is_reversed = False

    def _with(self, columns: Columns, unproven: Sequence[Unproven], *, is_reversed: bool) -> TickHistory:
        """A copy with other rows."""
        part = copy.copy(self)
        part._columns, part.unproven, part._is_reversed = columns, tuple(unproven), is_reversed
        return part

    def _by_time(self) -> Columns:
        """The rows, the oldest first."""
        return self._columns.part(None, None, -1) if self._is_reversed else self._columns

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
            turned = index.step is not None and operator.index(index.step) < 0
            part = self._columns.part(index.start, index.stop, index.step)
            return self._with(part, self.unproven, is_reversed=self._is_reversed is not turned)
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
                which means the first day's. Without a zone it is UTC.
            end: in the same forms.

        Raises:
            InvalidInputError: it is none of these.
        """
        first = NO_START if start is None else self._stamp(start)
        last = NO_END if end is None else self._stamp(end)
        unproven = [one for one in self.unproven if micros(one.end) >= first and micros(one.start) < last]
        part = self._with(self._by_time().between(first, last), unproven, is_reversed=False)
        return part[::-1] if self._is_reversed else part

    def _stamp(self, when: Place) -> int:
        found = read_any(when, EARLIEST_SECONDS)
        if isinstance(found, dt.time):
            first = moment(self._columns.stamps[-1 if self._is_reversed else 0]) if len(self) else moment(0)
            day, clock = on_day(first.date(), found)
            found = dt.datetime.combine(day, clock)
        elif not isinstance(found, dt.datetime):
            found = dt.datetime.combine(found, dt.time())
        return micros(found)

    # Columns, without ticks or frames

    @property
    def timestamps(self) -> memoryview:
        """Microseconds since the UNIX epoch, as read-only 64-bit integers."""
        return memoryview(self._columns.stamps).toreadonly()

    @property
    def prices(self) -> memoryview:
        """Prices as read-only 64-bit floats, NaN where there was none."""
        return memoryview(self._columns.prices).toreadonly()

    @property
    def exchanges(self) -> list[str]:
        """The names of the exchanges that occur, sorted."""
        names = list(self._columns.names)
        return sorted(name for number in set(self._columns.codes) if (name := names[number]) is not None)

    # Export

    def to_pandas(self) -> pd.DataFrame:
        """A frame indexed by time in UTC, with pair and exchange as categories and price as a float.

        Its ``attrs`` have `pair`, `complete`, and `unproven` as pairs of ISO 8601 texts.

        Raises:
            MissingExtraError: pandas is not installed (extra ``frames``).
        """
        return export.to_pandas(self._columns, self.pair, self.unproven)

    def to_polars(self) -> pl.DataFrame:
        """A frame with the columns datetime, pair, exchange, price and unproven, which `to_csv` explains.

        Raises:
            MissingExtraError: Polars is not installed (extra ``polars``).
        """
        return export.to_polars(self._columns, self.pair, self.unproven)

    def to_arrow(self) -> pa.Table:
        """A table with datetime, pair, exchange and price; the schema's metadata has the unproven stretches.

        Raises:
            MissingExtraError: PyArrow is not installed (extra ``arrow``).
        """
        return export.to_arrow(self._columns, self.pair, self.unproven)

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write a Parquet file of `to_arrow`'s table.

        Raises:
            MissingExtraError: PyArrow is not installed (extra ``arrow``).
        """
        export.to_parquet(self._columns, self.pair, path, self.unproven)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write datetime, pair, exchange, price and unproven below a header. Needs no extra.

        Each stretch that is not proven complete stands, as "start/end", in the column `unproven` of its first row or of
        the next one. A history without ticks has one row, without a time, for its pair and stretches. A name that a
        spreadsheet would run as a formula gets an apostrophe before it.
        """
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            export.to_csv(self._columns, self.pair, file, self.unproven)

    # Import

    @classmethod
    def from_arrow(cls, table: pa.Table) -> TickHistory:
        """Read a table as `to_arrow` makes it, sorted by time.

        A table without labels, such as one from another program, is not proven complete from its first row to its last.

        Raises:
            InvalidInputError: it is not a table of ticks of one pair.
            MissingExtraError: PyArrow is not installed (extra ``arrow``).
        """
        return cls(*restore.from_arrow(table))

    @classmethod
    def from_polars(cls, frame: pl.DataFrame) -> TickHistory:
        """Read a frame as `to_polars` makes it; otherwise as `from_arrow`. A frame without any row has no pair.

        Raises:
            InvalidInputError: it is not a frame of ticks of one pair.
        """
        return cls(*restore.from_polars(frame))

    @classmethod
    def from_parquet(cls, path: str | os.PathLike[str]) -> TickHistory:
        """Read a file as `to_parquet` writes it; otherwise as `from_arrow`.

        Raises:
            InvalidInputError: it is not a table of ticks of one pair.
            OSError: the file cannot be read.
            MissingExtraError: PyArrow is not installed (extra ``arrow``).
        """
        return cls(*restore.from_parquet(os.fspath(path)))

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> TickHistory:
        """Read a file as `to_csv` writes it; otherwise as `from_arrow`. Needs no extra.

        Raises:
            InvalidInputError: it is not a table of ticks of one pair.
            OSError: the file cannot be read.
        """
        with Path(path).open(newline="", encoding="utf-8-sig") as file:  # Excel adds a byte order mark
            return cls(*restore.from_csv(file))

    def bars(self, every: Span = "1min", *, by_exchange: bool = False) -> Bars:
        """Bars of open, high, low, close and count.

        Args:
            every: length of a bar, like "1min", "1m" or a timedelta; bars begin at multiples of it since midnight UTC.
                The units are ms, s, m or min, h and d; "M" is refused, since it means a month to pandas.
            by_exchange: whether each exchange gets bars of its own.

        Raises:
            InvalidInputError: `every` is not a length of time.
        """
        bars = bars_of(self._by_time(), self.pair, read_span(every), by_exchange=by_exchange)
        bars.unproven = self.unproven
        return bars

    # Display

    def __repr__(self) -> str:
        return f"<TickHistory {self._described()}>"

    def _described(self) -> str:
        text = f"{self.pair}, {len(self):,} ticks"
        if len(self):
            first, last = sorted(moment(self._columns.stamps[place]) for place in (0, -1))
            until = f"{last:%H:%M:%S}" if first.date() == last.date() else f"{last:%Y-%m-%d %H:%M:%S}"
            text += f", {first:%Y-%m-%d %H:%M:%S} to {until} UTC, {', '.join(self.exchanges)}"
        if self.rejected:
            text += f", {len(self.rejected):,} rows rejected"
        for reason, count in self.discarded.items():
            text += f", {count:,} rows of {reason} left out"
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
