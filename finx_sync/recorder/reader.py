"""Reads recordings: all their files in order, and what of them is damaged."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from finx_sync.errors import InvalidInputError, RecordingError
from finx_sync.recorder.format import MARK, VERSION, Record, Started, blocks
from finx_sync.recorder.writer import numbered

__all__ = ["Damage", "RecordingPath", "RecordingReader"]

SUFFIX: Final = ".finxrec"

RecordingPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Damage:
    """Bytes of a file that are no sound block.

    Attributes:
        path: which file.
        offset, length: where, and how many.
        at_end: whether the file ends with it, as after a crash.
    """

    path: Path
    offset: int
    length: int
    at_end: bool

    def __str__(self) -> str:
        where = (
            "at its end (the recorder was killed, or the disk was full)" if self.at_end else f"from {self.offset} on"
        )
        return f"{self.path.name}: {self.length} bytes are damaged {where}"


class RecordingReader:
    """The records of one recording, or of several.

    Args:
        path: a file with those that follow it by number; a folder with all of its recordings; or a list of files.

    Raises:
        InvalidInputError: there is none.

    Attributes:
        paths: the files, in order.
        damage: what was met so far.
    """

    def __init__(self, path: RecordingPath | Sequence[RecordingPath]) -> None:
        self.paths = _files(path)
        self.damage: list[Damage] = []
        if not self.paths:
            raise InvalidInputError(f"there is no recording at {path!s}")

    @property
    def venue(self) -> str:
        """Whose feed it is."""
        return next((record.venue for record in self._read(self.paths[0]) if isinstance(record, Started)), "")

    def require(self, venue: str) -> None:
        """Check that the recording is of a venue.

        Raises:
            RecordingError: it is another's, or none.
        """
        if (found := self.venue) != venue:
            raise RecordingError(
                f"the recording is of {found or 'nothing'}; play it to a stream of that venue, not {venue}"
            )

    def __iter__(self) -> Iterator[Record]:
        self.damage.clear()
        for path in self.paths:
            yield from self._read(path)

    def _read(self, path: Path) -> Iterator[Record]:
        with path.open("rb") as file:
            length = file.seek(0, os.SEEK_END)
            if not length:
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                if data[: len(MARK)] != MARK:
                    raise RecordingError(f"{path} is no recording of finx_sync")
                yield from self._records(path, data, length)

    def _records(self, path: Path, data: mmap.mmap, length: int) -> Iterator[Record]:
        with memoryview(data) as view:
            found = blocks(view)
            try:
                for one in found:
                    if one.records is None:
                        self.damage.append(Damage(path, one.offset, one.skipped, one.offset + one.skipped == length))
                        continue
                    for record in one.records:
                        if isinstance(record, Started) and record.version > VERSION:
                            raise RecordingError(f"{path} was written by a newer finx_sync; update this one")
                        yield record
            except msgspec.MsgspecError as error:
                raise RecordingError(f"{path} was written by another version of finx_sync: {error}") from error
            finally:
                found.close()  # type: ignore[attr-defined]  # it holds views of the file


def _files(path: RecordingPath | Sequence[RecordingPath]) -> list[Path]:
    if not isinstance(path, (str, os.PathLike)):
        return [Path(one) for one in path]
    base = Path(path)
    if base.is_dir():
        return sorted(base.glob(f"*{SUFFIX}"), key=_begin)
    files = [base] if base.exists() else []
    part = 1
    while files and numbered(base, part).exists():
        files.append(numbered(base, part))
        part += 1
    return files


def _begin(path: Path) -> tuple[float, str]:
    """When a file begins."""
    with path.open("rb") as file:
        head = file.read(1024 * 1024)
    for one in blocks(head):
        for record in one.records or ():
            if isinstance(record, Started):
                return record.at, path.name
    return 0.0, path.name
