"""Servers that err at random: a history never has less than the truth while it says that it is complete."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finx_sync import StreamManager
from finx_sync.errors import FinxSyncError
from finx_sync.functions import fetch
from finx_sync.session.backoff import Backoff
from tests.functions.erring import DATE, DAY_MS, PAIR, ErringServer, Row, day_of, rows_of

TIMEOUT = 20.0

rows = st.lists(
    st.tuples(
        st.one_of(st.sampled_from([0, 1, 5, 43_200_000, DAY_MS - 1]), st.integers(0, DAY_MS - 1)),
        st.sampled_from(["COINBASE", "FTX"]),
        st.sampled_from([1.0, 2.0, None]),
    ),
    max_size=25,
)
servers = st.fixed_dictionaries(
    {
        "rows": rows,
        "size": st.sampled_from([2, 3, 7, 1000]),
        "seed": st.integers(0, 2**32),
        "share": st.sampled_from([0.1, 0.3, 0.6]),
    }
)
some = settings(
    max_examples=settings.default.max_examples // 4,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def server() -> Iterator[ErringServer]:
    """One for all examples, which errs in another way in each."""
    with ErringServer() as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No long waits for what does not come."""
    monkeypatch.setattr(fetch, "RETRY", Backoff(first=0.001, cap=0.004))
    monkeypatch.setattr(fetch, "PAGE_TIMEOUT", 0.5)


def stream_to(server: ErringServer) -> StreamManager:
    return StreamManager("sandbox-key", url=server.url)


def lacks(truth: list[Row], history: Any) -> Counter[Row]:
    """What a history should have and has not."""
    return Counter(truth) - rows_of(history)


def fetched(stream: StreamManager, *args: Any, **options: Any) -> Any:
    """A history; where the call fails, what the error has of it."""
    try:
        return stream.get_tick_history(PAIR, DATE, *args, timeout=TIMEOUT, **options)
    except FinxSyncError as error:
        assert not error.history.complete  # noqa: PT017  # most calls do not fail
        return error.history


@pytest.mark.timeout(3600)
@some
@given(errors=servers, workers=st.sampled_from([1, 2, 8]))
def test_a_history_is_complete_or_says_so(server: ErringServer, errors: dict[str, Any], workers: int) -> None:
    """A backtest would run on a day with holes that is called complete."""
    server.begin(**errors)
    history = fetched(stream_to(server), workers=workers)
    assert not (history.complete and lacks(server.rows, history))
    assert [tick.datetime for tick in history] == sorted(tick.datetime for tick in history)


@pytest.mark.timeout(3600)
@some
@given(
    errors=servers,
    first=st.one_of(st.sampled_from([0, 300]), st.integers(0, DAY_MS // 60_000 - 2)),
    length=st.one_of(st.just(1000), st.integers(1, 1440)),
)
def test_so_is_a_part_of_a_day(server: ErringServer, errors: dict[str, Any], first: int, length: int) -> None:
    """A stretch that is empty by an error would pass for a quiet one."""
    server.begin(**errors)
    last = min(first + length, 1439)
    times = [f"{minute // 60:02d}:{minute % 60:02d}" for minute in (first, last)]
    history = fetched(stream_to(server), times[0], end=times[1])
    wanted = [row for row in server.rows if first * 60_000 + (first > 0) <= row[0] <= last * 60_000]
    assert not (history.complete and lacks([row for row in wanted if row[0] > first * 60_000], history))


@pytest.mark.timeout(3600)
@some
@given(errors=servers, limit=st.integers(1, 20), every=st.sampled_from([None, "1h"]))
def test_so_are_samples_and_beginnings(
    server: ErringServer, errors: dict[str, Any], limit: int, every: str | None
) -> None:
    """The first rows, or the first of each hour, would be others than they are."""
    server.begin(**errors)
    truth = server.rows
    if every is not None:
        hours = [row[0] // 3_600_000 for row in truth]
        truth = [row for place, row in enumerate(truth) if hours.index(hours[place]) == place]
        history = fetched(stream_to(server), every=every)
        assert not history.complete or [row[0] for row in truth] == [row[0] for row in sorted(rows_of(history))]
    else:
        history = fetched(stream_to(server), limit=limit)
        wanted = sorted(row[0] for row in truth)[:limit]
        assert not history.complete or sorted(row[0] for row in rows_of(history).elements()) == wanted


@pytest.mark.timeout(3600)
@some
@given(errors=servers)
def test_iterating_strictly_misses_nothing(server: ErringServer, errors: dict[str, Any]) -> None:
    """A loop over ticks would go past a hole."""
    server.begin(**errors)
    seen: list[Any] = []
    try:
        seen += stream_to(server).iter_tick_history(PAIR, DATE, strict=True, timeout=TIMEOUT)
    except FinxSyncError:
        return
    assert not lacks(server.rows, seen)


@pytest.mark.timeout(3600)
@some
@given(errors=servers, iterating=st.booleans())
def test_a_cache_keeps_nothing_that_is_wrong(server: ErringServer, errors: dict[str, Any], iterating: bool) -> None:
    """An error of one minute would be kept for good."""
    server.begin(**errors)
    with tempfile.TemporaryDirectory() as folder:
        stream = stream_to(server)
        if iterating:
            try:
                list(stream.iter_tick_history(PAIR, DATE, cache=folder, timeout=TIMEOUT))
            except FinxSyncError:
                pass
        else:
            fetched(stream, cache=folder)
        server.reset(server.rows)
        history = fetched(stream, cache=Path(folder))
    assert not lacks(server.rows, history)


@pytest.mark.timeout(3600)
@some
@given(errors=servers)
def test_a_gap_is_filled_or_told(server: ErringServer, errors: dict[str, Any]) -> None:
    """A gap in a live stream would be called filled after half of its rows."""
    server.begin(**errors)
    history = stream_to(server)._history()
    assert history is not None
    begin = day_of(DATE).timestamp()
    try:
        found = history.fetch(PAIR, begin, begin + 86_399.999, TIMEOUT)
    except FinxSyncError:
        return
    if found.missing is None:
        prices = Counter(tick.price for tick in found.rows)
        assert not Counter(price for _, _, price in server.rows) - prices
