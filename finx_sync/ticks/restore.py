"""Read a history back from the frames and files that `export` made.

A table that does not say whether it is complete, because another program wrote it or its labels were lost, is not
proven complete from its first row to its last.
"""

from __future__ import annotations

import csv
import datetime as dt
import math
import operator
from array import array
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TextIO

from finx_sync.errors import InvalidInputError
from finx_sync.moments import read_moment
from finx_sync.ticks.columns import NOT_A_PRICE, Columns, ExchangeNames, micros, moment
from finx_sync.ticks.extras import numpy, pyarrow
from finx_sync.ticks.labels import METADATA, Unproven, of_attributes, of_text

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

__all__ = ["Restored", "from_arrow", "from_csv", "from_parquet", "from_polars"]

NEEDED: Final = ("datetime", "pair", "exchange", "price")
_USUAL: Final = 24
_MARKS: Final = ("-", "-", "T", ":", ":", "Z")
"""Length and marks of ``2022-06-15T12:00:00.000Z``."""


class Restored(NamedTuple):
    """The content of a table."""

    pair: str
    columns: Columns
    unproven: tuple[Unproven, ...]


def from_arrow(table: pa.Table) -> Restored:
    """Read `to_arrow`'s table.

    Raises:
        InvalidInputError: it is not a table of ticks of one pair.
        MissingExtraError: PyArrow is not installed.
    """
    pa, compute = pyarrow(), pyarrow("compute")
    _check_names(table.column_names)
    try:
        labels = (
            _distinct(table["unproven"].cast(pa.string()).to_pylist()) if "unproven" in table.column_names else None
        )
        pairs = _distinct(compute.unique(table["pair"].cast(pa.string())).to_pylist())
        table = table.filter(compute.is_valid(table["datetime"]))
        stamps = table["datetime"].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
        exchanges = pa.concat_arrays(table["exchange"].cast(pa.string()).chunks or [pa.array([], pa.string())])
        coded = exchanges.dictionary_encode()
        names = ExchangeNames([None])
        codes = pa.array([names[name or None] for name in coded.dictionary.to_pylist()], pa.uint16()).take(
            coded.indices
        )
        prices = compute.fill_null(table["price"].cast(pa.float64()), NOT_A_PRICE)
        columns = Columns(names)
        columns.stamps = _raw(pa, "q", stamps)
        columns.prices = _raw(pa, "d", prices)
        columns.codes = _raw(pa, "H", compute.fill_null(codes, names[None]))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OverflowError) as error:
        raise InvalidInputError(f"this is not a table of ticks: {error}") from error
    about = (table.schema.metadata or {}).get(METADATA)
    if about is None:
        return _restored(pairs, columns, labels)
    pair, unproven = of_attributes(about)
    if not {pair}.issuperset(pairs):
        raise InvalidInputError(f"the table has ticks of {', '.join(pairs)}, but its metadata names {pair}")
    return Restored(pair, _ascending(columns), unproven)


def _raw(pa: Any, kind: str, values: Any) -> array[Any]:
    """Arrow's numbers, copied from its memory; none of them is missing."""
    numbers: array[Any] = array(kind)
    for part in values.chunks if isinstance(values, pa.ChunkedArray) else [values]:
        if len(part):
            begin, size = part.offset * numbers.itemsize, len(part) * numbers.itemsize
            numbers.frombytes(memoryview(part.buffers()[1])[begin : begin + size])
    return numbers


def from_parquet(path: str) -> Restored:
    """Read `to_parquet`'s file.

    Raises:
        InvalidInputError: it is not a table of ticks of one pair.
        OSError: it cannot be read.
        MissingExtraError: PyArrow is not installed.
    """
    pa, parquet = pyarrow(), pyarrow("parquet")
    try:
        with parquet.ParquetFile(path) as file:
            table = file.read()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidInputError(f"{path} is not a Parquet file: {error}") from error
    return from_arrow(table)


