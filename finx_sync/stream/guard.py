"""A guard against acting on old data."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Literal, Protocol

from finx_sync.errors import InvalidInputError, StaleDataError
from finx_sync.messages import Message

__all__ = ["By", "Guard"]

By = Literal["receipt", "venue"]
"""Whose time an age is counted from: when the message was read, or when the venue says that it was so."""


class _Source(Protocol):
    def latest(self, name: str) -> Any: ...
    def _wall(self) -> float: ...


class Guard:
    """Checks, when it is made and when a ``with`` statement enters it, that a name's newest message is young enough.

    Args:
        source: the stream.
        name: whose.
        max_age: seconds.
        by: whose time counts.

    Attributes:
        message: the newest message as of the last check.

    Raises:
        StaleDataError: it is older, there is none, or it does not carry the venue's time that its kind has.
        InvalidInputError: `by` is "venue", and messages of this kind have no time that can be compared with a clock.
    """

    def __init__(self, source: _Source, name: str, max_age: float, by: By = "receipt") -> None:
        self._source = source
        self._name = name
        self._max_age = max_age
        self._by = by
        self.message = self._checked()

    def _checked(self) -> Any:
        message = self._source.latest(self._name)  # looked up once: another may come before its age is known
        moment = None if message is None else self._moment(message)
        age = None if moment is None else self._source._wall() - moment
        # By the venue's time, a message from the future shows that one of the clocks is wrong: nobody knows its age.
        if age is None or age > self._max_age or (self._by == "venue" and age < -self._max_age):
            raise StaleDataError(self._name, age, self._max_age, self._by, has_come=message is not None)
        return message

    def _moment(self, message: Any) -> float | None:
        """When it was, UNIX seconds; None where this one message does not say."""
        if self._by == "receipt":
            received_at: float = message.received_at
            return received_at
        moment: float | None = message.venue_time
        # The inherited property is that of a kind of message without any time.
        if not message.venue_time_has_zone or type(message).venue_time is Message.venue_time:
            what = "does not say when it was so" if moment is None else "names no time zone with its time"
            raise InvalidInputError(f'the newest message of {self._name} {what}; guard it by="receipt"')
        return moment

    def __enter__(self) -> Any:
        self.message = self._checked()
        return self.message

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing to end."""
