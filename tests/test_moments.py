"""Dates and times in every spelling: the same moment is the same request, and what is no moment costs no connection."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import finx_sync
from finx_sync import Grid, StreamManager, TickHistory
from finx_sync.analytics.chain import read_expiry
from finx_sync.cli.main import main
from finx_sync.compat.finx import TickPlant
from finx_sync.errors import InvalidInputError, UsageError
from finx_sync.functions.inputs import checked_five_minutes, checked_start
from finx_sync.functions.query import HistoryQuery
from finx_sync.moments import read_any, read_day, read_moment, read_start, read_time, written_time
from finx_sync.sandbox import Sandbox
from finx_sync.ticks.columns import Columns, ExchangeNames, micros
from tests.scripted import TICK, ScriptedServer

UTC = dt.timezone.utc
PAIR = "BTC:USD"
NOON = dt.datetime(2022, 6, 15, 12, tzinfo=UTC)
NOON_MS = 1_655_294_400_000

zones = st.integers(-14 * 4, 14 * 4).map(lambda quarters: dt.timezone(dt.timedelta(minutes=15 * quarters)))
moments = st.datetimes(dt.datetime(1980, 1, 2), dt.datetime(2100, 1, 1)).map(
    lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000, tzinfo=UTC)
)


def spellings(at: dt.datetime, zone: dt.timezone) -> list[Any]:
    """One moment, whole milliseconds, in every spelling that one value has."""
    plain, local = at.replace(tzinfo=None), at.astimezone(zone)
    numpy = np.datetime64(plain)
    return [
        at,
        plain,
        local,
        f"{plain.isoformat(timespec='milliseconds')}",
        f"{plain.isoformat(' ', timespec='milliseconds')}",
        f"{plain.isoformat(timespec='microseconds')}Z",
        f"{plain.isoformat(' ', timespec='milliseconds')}000000z",
        local.isoformat(timespec="milliseconds"),
        local.isoformat(" ", timespec="milliseconds"),
        local.strftime("%Y-%m-%dT%H:%M:%S.%f%z"),
        numpy.astype("datetime64[ms]"),
        numpy.astype("datetime64[us]"),
        numpy.astype("datetime64[ns]"),
        pd.Timestamp(at),
        pd.Timestamp(plain),
        pd.Timestamp(local),
        at.timestamp(),
        np.float64(at.timestamp()),
    ]


def pairs(at: dt.datetime, zone: dt.timezone) -> list[tuple[Any, Any]]:
    """The same moment as a day and a time of it."""
    plain, local = at.replace(tzinfo=None), at.astimezone(zone)
    clock = plain.time()
    return [
        (plain.date(), clock),
        (plain.date().isoformat(), clock.isoformat(timespec="milliseconds")),
        (plain.date().isoformat(), clock.isoformat(timespec="microseconds") + "Z"),
        (plain.date(), clock.replace(tzinfo=UTC)),
        (np.datetime64(plain.date()), clock),
        (pd.Timestamp(plain.date()), clock),
        (local.date(), local.timetz()),
        (local.date().isoformat(), local.timetz().isoformat()),
    ]


@given(moments, zones)
def test_all_spellings_of_a_moment_are_one_request(at: dt.datetime, zone: dt.timezone) -> None:
    """A backtest would be given prices of another moment, according to which type its dates happen to have."""
    first = at.replace(tzinfo=None)
    expected = (f"{first:%Y-%m-%d}", written_time(first.time()))
    request = HistoryQuery(PAIR, *expected, end="2101-01-01")
    for one in spellings(at, zone):
        assert checked_start(one, None) == expected, one
        assert read_moment(one) == read_any(one) == at, one
        assert read_moment(one).tzinfo is UTC, one
        assert HistoryQuery(PAIR, one, end=dt.date(2101, 1, 1)) == request, one
        end = HistoryQuery(PAIR, "1980-01-01", end=one)
        assert end.last * 1000 == micros(at), one
    for date, clock in pairs(at, zone):
        assert checked_start(date, clock) == expected, (date, clock)
        assert HistoryQuery(PAIR, date, clock, end=pd.Timestamp(2101, 1, 2) - pd.Timedelta(1, "ms")) == request


@given(st.dates(dt.date(1980, 1, 2), dt.date(2100, 1, 1)))
def test_all_spellings_of_a_day_are_one_request(day: dt.date) -> None:
    """The first tick of a day would be lost where a table's index spells the day as its midnight."""
    days = [day, day.isoformat(), np.datetime64(day), pd.Timestamp(day), pd.Timestamp(day, tz="UTC"), f"{day} 00:00Z"]
    assert {read_day(one) for one in days} == {day}
    whole = HistoryQuery(PAIR, day.isoformat())
    assert (whole.first % 86_400_000, whole.last - whole.first) == (0, 86_399_999)
    assert all(HistoryQuery(PAIR, one) == whole for one in days)
    assert HistoryQuery(PAIR, day, "00:00") == whole
    assert HistoryQuery(PAIR, day, end=np.datetime64(day)) == whole
    assert {read_expiry(one) for one in days} == {day}


