"""Histories over real sockets: complete, in time, and with nothing left running."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import finx_sync
from finx_sync import StreamManager, TickHistory
from finx_sync.errors import (
    AuthorizationError,
    ConnectError,
    FunctionTimeoutError,
    IncompleteHistoryError,
    InvalidInputError,
    ServerRefusedError,
)
from finx_sync.functions.exchange import exchange
from finx_sync.functions.fetch import Progress
from finx_sync.functions.progress import ProgressBar
from finx_sync.sandbox import Sandbox
from finx_sync.testing import Corrupt, Cut, Delay, FaultProxy
from tests.scripted import ScriptedServer

PAIR, DATE = "BTC:USD", "2022-06-15"
DAY_MS = 86_400_000
EXCHANGES = ("COINBASE", "GEMINI", "FTX")
FORMS = ["query", "segment", "message"]


def manager(url: str, **options: Any) -> StreamManager:
    """A manager of a test's own server."""
    return StreamManager("sandbox-key", url=url, **options)


def rows_of(table: list[dict[str, str]]) -> Counter[tuple[str, str, str, float]]:
    """The sandbox's own table, as a multiset."""
    return Counter((row["date"], row["time"], row["exchange"], float(row["price"])) for row in table)


def ticks_of(history: Any) -> Counter[tuple[str, str, str | None, float | None]]:
    """What came, likewise."""
    return Counter((tick.date, tick.time, tick.exchange, tick.price) for tick in history)


