"""Joins the blocks of a recording's files and finds what is missing between them. This module does no I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import msgspec

from finx_sync.recorder.damage import Damage
from finx_sync.recorder.format import Block, BlockHeader, Lost, Received, Record, Started, time_of

__all__ = ["Joining"]

Piece = tuple[Path, Block | None]
"""A file and a block or damage in it; None if the file is missing."""


@dataclass(frozen=True)
class _Hurt:
    """A part of a file that cannot be read."""

    path: Path
    offset: int
    length: int
    what: str


class Joining:
    """Iterates over the records of all blocks, with a `Damage` wherever something is missing.

    The first `BlockHeader` of each recording is included, and so is each `Started` of version 1. Other headers are
    used only to check that their block follows the previous one.

    Args:
        pieces: the blocks of all files, in order.
        alone: whether only one part of a recording is to be read, so that the other parts do not count as missing.
    """

    def __init__(self, pieces: Iterator[Piece], *, alone: bool) -> None:
        self._pieces = pieces
        self._alone = alone
        self._ahead: deque[Piece] = deque()
        self._hurt: list[_Hurt] = []
        self._path = Path()
        self._run = ""
        self._part = -1
        self._due = 0  # the number of the next block
        self._received = 0  # the number of messages of this recording so far
        self._closes = "run"
        self._is_old = False  # version 1, whose blocks have no numbers
        self._at = 0.0

    def __iter__(self) -> Iterator[Record | Damage]:
        while (piece := self._next()) is not None:
            path, block = piece
            if block is None:
                self._hurt.append(_Hurt(path, 0, 0, "the file is missing"))
            elif block.records is None:
                self._hurt.append(_Hurt(path, block.offset, block.skipped, _damaged(block)))
            elif block.records:
                head = block.records[0]
                if isinstance(head, BlockHeader):
                    yield from self._join(path, head, block.records)
                else:
                    yield from self._join_old(path, head, block.records)
                self._path = path
        yield from self._end_run()

    def _next(self) -> Piece | None:
        return self._ahead.popleft() if self._ahead else next(self._pieces, None)

    # Blocks with a header

    def _join(self, path: Path, header: BlockHeader, records: list[Record]) -> Iterator[Record | Damage]:
        begins = _first_time(records, header.at)
        if header.run != self._run:
            yield from self._end_run(path, min(begins, header.began))
            self._run, self._at, self._is_old = header.run, header.began, False
            self._due = header.first_block if self._alone else 0
            self._received = header.first_received if self._alone else 0
            self._part = header.part - 1 if self._alone else -1
            self._closes = "part"
            whole = self._complete(header)
            yield whole
            yield from self._missing_before(path, whole, begins)
        elif header.block < self._due:  # a copy of a block that has been read
            self._hurt.clear()
            return
        else:
            yield from self._missing_before(path, header, begins)
        self._due, self._part, self._closes = header.block + 1, header.part, header.closes
        self._received = header.received
        for record in records[1:]:
            self._note(record)
            yield record

    def _missing_before(self, path: Path, header: BlockHeader, begins: float) -> Iterator[Damage]:
        hurt, self._hurt = self._hurt, []
        if header.block > self._due and not hurt:
            hurt = [_Hurt(path, 0, 0, self._absent(header))]
        if not hurt:
            return
        missed = max(0, header.received - self._received)
        yield from self._damages(hurt, max(begins, self._at), missed, self._complete(header))

    def _absent(self, header: BlockHeader) -> str:
        """Describe what is missing before a block, if nothing is damaged."""
        first, last = self._part + 1, header.part - 1
        if first == header.part and self._closes != "part":
            return f"the end of part {self._part} of the recording is missing"
        if first > last:
            return "blocks are missing"
        parts = (
            f"part {first} of the recording is" if first == last else f"parts {first} to {last} of the recording are"
        )
        return f"{parts} missing before this one"

    def _complete(self, header: BlockHeader) -> BlockHeader:
        """Return the header with subscriptions: its own, or those of the next block that has them."""
        if header.subscriptions is not None:
            return header
        for place in count():
            if place == len(self._ahead):
                piece = next(self._pieces, None)
                if piece is None:
                    return header
                self._ahead.append(piece)
            block = self._ahead[place][1]
            head = block.records[0] if block is not None and block.records else None
            if isinstance(head, BlockHeader) and (head.run != header.run or head.subscriptions is not None):
                return msgspec.structs.replace(
                    header, subscriptions=head.subscriptions if head.run == header.run else None
                )
        raise AssertionError

    # Version 1

    def _join_old(self, path: Path, head: Record, records: list[Record]) -> Iterator[Record | Damage]:
        begins = _first_time(records, self._at)
        if isinstance(head, Started):
            if head.run != self._run:
                if self._run or not self._is_old:  # otherwise its first file is damaged, and this is the next one
                    yield from self._end_run(path, head.at)
                    self._at, self._part = head.at, head.part - 1 if self._alone else -1
                self._run, self._is_old, self._closes = head.run, True, ""
            if head.part <= self._part:  # a copy
                self._hurt.clear()
                return
            if head.part > self._part + 1 and not self._hurt:
                first, last = self._part + 1, head.part - 1
                parts = f"part {first} is" if first == last else f"parts {first} to {last} are"
                self._hurt.append(_Hurt(path, 0, 0, f"{parts} missing before this one"))
            self._part = head.part
        elif path != self._path:  # its first block is damaged, so its recording is unknown
            if not self._is_old:
                yield from self._end_run(path, begins)
                self._run, self._part, self._closes = "", -1, ""
            self._part, self._is_old, self._at = self._part + 1, True, self._at or begins
        if self._hurt:
            hurt, self._hurt = self._hurt, []
            yield from self._damages(hurt, max(begins, self._at), None, None)
        for record in records:
            self._note(record)
            yield record

    # Ends

    def _end_run(self, path: Path | None = None, follows: float | None = None) -> Iterator[Damage]:
        """Report what is missing at the end of a recording; damage in `path` belongs to the next recording."""
        if not (self._run or self._is_old):
            return
        mine = [one for one in self._hurt if one.path != path]
        is_open = self._closes != "run" and not self._is_old and not (self._alone and self._closes == "part")
        self._hurt = [one for one in self._hurt if one.path == path]
        if is_open and not mine:
            what = (
                "the recording continues in a file that is missing"
                if self._closes == "part"
                else "the recording has no end (its recorder was killed or is still writing, or the end was cut off)"
            )
            mine = [_Hurt(self._path, 0, 0, what)]
        if mine:
            end = self._at if follows is None else max(self._at, follows)
            yield from self._damages(mine, end, None, None, at_end=True)
        self._closes = "run"

    def _damages(
        self, hurt: list[_Hurt], end: float, missed: int | None, follows: BlockHeader | None, *, at_end: bool = False
    ) -> Iterator[Damage]:
        for one in hurt:
            is_last = one is hurt[-1]
            yield Damage(
                one.path,
                one.offset,
                one.length,
                at_end,
                one.what,
                self._at,
                end,
                missed if is_last else None,
                follows,
                is_last,
            )

    def _note(self, record: Record) -> None:
        if isinstance(record, Received):
            self._received += len(record.payloads)
            if record.at:
                self._at = record.at[-1]
        else:
            if isinstance(record, Lost):
                self._received += record.count
            at = time_of(record)
            if at is not None:
                self._at = at


def _damaged(block: Block) -> str:
    return f"{block.skipped} bytes are damaged from {block.offset} on" if block.skipped else "the file is empty"


def _first_time(records: list[Record], otherwise: float) -> float:
    """Return the earliest time in the records of a block."""
    return next((at for at in map(time_of, records) if at is not None), otherwise)