def from_polars(frame: pl.DataFrame) -> Restored:
    """Read `to_polars`' frame.

    Raises:
        InvalidInputError: it is not a table of ticks of one pair.
        MissingExtraError: NumPy is not installed.
    """
    import polars as pl

    numpy()
    _check_names(frame.columns)
    try:
        pairs = _distinct(frame["pair"].unique().cast(pl.String).to_list())
        labels = _distinct(frame["unproven"].cast(pl.String).to_list()) if "unproven" in frame.columns else None
        frame = frame.filter(frame["datetime"].is_not_null())
        stamps = frame["datetime"].dt.cast_time_unit("us").to_physical()
        exchanges = frame["exchange"].cast(pl.String).to_list()
        prices = frame["price"].cast(pl.Float64).fill_null(NOT_A_PRICE)
    except (pl.exceptions.PolarsError, AttributeError) as error:
        raise InvalidInputError(f"this is not a frame of ticks: {error}") from error
    columns = Columns(ExchangeNames([None]))
    columns.stamps.frombytes(stamps.to_numpy().astype("i8").tobytes())
    columns.prices.frombytes(prices.to_numpy().astype("f8").tobytes())
    columns.codes.extend(columns.names[name or None] for name in exchanges)
    return _restored(pairs, columns, labels)


def from_csv(file: TextIO) -> Restored:
    """Read what `to_csv` wrote.

    Raises:
        InvalidInputError: it is not a table of ticks of one pair.
    """
    columns = Columns(ExchangeNames([None]))
    pairs: dict[str, None] = {}
    labels: dict[str, None] = {}
    reader = csv.reader(file, strict=True)
    try:
        header = next(reader, [])
        _check_names(header)
        is_labelled = "unproven" in header
        wanted = operator.itemgetter(*map(header.index, (*NEEDED, "unproven" if is_labelled else NEEDED[0])))
        for row in filter(None, reader):  # skips empty lines
            if len(row) != len(header):
                raise InvalidInputError(f"it has {len(row)} cells for {len(header)} columns")
            at, pair, exchange, price, label = wanted(row)
            pairs[pair] = None
            if is_labelled and label:
                labels[label] = None
            if at:
                columns.stamps.append(_stamp(at))
                columns.codes.append(columns.names[_text(exchange) or None])
                columns.prices.append(_price(price))
        return _restored([*map(_text, pairs)], columns, list(labels) if is_labelled else None)
    except (csv.Error, UnicodeDecodeError, InvalidInputError) as error:
        raise InvalidInputError(f"this is not a table of ticks: line {reader.line_num}: {error}") from error


def _stamp(text: str) -> int:
    """Microseconds since the epoch; `to_csv`'s own form takes a tenth of the time of other forms."""
    if len(text) == _USUAL and (text[4], text[7], text[10], text[13], text[16], text[23]) == _MARKS:
        try:
            return micros(dt.datetime.fromisoformat(text[:-1]))
        except ValueError:
            pass
    return micros(read_moment(text))


def _text(cell: str) -> str:
    return cell.removeprefix(
        "'"
    )  # which stops spreadsheets from running the text; another one follows if the text has one itself


def _price(cell: str) -> float:
    try:
        price = float(cell) if cell else NOT_A_PRICE
    except ValueError:
        price = math.inf
    if math.isinf(price) or (cell and price != price):  # noqa: PLR0124
        raise InvalidInputError(f"{cell!r} is not a price")
    return price


def _check_names(names: Iterable[str]) -> None:
    missing = [name for name in NEEDED if name not in list(names)]
    if missing:
        raise InvalidInputError(f"it has no column {', '.join(missing)}")


def _distinct(values: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value))


def _restored(pairs: list[str], columns: Columns, labels: list[str] | None) -> Restored:
    if len(pairs) != 1:
        raise InvalidInputError(
            f"it has ticks of {len(pairs)} pairs instead of one: {', '.join(pairs) or 'it is empty'}"
        )
    columns = _ascending(columns)
    if labels is not None:
        return Restored(pairs[0], columns, tuple(sorted(one for text in labels for one in of_text(text))))
    if not len(columns):
        raise InvalidInputError("it is empty, and does not say whether the history is complete")
    first, last = moment(columns.stamps[0]), moment(columns.stamps[-1])
    return Restored(pairs[0], columns, (Unproven(first, last),))


def _ascending(columns: Columns) -> Columns:
    """The rows sorted by time; unchanged where they already are.

    Raises:
        InvalidInputError: a time is outside the calendar.
    """
    stamps = columns.stamps
    try:
        for stamp in (min(stamps, default=0), max(stamps, default=0)):
            moment(stamp)
    except OverflowError:
        raise InvalidInputError("it has times outside the calendar") from None
    if all(map(operator.le, stamps, islice(stamps, 1, None))):
        return columns
    names = list(columns.names)
    rows = [(stamp, names[code], price) for stamp, code, price in columns.rows()]
    return Columns.of(rows, columns.names)
