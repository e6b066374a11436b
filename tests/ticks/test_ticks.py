"""Histories as columns: read from pages, sliced, summed up, and handed on."""

from __future__ import annotations

import datetime as dt
import json
import random
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finx_sync import Tick, TickHistory
from finx_sync.errors import InvalidInputError
from finx_sync.ticks import Bar, Unproven
from finx_sync.ticks.columns import Columns, ExchangeNames, micros, moment, thinned
from finx_sync.ticks.page import page_of_ticks, read_page
from finx_sync.ticks.spans import read_span
from finx_sync.venues.finx import HistoryReply, parse_reply
from tests.waiting import python_calls

PAIR, DATE = "BTC:USD", "2022-06-15"
MIDNIGHT = dt.datetime(2022, 6, 15, tzinfo=dt.timezone.utc)
SECOND = 1_000_000


def columns(*rows: tuple[float, str | None, float | None]) -> Columns:
    """Columns from (seconds of the day, exchange, price)."""
    stamps = [(micros(MIDNIGHT) + round(at * SECOND), exchange, price) for at, exchange, price in rows]
    return Columns.of(stamps, ExchangeNames([None]))


def history(*rows: tuple[float, str | None, float | None]) -> TickHistory:
    """Ticks from the same."""
    return TickHistory(PAIR, columns(*rows))


def page(*rows: dict[str, Any]) -> str:
    """A page's text."""
    plain = {"pair": PAIR, "date": DATE, "time": "12:00:00.000Z", "exchange": "FTX", "price": "1.5"}
    return json.dumps({str(place): {**plain, **row} for place, row in enumerate(rows)})


def test_a_row_of_a_page_costs_less_than_two_calls() -> None:
    """A day's decoding would take longer than its transfer."""
    chance = random.Random(1)
    rows = [
        {
            "time": f"{at // 3_600_000:02d}:{at // 60_000 % 60:02d}:{at // 1000 % 60:02d}.{at % 1000:03d}Z",
            "exchange": chance.choice(["COINBASE", "GEMINI"]),
            "price": str(20_000 + chance.random()),
        }
        for at in (chance.randrange(86_400_000) for _ in range(1000))
    ]
    text, names = page(*rows), ExchangeNames()
    read = read_page(text, PAIR, DATE, names)
    assert read is not None
    assert len(read.columns) == 1000
    assert python_calls(lambda: read_page(text, PAIR, DATE, names)) < 2 * 1000


texts = st.one_of(
    st.builds("{:02d}:{:02d}:{:02d}.{:03d}Z".format, *map(st.integers, (0, 0, 0, 0), (25, 61, 61, 999))),
    st.sampled_from(
        ["12:00:40Z", "12:00", "1\uff12:00:00.000Z", "+1:00:00.000Z", "12:00:00.0000", "", "12:00:00.123456Z"]
    ),
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "time": texts,
                "exchange": st.sampled_from(["FTX", "GEMINI", "", "Börse"]),
                "price": st.sampled_from(["1", "1.25", "", "nan", "x", 7]),
                "date": st.sampled_from([DATE, "2022-06-16"]),
                "pair": st.sampled_from([PAIR, "ETH:USD"]),
            },
        ),
        min_size=1,
        max_size=6,
    )
)
def test_the_fast_way_reads_what_the_careful_one_does(rows: list[dict[str, Any]]) -> None:
    """A page would be read differently depending on one odd row in it."""
    text = page(*rows)
    fast = read_page(text, PAIR, DATE, ExchangeNames([None, "FTX", "GEMINI", "Börse"]))
    if fast is None:
        return
    careful = parse_reply(text)
    assert isinstance(careful, HistoryReply)
    slow = page_of_ticks(careful.rows, PAIR, DATE, ExchangeNames([None, "FTX", "GEMINI", "Börse"]))
    assert fast.columns.stamps == slow.columns.stamps
    assert list(map(repr, fast.columns.rows())) == list(map(repr, slow.columns.rows()))
    assert fast.count == slow.count


def test_odd_rows_are_read_too() -> None:
    """A server that prints a time without milliseconds could not be used."""
    names = ExchangeNames()
    text = page(
        {"time": "12:00:40Z"}, {"time": "12:00:00.123456Z", "exchange": "", "price": ""}, {"date": "2022-06-16"}
    )
    assert read_page(text, PAIR, DATE, names) is None
    reply = parse_reply(text)
    assert isinstance(reply, HistoryReply)
    read = page_of_ticks(reply.rows, PAIR, DATE, names)
    assert (read.count, read.beyond) == (3, True)
    first, second = TickHistory(PAIR, read.columns)
    assert first == Tick(pair=PAIR, date=DATE, time="12:00:00.123456Z", exchange=None, price=None)
    assert second.time == "12:00:40.000Z"


