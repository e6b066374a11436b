"""A short run of faults for every other venue, and what the comparison must notice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import msgspec
import pytest

from finx_sync.sandbox import Sandbox
from tests.chaos.venues import TRIALS, BitmexTrial, FtxTrial, Trial, run
from tests.tables import agrees
from tests.waiting import wait_until


@pytest.mark.long
@pytest.mark.timeout(180)
@pytest.mark.parametrize("venue", TRIALS)
def test_every_venue_survives_every_kind_of_fault(venue: str) -> None:
    """A bot would go on with a table, a book or a price that is not the server's, or book a fill twice."""
    outcome = run(venue, each=1, seed=20, seconds=3)
    assert not outcome.faults, outcome.table()
    assert outcome.compared > 50


# What the comparison must notice


@contextmanager
def running(venue: str) -> Iterator[Trial]:
    """A venue's stream that nothing happens to."""
    with Sandbox(**TRIALS[venue].sandbox_options) as sandbox:
        trial = TRIALS[venue](sandbox, sandbox.url)
        trial.patience = 0.3
        with trial.stream:
            assert trial.everything_flows()
            yield trial


def test_a_row_that_is_not_the_servers_is_noticed() -> None:
    """A run would call a wrong table well."""
    with running("bitmex") as trial:
        trial.sandbox.controls("bitmex").pause()
        storage = cast(BitmexTrial, trial).stream.storage
        assert wait_until(lambda: not trial.compare())
        trial.sandbox.controls("bitmex").pause()
        assert wait_until(lambda: agrees(cast(BitmexTrial, trial).stream, trial.sandbox, "quote"))
        storage.data["margin"][0]["walletBalance"] += 1
        assert trial.compare() == ["the table margin is not the server's"]


def test_a_level_that_is_not_the_servers_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run would call a wrong order book well."""
    with running("ftx") as trial:
        stream = cast(FtxTrial, trial).stream
        assert not trial.compare()
        right = stream.order_book

        def wrong(market: str) -> Any:
            book = right(market)
            assert book is not None
            return msgspec.structs.replace(book, bids=book.bids[1:]) if market == "BTC-PERP" else book

        monkeypatch.setattr(stream, "order_book", wrong)
        assert trial.compare() == ["the book of BTC-PERP is not the server's"]


def test_a_fill_that_was_handled_twice_is_noticed() -> None:
    """A run would not see a position counted twice."""
    with running("ftx") as trial:
        fills = cast(FtxTrial, trial).fills
        trial.trade(1)
        assert wait_until(lambda: fills)
        fills.append(fills[0])
        assert any("fills were handled" in fault for fault in trial.compare_end())


@pytest.mark.parametrize("venue", ["deribit", "ime"])
def test_what_comes_too_late_is_noticed(venue: str) -> None:
    """A run would not see an old price behind a new one."""
    with running(venue) as trial:
        old = next(one for one in trial.stream.take(10, timeout=10) if ":" not in one.name)
        assert trial.everything_flows()
        assert trial.everything_flows()
        assert not trial.faults
        cast(Any, trial).contract(old)
        assert trial.faults == [f"{old.name} went back in time"]


def test_a_price_that_the_market_never_had_is_noticed() -> None:
    """A run would not see a number that was read wrongly."""
    with running("deribit") as trial:
        tick = next(one for one in trial.stream.take(100, timeout=10) if ":" not in one.name)
        cast(Any, trial).contract(msgspec.structs.replace(tick, mark_price=-1.0))
        assert "the market never had" in trial.faults[0]
