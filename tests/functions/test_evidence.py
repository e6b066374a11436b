"""What proves a history, over real sockets: one answer never does."""

from __future__ import annotations

import copy
import datetime as dt
import json
import pickle
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finx_sync import StreamManager
from finx_sync.cli.main import main
from finx_sync.errors import (
    FinxSyncError,
    FunctionTimeoutError,
    IncompleteHistoryError,
    InvalidInputError,
    ServerRefusedError,
)
from finx_sync.functions import cache as caching
from finx_sync.functions import fetch
from finx_sync.functions.cache import DayCache
from finx_sync.session.backoff import Backoff
from finx_sync.ticks.columns import Columns, ExchangeNames
from tests.functions.erring import (
    DATE,
    DAY_MS,
    PAIR,
    HistoryServer,
    Row,
    cut,
    empty,
    hang,
    page_of,
    refused,
    row_of,
    rows_of,
)

MIDNIGHT = dt.datetime(2022, 6, 15, tzinfo=dt.timezone.utc)


def day(count: int, seed: int = 1) -> list[Row]:
    """Ticks of a day, none at midnight."""
    chance = random.Random(seed)
    return [
        (1 + chance.randrange(DAY_MS - 1), chance.choice(["COINBASE", "FTX"]), float(chance.randrange(9)))
        for _ in range(count)
    ]


@pytest.fixture
def server() -> Iterator[HistoryServer]:
    with HistoryServer() as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No long waits for what does not come."""
    monkeypatch.setattr(fetch, "RETRY", Backoff(first=0.001, cap=0.01))


def stream_to(server: HistoryServer, **options: Any) -> StreamManager:
    return StreamManager("sandbox-key", url=server.url, **options)


def is_whole(history: Any, server: HistoryServer) -> bool:
    return history.complete and rows_of(history) == Counter(server.rows)


@pytest.mark.parametrize("place", [0, 1, 2, 5])
@pytest.mark.parametrize("workers", [1, 8])
def test_an_empty_answer_proves_nothing(server: HistoryServer, place: int, workers: int) -> None:
    """One `{}` would make a day of 20,000 ticks an empty one, or a short one, that is called complete."""
    server.reset(day(2500))
    server.page_faults = [None] * place + [empty]
    assert is_whole(stream_to(server).get_tick_history(PAIR, DATE, workers=workers), server)


def test_nor_do_several(server: HistoryServer) -> None:
    """An outage of a minute, in which every page is `{}`, would be a day without ticks."""
    server.reset(day(2500))
    server.page_faults = [empty] * 4
    assert is_whole(stream_to(server).get_tick_history(PAIR, DATE), server)
    server.page_faults, server.snap_faults = [empty] * 100, [empty] * 100
    history = stream_to(server).get_tick_history(PAIR, DATE)
    assert not history.complete
    assert history.unproven[0].start == MIDNIGHT


def test_an_empty_day_is_proven_by_a_tick_from_before_it(server: HistoryServer) -> None:
    """A day on which nothing happened could never be complete; or any could pass for one."""
    assert is_whole(stream_to(server).get_tick_history(PAIR, DATE), server)
    server.before = "nothing"
    assert not stream_to(server).get_tick_history(PAIR, DATE).complete


def test_strict_iteration_is_not_deceived(server: HistoryServer) -> None:
    """A loop over ticks would go past an empty answer."""
    server.reset(day(2500))
    server.page_faults = [None, None, empty, None, empty]
    ticks = stream_to(server).iter_tick_history(PAIR, DATE, strict=True)
    assert rows_of(ticks) == Counter(server.rows)


@pytest.mark.parametrize("iterating", [False, True])
def test_a_cache_keeps_only_what_is_proven(server: HistoryServer, tmp_path: Path, iterating: bool) -> None:
    """With the server well again the cache would still say that there was nothing; or never be filled."""
    stream = stream_to(server)

    def ask() -> Any:
        if iterating:
            return list(stream.iter_tick_history(PAIR, DATE, cache=tmp_path / "ticks"))
        return stream.get_tick_history(PAIR, DATE, cache=tmp_path / "ticks")

    server.reset(day(1500))
    server.page_faults, server.snap_faults = [empty] * 100, [empty] * 100
    assert len(ask()) == 0
    server.reset(day(1500))
    assert rows_of(ask()) == Counter(server.rows)
    asked = sum(server.asked.values())
    assert asked
    assert rows_of(ask()) == Counter(server.rows)
    assert sum(server.asked.values()) == asked


def test_a_cache_of_an_earlier_version_is_not_believed(
    server: HistoryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Days that an empty answer once made empty would stay so after an update."""
    stream = stream_to(server)
    with monkeypatch.context() as patch:
        patch.setattr(caching, "MAGIC", caching.FORMER)
        host = server.url.removeprefix("ws://")
        DayCache(tmp_path / "ticks", host, PAIR).write(DATE, Columns(ExchangeNames()), PAIR)
    server.reset(day(50))
    assert is_whole(stream.get_tick_history(PAIR, DATE, cache=tmp_path / "ticks"), server)