def test_it_is_a_sequence_of_ticks() -> None:
    """Code for a list of ticks would not run."""
    ticks = history((3, "B", 3.0), (1, "A", 1.0), (2, None, None), (1, "A", 1.0))
    assert [tick.price for tick in ticks] == [1.0, 1.0, None, 3.0]
    assert ticks[0] == ticks[1] == Tick(pair=PAIR, date=DATE, time="00:00:01.000Z", exchange="A", price=1.0)
    assert ticks[-1].exchange == "B"
    assert ticks[2] in ticks
    assert ticks[1:3] == [ticks[1], ticks[2]]
    assert ticks[::-2] == [ticks[3], ticks[1]]
    assert list(reversed(ticks)) == list(ticks)[::-1]
    assert ticks == list(ticks)
    assert ticks != [*ticks, ticks[0]]
    with pytest.raises(IndexError):
        ticks[4]
    assert history() == []


def test_slices_by_time() -> None:
    """An hour would have to be searched for by hand."""
    ticks = history(*((hour * 3600, "A", float(hour)) for hour in range(24)))
    assert [tick.price for tick in ticks["12:00":"14:00"]] == [12.0, 13.0]  # type: ignore[misc]
    assert ticks.between(dt.time(22)) == ticks[22:]
    assert ticks.between(None, "2022-06-15T01:00Z") == ticks[:1]
    assert ticks.between(dt.date(2022, 6, 16)) == []
    assert ticks.between(dt.datetime(2022, 6, 15, 3, tzinfo=dt.timezone(dt.timedelta(hours=2))))[0].price == 1.0
    for wrong in ("noon", 5):
        with pytest.raises(InvalidInputError, match="not a date or a time"):
            ticks.between(wrong)  # type: ignore[arg-type]


def test_what_is_not_proven_is_seen() -> None:
    """A hole would show only to those who ask for it."""
    hole = Unproven(MIDNIGHT + dt.timedelta(hours=1), MIDNIGHT + dt.timedelta(hours=2))
    ticks = TickHistory(PAIR, columns((1, "A", 1.0), (9000, "A", 1.0)), [hole])
    assert not ticks.complete
    assert "NOT PROVEN COMPLETE" in repr(ticks)
    assert "01:00:00" in ticks._repr_html_()
    assert ticks.between("03:00").complete
    assert not ticks.between("01:30").complete


def test_it_shows_itself() -> None:
    """A notebook would print a million rows."""
    ticks = history(*((place, f"<{place % 2}>", 1.0) for place in range(100)))
    assert repr(ticks) == "<TickHistory BTC:USD, 100 ticks, 2022-06-15 00:00:00 to 00:01:39 UTC, <0>, <1>>"
    assert repr(history()) == "<TickHistory BTC:USD, 0 ticks>"
    shown = ticks._repr_html_()
    assert shown.count("<tr>") == 12
    assert "&lt;0&gt;" in shown
    assert history((1, "A", None))._repr_html_().count("<tr>") == 2


def test_bars() -> None:
    """A chart would show other prices than were traded."""
    ticks = history(
        (0, "A", 5.0), (10, "B", 9.0), (20, "A", None), (59.999, "B", 4.0), (60, "A", 6.0), (86_399, "A", 7.0)
    )
    bars = ticks.bars("1min")
    assert bars[0] == Bar(MIDNIGHT, 5.0, 9.0, 4.0, 4.0, 3)
    assert [(bar.start.minute, bar.count) for bar in bars] == [(0, 3), (1, 1), (59, 1)]
    each = ticks.bars(dt.timedelta(minutes=1), by_exchange=True)
    assert [(bar.exchange, bar.open, bar.count) for bar in each[:2]] == [("A", 5.0, 1), ("B", 9.0, 2)]
    assert sum(bar.count for bar in each) == sum(bar.count for bar in bars) == 5
    frame = bars.to_pandas()
    assert list(frame["count"]) == [3, 1, 1]
    assert list(each.to_pandas().index.names) == ["start", "exchange"]
    assert repr(history().bars()) == "<Bars BTC:USD, none>"
    assert len(history().bars().to_pandas()) == 0
    sevens = ticks.bars("7min")  # a day is no multiple of it: the last one is cut off by midnight
    assert sevens[-1].start == MIDNIGHT + dt.timedelta(minutes=1435)


