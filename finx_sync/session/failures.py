"""Decides which failures end a stream and which are retried. No other module decides this."""

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
"""Close code; IME documents it for a refused key or contract, and other venues use it in the same way."""
REFUSING_STATUS: Final = frozenset({401, 403})
"""The HTTP status that a client sees if a server closes with 1008 before it accepts the websocket (as in Starlette)."""


LONGEST_RETRY_AFTER: Final = 3600.0
"""Seconds; the longest wait that a server can ask for."""
ABNORMAL: Final = 1006
"""The close code of RFC 6455 7.4.1 for a connection that ended without a close frame."""


def judged(error: FinxSyncError, asked: Iterable[str] = ()) -> FinxSyncError:
    """Return an AuthorizationError if `error` means that the key was refused, and `error` itself otherwise.

    Args:
        error: the reason why a connection ended.
        asked: the names that its URL subscribed to; the server may have refused one of them instead of the key.
    """
    if isinstance(error, HandshakeError) and error.status_code in REFUSING_STATUS:
        said = f"HTTP {error.status_code} at the handshake"
    elif isinstance(error, ConnectionLostError) and error.code == POLICY_VIOLATION:
        said = "it closed with 1008" + (f" ({error.reason})" if error.reason else "")
    else:
        return error
    if names := ", ".join(asked):
        text = f"the server refused the key, or one of the requested names ({names}): {said}; check both"
    elif isinstance(error, HandshakeError):
        text = f"the server refused the key: {said}; check the key, and that it has not expired"
    else:
        text = f"the server refused the key or a request: {said}; check the key, and that it has not expired"
    refusal = AuthorizationError(text)
    refusal.__cause__ = error
    return refusal


def is_fatal(error: FinxSyncError) -> bool:
    """Return whether retrying is pointless."""
    return isinstance(error, (AuthorizationError, ConfigError, MissingExtraError))


def too_slow(limit: int) -> SlowConsumerError:
    """The end of a stream with overflow="error", when more than `limit` messages wait."""
    return SlowConsumerError(
        f"more than {limit} messages wait for the handlers; make them faster, or choose another overflow rule"
    )


def gap_reason(error: FinxSyncError) -> GapReason:
    """Return the reason for the gap that follows the loss of an open connection."""
    if isinstance(error, ConnectionLostError) and not isinstance(error, ProtocolError) and error.code != ABNORMAL:
        return "server"
    return "connection lost"


def retry_after(error: FinxSyncError, now: float) -> float:
    """Return the seconds to wait that the server's Retry-After header asks for (RFC 9110 10.2.3); 0 without one.

    Args:
        error: the reason why the attempt failed.
        now: the present time, UNIX seconds.
    """
    said = error.headers.get("retry-after", "") if isinstance(error, HandshakeError) else ""
    return min(read_retry_after(said, now) or 0.0, LONGEST_RETRY_AFTER)


def read_retry_after(said: str, now: float) -> float | None:
    """Convert the value of a Retry-After header (seconds or an HTTP date) to seconds; None if it is invalid."""
    said = said.strip()
    if said.isascii() and said.isdigit():
        return float(said)
    try:
        return max(parsedate_to_datetime(said).timestamp() - now, 0.0)
    except (TypeError, ValueError, OverflowError):
        return None
