"""Which failures end a stream, and which are tried again: decided here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from typing import Final

from finx_sync.errors import (
    AuthorizationError,
    ConfigError,
    ConnectionLostError,
    FinxSyncError,
    HandshakeError,
    MissingExtraError,
    ProtocolError,
    SlowConsumerError,
)
from finx_sync.notices import GapReason

__all__ = ["gap_reason", "is_fatal", "judged", "read_retry_after", "retry_after", "too_slow"]

POLICY_VIOLATION: Final = 1008
"""Close code; IME documents it for a refused key or contract, and others use it likewise."""
REFUSING_STATUS: Final = frozenset({401, 403})
"""A server that closes with 1008 before accepting the websocket shows these instead (Starlette does)."""


LONGEST_RETRY_AFTER: Final = 3600.0
"""Seconds; a server that asks for more is asked again after this."""
ABNORMAL: Final = 1006
"""The code of RFC 6455 7.4.1 for an end without a close frame."""


def judged(error: FinxSyncError, asked: Iterable[str] = ()) -> FinxSyncError:
    """Turn what means "your key was refused" into AuthorizationError; leave the rest.

    Args:
        error: why a connection ended.
        asked: the names that its URL asked for, since they may be what was refused.
    """
    if isinstance(error, HandshakeError) and error.status_code in REFUSING_STATUS:
        said = f"HTTP {error.status_code} at the handshake"
    elif isinstance(error, ConnectionLostError) and error.code == POLICY_VIOLATION:
        said = "it closed with 1008" + (f" ({error.reason})" if error.reason else "")
    else:
        return error
    if names := ", ".join(asked):
        text = f"the server refused the key, or one of the names that were asked for ({names}): {said}; check both"
    elif isinstance(error, HandshakeError):
        text = f"the server refused the key: {said}; check the key, and that it has not expired"
    else:
        text = f"the server refused the key or what was asked for: {said}; check the key, and that it has not expired"
    refusal = AuthorizationError(text)
    refusal.__cause__ = error
    return refusal


def is_fatal(error: FinxSyncError) -> bool:
    """Whether trying again cannot help."""
    return isinstance(error, (AuthorizationError, ConfigError, MissingExtraError))


def too_slow(limit: int) -> SlowConsumerError:
    """The end of a stream with overflow="error", when more than `limit` messages wait."""
    return SlowConsumerError(
        f"more than {limit} messages wait for the handlers; make them faster, or choose another overflow rule"
    )


def gap_reason(error: FinxSyncError) -> GapReason:
    """What to call the gap that the loss of an open connection leaves."""
    if isinstance(error, ConnectionLostError) and not isinstance(error, ProtocolError) and error.code != ABNORMAL:
        return "server"
    return "connection lost"


def retry_after(error: FinxSyncError, now: float) -> float:
    """The seconds that the server asked to be left alone for (RFC 9110 10.2.3: seconds, or an HTTP date); 0 for none.

    Args:
        error: why the attempt failed.
        now: UNIX seconds.
    """
    said = error.headers.get("retry-after", "") if isinstance(error, HandshakeError) else ""
    return min(read_retry_after(said, now) or 0.0, LONGEST_RETRY_AFTER)


def read_retry_after(said: str, now: float) -> float | None:
    """The seconds that the value of a Retry-After header stands for; None where it is none."""
    said = said.strip()
    if said.isascii() and said.isdigit():
        return float(said)
    try:
        return max(parsedate_to_datetime(said).timestamp() - now, 0.0)
    except (TypeError, ValueError, OverflowError):
        return None
