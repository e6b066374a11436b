"""Cuts the one shape of frame that matters for speed: whole, unmasked text frames below 64 KiB.

`cut_plain` is compiled (`_cutting.c`) if the installation found a C compiler, and takes a fifth of the time then.
Otherwise, or if the environment says `FINX_SYNC_PURE_PYTHON=1`, it is the Python version. Both give the same result for
every byte. Everything rare (control frames, fragments, large messages, violations) is left to `frames.py`.
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
"""The revision of `cut_plain`: a stale module that was compiled from another revision is not used."""
LENGTH_16: Final = 126
"""Stands in place of the length if the length is in the next two bytes."""
FIN_TEXT_16: Final = FIN_TEXT << 8 | LENGTH_16

_unpack_header = struct.Struct("!HH").unpack_from


def cut_plain_in_python(  # noqa: PLR0917  # like the compiled one, where keywords would cost as much as the cutting
    source: bytes, start: int, end: int, limit: int, check_utf8: bool, payloads: list[bytes]
) -> int:
    """Cut the plain frames at the front of a stream.

    Args:
        source: the stream's bytes; the compiled version takes any buffer, this one is fast only with `bytes`.
        start: index of the first byte to look at.
        end: index after the last one.
        limit: the longest payload to accept, in bytes.
        check_utf8: whether to accept only text that is valid UTF-8.
        payloads: the texts are appended here.

    Returns:
        The index at which it stopped: the first frame that is not plain, not complete, too long or not valid, or that
        begins in the last three bytes; `end` if all was cut.
    """
    position, last_header, before = start, end - 4, len(payloads)
    append = payloads.append
    while position <= last_header:
        head, length = _unpack_header(source, position)  # one call in C instead of four index operations
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
    """Drop the first text after `before` that is not valid UTF-8, and all after it; returns where its frame begins."""
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
    """Whether these bytes are valid and complete UTF-8."""
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