@pytest.mark.parametrize("wrong", [5, "", b"folder", ["folder"]])
def test_a_cache_that_is_no_folder_is_refused(server: HistoryServer, wrong: Any) -> None:
    """A slip would be found after a day's download, or fill the working directory."""
    with pytest.raises(InvalidInputError, match="cache"):
        stream_to(server).get_tick_history(PAIR, DATE, cache=wrong)
    with pytest.raises(InvalidInputError, match="cache"):
        stream_to(server).iter_tick_history(PAIR, DATE, cache=wrong)
    assert not server.asked


@pytest.mark.parametrize("kind", ["missing rows", "one exchange", "repeats", "one page short"])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_an_answer_that_lacks_rows_is_found_out(server: HistoryServer, kind: str, place: int) -> None:
    """Rows that one answer left out would be missing in silence."""
    changes = {
        "missing rows": lambda rows: rows[::2],
        "one exchange": lambda rows: [row for row in rows if row[1] == "FTX"],
        "repeats": lambda rows: [*rows, *rows[:5]],
        "one page short": lambda rows: sorted(rows)[: len(rows) // 3],
    }

    def fault(server: HistoryServer, rows: list[Row]) -> str:
        return server.write("tickHistory", changes[kind](rows))

    server.reset(day(2500))
    server.page_faults = [None] * place + [fault]
    assert is_whole(stream_to(server).get_tick_history(PAIR, DATE, workers=2), server)


# What was left out


def test_capital_letters_make_no_difference(server: HistoryServer, tmp_path: Path) -> None:
    """`btc:usd` would be a day without ticks."""
    server.reset(day(1500))
    for _ in range(2):
        history = stream_to(server).get_tick_history("btc:usd", DATE, cache=tmp_path / "ticks")
        assert is_whole(history, server)
        assert history.pair == history[0].pair == "BTC:USD"
    history = stream_to(server).get_tick_history(PAIR, DATE, exchange="ftx")
    assert rows_of(history) == Counter(row for row in server.rows if row[1] == "FTX")
    assert history.complete


def test_rows_of_another_pair_are_told(server: HistoryServer) -> None:
    """A server that answers with another pair would have no ticks of this one, and all would seem well."""
    server.reset(day(300))
    server.pair = "BTC-USD"
    history = stream_to(server).get_tick_history(PAIR, DATE)
    assert len(history) == 0
    assert not history.complete
    assert history.discarded["another pair"] >= 300
    assert "another pair" in repr(history)


def test_rows_of_another_day_are_told(server: HistoryServer) -> None:
    """Days that are counted in another time zone would be empty ones."""
    server.reset(day(300))
    for shift in (-DAY_MS, DAY_MS, -7_200_000):

        def shifted(server: HistoryServer, rows: list[Row], shift: int = shift) -> str:
            return server.write("tickHistory", [(at + shift, *rest) for at, *rest in rows])

        server.page_faults = [shifted] * 100
        history = stream_to(server).get_tick_history(PAIR, DATE)
        assert not history.complete
        assert history.discarded["another day"] > 0


def test_an_exchange_that_nobody_knows_is_told(server: HistoryServer, caplog: pytest.LogCaptureFixture) -> None:
    """A misspelt exchange would have no ticks."""
    server.reset(day(300))
    history = stream_to(server).get_tick_history(PAIR, DATE, exchange="COINBSAE")
    assert len(history) == 0
    assert not history.complete
    assert history.discarded["another exchange"] >= 300
    with pytest.raises(IncompleteHistoryError, match="rows of another exchange were left out"):
        list(stream_to(server).iter_tick_history(PAIR, DATE, exchange="COINBSAE", strict=True))
    with caplog.at_level("WARNING", "finx_sync"):
        assert not list(stream_to(server).iter_tick_history(PAIR, DATE, exchange="COINBSAE"))
    assert "rows of another exchange were left out" in caplog.text


def test_what_has_not_happened_yet_is_not_complete(server: HistoryServer) -> None:
    """A day to come would be a complete one without ticks."""
    tomorrow = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=1)
    for date in (tomorrow.date(), dt.datetime.now(dt.timezone.utc).date()):
        history = stream_to(server).get_tick_history(PAIR, date)
        assert not history.complete
        assert history.unproven[-1].end.time() == dt.time(23, 59, 59, 999000)


