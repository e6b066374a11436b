"""Histories in frames, files and pickles: what goes out comes back, and no hole is lost on the way."""

from __future__ import annotations

import copy
import csv
import datetime as dt
import io
import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finx_sync import TickHistory
from finx_sync.cli.main import main
from finx_sync.errors import InvalidInputError
from finx_sync.sandbox import Sandbox
from finx_sync.ticks import Unproven
from finx_sync.ticks.columns import Columns, ExchangeNames, micros, moment
from finx_sync.ticks.spans import read_span

PAIR = "BTC:USD"
MIDNIGHT = dt.datetime(2022, 6, 15, tzinfo=dt.timezone.utc)
DAY = 86_400_000_000
HOLE = Unproven(MIDNIGHT + dt.timedelta(hours=12), MIDNIGHT + dt.timedelta(hours=13, microseconds=-1000))

Row = tuple[int, str | None, float | None]

rows = st.tuples(
    st.one_of(st.integers(0, 3 * DAY), st.integers(0, 20).map(lambda number: number * 3_600_000_000)),
    st.sampled_from(
        [None, "FTX", "COINBASE", "Börse", "=1+1", "-x", "@y", "'z", 'a,"b"', "line\nbreak", "\rx", "\tx", "+"]
    ),
    st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
)
stretches = st.tuples(st.integers(-DAY, 3 * DAY), st.integers(0, DAY)).map(
    lambda pair: Unproven(moment(micros(MIDNIGHT) + pair[0]), moment(micros(MIDNIGHT) + pair[0] + pair[1]))
)


def made(ticks: list[Row], holes: list[Unproven] | tuple[Unproven, ...] = (), pair: str = PAIR) -> TickHistory:
    """A history from (microseconds of the day, exchange, price)."""
    stamped = [(micros(MIDNIGHT) + at, exchange, price) for at, exchange, price in ticks]
    return TickHistory(pair, Columns.of(stamped, ExchangeNames([None, "UNSEEN"])), sorted(holes))


histories = st.builds(
    made,
    st.lists(rows, max_size=12),
    st.lists(stretches, max_size=4, unique=True),
    st.sampled_from([PAIR, "=A:B", '"q",:x']),
)


def same(one: TickHistory, other: TickHistory) -> bool:
    """Whether two histories are alike to the last digit, with what is known of their completeness."""
    return (one.pair, one.complete, one.unproven, list(one)) == (
        other.pair,
        other.complete,
        other.unproven,
        list(other),
    )


def written(history: TickHistory, folder: Path, kind: str) -> Path:
    """A history in a file."""
    path = folder / f"ticks.{kind}"
    getattr(history, f"to_{kind}")(path)
    return path


@given(histories)
def test_whatever_goes_out_comes_back(history: TickHistory) -> None:
    """A hole in the data would be gone when the file is read, or a digit, or a name."""
    assert same(pickle.loads(pickle.dumps(history)), history)
    assert same(copy.deepcopy(history), history)
    assert same(copy.copy(history), history)
    assert same(TickHistory.from_arrow(history.to_arrow()), history)
    if len(history) or history.unproven:
        assert same(TickHistory.from_polars(history.to_polars()), history)
    file = io.StringIO(newline="")
    from finx_sync.ticks import export, restore

    export.to_csv(history._columns, history.pair, file, history.unproven)
    file.seek(0)
    assert same(TickHistory(*restore.from_csv(file)), history)
    sink = pa.BufferOutputStream()
    pq.write_table(history.to_arrow(), sink)
    assert same(TickHistory.from_arrow(pq.read_table(sink.getvalue())), history)
    about = json.loads(json.dumps(history.to_pandas().attrs))  # what pandas itself demands of them
    assert (about["pair"], about["complete"], len(about["unproven"])) == (
        history.pair, history.complete, len(history.unproven),
    )  # fmt: skip