def busy_day(count: int, seed: int = 1, burst: int = 2000) -> list[tuple[int, str, float]]:
    """Ticks of a day; 2000 of them within 20 ms, some repeated exactly."""
    chance = random.Random(seed)
    rows = [(chance.randrange(DAY_MS), chance.choice(EXCHANGES), float(chance.randrange(50))) for _ in range(count)]
    rows += [(43_200_000 + place % 20, EXCHANGES[place % 3], float(place // 60)) for place in range(burst)]
    return rows + rows[:: max(1, count // 100)]


@pytest.mark.parametrize("form", FORMS)
def test_a_day_is_complete(sandbox: Sandbox, form: Any) -> None:
    """Rows would be lost, doubled or changed on their way."""
    sandbox.controls("finx").set_history(PAIR, DATE, busy_day(6000))
    history = manager(sandbox.url, request_form=form).get_tick_history(PAIR, dt.date(2022, 6, 15))
    assert ticks_of(history) == rows_of(sandbox.controls("finx").history_table(PAIR, DATE))
    assert history.complete
    assert [tick.datetime for tick in history] == sorted(tick.datetime for tick in history)


@pytest.mark.parametrize("count", [0, 1, 1000, 2000])
def test_days_that_end_with_a_page(sandbox: Sandbox, count: int) -> None:
    """An exact multiple of a page would lose its last row, or never end."""
    sandbox.controls("finx").set_history(PAIR, DATE, [(place * 30_000 + 5, "FTX", 1.0) for place in range(count)])
    history = manager(sandbox.url).get_tick_history(PAIR, DATE)
    assert len(history) == count
    assert history.complete


def test_a_span_of_days_in_parts_has_every_tick_once(sandbox: Sandbox) -> None:
    """Ticks at the seams would be lost or doubled."""
    stream = manager(sandbox.url)
    for day in (14, 15, 16):
        sandbox.controls("finx").set_history(PAIR, f"2022-06-{day}", busy_day(1500, day, burst=0))
    whole = rows_of(
        [row for day in (14, 15, 16) for row in sandbox.controls("finx").history_table(PAIR, f"2022-06-{day}")]
    )
    assert ticks_of(stream.get_tick_history(PAIR, "2022-06-14", end="2022-06-16")) == whole
    halves = [
        stream.get_tick_history(PAIR, "2022-06-14", end="2022-06-15T12:00"),
        stream.get_tick_history(PAIR, "2022-06-15", "12:00", end=dt.datetime(2022, 6, 16, 23, 59, 59, 999000)),
    ]
    assert ticks_of(halves[0]) + ticks_of(halves[1]) == whole
    morning = stream.get_tick_history(PAIR, "2022-06-15", "06:00", end="12:00")
    assert morning == halves[0].between(dt.datetime(2022, 6, 15, 6, 0, 0, 1000))


def test_limit_every_and_exchange(sandbox: Sandbox) -> None:
    """What FinX announces for later would not be there."""
    stream = manager(sandbox.url)
    sandbox.controls("finx").set_history(PAIR, DATE, busy_day(4000, burst=0))
    whole = stream.get_tick_history(PAIR, DATE)
    assert stream.get_tick_history(PAIR, DATE, limit=1500) == whole[:1500]
    assert stream.get_tick_history(PAIR, DATE, "12:00", limit=10) == whole["12:00:00.001":][:10]  # type: ignore[misc]
    hours = stream.get_tick_history(PAIR, DATE, every="1h")
    assert [tick.datetime.hour for tick in hours] == list(range(24))
    assert all(whole.between(tick.datetime.replace(minute=0, second=0, microsecond=0))[0] == tick for tick in hours)
    mine = [tick for tick in whole if tick.exchange == "FTX"]
    assert stream.get_tick_history(PAIR, DATE, exchange="FTX") == mine
    assert stream.get_tick_history(PAIR, DATE, exchange="FTX", limit=700) == mine[:700]


def test_a_page_is_still_to_be_had(sandbox: Sandbox) -> None:
    """A program that pages by itself could not go on."""
    table = sandbox.controls("finx").history_table(PAIR, DATE)[:1000]
    rows = manager(sandbox.url).get_tick_history_page(PAIR, DATE)
    assert ticks_of(rows) == rows_of(table)


def test_iterating_gives_the_same(sandbox: Sandbox) -> None:
    """A span too large for memory would come otherwise than a small one."""
    stream = manager(sandbox.url)
    sandbox.controls("finx").set_history(PAIR, DATE, busy_day(3000))
    whole = stream.get_tick_history(PAIR, DATE)
    assert list(stream.iter_tick_history(PAIR, DATE)) == list(whole)
    assert list(stream.iter_tick_history(PAIR, DATE, limit=2500)) == list(whole[:2500])
    assert list(stream.iter_tick_history(PAIR, DATE, every="7min")) == list(
        stream.get_tick_history(PAIR, DATE, every="7min")
    )
    some = stream.iter_tick_history(PAIR, DATE)
    assert next(some) == whole[0]
    some.close()  # type: ignore[attr-defined]
    with pytest.raises(InvalidInputError):
        stream.iter_tick_history(PAIR, "yesterday")  # at the call, not at the first tick


def test_without_a_manager(sandbox: Sandbox) -> None:
    """A script would have to make a manager."""
    where = {"api_key": "sandbox-key", "url": sandbox.url}
    history = finx_sync.get_tick_history(PAIR, DATE, "12:00", end="13:00", **where)
    assert isinstance(history, TickHistory)
    assert list(finx_sync.iter_tick_history(PAIR, DATE, "12:00", end="13:00", **where)) == list(history)


def test_connections_that_are_cut_cost_nothing_but_time(sandbox: Sandbox) -> None:
    """One cut connection of many would lose a day's work."""
    sandbox.controls("finx").set_history(PAIR, DATE, busy_day(12_000))
    with FaultProxy(sandbox.url) as proxy:
        for _ in range(12):
            proxy.arm(Delay(0.001), times=3)
            proxy.arm(Cut())
        reports: list[Progress] = []
        history = manager(proxy.url).get_tick_history(PAIR, DATE, progress=reports.append)
    assert ticks_of(history) == rows_of(sandbox.controls("finx").history_table(PAIR, DATE))
    assert history.complete
    assert reports[-1].retries > 0
    assert reports[-1].fraction == 1.0


def test_damaged_pages_are_fetched_again(sandbox: Sandbox) -> None:
    """Garbage on the line would end the fetch."""
    sandbox.controls("finx").set_history(PAIR, DATE, busy_day(3000))
    with FaultProxy(sandbox.url) as proxy:
        for _ in range(3):
            proxy.arm(Delay(0.001), times=1)
            proxy.arm(Corrupt("json"))
        history = manager(proxy.url).get_tick_history(PAIR, DATE)
    assert ticks_of(history) == rows_of(sandbox.controls("finx").history_table(PAIR, DATE))


def test_several_at_once_are_faster(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day would take as long as its pages one after the other."""
    lock, running, most = threading.Lock(), 0, 0

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        try:
            return exchange(*args, **options)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr("finx_sync.functions.backend.exchange", counted)
    sandbox.controls("finx").set_history(PAIR, DATE, busy_day(8_000, burst=0))
    with FaultProxy(sandbox.url) as proxy:
        proxy.arm(Delay(0.05, "to_client"), times=None)
        for workers, least in ((1, 1), (8, 4)):
            most = 0
            assert len(manager(proxy.url).get_tick_history(PAIR, DATE, workers=workers)) > 8_000
            assert least <= most <= workers


def test_a_server_that_keeps_rows_back_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """A history with holes would call itself complete."""
    rows = sorted(busy_day(5000, burst=0))

    def script(connection: Any) -> None:
        query = connection.request.path
        if "tickSnap" in query:
            connection.send('{"error": "not today"}')
            return
        after = -1
        if "time=" in query:
            clock = query.partition("time=")[2].partition("&")[0].replace("%3A", ":")
            moment = dt.time.fromisoformat(clock)
            after = ((moment.hour * 60 + moment.minute) * 60 + moment.second) * 1000 + moment.microsecond // 1000
        newest = [row for row in rows if row[0] > after][-1000:]
        page = {
            str(place): {
                "pair": PAIR,
                "date": DATE,
                "time": f"{dt.datetime(2022, 6, 15) + dt.timedelta(milliseconds=at):%H:%M:%S.%f}"[:-3] + "Z",
                "exchange": exchange,
                "price": str(price),
            }
            for place, (at, exchange, price) in enumerate(newest)
        }
        connection.send(json.dumps(page))

    with ScriptedServer(script) as server:
        stream = manager(server.url)
        history = stream.get_tick_history(PAIR, DATE)
        assert not history.complete
        assert history.unproven[0].start == dt.datetime(2022, 6, 15, tzinfo=dt.timezone.utc)
        assert "NOT PROVEN COMPLETE" in repr(history)
        with pytest.raises(IncompleteHistoryError, match="not proven complete") as caught:
            stream.get_tick_history(PAIR, DATE, strict=True)
        assert caught.value.history == history
        list(stream.iter_tick_history(PAIR, DATE, "23:00"))


def test_a_refused_key_is_not_tried_again(sandbox: Sandbox) -> None:
    """A wrong key would be shown to the server eight times, from eight connections."""
    with pytest.raises((AuthorizationError, ServerRefusedError)) as caught:
        StreamManager("wrong-key", url=sandbox.url).get_tick_history(PAIR, DATE)
    assert "wrong-key" not in str(caught.value)
    with pytest.raises(ServerRefusedError):
        manager(sandbox.url).get_tick_history("NO:SUCH", DATE)


def test_nobody_there_is_told_soon() -> None:
    """A wrong address would be tried for minutes."""
    with pytest.raises(ConnectError):
        manager("ws://127.0.0.1:1").get_tick_history(PAIR, DATE)


def test_the_timeout_covers_everything_and_leaves_nothing() -> None:
    """A silent server would hang the program, or leave threads behind."""
    with ScriptedServer() as server, pytest.raises(FunctionTimeoutError, match="not complete within"):
        manager(server.url).get_tick_history(PAIR, DATE, end="2022-06-20", timeout=0.3)
    assert not [thread for thread in threading.enumerate() if "history" in thread.name]


def test_a_progress_function_that_raises_ends_everything(sandbox: Sandbox) -> None:
    """The fetch would go on behind the user's back."""

    def stop(progress: Progress) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        manager(sandbox.url).get_tick_history(PAIR, DATE, progress=stop)
    assert not [thread for thread in threading.enumerate() if "history" in thread.name]
    manager(sandbox.url).get_tick_snap(PAIR)  # the sandbox has noticed by then that the others are gone


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_ends_it_at_once() -> None:
    """A fetch of a month could only be killed."""
    program = """
        import sys, threading
        from finx_sync import StreamManager
        try:
            StreamManager("sandbox-key", url=sys.argv[1]).get_tick_history(
                "BTC:USD", "2022-06-15", end="2022-06-30", progress=lambda p: print("going", flush=True))
        except KeyboardInterrupt:
            left = [t.name for t in threading.enumerate() if "history" in t.name]
            print("interrupted", left, flush=True)
    """
    with ScriptedServer() as server:
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), server.url], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "going\n"
        child.send_signal(signal.SIGINT)
        rest, _ = child.communicate(timeout=20)
        assert rest.splitlines()[-1] == "interrupted []"


def test_past_days_are_kept(sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A month would be fetched again at each run; or a damaged file be believed."""
    stream, cache = manager(sandbox.url), tmp_path / "cache"
    sandbox.controls("finx").set_history(PAIR, DATE, busy_day(1500, burst=0))
    first = stream.get_tick_history(PAIR, DATE, cache=cache)
    asked = len(sandbox.requests)
    assert stream.get_tick_history(PAIR, DATE, cache=cache) == first
    assert (
        stream.get_tick_history(PAIR, DATE, "12:00", end="13:00", cache=cache) == first["12:00:00.001":"13:00:00.001"]
    )  # type: ignore[misc]
    assert (
        stream.get_tick_history(PAIR, DATE, limit=7, exchange="FTX", cache=cache)
        == [tick for tick in first if tick.exchange == "FTX"][:7]
    )
    assert list(stream.iter_tick_history(PAIR, DATE, cache=cache)) == list(first)
    assert len(sandbox.requests) == asked
    (file,) = cache.rglob("*.ticks")
    assert "sandbox-key" not in file.read_bytes().decode("latin-1")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING, "finx_sync"):
        assert stream.get_tick_history(PAIR, DATE, cache=cache) == first
    assert "checksum" in caplog.text
    for damaged in (b"", b"something else", file.read_bytes()[:-9]):
        file.write_bytes(damaged)
        assert stream.get_tick_history(PAIR, DATE, cache=cache) == first
    today = dt.datetime.now(dt.timezone.utc).date()
    stream.get_tick_history(PAIR, today, limit=5, cache=cache)
    assert len(list(cache.rglob("*"))) == 3  # two folders and a file: today is not kept, and no part is left


@pytest.mark.parametrize("limit", [1, 30, 50, 51, 99, 100, 101, 150, 200])
def test_a_limit_counts_from_the_first_day_also_where_later_ones_are_kept(
    sandbox: Sandbox, tmp_path: Path, limit: int
) -> None:
    """The rows of a day that is in the cache would be taken for the first ones, before a day that is not."""
    stream = manager(sandbox.url)
    for day in ("2022-06-15", "2022-06-16", "2022-06-17"):
        sandbox.controls("finx").set_history(PAIR, day, busy_day(50, burst=0))
    stream.get_tick_history(PAIR, "2022-06-16", cache=tmp_path)
    history = stream.get_tick_history(PAIR, "2022-06-15", end="2022-06-17", limit=limit, cache=tmp_path)
    whole = stream.get_tick_history(PAIR, "2022-06-15", end="2022-06-17")
    assert history == whole[:limit]
    assert history.complete


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 0},
        {"limit": True},
        {"workers": 0},
        {"workers": 1000},
        {"every": "fortnight"},
        {"every": dt.timedelta(days=2)},
        {"every": "0s"},
        {"end": "2022-06-14"},
        {"end": "11:00"},
        {"end": "noon"},
        {"end": 5},
        {"exchange": ""},
        {"timeout": 0},
        {"timeout": -1},
    ],
)
def test_bad_arguments_fail_before_any_io(wrong: dict[str, Any]) -> None:
    """A typo would cost a connection, or give the wrong span."""
    with pytest.raises(InvalidInputError):
        manager("ws://127.0.0.1:1").get_tick_history(PAIR, DATE, "12:00", **wrong)


def test_the_bar_is_for_terminals_only() -> None:
    """A log file would be full of bars; a terminal would show nothing."""
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for file, seen in ((Terminal(), True), (io.StringIO(), False)):
        bar = ProgressBar(PAIR, file)
        bar(Progress(0.5, 1234, 2, 1))
        bar.end()
        assert ("1,234 ticks" in file.getvalue()) is seen
        assert bool(file.getvalue()) is seen
