"""Errors in recordings: as texts, with what handlers can ask of them."""

from __future__ import annotations

from typing import Any

from finx_sync import errors
from finx_sync.errors import ConnectionLostError, FinxSyncError, HandshakeError
from finx_sync.redaction import redact

__all__ = ["Written", "read", "write"]

Written = tuple[str, str, dict[str, Any]]
"""An error's public class, its text, and the other arguments that it is made with."""


def write(error: FinxSyncError | None) -> Written:
    """An error as it is written; empty for none."""
    if error is None:
        return "", "", {}
    kind = next((one.__name__ for one in type(error).__mro__ if one.__module__ == errors.__name__), "FinxSyncError")
    details: dict[str, Any] = {}
    if isinstance(error, HandshakeError):
        details = {"status_code": error.status_code}
    elif isinstance(error, ConnectionLostError):
        details = {"code": error.code, "reason": redact(error.reason)}
    return kind, redact(str(error)), details


def read(kind: str, text: str, details: dict[str, Any]) -> FinxSyncError | None:
    """An error as it was written, as far as its class can be made anew."""
    if not kind:
        return None
    try:
        error: FinxSyncError = getattr(errors, kind if kind in errors.__all__ else "FinxSyncError")(text, **details)
    except (AttributeError, TypeError):
        error = FinxSyncError(text)
    return error