@pytest.mark.parametrize(("text", "length"), [("1min", 60), ("5s", 5), ("h", 3600), ("1d", 86_400), ("250ms", 0.25)])
def test_lengths_of_time(text: str, length: float) -> None:
    """A length would mean another."""
    assert read_span(text) == round(length * SECOND)


def test_the_first_of_each_stretch() -> None:
    """A sample would have two rows of a minute, or none."""
    ticks = columns((1, "A", 1.0), (2, "A", 2.0), (61, "A", 3.0), (86_400 + 5, "A", 4.0))
    assert list(thinned(ticks, 60 * SECOND).prices) == [1.0, 3.0, 4.0]
    assert list(thinned(ticks, 86_400 * SECOND).prices) == [1.0, 4.0]


ROWS = ((1.5, "A", 1.25), (1.5, None, 2.0), (2, "B", None))


def test_pandas() -> None:
    """A frame would have other times, exchanges or prices."""
    frame = history(*ROWS).to_pandas()
    assert list(frame.columns) == ["pair", "exchange", "price"]
    assert frame.index[0] == MIDNIGHT + dt.timedelta(seconds=1.5)
    assert frame["exchange"].isna().tolist() == [True, False, False]
    assert frame["price"].isna().tolist() == [False, False, True]
    assert frame["pair"].tolist() == [PAIR] * 3
    assert frame.attrs["complete"] is True
    assert len(history().to_pandas()) == 0


def test_polars_and_arrow(tmp_path: Path) -> None:
    """A frame would have other times, exchanges or prices."""
    expected = [(MIDNIGHT + dt.timedelta(seconds=at), PAIR, name, price) for at, name, price in ROWS]
    expected.sort(key=lambda row: (row[0], row[2] or ""))
    frame = history(*ROWS).to_polars()
    assert frame.drop("unproven").rows() == expected
    table = history(*ROWS).to_arrow()
    assert [tuple(row.values()) for row in table.to_pylist()] == expected
    history(*ROWS).to_parquet(tmp_path / "ticks.parquet")
    import pyarrow.parquet as pq

    assert pq.read_table(tmp_path / "ticks.parquet").to_pylist() == table.to_pylist()
    assert len(history().to_polars()) == len(history().to_arrow()) == 0


def test_csv(tmp_path: Path) -> None:
    """A file would lose digits, or need a package."""
    path = tmp_path / "ticks.csv"
    history((1.5, "A", 0.1 + 0.2), (1.500001, None, None)).to_csv(path)
    assert path.read_text().splitlines() == [
        "datetime,pair,exchange,price,unproven",
        "2022-06-15T00:00:01.500Z,BTC:USD,A,0.30000000000000004,",
        "2022-06-15T00:00:01.500001Z,BTC:USD,,,",
    ]


def test_columns_can_be_seen_and_not_changed() -> None:
    """A program would have to go through a frame for the numbers; or change them by mistake."""
    ticks = history((1, "B", 1.0), (2, "A", 2.0))
    assert [moment(stamp) for stamp in ticks.timestamps] == [tick.datetime for tick in ticks]
    assert list(ticks.prices) == [1.0, 2.0]
    assert ticks.exchanges == ["A", "B"]
    with pytest.raises(TypeError):
        ticks.prices[0] = 5.0


@pytest.mark.parametrize(
    ("module", "call", "extra"),
    [("numpy", "to_pandas()", "frames"), ("polars", "to_polars()", "polars"), ("pyarrow", "to_arrow()", "arrow")],
)
def test_a_missing_package_names_the_remedy(module: str, call: str, extra: str) -> None:
    """A user would see a bare ImportError."""
    program = f"""
        import sys
        sys.modules["{module}"] = None
        from finx_sync.errors import MissingExtraError
        from finx_sync.ticks import TickHistory
        from finx_sync.ticks.columns import Columns, ExchangeNames
        try:
            TickHistory("BTC:USD", Columns(ExchangeNames())).{call}
        except MissingExtraError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30, check=False
    )
    assert f'pip install "finx-sync[{extra}]"' in done.stdout, done.stderr
