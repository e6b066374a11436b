"""The optional packages for recordings, which are imported only when they are needed."""

from __future__ import annotations

from typing import Any

from finx_sync.errors import MissingExtraError

__all__ = ["duckdb", "zstandard"]


def zstandard() -> Any:
    """Import and return the package zstandard.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtraError(
            'this recording is compressed with zstd; install it with: pip install "finx-sync[record]"'
        ) from error
    return zstandard


def duckdb() -> Any:
    """Import and return the package duckdb.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtraError('DuckDB is not installed; install it with: pip install "finx-sync[convert]"') from error
    return duckdb
