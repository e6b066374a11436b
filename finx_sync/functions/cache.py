"""Past days on disk: whole days that are proven complete, and parts of days from interrupted calls.

A day that has ended does not change, so it is fetched once. Earlier versions of this library took an answer without
rows as proof; days that they wrote are fetched again.

A file holds a line of text, a line of JSON, and the columns. It is written under another name and renamed in one step,
and its content is checked when it is read: a day whose file is torn or altered is fetched again.
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
"""Ignored, because they were written when less counted as proof."""
ROW_BYTES: Final = 18


class DayCache:
    """The days of one pair from one server, in a folder. Safe for any thread and any number of processes.

    Args:
        folder: created when the first day is written.
        host: the server.
        pair: like "BTC:USD"; capital letters make no difference.
    """

    def __init__(self, folder: str | os.PathLike[str], host: str, pair: str) -> None:
        self._folder = Path(folder) / _safe(host) / _safe(pair.upper())
        self._about = {"host": host, "pair": pair.upper(), "byteorder": sys.byteorder}

    def read(self, date: str, names: ExchangeNames) -> tuple[Columns, str] | None:
        """Return a day's rows, and the pair as the server writes it; None if the cache has no sound file."""
        found = self._load(self._path(date), date, names)
        return None if found is None else (found[1], str(found[0]["spelling"]))

    def write(self, date: str, columns: Columns, spelling: str) -> None:
        """Keep a whole day. If the folder cannot be written to, this only warns: the caller has the rows."""
        if self._store(self._path(date), date, columns, spelling=spelling):
            with suppress(OSError):
                self._path(date, "partial").unlink(missing_ok=True)

    def read_part(self, date: str, names: ExchangeNames) -> list[Saved]:
        """Return the parts of a day that an interrupted call had fetched; empty if there are none."""
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
        """Keep the parts of a day that were fetched."""
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
            raise ValueError("it is not the file of a day")
        end = content.index(b"\n", len(MAGIC))
        about: dict[str, Any] = json.loads(content[len(MAGIC) : end])
        body = memoryview(content)[end + 1 :]
        count = int(about["rows"])
        if about != {**about, **self._about, "date": date} or len(body) != count * ROW_BYTES:
            raise ValueError("it is of another day, or was not written completely")
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
        """Write a file; return whether that succeeded."""
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