def test_the_command_line_says_what_was_left_out(
    server: HistoryServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever writes a file from a shell would not learn that rows are missing from it."""
    server.reset(day(20))
    server.page_faults = [lambda server, rows: page_of([*map(row_of, rows), {**row_of(rows[0]), "price": "NaN"}])]
    monkeypatch.setenv("FINX_API_KEY", "sandbox-key")
    monkeypatch.setenv("FINX_URL", server.url)
    main(["history", PAIR, DATE, "--exchange", "COINBSAE"])
    said = capsys.readouterr().err
    assert "not proven complete" in said
    assert "NaN" in said
    assert "rows of another exchange" in said


# Midnight, and snaps


@pytest.mark.parametrize("midnight", [True, False])
@pytest.mark.parametrize("before", ["first", "earlier", "nothing"])
def test_a_tick_at_midnight_is_not_lost(server: HistoryServer, midnight: bool, before: str) -> None:
    """Where the server takes an omitted time for "after 00:00", the day's first tick would be missing in silence."""
    for rows in ([(0, "FTX", 7.0)], [(0, "FTX", 7.0), *day(50)], [(0, "FTX", 7.0), (0, "FTX", 8.0), *day(50)]):
        server.reset(rows)
        server.midnight, server.before = midnight, before
        history = stream_to(server).get_tick_history(PAIR, DATE)
        missing = Counter(rows) - rows_of(history)
        assert not missing or not history.complete
        assert history[0].datetime == MIDNIGHT
        if midnight and len(rows) > 1:
            assert is_whole(history, server)
        elif not midnight:  # pages do not have it, so there may be more of them
            assert history.unproven == ((MIDNIGHT, MIDNIGHT),)


@pytest.mark.parametrize("count", [300, 1000, 2000, 2345])
@pytest.mark.parametrize("begin", [5, 43_200_000])
@pytest.mark.parametrize("midnight", [True, False])
def test_snaps_without_an_answer_take_nothing_away(
    server: HistoryServer, count: int, begin: int, midnight: bool
) -> None:
    """A whole day would not be proven because a snap was `{}`; or more than its midnight where all of them are."""
    rows = [(begin + place * 10_000, "FTX", 1.0) for place in range(count)]
    server.reset(rows)
    server.midnight = midnight
    for server.before in ("nothing", "earlier"):
        assert is_whole(stream_to(server).get_tick_history(PAIR, DATE), server)
    server.snap_faults = [refused, empty, cut]
    assert is_whole(stream_to(server).get_tick_history(PAIR, DATE), server)
    server.snap_faults = [empty] * 100
    history = stream_to(server).get_tick_history(PAIR, DATE)
    assert rows_of(history) == Counter(server.rows)
    (one,) = history.unproven
    assert one.start == MIDNIGHT
    # One full page could be the newest rows: nothing else proves what was before it.
    assert one.end == (history[0].datetime - dt.timedelta(milliseconds=1) if count == 1000 else MIDNIGHT)
    server.snap_faults = [refused] * 100
    if count > 1000:
        assert stream_to(server).get_tick_history(PAIR, DATE, "00:00:01").complete


def test_a_snap_that_fails_says_nothing_about_midnight(server: HistoryServer) -> None:
    """A tick at midnight that no page has would be missing in silence."""
    server.reset([(0, "FTX", 1.0), *day(2000)])
    server.midnight = False
    server.snap_faults = [refused] * 100
    history = stream_to(server).get_tick_history(PAIR, DATE)
    assert history.unproven == ((MIDNIGHT, MIDNIGHT),)
    assert len(history) == 2000


# The same wrong answer every time


def lacking(rows: list[Row], page: list[Row], which: str) -> list[Row]:
    """A page without some of the rows of the day's first page: always the same."""
    left_out = {"the first": rows[:3], "some": rows[20:23], "the last": rows[min(len(rows), 1000) - 4 :][:3]}[which]
    return [row for row in page if row not in left_out]


@pytest.mark.parametrize("which", ["the first", "some", "the last"])
@pytest.mark.parametrize("count", [30, 1000, 3000])
@pytest.mark.parametrize("time", [None, "06:00"])
@pytest.mark.parametrize("snaps", [True, False])
def test_the_same_wrong_first_page_is_not_believed(
    server: HistoryServer, which: str, count: int, time: str | None, snaps: bool
) -> None:
    """997 of 1000 ticks would be called a complete day, because the first question was answered wrongly twice."""
    honest = server.page
    begin = 21_600_001 if time else 1
    rows = sorted((begin + place * 10_000, "FTX", float(place)) for place in range(count))
    first = None if time is None else "06:00:00.000"
    server.page = lambda query: lacking(rows, honest(query), which) if query.get("time") == first else honest(query)
    server.reset(rows)
    server.snap_faults = [] if snaps else [empty] * 100
    history = stream_to(server).get_tick_history(PAIR, DATE, time)
    assert rows_of(history) == Counter(rows)  # another question brings what the first withholds
    assert history.complete == (snaps or time is not None)


@pytest.mark.parametrize("count", [30, 1000, 3000])
@pytest.mark.parametrize("which", ["the first", "some", "the last"])
def test_nor_is_one_that_lacks_rows_wherever_the_day_begins(server: HistoryServer, count: int, which: str) -> None:
    """A page that is wrong however it is asked for would be believed, since other questions bring the same page."""
    honest = server.page
    rows = [(10 + place * 10_000, "FTX", float(place)) for place in range(count)]

    def page(query: dict[str, str]) -> list[Row]:
        right = honest(query)
        return lacking(rows, right, which) if rows[0] in right else right

    server.page = page
    server.reset(rows)
    history = stream_to(server).get_tick_history(PAIR, DATE)
    assert not (history.complete and Counter(rows) - rows_of(history))


def test_snaps_that_know_no_tick_prove_nothing_about_midnight(server: HistoryServer) -> None:
    """3000 of 3001 ticks would be complete: "after 00:00" lacks the first, and `{}` said that there is none."""
    server.reset([(0, "FTX", 1.0), *day(3000)])
    server.midnight = False
    server.snap_faults = [empty] * 100
    history = stream_to(server).get_tick_history(PAIR, DATE)
    assert history.unproven == ((MIDNIGHT, MIDNIGHT),)
    assert len(history) == 3000
    assert server.asked["tickSnap"] == 4  # two before the first row, and two at it


@pytest.mark.parametrize(("before", "snaps"), [("earlier", 1), ("first", 1), ("nothing", 3)])
def test_what_the_evidence_of_an_honest_day_costs(server: HistoryServer, before: str, snaps: int) -> None:
    """A proof that asks for much more than two readings would double what a year of days costs."""
    server.reset(day(10_500))
    server.before = before
    assert is_whole(stream_to(server).get_tick_history(PAIR, DATE, workers=1), server)
    assert server.asked["tickSnap"] == snaps
    assert server.asked["tickHistory"] <= 12 + 14  # the second reading begins at three places


# Passing errors


@pytest.mark.parametrize("fault", [refused, cut], ids=["refused", "cut"])
@pytest.mark.parametrize("place", [0, 1, 4])
def test_a_passing_error_costs_nothing(server: HistoryServer, fault: Any, place: int) -> None:
    """One "try again" among forty pages would lose them all."""
    server.reset(day(3500))
    server.page_faults = [None] * place + [fault] * 2
    assert is_whole(stream_to(server).get_tick_history(PAIR, DATE, workers=2), server)


def test_what_was_fetched_is_on_the_error(server: HistoryServer, tmp_path: Path) -> None:
    """A timeout at 89 % would lose everything; with a cache, the next call would begin anew."""
    server.reset(day(12_000))
    server.page_faults = [None] * 10 + [hang] * 100
    stream = stream_to(server)
    with pytest.raises(FunctionTimeoutError) as caught:
        stream.get_tick_history(PAIR, DATE, workers=2, cache=tmp_path / "ticks", timeout=3)
    history = caught.value.history
    assert 2000 < len(history) < 12_000
    assert not history.complete
    assert not rows_of(history) - Counter(server.rows)
    assert pickle.loads(pickle.dumps(caught.value)).history == history  # our own
    assert copy.deepcopy(caught.value).history.unproven == history.unproven
    server.reset(server.rows)
    assert is_whole(stream.get_tick_history(PAIR, DATE, cache=tmp_path / "ticks"), server)
    assert server.asked["tickHistory"] < 25  # of the 27 or more that a whole day takes
    assert not list(tmp_path.rglob("*.partial"))


def test_a_span_keeps_its_whole_days(server: HistoryServer, tmp_path: Path) -> None:
    """An error in the last of many days would lose the others."""
    server.reset(day(500))
    server.page_faults = [None] * 8 + [refused] * 1000
    with pytest.raises(ServerRefusedError) as caught:
        stream_to(server).get_tick_history(PAIR, DATE, end="2022-06-17", workers=1, cache=tmp_path)
    assert rows_of(caught.value.history) == Counter(server.rows)
    assert not caught.value.history.complete
    assert caught.value.history.unproven[0].start > MIDNIGHT + dt.timedelta(hours=23)


def test_errors_of_other_calls_have_no_history(server: HistoryServer) -> None:
    """Code that looks for it would fail with an AttributeError instead."""
    assert FinxSyncError("no").history is None


# Bad rows


@pytest.mark.parametrize("price", ["NaN", "inf", "cheap", [1], {}])
def test_a_bad_row_costs_its_moment_only(server: HistoryServer, price: Any) -> None:
    """One row priced "NaN" would lose a day; or be missing in silence."""
    server.reset(day(2500))
    bad = min(server.rows[1200:1300], key=server.rows.count)

    def write(function: str, rows: list[Row]) -> str:
        wire = [row_of(row) for row in rows]
        for row in wire:
            if row == row_of(bad):
                row["price"] = price
        return page_of(wire) if function == "tickHistory" else json.dumps(wire[0] if wire else {})

    server.write = write  # type: ignore[method-assign]
    history = stream_to(server).get_tick_history(PAIR, DATE)
    at = MIDNIGHT + dt.timedelta(milliseconds=bad[0])
    assert history.unproven == ((at, at),)
    assert Counter(server.rows) - rows_of(history) == Counter({bad: server.rows.count(bad)})
    (rejected,) = history.rejected
    assert rejected.row["price"] == price
    assert rejected.reason
    assert "1 rows rejected" in repr(history)


@pytest.mark.parametrize("missing", ["pair", "time", "exchange", "price"])
def test_a_row_that_lacks_a_field(server: HistoryServer, missing: str) -> None:
    """A row without a time would lose a day; one without an exchange or a price is a tick all the same."""
    server.reset(day(300))
    lacking = server.rows[150]

    def write(function: str, rows: list[Row]) -> str:
        wire = [row_of(row) for row in rows]
        for row in wire:
            if row == row_of(lacking):
                del row[missing]
        return page_of(wire) if function == "tickHistory" else json.dumps(wire[0] if wire else {})

    server.write = write  # type: ignore[method-assign]
    history = stream_to(server).get_tick_history(PAIR, DATE)
    if missing in {"exchange", "price"}:
        assert history.complete
        assert len(history) == 300
    else:
        assert len(history) == 299
        assert len(history.rejected) == 1
        at = MIDNIGHT + dt.timedelta(milliseconds=lacking[0])
        assert any(one.start <= at <= one.end for one in history.unproven)


def test_a_missing_price_is_equal_to_itself(server: HistoryServer) -> None:
    """One price that is null would make a day unproven, since NaN is not equal to NaN."""
    rows = day(2500)
    server.reset([*rows, *[(at, exchange, None) for at, exchange, _ in rows[::7]]])
    assert is_whole(stream_to(server).get_tick_history(PAIR, DATE), server)
