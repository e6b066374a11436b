"""`Replay`: the user's control over the replay of a recording."""

from __future__ import annotations

import datetime as dt

from finx_sync.errors import InvalidInputError, UsageError
from finx_sync.moments import Moment, read_moment
from finx_sync.recorder.playback import Playback
from finx_sync.recorder.reader import Damage, RecordingReader

__all__ = ["Replay"]


class Replay:
    """A replay that has reached the end of its recording or is paused; returned by `Stream.replay`.

    Attributes:
        messages: the number of messages delivered so far.
        finished: whether it has reached the end, or was stopped.
    """

    def __init__(self, playback: Playback, reader: RecordingReader) -> None:
        self._playback = playback
        self._reader = reader

    @property
    def messages(self) -> int:
        """The number of messages delivered so far."""
        return self._playback.messages

    @property
    def finished(self) -> bool:
        """Whether it has reached the end, or was stopped."""
        return self._playback.finished

    @property
    def at(self) -> dt.datetime | None:
        """When the last message was received, in UTC; None before the first."""
        at = self._playback.wall()
        return dt.datetime.fromtimestamp(at, dt.timezone.utc) if at else None

    @property
    def damage(self) -> list[Damage]:
        """The parts of the recording that could not be read so far."""
        return list(self._reader.damage)

    def resume(self, *, until: Moment | None = None, pause_at: int | None = None) -> Replay:
        """Continue after a pause, and block until the next pause or the end.

        Args:
            until: pause before the first message received after this time; None for no such pause.
            pause_at: pause when this number of messages in all has been delivered; None for no such pause.

        Raises:
            UsageError: the replay has finished.
            InvalidInputError: `until` is not a time, or `pause_at` is not a number of messages.
        """
        if self.finished:
            raise UsageError("the replay has finished; call replay() to play the recording again")
        last = None if until is None else read_moment(until).timestamp()
        if pause_at is not None and (isinstance(pause_at, bool) or not isinstance(pause_at, int) or pause_at < 0):
            raise InvalidInputError(f"pause_at is a number of messages, not {pause_at!r}")
        self._playback.play(last, pause_at)
        return self

    def stop(self) -> None:
        """End the replay at its present position."""
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
