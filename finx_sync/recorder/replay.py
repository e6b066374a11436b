"""`Replay`: a recording on its way through a stream's handlers, for whoever watches or steps."""

from __future__ import annotations

import datetime as dt

from finx_sync.errors import InvalidInputError, UsageError
from finx_sync.moments import Moment, read_moment
from finx_sync.recorder.playback import Playback
from finx_sync.recorder.reader import Damage, RecordingReader

__all__ = ["Replay"]


class Replay:
    """What `Stream.replay` returns: at the recording's end, or where it was asked to pause.

    Attributes:
        messages: handed on so far.
        finished: whether it has come to the end, or was stopped.
    """

    def __init__(self, playback: Playback, reader: RecordingReader) -> None:
        self._playback = playback
        self._reader = reader

    @property
    def messages(self) -> int:
        """Messages so far."""
        return self._playback.messages

    @property
    def finished(self) -> bool:
        """Whether nothing follows."""
        return self._playback.finished

    @property
    def at(self) -> dt.datetime | None:
        """When the last message was received, UTC; None before the first."""
        at = self._playback.wall()
        return dt.datetime.fromtimestamp(at, dt.timezone.utc) if at else None

    @property
    def damage(self) -> list[Damage]:
        """What of the recording could not be read so far."""
        return list(self._reader.damage)

    def resume(self, *, until: Moment | None = None, pause_at: int | None = None) -> Replay:
        """Go on after a pause; blocks until the next one, or the end.

        Args:
            until: pause before the first message received after this moment; None does not.
            pause_at: pause when so many messages in all have been handed on; None does not.

        Raises:
            UsageError: it has finished.
            InvalidInputError: no moment, or no number.
        """
        if self.finished:
            raise UsageError("the recording has been played to its end; replay() it again")
        last = None if until is None else read_moment(until).timestamp()
        if pause_at is not None and (isinstance(pause_at, bool) or not isinstance(pause_at, int) or pause_at < 0):
            raise InvalidInputError(f"pause_at is a number of messages, not {pause_at!r}")
        self._playback.play(last, pause_at)
        return self

    def stop(self) -> None:
        """End it where it is."""
        self._playback.stop(5.0, drain=False)

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "finished" if self.finished else "paused"
        return (
            f"<Replay {state}, {self.messages} messages, until {self.at:%Y-%m-%d %H:%M:%S} UTC>"
            if self.at
            else (f"<Replay {state}, no messages>")
        )
