"""A line on the terminal that shows the progress of a long call."""

from __future__ import annotations

import sys
import time
from typing import Final, TextIO

from finx_sync.functions.fetch import Progress

__all__ = ["ProgressBar"]

WIDTH: Final = 30
"""Characters of the bar."""


class ProgressBar:
    """Draws each report over the one before; draws nothing unless the file is a terminal.

    Args:
        what: the title.
        file: None for standard error, so that standard output carries data only.
    """

    def __init__(self, what: str, file: TextIO | None = None) -> None:
        self._what = what
        self._file = sys.stderr if file is None else file
        self._is_seen = self._file is not None and self._file.isatty()
        self._began = time.monotonic()
        self._drawn = 0

    def __call__(self, progress: Progress) -> None:
        """Draw a report."""
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
        """End the line."""
        if self._drawn:
            self._file.write("\n")
            self._file.flush()
