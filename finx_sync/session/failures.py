"""Which failures end a stream, and which are tried again: decided here and nowhere else."""

from __future__ import annotations

from typing import Final

from finx_sync.errors import (
    AuthorizationError,
    ConfigError,
    ConnectionLostError,
    FinxSyncError,
    HandshakeError,
    MissingExtraError,
)

__all__ = ["is_fatal", "judged"]

POLICY_VIOLATION: Final = 1008
"""Close code; IME documents it for a refused key or contract, and others use it likewise."""
REFUSING_STATUS: Final = frozenset({401, 403})
"""A server that closes with 1008 before accepting the websocket shows these instead (Starlette does)."""


def judged(error: FinxSyncError) -> FinxSyncError:
    """Turn what means "your key was refused" into AuthorizationError; leave the rest."""
    if isinstance(error, HandshakeError) and error.status_code in REFUSING_STATUS:
        refusal = AuthorizationError(
            f"the server refused the key: HTTP {error.status_code} at the handshake; "
            "check the key, and that it has not expired"
        )
    elif isinstance(error, ConnectionLostError) and error.code == POLICY_VIOLATION:
        said = f" ({error.reason})" if error.reason else ""
        refusal = AuthorizationError(
            f"the server refused the key or what was asked for: it closed with 1008{said}; "
            "check the key, and that it has not expired"
        )
    else:
        return error
    refusal.__cause__ = error
    return refusal


def is_fatal(error: FinxSyncError) -> bool:
    """Whether trying again cannot help."""
    return isinstance(error, (AuthorizationError, ConfigError, MissingExtraError))
