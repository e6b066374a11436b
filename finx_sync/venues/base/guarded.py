"""Decoding that never raises, whatever the server sends and whatever defects the codec has.

A codec's `decode` must not raise; this module protects the stream if it does so by mistake. A message that cannot be
decoded is reported as unreadable and does not end the stream.
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
"""The number of bytes of a payload that an error shows at most."""


def guarded(codec: Codec) -> Decode:
    """Wrap a codec's `decode` so that it returns one result for each payload, in order, and never raises."""
    decode, failures = codec.decode, 0

    def one(payload: bytes) -> Any:
        nonlocal failures
        try:
            (message,) = decode([payload])
        except Exception as error:  # any error concerns only this message
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
        except Exception:  # noqa: BLE001  # one payload caused it: decode the others singly
            return [one(payload) for payload in payloads]
        return messages if len(messages) == len(payloads) else [one(payload) for payload in payloads]

    return all_of


def unusable(payload: bytes, error: Exception) -> Unreadable:
    """The result for a payload whose processing raised `error`."""
    text = str(payload[:EXCERPT], "utf-8", "replace")
    failure = UnreadableMessageError(f"it could not be processed ({type(error).__name__})", text)
    failure.__cause__ = error
    return Unreadable(failure)


def is_power_of_ten(count: int) -> bool:
    """Whether `count` is 1, 10, 100 and so on; used to log a repeated problem less and less often."""
    return str(count).strip("0") == "1"
