"""Record a stream, and play a recording to its handlers."""

from __future__ import annotations

import abc
import os
import threading
from collections.abc import Callable, Sequence
from typing import Final

from finx_sync.errors import ConfigError, InvalidInputError, UsageError
from finx_sync.interrupts import uninterrupted
from finx_sync.moments import Moment, read_moment
from finx_sync.pipeline.iterator import M
from finx_sync.pipeline.sinks import Sinks
from finx_sync.recorder.convert import Converted, Form, convert
from finx_sync.recorder.playback import Playback, Speed
from finx_sync.recorder.reader import RecordingPath, RecordingReader
from finx_sync.recorder.replay import Replay
from finx_sync.recorder.writer import ROTATE_BYTES, Recording
from finx_sync.session.parts import SessionParts
from finx_sync.stream.checks import checked_path, checked_switch
from finx_sync.stream.upkeep import Upkeep

__all__ = ["Recordable"]

FASTEST: Final = 1e6
"""The greatest factor that `speed` may be; "max" has no limit."""


class Recordable(Upkeep[M]):
    """The part of a stream that records, replays and converts."""

    _sinks: Sinks
    _recording: Recording | None
    _lifecycle: threading.Lock

    def record(
        self, path: str | os.PathLike[str], *, rotate_bytes: int = ROTATE_BYTES, compress: bool = True
    ) -> Recording:
        """Write every payload to a file from now on, with its receive time. Any thread, before or after `start`.

        Payloads are recorded before they wait for the handlers, so slow handlers do not affect the recording. It
        continues across restarts of the stream until its `stop()`, or the end of the program. Keys are never written.

        Args:
            path: the file, such as "feed.finxrec". No file is overwritten: if it exists, or has grown too large, the
                next one is "feed.0001.finxrec".
            rotate_bytes: the size of a file, in bytes, at which the next one begins.
            compress: compress with zstd if its package is installed (extra ``record``), else with zlib.

        Raises:
            UsageError: the stream is being recorded already.
            InvalidInputError: `path` is not a path.
            ConfigError: the file cannot be created, or an option is invalid.
        """
        checked_path(path)
        checked_switch("compress", compress)
        if isinstance(rotate_bytes, bool):
            raise ConfigError(f"rotate_bytes is a number of bytes above 0, not {rotate_bytes!r}")
        return uninterrupted(
            lambda: self._record(path, rotate_bytes, compress), "finx-sync control", undo=lambda made: made.stop()
        )

    def _record(self, path: str | os.PathLike[str], rotate_bytes: int, compress: bool) -> Recording:
        with self._lifecycle:
            if self._recording is not None:
                raise UsageError("the stream is being recorded already; stop() that recording first")
            recording = Recording(
                path, self._codec.venue, rotate_bytes=rotate_bytes, compress=compress, on_end=self._forget
            )
            self._recording = recording
            self._sinks.add(recording)
        return recording

    def _forget(self, recording: Recording) -> None:
        self._sinks.remove(recording)
        if self._recording is recording:
            self._recording = None

    def replay(
        self,
        path: RecordingPath | Sequence[RecordingPath],
        *,
        speed: Speed = 1.0,
        until: Moment | None = None,
        pause_at: int | None = None,
    ) -> Replay:
        """Play a recording to this stream's handlers: the same messages in the same order, with the same times.

        Connections, gaps and states are repeated as recorded. No connection is opened, and nothing depends on the speed
        or clock of this machine, so two replays are identical. Handlers run on a dispatch thread; this call blocks
        until the replay ends or pauses.

        Args:
            path: a file, with the numbered files that continue it; a folder of recordings; or a list of files.
            speed: 1 for the recorded pace, 10 for ten times as fast, "max" for no pauses at all.
            until: pause before the first message received after this moment (ISO 8601 text, UNIX seconds or a datetime;
                UTC unless it has a time zone).
            pause_at: pause after this many messages; `Replay.resume` continues.

        Raises:
            UsageError: the stream is running, or the calling thread is the dispatch thread.
            InvalidInputError: there is no such file, or an argument is invalid.
            RecordingError: a file is not a recording, or is a recording of another venue.
        """
        self._refuse_on_dispatch_thread("replay")
        for one in path if isinstance(path, Sequence) and not isinstance(path, str) else (path,):
            checked_path(one)
        is_number = isinstance(speed, (int, float)) and not isinstance(speed, bool)
        if speed != "max" and not (is_number and 0 < speed <= FASTEST):
            raise InvalidInputError(f"speed is a number above 0, or 'max', not {speed!r}")
        last = None if until is None else read_moment(until)

        def look() -> RecordingReader:
            reader = RecordingReader(path)
            reader.require(self._codec.venue)
            return reader

        reader = uninterrupted(look, "finx-sync control")  # an interrupt during the mapping of the file would get stuck
        return self._play_back(
            reader, speed, lambda playback: Replay(playback, reader).resume(until=last, pause_at=pause_at)
        )

    @abc.abstractmethod
    def _play_back(self, reader: RecordingReader, speed: Speed, play: Callable[[Playback], Replay]) -> Replay:
        """Make a playback the current run, and `play` it."""

    def convert(
        self,
        path: RecordingPath | Sequence[RecordingPath],
        target: str | os.PathLike[str],
        *,
        form: Form | None = None,
    ) -> Converted:
        """Write a recording of this stream's venue as tables: one for each message type, and one for events.

        Args:
            path: as for `replay`.
            target: a folder, or a file whose name ends with ``.duckdb``.
            form: the format of the files in a folder, "parquet" or "csv"; None is "parquet".

        Raises:
            InvalidInputError, RecordingError: as for `replay`; or the target is another kind of file.
            MissingExtraError: PyArrow or DuckDB is not installed (extra ``convert``).
        """
        return convert(path, target, self._codec, form)

    @abc.abstractmethod
    def _session_parts(self, *, live: bool) -> SessionParts:
        """Return what a run works with; a replay's venue state knows nothing of other runs."""