@given(histories)
def test_a_reversed_history_is_the_same_one(history: TickHistory) -> None:
    """Newest first, a history would have one bar of forty-eight, and slices by time none of their ticks."""
    turned = history[::-1]
    assert list(turned) == list(history)[::-1]
    assert same(turned[::-1], history)
    assert turned.bars("1h") == history.bars("1h")
    assert turned.bars("30m", by_exchange=True) == history.bars("30min", by_exchange=True)
    noon = MIDNIGHT + dt.timedelta(hours=12)
    assert list(turned.between(noon)) == list(history.between(noon))[::-1]
    assert list(turned.between(None, "12:00")) == list(history.between(None, "12:00"))[::-1]
    assert repr(turned) == repr(history)
    assert same(pickle.loads(pickle.dumps(turned))[::-1], history)
    assert list(history[::2][::-1].bars("1h")) == list(history[::2].bars("1h"))
    restored = TickHistory.from_arrow(turned.to_arrow())
    assert (restored.unproven, sorted(map(repr, restored))) == (history.unproven, sorted(map(repr, history)))


def test_bars_of_a_reversed_day() -> None:
    """`history[::-1].bars("1h")` would give a single bar of forty-eight."""
    history = made([(hour * 3_600_000_000, "FTX", float(hour)) for hour in range(48)], [HOLE])
    assert len(history[::-1].bars("1h")) == 48
    assert history[::-1].bars("1h")[0].open == 0.0
    bars = history.bars("12h")
    assert (bars.complete, bars.unproven, bars[:1].unproven) == (False, (HOLE,), (HOLE,))
    assert bars.to_pandas().attrs["unproven"] == [["2022-06-15T12:00:00.000Z", "2022-06-15T12:59:59.999Z"]]
    assert pickle.loads(pickle.dumps(bars)) == bars


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("holes", [(), (HOLE,)])
@pytest.mark.parametrize("ticks", [[], [(1_500_000, "FTX", 0.1 + 0.2), (1_500_001, None, None)]])
def test_files_come_back(tmp_path: Path, kind: str, holes: tuple[Unproven, ...], ticks: list[Row]) -> None:
    """A file would have to be read by hand, and nobody would know whether it is complete."""
    history = made(ticks, holes)
    path = written(history, tmp_path, kind)
    assert same(getattr(TickHistory, f"from_{kind}")(path), history)
    assert same(getattr(TickHistory, f"from_{kind}")(str(path)), history)


def test_a_table_without_labels_is_not_complete(tmp_path: Path) -> None:
    """A table that lost its labels on the way would pass for proven."""
    history = made([(1_000_000, "FTX", 1.0), (2_000_000, "FTX", 2.0)])
    whole = (Unproven(history[0].datetime, history[1].datetime),)
    path = tmp_path / "ticks.csv"
    path.write_text(
        "datetime,pair,exchange,price\n2022-06-15T00:00:01Z,BTC:USD,FTX,1\n2022-06-15 00:00:02,BTC:USD,FTX,2\n"
    )
    marked = tmp_path / "marked.csv"
    marked.write_text(f"{path.read_text()}\n", encoding="utf-8-sig")
    tables = [
        TickHistory.from_csv(path),
        TickHistory.from_csv(marked),
        TickHistory.from_arrow(history.to_arrow().replace_schema_metadata(None)),
        TickHistory.from_polars(history.to_polars().drop("unproven")),
        TickHistory.from_arrow(pa.Table.from_pandas(history.to_pandas().reset_index(), preserve_index=False)),
    ]
    for one in tables:
        assert list(one) == list(history)
        assert one.unproven == whole


def test_rows_that_were_moved_about_are_sorted() -> None:
    """Bars and slices of a table that somebody sorted by price would be wrong."""
    history = made([(at * 1_000_000, "FTX", float(at * 7 % 5)) for at in range(20)], [HOLE])
    shuffled = history.to_polars().sort("price")
    assert same(TickHistory.from_polars(shuffled), history)
    table = history.to_arrow()
    assert same(TickHistory.from_arrow(table.sort_by("price")), history)
    assert same(TickHistory.from_arrow(pa.concat_tables([table.slice(10), table.slice(0, 10)])), history)


