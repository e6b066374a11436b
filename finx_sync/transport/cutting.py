"""The one shape of frame that matters for speed: whole, unmasked text frames below 64 KiB.

`cut_plain` is compiled where the installation found a C compiler (`_cutting.c`), which takes a fifth of the time, and
in Python elsewhere, or where the environment says `FINX_SYNC_PURE_PYTHON=1`. Both do the same to every byte; all that
is rare (control frames, fragments, large messages, violations) is for `frames.py` in either case.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Any, Final

__all__ = ["FIN_TEXT", "IS_COMPILED", "LENGTH_16", "cut_plain", "cut_plain_in_python", "is_utf8"]

FIN_TEXT: Final = 0x81
"""The first byte of a whole text frame."""
REVISION: Final = 1
"""Of what `cut_plain` does: one that was compiled from another revision, and left lying about, is not used."""
LENGTH_16: Final = 126
"""Stands where a length below it would, if the length is in the next two bytes."""
FIN_TEXT_16: Final = FIN_TEXT << 8 | LENGTH_16

_unpack_header = struct.Struct("!HH").unpack_from


def cut_plain_in_python(  # noqa: PLR0917  # as the compiled one, where keywords would cost as much as the cutting
    source: bytes, start: int, end: int, limit: int, check_utf8: bool, payloads: list[bytes]
) -> int:
    """Take plain frames off a stream.

    Args:
        source: has the stream's bytes; the compiled one takes any buffer, this one is fast with `bytes` alone.
        start: where to begin.
        end: where the bytes end.
        limit: the longest payload to take.
        check_utf8: whether to take only text that is valid UTF-8.
        payloads: the texts are appended here.

    Returns:
        Where the first frame begins that is not plain, not complete, too long or not valid, or of the last three bytes;
        `end` if there is none.
    """
    position, last_header, before = start, end - 4, len(payloads)
    append = payloads.append
    while position <= last_header:
        head, length = _unpack_header(source, position)  # one call in C instead of four look-ups
        if head == FIN_TEXT_16:
            begin = position + 4
        else:
            length = head & 0xFF
            if head >> 8 != FIN_TEXT or length >= LENGTH_16:
                break
            begin = position + 2
        stop = begin + length
        if stop > end or length > limit:
            break
        append(source[begin:stop])
        position = stop
    if check_utf8 and len(payloads) > before:
        return _drop_invalid(source, start, position, payloads, before)
    return position


def _drop_invalid(source: bytes, start: int, stop: int, payloads: list[bytes], before: int) -> int:
    """Take back the first text after `before` that is not valid UTF-8, and all that follow; returns where it begins."""
    if b"".join(payloads[before:] if before else payloads).isascii():  # one pass in C: market data is ASCII
        return stop
    position = start
    for index in range(before, len(payloads)):
        payload = payloads[index]
        if not is_utf8(payload):
            del payloads[index:]
            return position
        position += len(payload) + (4 if source[position + 1] == LENGTH_16 else 2)
    return stop


def is_utf8(text: bytes) -> bool:
    """Whether these bytes are a whole text."""
    if text.isascii():
        return True
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


CutPlain = Callable[[Any, int, int, int, bool, "list[bytes]"], int]


def _compiled() -> CutPlain | None:
    if os.environ.get("FINX_SYNC_PURE_PYTHON") == "1":
        return None
    try:
        from finx_sync.transport._cutting import REVISION as COMPILED
        from finx_sync.transport._cutting import cut_plain as compiled
    except ImportError:
        return None
    return compiled if COMPILED == REVISION else None


IS_COMPILED: Final = (_found := _compiled()) is not None
cut_plain: CutPlain = _found or cut_plain_in_python
