"""Reads recordings: all their files in order, and reports what is damaged or missing."""

from __future__ import annotations

import logging
import mmap
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from finx_sync.errors import InvalidInputError, RecordingError
from finx_sync.recorder.damage import Damage
from finx_sync.recorder.format import MARK, VERSION, Block, BlockHeader, Record, Started, blocks
from finx_sync.recorder.joining import Joining
from finx_sync.recorder.writer import numbered

__all__ = ["Damage", "RecordingPath", "RecordingReader"]

logger = logging.getLogger("finx_sync")

SUFFIX: Final = ".finxrec"
NUMBERED: Final = re.compile(r".*\.(\d{4,})")
"""The stem of a file that is not the first one of its recording."""

RecordingPath = str | os.PathLike[str]


@dataclass(frozen=True)
class _File:
    """A file, and the contents of the header of its first readable block.

    Attributes:
        path: where it is, or should be.
        run, venue: as in `BlockHeader`; "" if unknown.
        at: when its recording began (in version 1, the file itself), UNIX seconds; None if unknown.
        part: its number in the recording.
        version: the version of the format; 0 if no block is readable.
    """

    path: Path
    run: str = ""
    venue: str = ""
    at: float | None = None
    part: int = 0
    version: int = 0


class RecordingReader:
    """Iterates over the records of one recording, or of several.

    Args:
        path: a file, which is read together with the numbered files that continue it; a folder, of which all
            recordings are read; or a list of files, in any order. A numbered file (``feed.0001.finxrec``) is read by
            itself.

    Raises:
        InvalidInputError: there is no file.
        RecordingError: no file is a recording, or a newer version wrote one.

    Attributes:
        paths: the files, in order.
        damage: the damage found so far.
    """

    def __init__(self, path: RecordingPath | Sequence[RecordingPath]) -> None:
        self.damage: list[Damage] = []
        paths, missing = _paths(path)
        if not paths:
            raise InvalidInputError(f"there is no recording at {path!s}")
        self._alone = _is_alone(path, paths)
        files = [_look_into(one) for one in paths]
        if not any(one.version for one in files):
            raise _no_recording(files)
        self._files = _with_missing(_in_order(files), missing)
        self.paths = [one.path for one in self._files if one.path not in missing]

    @property
    def venue(self) -> str:
        """The venue of the feed; "" if every header is damaged."""
        return next((one.venue for one in self._files if one.venue), "")

    def require(self, venue: str) -> None:
        """Check that all recordings are of one venue.

        Raises:
            RecordingError: a recording is of another venue.
        """
        for file in self._files:
            if file.venue not in ("", venue):
                raise RecordingError(
                    f"the recording {file.path} is of {file.venue}; replay it with a stream of that venue, not {venue}"
                )

    def __iter__(self) -> Iterator[Record | Damage]:
        """Iterate over the records, without the headers of consecutive blocks; each damage is in its place."""
        self.damage.clear()
        joining = Joining(self._blocks(), alone=self._alone)
        for item in joining:
            if isinstance(item, Damage):
                self.damage.append(item)
                logger.warning("%s", item)
                if not item.is_last:  # only one gap between two readable blocks
                    continue
            yield item

    def _blocks(self) -> Iterator[tuple[Path, Block | None]]:
        """Iterate over the blocks of all files and the damage in them; None for a missing file."""
        for file in self._files:
            if not file.path.exists():
                yield file.path, None
            else:
                for one in _blocks_of(file.path):
                    yield file.path, one


def _blocks_of(path: Path) -> Iterator[Block]:
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            yield Block(0, None, 0)
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data, memoryview(data) as view:
            found = blocks(view)
            try:
                yield from found
            except msgspec.MsgspecError as error:
                raise RecordingError(f"{path} was written by another version of finx_sync: {error}") from error
            finally:
                found.close()  # type: ignore[attr-defined]  # it holds a view of the file


def _look_into(path: Path) -> _File:
    """Read the header of a file's first readable block.

    Raises:
        RecordingError: a newer version wrote it.
    """
    found = _blocks_of(path)
    try:
        records = next((one.records for one in found if one.records), None)
    finally:
        found.close()  # type: ignore[attr-defined]
    if records is None:
        return _File(path)
    head = records[0]
    if isinstance(head, (BlockHeader, Started)) and head.version > VERSION:
        raise RecordingError(f"{path} was written by a newer finx_sync; update this one")
    if isinstance(head, BlockHeader):
        return _File(path, head.run, head.venue, head.began, head.part, head.version)
    if isinstance(head, Started):
        return _File(path, head.run, head.venue, head.at, head.part, head.version)
    return _File(path, version=1)


def _paths(path: RecordingPath | Sequence[RecordingPath]) -> tuple[list[Path], list[Path]]:
    """Return the existing files, and the missing ones, which the numbers of the others imply."""
    if not isinstance(path, (str, os.PathLike)):
        return sorted({Path(one) for one in path}, key=lambda one: (one.parent, *_by_name(one))), []
    base = Path(path)
    if base.is_dir():
        return sorted(base.glob(f"*{SUFFIX}"), key=_by_name), []
    if base.exists() and NUMBERED.fullmatch(base.stem):
        return [base], []
    numbers = {0} if base.exists() else set()
    for one in base.parent.glob(f"{_literal(base.stem)}.*{_literal(base.suffix)}"):
        found = NUMBERED.fullmatch(one.stem)
        if found is not None and numbered(base, int(found[1])) == one:
            numbers.add(int(found[1]))
    if not numbers:
        return [], []
    every = [(number, numbered(base, number)) for number in range(max(numbers) + 1)]
    return [one for number, one in every if number in numbers], [one for number, one in every if number not in numbers]


def _literal(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)


def _is_alone(path: RecordingPath | Sequence[RecordingPath], paths: list[Path]) -> bool:
    """Return whether only one part of a recording is to be read, so that the other parts do not count as missing."""
    return isinstance(path, (str, os.PathLike)) and paths == [Path(path)] and bool(NUMBERED.fullmatch(paths[0].stem))


def _no_recording(files: list[_File]) -> RecordingError:
    path = files[0].path
    with path.open("rb") as file:
        begin = file.read(len(MARK))
    if begin == MARK:
        return RecordingError(f"{path} is damaged; nothing in it can be read")
    return RecordingError(f"{path} is not a recording of finx_sync" if begin else f"{path} is empty")


def _in_order(files: list[_File]) -> list[_File]:
    """Sort by the beginning of the recording, then by part; a file without header follows the previous one by name."""
    began: dict[str, float] = {}
    for one in files:
        if one.run and one.at is not None:
            began[one.run] = min(began.get(one.run, one.at), one.at)
    keys: list[tuple[tuple[float, str, int, int], _File]] = []
    key = (float("-inf"), "", 0)
    for place, one in enumerate(files):
        if one.run:
            key = (began[one.run], one.run, one.part)
        keys.append(((*key, place), one))
    return [one for _, one in sorted(keys, key=lambda pair: pair[0])]


def _with_missing(files: list[_File], missing: list[Path]) -> list[_File]:
    """Insert the missing files, each before the file whose number comes next."""
    ordered = list(files)
    for path in sorted(missing, reverse=True):
        place = min((place for place, one in enumerate(ordered) if _number(one.path) > _number(path)), default=0)
        ordered.insert(place, _File(path))
    return ordered


def _by_name(path: Path) -> tuple[str, int]:
    return (path.stem.rpartition(".")[0] if _number(path) else path.stem), _number(path)


def _number(path: Path) -> int:
    found = NUMBERED.fullmatch(path.stem)
    return 0 if found is None else int(found[1])