GOOD = "datetime,pair,exchange,price,unproven\n2022-06-15T12:00:00Z,BTC:USD,FTX,1,\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column"),
        ("datetime,pair,exchange\n", "no column price"),
        (GOOD.partition("\n")[0] + "\n", "empty"),
        (GOOD + "2022-06-15T12:00:01Z,ETH:USD,FTX,1,\n", "2 pairs"),
        (GOOD + "yesterday,BTC:USD,FTX,1,\n", "line 3.*yesterday"),
        (GOOD + "2022-06-15T12:00:01Z,BTC:USD,FTX,dear,\n", "line 3.*dear"),
        (GOOD + "2022-06-15T12:00:01Z,BTC:USD,FTX,nan,\n", "not a price"),
        (GOOD + "2022-06-15T12:00:01Z,BTC:USD,FTX,inf,\n", "not a price"),
        (GOOD + "2022-06-15T12:00:01Z,BTC:USD,FTX\n", "cells"),
        (GOOD + "2022-06-15T12:00:01Z,BTC:USD,FTX,1,,x\n", "cells"),
        (GOOD + '2022-06-15T12:00:01Z,BTC:USD,"FTX"X,1,\n', "expected after"),
        (GOOD + "2022-06-15T12:00:01Z,BTC:USD,FTX,1,soon\n", "soon"),
        (GOOD + "2022-06-15T12:00:01Z,BTC:USD,FTX,1,2022-06-15T12:00Z/2022-06-15T11:00Z\n", "before it begins"),
        ("\udcff", "not a table"),
    ],
)
def test_a_csv_file_of_something_else_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """A wrong file would be half read, or end with an error of the csv module's."""
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidInputError, match=words):
        TickHistory.from_csv(path)


def test_other_files_and_frames_are_refused(tmp_path: Path) -> None:
    """A wrong file would end with an error of Arrow's or Polars'."""
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(InvalidInputError, match="Parquet"):
        TickHistory.from_parquet(tmp_path / "x.parquet")
    with pytest.raises(FileNotFoundError):
        TickHistory.from_parquet(tmp_path / "none.parquet")
    table = made([(0, "FTX", 1.0)]).to_arrow()
    for bad in (
        pa.table({"price": [1.0]}),
        table.set_column(0, "datetime", [["soon"]]),
        table.set_column(3, "price", [["dear"]]),
        table.set_column(1, "pair", [["ETH:USD"]]),
        table.replace_schema_metadata({b"finx_sync": b"{}"}),
        table.replace_schema_metadata({b"finx_sync": b'{"pair": "BTC:USD", "complete": true, "unproven": [[1, 2]]}'}),
        table.set_column(0, "datetime", [pa.array([2**62], pa.timestamp("us", "UTC"))]),
        table.append_column("unproven", [["soon"]]).replace_schema_metadata(None),
    ):
        with pytest.raises(InvalidInputError):
            TickHistory.from_arrow(bad)
    frame = made([(0, "FTX", 1.0)]).to_polars()
    for other in (
        pl.DataFrame(),
        frame.with_columns(datetime=pl.lit("x")),
        frame.with_columns(price=pl.lit("x")),
        frame[:0],
    ):
        with pytest.raises(InvalidInputError):
            TickHistory.from_polars(other)


def test_there_is_no_empty_exchange() -> None:
    """A frame would list an exchange without a name, or exchanges without a tick, in every legend and group."""
    history = made([(0, "FTX", 1.0), (1, None, 2.0)])
    assert list(history.to_pandas()["exchange"].cat.categories) == ["FTX"]
    assert history.to_arrow()["exchange"].chunk(0).dictionary.to_pylist() == ["FTX"]
    assert pd.api.types.is_string_dtype(history.to_arrow().to_pandas()["exchange"].cat.categories.dtype)
    assert history.to_polars()["exchange"].to_list() == ["FTX", None]
    assert made([]).to_arrow()["exchange"].type.index_type == pa.uint16()


