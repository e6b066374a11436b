"""The guard around decoding: whatever a server sends, and whatever a codec makes of it, nothing is raised.

A codec's `decode` raises nothing either, as far as anybody knows; this is for what nobody has thought of. One message
that cannot be decoded is one message that is reported as unreadable, never the end of a stream.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from finx_sync.errors import UnreadableMessageError
from finx_sync.venues.base import Codec, Unreadable

__all__ = ["Decode", "guarded", "is_power_of_ten"]

logger = logging.getLogger("finx_sync")

Decode = Callable[[Sequence[bytes]], list[Any]]

EXCERPT: Final = 1024
"""Bytes of a payload that an error is made of."""


def guarded(codec: Codec) -> Decode:
    """A codec's `decode` that returns one thing for each payload, in order, and raises nothing."""
    decode, failures = codec.decode, 0

    def one(payload: bytes) -> Any:
        nonlocal failures
        try:
            (message,) = decode([payload])
        except Exception as error:  # whatever it is, it is about this message alone
            failures += 1
            if is_power_of_ten(failures):  # a server may send a million of these
                logger.error(
                    "%s: a message could not be decoded, which is a defect of finx_sync (%d so far); please report it",
                    codec.venue,
                    failures,
                    exc_info=error,
                )
            return unusable(payload, error)
        return message

    def all_of(payloads: Sequence[bytes]) -> list[Any]:
        try:
            messages = decode(payloads)
        except Exception:  # noqa: BLE001  # one of them is to blame: the others are not lost with it
            return [one(payload) for payload in payloads]
        return messages if len(messages) == len(payloads) else [one(payload) for payload in payloads]

    return all_of


def unusable(payload: bytes, error: Exception) -> Unreadable:
    """A payload that something has choked on."""
    text = str(payload[:EXCERPT], "utf-8", "replace")
    failure = UnreadableMessageError(f"it could not be processed ({type(error).__name__})", text)
    failure.__cause__ = error
    return Unreadable(failure)


def is_power_of_ten(count: int) -> bool:
    """Whether to log the repetition of something: the first, the 10th, the 100th time and so on."""
    return str(count).strip("0") == "1"
