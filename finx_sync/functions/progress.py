"""A line on the terminal that tells how far a long call has come."""

from __future__ import annotations

import sys
import time
from typing import Final, TextIO

from finx_sync.functions.fetch import Progress

__all__ = ["ProgressBar"]

WIDTH: Final = 30
"""Characters of the bar."""


class ProgressBar:
    """Draws each report over the one before; says nothing where nobody looks.

    Args:
        what: the title.
        file: a terminal; standard error unless given, so that data on standard output stays clean.
    """

    def __init__(self, what: str, file: TextIO | None = None) -> None:
        self._what = what
        self._file = sys.stderr if file is None else file
        self._is_seen = self._file is not None and self._file.isatty()
        self._began = time.monotonic()
        self._drawn = 0

    def __call__(self, progress: Progress) -> None:
        """Draw."""
        if not self._is_seen:
            return
        filled = round(WIDTH * progress.fraction)
        seconds = time.monotonic() - self._began
        text = f"{self._what} [{'#' * filled}{'.' * (WIDTH - filled)}] {progress.rows:,} ticks, {seconds:.0f} s"
        if progress.retries:
            text += f", {progress.retries} retries"
        self._file.write(f"\r{text.ljust(self._drawn)}")
        self._file.flush()
        self._drawn = len(text)

    def end(self) -> None:
        """Leave the line."""
        if self._drawn:
            self._file.write("\n")
            self._file.flush()