def test_polars_carries_each_hole_once() -> None:
    """A frame in Polars would look complete."""
    history = made([(hour * 3_600_000_000, "FTX", 1.0) for hour in range(24)], [HOLE])
    frame = history.to_polars()
    assert frame.filter(pl.col("unproven").is_not_null()).select("datetime", "unproven").rows() == [
        (HOLE.start, "2022-06-15T12:00:00.000Z/2022-06-15T12:59:59.999Z")
    ]
    assert frame.schema["unproven"] == made([]).to_polars().schema["unproven"] == pl.String
    assert made([], [HOLE]).to_polars().schema == frame.schema
    assert pl.concat([frame, made([(0, "COINBASE", 1.0)]).to_polars()]).height == 25


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\n=1", "'=1"])
def test_a_spreadsheet_runs_nothing(tmp_path: Path, name: str) -> None:
    """An exchange named like a formula would be run by whoever opens the file."""
    path = written(made([(0, name, -1.0)], pair=name), tmp_path, "csv")
    with path.open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["exchange"] == row["pair"] == f"'{name}"
    assert row["price"] == "-1.0"  # a number stays a number
    back = TickHistory.from_csv(path)
    assert (back.pair, back[0].exchange) == (name, name)


@pytest.mark.parametrize(
    ("span", "length"),
    [
        ("1m", 60), ("1min", 60), ("m", 60), ("15m", 900), ("5s", 5), ("5S", 5), ("100ms", 0.1), ("4h", 14400),
        ("1H", 3600), ("1d", 86400), ("1D", 86400), (dt.timedelta(minutes=1), 60), (pd.Timedelta("1min"), 60),
        (np.timedelta64(1, "m"), 60), (np.timedelta64(90, "s"), 90), (np.timedelta64(10**9, "ns"), 1),
    ],
)  # fmt: skip
def test_spans_as_people_write_them(span: Any, length: float) -> None:
    """`every="1m"` would be refused, or be a month."""
    assert read_span(span) == round(length * 1_000_000)


@pytest.mark.parametrize(
    "span",
    [
        "1M", "M", "1Min", "1MS", "1ME", "1w", "1y", "0s", "-1s", "1.5h", "2d", "1 m", "", "60", 60, 1.0, True, None,
        dt.timedelta(0), dt.timedelta(microseconds=1), pd.Timedelta(1, "ns"), pd.NaT, np.timedelta64("NaT"),
        np.timedelta64(1, "M"), np.timedelta64(1, "ns"), np.timedelta64(2, "D"), np.timedelta64(5),
    ],
)  # fmt: skip
def test_what_is_no_span(span: Any) -> None:
    """A month, a bare number or a slip would be taken for some length of time."""
    with pytest.raises(InvalidInputError, match="length of time"):
        made([]).bars(span)


def test_a_month_is_explained() -> None:
    """A user of pandas would not know what is wrong with "1M"."""
    with pytest.raises(InvalidInputError, match="month"):
        read_span("1M")


def test_the_command_writes_what_was_asked(
    sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """day.PARQUET would be a CSV file, day.xlsx one that no spreadsheet opens, after everything was fetched."""
    sandbox.controls("finx").set_history(
        PAIR, "2022-06-15", [(place * 30_000, "FTX", 1.0 + place) for place in range(2880)]
    )
    history = ["history", PAIR, "2022-06-15", "--every", "1m", "--environment", "sandbox", "--url", sandbox.url]
    for name, read in (
        ("day.PARQUET", TickHistory.from_parquet),
        ("day.csv", TickHistory.from_csv),
        ("day", TickHistory.from_csv),
    ):
        assert main([*history, "--output", str(tmp_path / name)]) == 0
        assert len(read(tmp_path / name)) > 1000
    for bad in (tmp_path, tmp_path / "no folder" / "day.csv"):
        assert main([*history, "--output", str(bad)]) == 2
    assert "folder" in capsys.readouterr().err
    assert main([*history, "--output", str(tmp_path / "day.xlsx")]) == 2
    assert not (tmp_path / "day.xlsx").exists()
    assert "Parquet" in capsys.readouterr().err
    assert not math.isnan(TickHistory.from_csv(tmp_path / "day")[0].price or math.nan)