@given(st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2060, 1, 1)), zones)
def test_moments_on_the_grid(at: dt.datetime, zone: dt.timezone) -> None:
    """A matrix would be of another time than the datetime that asked for it."""
    on_grid = at.replace(minute=at.minute // 5 * 5, second=0, microsecond=0, tzinfo=UTC)
    shown = f"{on_grid:%Y-%m-%dT%H:%M}"
    assert {checked_five_minutes(one) for one in [*spellings(on_grid, zone), shown]} == {shown}
    for off in spellings(on_grid + dt.timedelta(milliseconds=1), zone):
        with pytest.raises(InvalidInputError, match="grid"):
            checked_five_minutes(off)


NONSENSE: list[Any] = [
    "", "noon", "15.06.2022", "2022-06-31", "2022-13-01", "2022-06-15T24:00", "2022-06-15T12:60", "2022-06-15 12:00:60",
    "2022-06-15T12:00+24:00", "2022-06-15T12:00 +02:00", "2022-06-15  12:00", "2022-06-15T", " 2022-06-15", "2022-6-15",
    "20220615", "2022-06-15T12:00Zulu", "٢٠٢٢-06-15", "2022-W24-3", "2022-06-15\n", "12:00 Z",
    True, False, np.True_, float("nan"), float("inf"), -1, -0.5, 10**400, 1_655_294_400_000_000, np.float64("nan"),
    pd.NaT, np.datetime64("NaT"), np.datetime64("2022-06"), np.datetime64("2022"), np.datetime64("2022-06-15", "W"),
    np.datetime64(10**15, "s"), pd.NA, pd.Timedelta("1h"), dt.timedelta(1), b"2022-06-15", [], {}, object(),
    np.array(["2022-06-15"], "M8[D]"), ("2022-06-15", "12:00"), 1j,
    dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=1))),
    dt.datetime.max.replace(tzinfo=dt.timezone(-dt.timedelta(hours=1))),
]  # fmt: skip


