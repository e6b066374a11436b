"""The flight recorder: the latest events of a stream, for a bug report.

It keeps up to a thousand small notes in memory: states, errors, connections, and the beginning of one frame of each
batch. Notes are redacted only when they are written out, so keeping them costs next to nothing.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import platform
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from typing import Final

from finx_sync.redaction import escaped, redact, shown
from finx_sync.transport.cutting import IS_COMPILED

__all__ = ["FlightRecorder"]

logger = logging.getLogger("finx_sync")

NOTES: Final = 500
"""The number of events kept."""
FRAMES: Final = 500
"""The number of batches of which the beginning of a frame is kept."""
EXCERPT: Final = 160
"""The number of characters shown of a long frame."""
WHOLE: Final = 1024
"""The number of bytes kept of a frame; a shorter frame is kept without copying."""


class FlightRecorder:
    """Keeps the latest notes of one stream. All methods may be called from any thread.

    Args:
        offset: added to monotonic seconds, gives UNIX seconds.
    """

    def __init__(self, offset: float) -> None:
        self._offset = offset
        self._notes: deque[tuple[float, str, str]] = deque(maxlen=NOTES)
        self._frames: deque[tuple[float, int, bytes]] = deque(maxlen=FRAMES)

    def note(self, what: str, text: str = "") -> None:
        """Keep a note of an event."""
        self._notes.append((time.monotonic(), what, text))

    def frames(self, arrived: float, payloads: list[bytes]) -> None:
        """Keep a note of a batch: its arrival (monotonic seconds), its size and the beginning of its last payload."""
        last = payloads[-1]
        self._frames.append((arrived, len(payloads), last if len(last) < WHOLE else bytes(last[:WHOLE])))

    def report(self, *sections: tuple[str, str]) -> str:
        """Return the report as redacted text: the given sections, the notes, the frames, the stacks of all threads."""
        parts = [
            ("finx_sync", _machine()),
            *sections,
            ("events", "\n".join(self._event_lines())),
            ("frames (the last one of each batch)", "\n".join(self._frame_lines())),
            ("threads", "\n".join(_stacks())),
        ]
        return "\n\n".join(f"== {title} ==\n{redact(text)}" for title, text in parts) + "\n"

    def write(self, directory: str | os.PathLike[str] | None, text: str, why: str) -> None:
        """Write a report to a new file that only its owner can read, and log its path, or why it was not written.

        Args:
            directory: where to write it; None for the system's directory for temporary files.
            text: the report.
            why: the reason for the report, for the log.
        """
        try:
            handle, name = tempfile.mkstemp(".txt", f"finx_sync-{os.getpid()}-", directory)
            with open(handle, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            logger.warning("the flight recorder's report could not be written: %s", error)
        else:
            logger.warning("%s; the events before it are in %s", why, name)

    def _event_lines(self) -> Iterator[str]:
        for moment, what, text in list(self._notes):
            yield f"{self._stamp(moment)} {what} {escaped(text)}".rstrip()

    def _frame_lines(self) -> Iterator[str]:
        for moment, count, frame in list(self._frames):
            # More of a long frame is kept than is shown, so that a key at the end is complete and can be recognised.
            limit = EXCERPT if len(frame) == WHOLE else None
            yield f"{self._stamp(moment)} {count:5} {shown(frame.decode('utf-8', 'replace'), limit)}"

    def _stamp(self, moment: float) -> str:
        when = dt.datetime.fromtimestamp(moment + self._offset, dt.timezone.utc)
        return when.strftime("%H:%M:%S.%f")


def _machine() -> str:
    system = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return f"{system}; frames are cut in {'C' if IS_COMPILED else 'Python'}"


def _stacks() -> Iterator[str]:
    frames = sys._current_frames()
    for thread in threading.enumerate():
        yield f"{thread.name}{' (daemon)' if thread.daemon else ''}"
        frame = frames.get(thread.ident or 0)
        if frame is not None:
            # Only the location: the source line itself may contain a secret, if it is user code.
            yield from (f"    {at.filename}:{at.lineno} {at.name}" for at in traceback.extract_stack(frame))
