"""Whole past days on disk. A day that has ended does not change, so it is asked for once.

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
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from finx_sync.ticks.columns import Columns, ExchangeNames

__all__ = ["DayCache"]

logger = logging.getLogger("finx_sync")

MAGIC: Final = b"finx-sync ticks of a day, 1\n"
ROW_BYTES: Final = 18


class DayCache:
    """Days of one pair of one server in a folder. Any thread, any number of processes.

    Args:
        folder: made when the first day is written.
        host: which server.
        pair: like "BTC:USD".
    """

    def __init__(self, folder: str | os.PathLike[str], host: str, pair: str) -> None:
        self._folder = Path(folder) / _safe(host) / _safe(pair)
        self._about = {"host": host, "pair": pair, "byteorder": sys.byteorder}

    def read(self, date: str, names: ExchangeNames) -> Columns | None:
        """A day's rows; None where there are none, or none that can be trusted."""
        path = self._path(date)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        try:
            return self._parse(content, date, names)
        except (ValueError, LookupError, TypeError) as error:
            logger.warning("the cached day %s is damaged and will be fetched again: %s", path, error)
            return None

    def _parse(self, content: bytes, date: str, names: ExchangeNames) -> Columns:
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
        return columns

    def write(self, date: str, columns: Columns) -> None:
        """Keep a day. A folder that cannot be written to is a warning, not an error: the rows are there."""
        about = {
            **self._about,
            "date": date,
            "rows": len(columns),
            "exchanges": list(columns.names),
            "sha256": "",
        }
        body = columns.stamps.tobytes() + columns.prices.tobytes() + columns.codes.tobytes()
        about["sha256"] = _digest(about, memoryview(body))
        path = self._path(date)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_atomically(path, MAGIC + json.dumps(about).encode() + b"\n" + body)
        except OSError as error:
            logger.warning("the day could not be cached: %s", error)

    def _path(self, date: str) -> Path:
        return self._folder / f"{date}.ticks"


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