@pytest.mark.parametrize("value", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_is_refused(value: Any) -> None:
    """A typo, a missing value or a truth value would be taken for a date."""
    for read in (read_any, read_moment, read_day, read_start, read_time, read_expiry, checked_five_minutes):
        with pytest.raises(InvalidInputError):
            read(value)


@pytest.mark.parametrize("value", [20220615, 0, 5, np.int64(19700101)])
def test_a_number_of_digits_is_no_day(value: Any) -> None:
    """20220615 would be taken for UNIX seconds, and ask for the 23rd of August 1970."""
    for read in (read_day, read_start, lambda one: HistoryQuery(PAIR, "1970-01-01", end=one)):
        with pytest.raises(InvalidInputError):
            read(value)


BERLIN = ZoneInfo("Europe/Berlin")

REFUSED: dict[str, Callable[[StreamManager], object]] = {
    "snap, two times": lambda stream: stream.get_tick_snap(PAIR, NOON, "13:00"),
    "snap, the same time twice": lambda stream: stream.get_tick_snap(PAIR, NOON, dt.time(12)),
    "snap, text with a time and a time": lambda stream: stream.get_tick_snap(PAIR, "2022-06-15T12:00", "13:00"),
    "snap, two dates": lambda stream: stream.get_tick_snap(PAIR, "2022-06-15", NOON),
    "snap, a date for a time": lambda stream: stream.get_tick_snap(PAIR, "2022-06-15", "2022-06-16"),
    "snap, a time for a date": lambda stream: stream.get_tick_snap(PAIR, "12:00"),
    "snap, a time's zone without a date": lambda s: s.get_tick_snap(PAIR, time=dt.time(12, tzinfo=BERLIN)),
    "snap, an offset without a date": lambda stream: stream.get_tick_snap(PAIR, time="12:00+02:00"),
    "snap, NaT": lambda stream: stream.get_tick_snap(PAIR, pd.NaT),
    "snap, no time": lambda stream: stream.get_tick_snap(PAIR, "2022-06-15", pd.NaT),
    "snap, truth": lambda stream: stream.get_tick_snap(PAIR, True),
    "history, two times": lambda stream: stream.get_tick_history(PAIR, pd.Timestamp(NOON), "13:00"),
    "history, midnight elsewhere and a time": lambda stream: stream.get_tick_history(
        PAIR, dt.datetime(2022, 6, 15, tzinfo=BERLIN), "13:00"
    ),
    "history, an end that is none": lambda stream: stream.get_tick_history(PAIR, NOON, end=np.datetime64("NaT")),
    "history, an end before": lambda stream: stream.get_tick_history(PAIR, NOON, end="12:00"),
    "iteration": lambda stream: stream.iter_tick_history(PAIR, NOON, "13:00"),
    "page, two times": lambda stream: stream.get_tick_history_page(PAIR, NOON, "13:00"),
    "contracts of a moment": lambda stream: stream.list_contracts(as_of=NOON),
    "matrix off the grid": lambda stream: stream.get_five_minute_matrix("BTC", NOON + dt.timedelta(minutes=1)),
    "matrix, a time of day": lambda stream: stream.get_five_minute_matrix("BTC", "12:00"),
    "quote, NaT": lambda stream: stream.get_pair_quote(PAIR, pd.NaT),
    "quote, a time of day": lambda stream: stream.get_pair_quote(PAIR, dt.time(12)),
    "slice, NaT": lambda stream: stream.get_options_timeslice("BTC", np.datetime64("NaT")),
    "series, backwards": lambda stream: stream.get_pair_quote_series(PAIR, NOON, "2022-06-15 11:59"),
    "chain, no expiry": lambda stream: stream.option_chain("BTC", "26AUX22", at="latest"),
    "chain, NaT": lambda stream: stream.option_chain("BTC", pd.NaT, at="latest"),
    "chain, no moment": lambda stream: stream.option_chain("BTC", at=pd.NaT),
    "call, a moment": lambda stream: stream.call("tickSnap", pair=PAIR, date=NOON),
    "call, NaT": lambda stream: stream.call("tickSnap", pair=PAIR, date=pd.NaT),
    "call, a time's zone": lambda stream: stream.call("tickSnap", pair=PAIR, time=dt.time(12, tzinfo=BERLIN)),
    "replay, no moment": lambda stream: stream.replay("there is no such file", until=pd.NaT),
    "reconnect, NaT": lambda stream: stream.reconnect_at(pd.NaT),
    "reconnect, past": lambda stream: stream.reconnect_at(NOON),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_contradictions_are_refused_before_any_io(call: Callable[[StreamManager], object]) -> None:
    """Of two times that contradict each other one would be taken in silence."""
    with ScriptedServer() as server:
        with pytest.raises(InvalidInputError):
            call(StreamManager("sandbox-key", url=server.url))
        assert server.paths == []


def test_the_wire_has_the_moment() -> None:
    """A snap or a page "of noon" would be of midnight, or of the day's end: a look into the future in a backtest."""
    with ScriptedServer(lambda connection: connection.send(json.dumps(TICK))) as server:
        stream = StreamManager("sandbox-key", url=server.url)
        for one in spellings(NOON + dt.timedelta(seconds=1), dt.timezone(dt.timedelta(hours=5, minutes=30))):
            stream.get_tick_snap(PAIR, one)
        for date, clock in pairs(NOON + dt.timedelta(seconds=1), dt.timezone(-dt.timedelta(hours=13))):
            finx_sync.get_tick_snap(PAIR, date, clock, api_key="sandbox-key", url=server.url)
        assert len(server.paths) == 26
        assert {path.partition("&pair")[2] for path in server.paths} == {
            "=BTC%3AUSD&date=2022-06-15&time=12%3A00%3A01.000"
        }
        server.paths.clear()
        stream.get_tick_snap(PAIR, "2022-06-15", dt.time(1, tzinfo=BERLIN))  # 23:00 of the day before, in summer
        stream.get_tick_snap(PAIR, dt.datetime(2022, 6, 15))
        stream.get_tick_snap(PAIR, dt.date(2022, 6, 15))
        stream.get_tick_snap(PAIR, time="12:00Z")
        stream.call("tickSnap", pair=PAIR, date=np.datetime64("2022-06-15"), time=dt.time(12))
        assert [path.partition("&pair=BTC%3AUSD")[2] for path in server.paths] == [
            "&date=2022-06-14&time=23%3A00",
            "&date=2022-06-15&time=00%3A00",
            "&date=2022-06-15",
            "&time=12%3A00",
            "&date=2022-06-15&time=12%3A00",
        ]


def test_a_history_begins_at_the_moment(sandbox: Sandbox) -> None:
    """A history "from noon on" would begin at midnight."""
    stream = StreamManager("sandbox-key", url=sandbox.url)
    sandbox.controls("finx").set_history(
        PAIR, "2022-06-15", [(hour * 3_600_000, "FTX", float(hour)) for hour in range(24)]
    )
    expected = [float(hour) for hour in range(13, 24)]
    for one in spellings(NOON, dt.timezone(dt.timedelta(hours=9))):
        assert list(stream.get_tick_history(PAIR, one).prices) == expected, one
        assert [tick.price for tick in stream.iter_tick_history(PAIR, one)] == expected, one
        assert [tick.price for tick in stream.get_tick_history_page(PAIR, one)] == expected, one
    for one in (
        dt.date(2022, 6, 15),
        dt.datetime(2022, 6, 15),
        pd.Timestamp("2022-06-15"),
        np.datetime64("2022-06-15"),
    ):
        assert len(stream.get_tick_history(PAIR, one)) == 24, one
    east = dt.timezone(dt.timedelta(hours=2))
    both = stream.get_tick_history(PAIR, "2022-06-15", dt.time(14, tzinfo=east), end=dt.time(17, tzinfo=east))
    assert list(both.prices) == [13.0, 14.0, 15.0]
    over = stream.get_tick_history(PAIR, "2022-06-15", dt.time(1, tzinfo=east), end=dt.time(3, 30, tzinfo=east))
    assert (over[-1].date, over[-1].price) == ("2022-06-15", 1.0)


def test_the_other_functions_take_the_same(sandbox: Sandbox) -> None:
    """A datetime that one function takes another would refuse, or read as another moment."""
    stream = StreamManager("sandbox-key", url=sandbox.url)
    at = dt.datetime(2022, 8, 4, 4, 5, tzinfo=UTC)
    east = dt.timezone(dt.timedelta(hours=9))
    matrix = {tick.name for tick in stream.get_five_minute_matrix("BTC", at)}
    chain = stream.option_chain("BTC", at=at)
    day = chain.index.get_level_values("expiry")[0]
    of_day = stream.option_chain("BTC", "2022-08-05", at=at)
    assert len(of_day)
    for one in spellings(at, east):
        assert {tick.name for tick in stream.get_five_minute_matrix("BTC", one)} == matrix, one
        assert stream.get_pair_quote(PAIR, one, width=30) == stream.get_pair_quote(PAIR, at, width=30), one
    assert len(stream.option_chain("BTC", day, at=np.datetime64("2022-08-04T04:05"))) > 0
    assert {
        len(stream.option_chain("BTC", one, at=at))
        for one in ("5AUG22", dt.date(2022, 8, 5), np.datetime64("2022-08-05"))
    } == {len(of_day)}
    contracts = stream.list_contracts(as_of="2022-06-15")
    for one in (dt.date(2022, 6, 15), np.datetime64("2022-06-15"), pd.Timestamp("2022-06-15", tz="UTC")):
        assert stream.list_contracts(as_of=one) == contracts


def test_the_old_sdks_class_takes_the_same(sandbox: Sandbox) -> None:
    """A program that passes datetimes would have to know which of the two libraries it talks to."""
    plant = TickPlant("sandbox-key", "sandbox")
    plant.endpoint = plant.rest_endpoint = sandbox.url
    text = plant.tick_history(PAIR, "2022-06-15", "21:27")
    for one in ("2022-06-15T21:27Z", np.datetime64("2022-06-15T21:27"), pd.Timestamp("2022-06-15 21:27")):
        assert plant.tick_history(PAIR, one) == text
    at = "1655328460"
    assert plant.tick_snap(PAIR, at, "60") == plant.tick_snap(PAIR, pd.Timestamp(int(at), unit="s"), "60")
    assert len(plant.get_timeslice(dt.datetime.fromtimestamp(int(at), UTC), "10", "BTC"))
    for bad in (pd.NaT, "nan", "soon", True):
        with pytest.raises(InvalidInputError):
            plant.tick_snap(PAIR, bad)


def test_the_grid_takes_dates(sandbox: Sandbox) -> None:
    """A date would be refused as something that JSON cannot hold, or sent with a time that the grid does not know."""
    grid = Grid("sandbox-key", url=sandbox.url)
    for one in (dt.date(2022, 6, 15), pd.Timestamp("2022-06-15"), np.datetime64("2022-06-15")):
        assert grid.call("get_security_reference_data", security_id="BTC-26AUG22-20000-C", as_of_date=one)
    for bad in (NOON, pd.NaT, np.datetime64("2022-06")):
        with pytest.raises(InvalidInputError):
            grid.call("get_security_reference_data", security_id="BTC-26AUG22-20000-C", as_of_date=bad)


def test_a_planned_reconnect_in_every_spelling(sandbox: Sandbox) -> None:
    """A reconnect could be planned with some types of datetime only."""
    stream = StreamManager("sandbox-key", url=sandbox.url)
    later = dt.datetime.now(UTC).replace(microsecond=0) + dt.timedelta(days=1)
    for one in spellings(later, dt.timezone(dt.timedelta(hours=-5))):
        with pytest.raises(UsageError, match="needs a stream that runs"):  # the moment itself is good
            stream.reconnect_at(one)
    with pytest.raises(InvalidInputError, match="time to come"):
        stream.reconnect_at(time.time() - 1)


def test_a_history_is_sliced_by_every_spelling() -> None:
    """A frame's index could not be used to look into a history."""
    rows = [(NOON_MS * 1000 + second * 1_000_000, "FTX", float(second)) for second in range(-2, 3)]
    history = TickHistory(PAIR, Columns.of(rows, ExchangeNames([None])))
    for one in [*spellings(NOON, dt.timezone(dt.timedelta(hours=9))), dt.time(12), "12:00", "14:00+02:00"]:
        assert list(history.between(one).prices) == [0.0, 1.0, 2.0], one
        assert list(history.between(None, one).prices) == [-2.0, -1.0], one
    assert list(history[np.datetime64("2022-06-15T12:00") :].prices) == [0.0, 1.0, 2.0]  # type: ignore[misc]
    assert list(history[: pd.Timestamp(NOON) : 2].prices) == [-2.0]  # type: ignore[misc]
    for bad in (pd.NaT, "noon", True, np.datetime64("NaT")):
        with pytest.raises(InvalidInputError):
            history.between(bad)
    with pytest.raises(InvalidInputError):
        history[pd.NaT :]  # type: ignore[misc]


def test_the_command_line(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """What the library takes, the command line would refuse or cut off."""
    where = ["--environment", "sandbox", "--url", sandbox.url]

    def shown(*arguments: str) -> str:
        assert main([*arguments, *where]) == 0
        return capsys.readouterr().out

    snap = shown("snap", PAIR, "--date", "2022-06-15", "--time", "12:00")
    for one in ("2022-06-15T12:00", "2022-06-15 14:00+02:00", "1655294400"):
        assert shown("snap", PAIR, "--date", one) == snap
        first = shown("history", PAIR, one, "--limit", "1")
        assert json.loads(first)["time"] > "12:00"
    for bad in ("20220615", "nan", "noon", "-1"):
        assert main(["snap", PAIR, f"--date={bad}", *where]) == 2
    assert main(["contracts", "--as-of", "2022-06-15T12:00", *where]) == 2
    assert "whole day" in capsys.readouterr().err


def test_neither_numpy_nor_pandas_is_imported(tmp_path: Path) -> None:
    """Reading a date would take a second to import pandas, or fail where it is not installed."""
    script = """
        import sys
        sys.modules["numpy"] = sys.modules["pandas"] = None
        from finx_sync.moments import read_moment
        print(read_moment("2022-06-15 12:00").isoformat())
        try:
            read_moment(object())
        except ValueError:
            print("refused")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["2022-06-15T12:00:00+00:00", "refused"]


@settings(max_examples=300)
@given(st.text(alphabet="0123456789-:TZ .+x٣", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    """A text would end a call with an error that is not the library's own."""
    for read in (read_any, read_moment, read_day, read_start, read_time, read_expiry):
        try:
            read(text)
        except InvalidInputError:
            pass
