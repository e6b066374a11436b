"""Encodes and decodes the errors in a recording: their text, and the attributes that handlers can read."""

from __future__ import annotations

from typing import Any

from finx_sync import errors
from finx_sync.errors import ConnectionLostError, FinxSyncError, HandshakeError
from finx_sync.redaction import redact

__all__ = ["Written", "read", "write"]

Written = tuple[str, str, dict[str, Any]]
"""The name of an error's public class, its text, and the other arguments of its constructor."""


def write(error: FinxSyncError | None) -> Written:
    """Encode an error; None becomes empty values."""
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
    """Decode an error; it becomes a plain FinxSyncError if its class cannot be constructed."""
    if not kind:
        return None
    try:
        error: FinxSyncError = getattr(errors, kind if kind in errors.__all__ else "FinxSyncError")(text, **details)
    except (AttributeError, TypeError):
        error = FinxSyncError(text)
    return error
