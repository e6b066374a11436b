"""The optional packages of recordings, imported when they are needed and not before."""

from __future__ import annotations

from typing import Any

from finx_sync.errors import MissingExtraError

__all__ = ["duckdb", "zstandard"]


def zstandard() -> Any:
    """The package zstandard."""
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtraError(
            'this recording is compressed with zstd; install it with: pip install "finx-sync[record]"'
        ) from error
    return zstandard


def duckdb() -> Any:
    """The package duckdb."""
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtraError('DuckDB is not installed; install it with: pip install "finx-sync[convert]"') from error
    return duckdb
