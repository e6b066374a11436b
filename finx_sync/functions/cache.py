"""Past days on disk: whole ones, proven complete, and what a call had of a day when it was interrupted.

A day that has ended does not change, so it is asked for once. Earlier versions of this library took an answer without
rows for a proof; what they wrote is fetched again.

A file holds a line of text, a line of JSON, and the columns. It is written beside its place and moved there in one
step, and its content is checked when it is read: a torn or altered file is fetched again, never believed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from finx_sync.functions.day import Saved
from finx_sync.ticks.columns import Columns, ExchangeNames

__all__ = ["DayCache"]

logger = logging.getLogger("finx_sync")

MAGIC: Final = b"finx-sync ticks of a day, 2\n"
FORMER: Final = b"finx-sync ticks of a day, 1\n"
"""Not believed: written when less counted as a proof."""
ROW_BYTES: Final = 18


class DayCache:
    """Days of one pair of one server in a folder. Any thread, any number of processes.

    Args:
        folder: made when the first day is written.
        host: which server.
        pair: like "BTC:USD"; capital letters make no difference.
    """

    def __init__(self, folder: str | os.PathLike[str], host: str, pair: str) -> None:
        self._folder = Path(folder) / _safe(host) / _safe(pair.upper())
        self._about = {"host": host, "pair": pair.upper(), "byteorder": sys.byteorder}

    def read(self, date: str, names: ExchangeNames) -> tuple[Columns, str] | None:
        """A day's rows, and the pair as the server writes it; None where there are none that can be trusted."""
        found = self._load(self._path(date), date, names)
        return None if found is None else (found[1], str(found[0]["spelling"]))

    def write(self, date: str, columns: Columns, spelling: str) -> None:
        """Keep a whole day. A folder that cannot be written to is a warning, not an error: the rows are there."""
        if self._store(self._path(date), date, columns, spelling=spelling):
            with suppress(OSError):
                self._path(date, "partial").unlink(missing_ok=True)

    def read_part(self, date: str, names: ExchangeNames) -> list[Saved]:
        """What an interrupted call had of a day; empty where there is nothing."""
        found = self._load(self._path(date, "partial"), date, names)
        if found is None:
            return []
        about, columns = found
        saved: list[Saved] = []
        place = 0
        for number, first, last, count in about["pieces"]:
            saved.append((number, first, last, columns.part(place, place + count)))
            place += count
        return saved

    def write_part(self, date: str, saved: Sequence[Saved], names: ExchangeNames) -> None:
        """Keep what there is of a day."""
        columns = Columns(names)
        for *_, rows in saved:
            columns.extend(rows)
        pieces = [[number, first, last, len(rows)] for number, first, last, rows in saved]
        self._store(self._path(date, "partial"), date, columns, pieces=pieces)

    def _load(self, path: Path, date: str, names: ExchangeNames) -> tuple[dict[str, Any], Columns] | None:
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if content.startswith(FORMER):
            logger.info("the cached day %s was written by an earlier version and will be fetched again", path)
            return None
        try:
            return self._parse(content, date, names)
        except (ValueError, LookupError, TypeError) as error:
            logger.warning("the cached day %s is damaged and will be fetched again: %s", path, error)
            return None

    def _parse(self, content: bytes, date: str, names: ExchangeNames) -> tuple[dict[str, Any], Columns]:
        if not content.startswith(MAGIC):
            raise ValueError("not a day's file")
        end = content.index(b"\n", len(MAGIC))
        about: dict[str, Any] = json.loads(content[len(MAGIC) : end])
        body = memoryview(content)[end + 1 :]
        count = int(about["rows"])
        if about != {**about, **self._about, "date": date} or len(body) != count * ROW_BYTES:
            raise ValueError("it is another day's, or was not written to its end")
        if about["sha256"] != _digest({**about, "sha256": ""}, body):
            raise ValueError("its checksum does not match")
        columns = Columns(names)
        columns.stamps.frombytes(body[: 8 * count])
        columns.prices.frombytes(body[8 * count : 16 * count])
        columns.codes.frombytes(body[16 * count :])
        ours = [names[name] for name in about["exchanges"]]
        columns.codes = type(columns.codes)("H", [ours[code] for code in columns.codes])
        return about, columns

    def _store(self, path: Path, date: str, columns: Columns, **more: Any) -> bool:
        """Write a file; returns whether that succeeded."""
        about = {
            **self._about,
            **more,
            "date": date,
            "rows": len(columns),
            "exchanges": list(columns.names),
            "sha256": "",
        }
        body = columns.stamps.tobytes() + columns.prices.tobytes() + columns.codes.tobytes()
        about["sha256"] = _digest(about, memoryview(body))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_atomically(path, MAGIC + json.dumps(about).encode() + b"\n" + body)
        except OSError as error:
            logger.warning("the day could not be cached: %s", error)
            return False
        return True

    def _path(self, date: str, kind: str = "ticks") -> Path:
        return self._folder / f"{date}.{kind}"


def _write_atomically(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=path.name, suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _digest(about: dict[str, Any], body: memoryview) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    digest.update(body)
    return digest.hexdigest()


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "_", name)
