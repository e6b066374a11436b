"""A history's columns as frames and files. No Python object is made for a cell, but for CSV's text."""

from __future__ import annotations

import csv
import os
from typing import TYPE_CHECKING, Any, TextIO

from finx_sync.ticks.columns import Columns, moment
from finx_sync.ticks.extras import numpy, pandas, polars, pyarrow

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

__all__ = ["to_arrow", "to_csv", "to_pandas", "to_parquet", "to_polars"]


def _exchanges(columns: Columns) -> tuple[list[str], Any]:
    """The names, and the rows' places among them; -1 where the wire had none."""
    np = numpy()
    names = [name for name in columns.names if name is not None]
    place = np.array([-1 if name is None else names.index(name) for name in columns.names] or [-1], "i2")
    return names, place[np.frombuffer(columns.codes, "u2")]


def to_pandas(columns: Columns, pair: str) -> pd.DataFrame:
    """Rows by time in UTC: pair and exchange as categories, price as a float."""
    np, pd = numpy(), pandas()
    stamps = np.frombuffer(columns.stamps, "datetime64[us]").copy()
    names, places = _exchanges(columns)
    frame = pd.DataFrame(
        {
            "pair": pd.Categorical.from_codes(np.zeros(len(columns), "i1"), [pair]),
            "exchange": pd.Categorical.from_codes(places, names),
            "price": np.frombuffer(columns.prices, "f8").copy(),
        },
        copy=False,
    )
    frame.index = pd.DatetimeIndex(stamps, name="datetime").tz_localize("UTC")
    return frame


def to_arrow(columns: Columns, pair: str) -> pa.Table:
    """A table of datetime (UTC, microseconds), pair and exchange (dictionaries) and price."""
    pa, compute = pyarrow(), pyarrow("compute")
    count = len(columns)
    # Arrow's memory is the columns' own, which nobody changes any more.
    stamps = pa.Array.from_buffers(pa.timestamp("us", "UTC"), count, [None, pa.py_buffer(columns.stamps)])
    prices = pa.Array.from_buffers(pa.float64(), count, [None, pa.py_buffer(columns.prices)])
    if any(price != price for price in columns.prices):  # noqa: PLR0124  # a missing price is no NaN in Arrow
        prices = compute.if_else(compute.is_nan(prices), pa.scalar(None, pa.float64()), prices)
    codes = pa.Array.from_buffers(pa.uint16(), count, [None, pa.py_buffer(columns.codes)])
    if None in columns.names:  # a missing name is no entry of the dictionary
        codes = compute.if_else(compute.equal(codes, columns.names[None]), pa.scalar(None, pa.uint16()), codes)
    exchanges = pa.DictionaryArray.from_arrays(codes, pa.array([name or "" for name in columns.names], pa.string()))
    pairs = pa.DictionaryArray.from_arrays(pa.array(bytes(count), pa.uint8()), pa.array([pair]))
    return pa.table({"datetime": stamps, "pair": pairs, "exchange": exchanges, "price": prices})


def to_polars(columns: Columns, pair: str) -> pl.DataFrame:
    """As `to_arrow`, in Polars."""
    pl, np = polars(), numpy()
    names, places = _exchanges(columns)
    exchanges = pl.Series("exchange", names, pl.String)
    prices = pl.Series("price", np.frombuffer(columns.prices, "f8"))
    frame: Any = pl.DataFrame(
        {
            "datetime": pl.Series(np.frombuffer(columns.stamps, "datetime64[us]")).dt.replace_time_zone("UTC"),
            "pair": pl.repeat(pair, len(columns), eager=True).cast(pl.Categorical),
            "exchange": exchanges.gather(pl.Series(places, dtype=pl.Int64).replace(-1, None)).cast(pl.Categorical),
            "price": prices.fill_nan(None),
        }
    )
    return frame  # type: ignore[no-any-return]


def to_parquet(columns: Columns, pair: str, path: str | os.PathLike[str]) -> None:
    """Write `to_arrow`'s table."""
    pyarrow("parquet").write_table(to_arrow(columns, pair), os.fspath(path))


def to_csv(columns: Columns, pair: str, file: TextIO) -> None:
    """Write datetime, pair, exchange and price; the time in ISO 8601 with a Z, prices to their last digit."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["datetime", "pair", "exchange", "price"])
    names = [name or "" for name in columns.names]
    for stamp, code, price in zip(columns.stamps, columns.codes, columns.prices, strict=True):
        when = moment(stamp).isoformat(timespec="milliseconds" if stamp % 1000 == 0 else "microseconds")
        shown = repr(price) if price == price else ""  # noqa: PLR0124
        writer.writerow([f"{when[:-6]}Z", pair, names[code], shown])
