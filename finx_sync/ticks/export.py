"""A history's columns as frames and files, without a Python object per cell (except for CSV).

Each form says where the history is not proven complete: pandas in `attrs`, Arrow and Parquet in the schema's metadata,
Polars and CSV, which have no such place, in a column. `restore` reads it back.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TextIO

from finx_sync.ticks.columns import Columns
from finx_sync.ticks.extras import numpy, pandas, polars, pyarrow
from finx_sync.ticks.labels import METADATA, Unproven, by_row, stamp_text, to_attributes, to_text

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

__all__ = ["CSV_COLUMNS", "to_arrow", "to_csv", "to_pandas", "to_parquet", "to_polars"]

CSV_COLUMNS: Final = ("datetime", "pair", "exchange", "price", "unproven")
_EXECUTED: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "'")
"""A spreadsheet may run a cell that begins with one of these as a formula; an apostrophe prevents that."""
_QUOTED: Final = re.compile(r'[",\r\n]')


def _exchanges(columns: Columns) -> tuple[list[str], list[int | None]]:
    """The names that occur, sorted; and for each code its place among them, or None."""
    occurring = set(columns.codes)
    names = sorted(name for name, code in columns.names.items() if name and code in occurring)
    places = {name: place for place, name in enumerate(names)}
    return names, [places.get(name) if name else None for name in columns.names]


def _places(columns: Columns, lookup: list[int | None]) -> Any:
    """The place of each row's exchange among the names; -1 where the wire had none."""
    np = numpy()
    table = np.array([-1 if place is None else place for place in lookup] or [-1], "i2")
    return table[np.frombuffer(columns.codes, "u2")]


def to_pandas(columns: Columns, pair: str, unproven: Sequence[Unproven] = ()) -> pd.DataFrame:
    """Rows by time in UTC: pair and exchange as categories, price as a float."""
    np, pd = numpy(), pandas()
    stamps = np.frombuffer(columns.stamps, "datetime64[us]").copy()
    names, lookup = _exchanges(columns)
    frame = pd.DataFrame(
        {
            "pair": pd.Categorical.from_codes(np.zeros(len(columns), "i1"), [pair]),
            "exchange": pd.Categorical.from_codes(_places(columns, lookup), names),
            "price": np.frombuffer(columns.prices, "f8").copy(),
        },
        copy=False,
    )
    frame.index = pd.DatetimeIndex(stamps, name="datetime").tz_localize("UTC")
    frame.attrs.update(to_attributes(pair, unproven))
    return frame


def to_arrow(columns: Columns, pair: str, unproven: Sequence[Unproven] = ()) -> pa.Table:
    """A table of datetime (UTC, microseconds), pair and exchange (dictionaries) and price."""
    pa, compute = pyarrow(), pyarrow("compute")
    count = len(columns)
    # Arrow shares the columns' memory, which no longer changes.
    stamps = pa.Array.from_buffers(pa.timestamp("us", "UTC"), count, [None, pa.py_buffer(columns.stamps)])
    prices = pa.Array.from_buffers(pa.float64(), count, [None, pa.py_buffer(columns.prices)])
    if any(price != price for price in columns.prices):  # noqa: PLR0124  # Arrow has null for a missing price
        prices = compute.if_else(compute.is_nan(prices), pa.scalar(None, pa.float64()), prices)
    codes = pa.Array.from_buffers(pa.uint16(), count, [None, pa.py_buffer(columns.codes)])
    names, lookup = _exchanges(columns)
    places = pa.array(lookup, pa.uint16()).take(codes)  # Arrow has null for a missing name
    exchanges = pa.DictionaryArray.from_arrays(places, pa.array(names, pa.string()))
    pairs = pa.DictionaryArray.from_arrays(pa.array(bytes(count), pa.uint8()), pa.array([pair]))
    table: Any = pa.table({"datetime": stamps, "pair": pairs, "exchange": exchanges, "price": prices})
    return table.replace_schema_metadata({METADATA: json.dumps(to_attributes(pair, unproven))})


def to_polars(columns: Columns, pair: str, unproven: Sequence[Unproven] = ()) -> pl.DataFrame:
    """The same for Polars, with a column for the stretches that are not proven complete."""
    pl, np = polars(), numpy()
    if not len(columns) and unproven:  # no row, but not proven to be empty
        row = {name: [None] for name in CSV_COLUMNS} | {"pair": [pair], "unproven": [to_text(unproven)]}
        return pl.DataFrame(row, schema=to_polars(columns, pair).schema)  # type: ignore[no-any-return]
    names, lookup = _exchanges(columns)
    exchanges = pl.Series("exchange", names, pl.String)
    prices = pl.Series("price", np.frombuffer(columns.prices, "f8"))
    places = pl.Series(_places(columns, lookup), dtype=pl.Int64).replace(-1, None)
    labels = by_row(columns, unproven) if unproven else {}
    frame: Any = pl.DataFrame(
        {
            "datetime": pl.Series(np.frombuffer(columns.stamps, "datetime64[us]")).dt.replace_time_zone("UTC"),
            "pair": pl.repeat(pair, len(columns), eager=True).cast(pl.Categorical),
            "exchange": exchanges.gather(places).cast(pl.Categorical),
            "price": prices.fill_nan(None),
            "unproven": pl.repeat(None, len(columns), dtype=pl.String, eager=True),
        }
    )
    if labels:
        frame = frame.with_columns(frame["unproven"].scatter(list(labels), list(labels.values())))
    return frame  # type: ignore[no-any-return]


def to_parquet(columns: Columns, pair: str, path: str | os.PathLike[str], unproven: Sequence[Unproven] = ()) -> None:
    """Write `to_arrow`'s table."""
    pyarrow("parquet").write_table(to_arrow(columns, pair, unproven), os.fspath(path))


def to_csv(columns: Columns, pair: str, file: TextIO, unproven: Sequence[Unproven] = ()) -> None:
    """Write `CSV_COLUMNS`; the time in ISO 8601 with a Z, prices to their last digit.

    A history without ticks still has one row, without a time, for its pair and its unproven stretches.
    """
    file.write(f"{','.join(CSV_COLUMNS)}\n")
    labels = by_row(columns, unproven) if len(columns) else {}
    shown, names = _cell(pair), [_cell(name or "") for name in columns.names]
    if not len(columns):
        file.write(f",{shown},,,{to_text(unproven)}\n")
    for place, (stamp, code, price) in enumerate(zip(columns.stamps, columns.codes, columns.prices, strict=True)):
        number = repr(price) if price == price else ""  # noqa: PLR0124
        file.write(f"{stamp_text(stamp)},{shown},{names[code]},{number},{labels.get(place, '')}\n")


def _cell(text: str) -> str:
    """A server's text as a cell that no spreadsheet runs, quoted where CSV demands it."""
    text = f"'{text}" if text.startswith(_EXECUTED) else text
    return '"{}"'.format(text.replace('"', '""')) if _QUOTED.search(text) else text
