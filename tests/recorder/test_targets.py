"""The targets of conversions: unlikely ones are refused, and the tables written can be queried."""

from __future__ import annotations

from pathlib import Path

import pytest

from finx_sync import StreamManager
from finx_sync.errors import InvalidInputError
from finx_sync.recorder.writer import Recording
from finx_sync.sandbox import Sandbox


def player() -> StreamManager:
    """A stream that is never started."""
    return StreamManager(environment="sandbox")


@pytest.fixture
def path(sandbox: Sandbox, tmp_path: Path) -> Path:
    """Return a recording that has at least one message."""
    stream = StreamManager("sandbox-key", url=sandbox.url)
    stream.subscribe_spot("BTC:USDC")
    with stream.record(tmp_path / "feed.finxrec") as recording:
        assert isinstance(recording, Recording)
        with stream:
            stream.take(3, "BTC:USDC", timeout=20)
    return tmp_path / "feed.finxrec"


@pytest.mark.parametrize("name", ["x.csv", "X.CSV", "ticks.parquet", "rows.jsonl", "book.xlsx", "feed.sqlite"])
def test_a_file_of_another_kind_is_refused(path: Path, name: str) -> None:
    """The target x.csv would become a folder of that name, with Parquet files in it."""
    with pytest.raises(InvalidInputError, match=r"a name ending with \.duckdb"):
        player().convert(path, path.parent / name)
    assert not (path.parent / name).exists()


def test_what_is_there_and_is_something_else_is_refused(path: Path) -> None:
    """If the target is a file that is no database, the user would see an error of the system's or of DuckDB's."""
    for name in ("notes", "notes.duckdb"):
        (path.parent / name).write_text("mine" * 2000)
        with pytest.raises(InvalidInputError):
            player().convert(path, path.parent / name)
        assert (path.parent / name).read_text() == "mine" * 2000


@pytest.mark.parametrize("name", ["tables", "2022.06", "x.csv/", "deep/er/tables", "there.parquet"])
def test_a_folder_of_any_name_is_taken(path: Path, name: str) -> None:
    """A folder that is deliberately named like a file could not be used."""
    (path.parent / "there.parquet").mkdir()
    done = player().convert(path, f"{path.parent}/{name}")
    assert {file.stem for file in (path.parent / name).iterdir()} == set(done.rows)


@pytest.mark.parametrize("name", ["feed.duckdb", "feed.DuckDB", "feed.db"])
def test_every_column_of_ours_can_be_asked_for(path: Path, name: str) -> None:
    """A query would fail at a column whose name is a reserved word of SQL, or times could not be fetched."""
    import duckdb

    done = player().convert(path, path.parent / name)
    with duckdb.connect(str(path.parent / name)) as database:
        for table, count in done.rows.items():
            for (column,) in database.sql(f"select column_name from (describe {table})").fetchall():  # noqa: S608
                assert len(database.sql(f"select {column} from {table}").fetchall()) == count  # noqa: S608
        events = database.sql("select event, happened_at from events order by happened_at").fetchall()
    assert "open" in [event for event, _ in events]
    assert all(at.tzinfo is not None for _, at in events)
