"""The optional packages behind frames and files, imported only when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from finx_sync.errors import MissingExtraError

__all__ = ["numpy", "pandas", "polars", "pyarrow"]


def _needed(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f'{module.partition(".")[0]} is not installed; install it with: pip install "finx-sync[{extra}]"'
        ) from error


def numpy() -> Any:
    """NumPy."""
    return _needed("numpy", "frames")


def pandas() -> Any:
    """The package pandas."""
    return _needed("pandas", "frames")


def polars() -> Any:
    """Polars."""
    return _needed("polars", "polars")


def pyarrow(part: str = "") -> Any:
    """PyArrow, or a module of it."""
    return _needed(f"pyarrow.{part}" if part else "pyarrow", "arrow")
