"""A guard against acting on old data."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Literal, Protocol

from finx_sync.errors import InvalidInputError, StaleDataError
from finx_sync.messages import Message

__all__ = ["By", "Guard"]

By = Literal["receipt", "venue"]
"""The time that an age is counted from: when the message was received here, or the venue's own time of it."""


class _Source(Protocol):
    def latest(self, name: str) -> Any: ...
    def _wall(self) -> float: ...


class Guard:
    """Require that a name's newest message is recent: checked on creation, and again by each ``with`` statement.

    Args:
        source: the stream.
        name: the name whose newest message is checked.
        max_age: the greatest age allowed, in seconds.
        by: the time that the age is counted from.

    Attributes:
        message: the newest message at the last check.

    Raises:
        StaleDataError: the message is too old, there is no message, or it lacks the venue time that its type has.
        InvalidInputError: `by` is "venue", and messages of this type have no time that can be compared with a clock.
    """

    def __init__(self, source: _Source, name: str, max_age: float, by: By = "receipt") -> None:
        self._source = source
        self._name = name
        self._max_age = max_age
        self._by = by
        self.message = self._checked()

    def _checked(self) -> Any:
        message = self._source.latest(self._name)  # looked up once: the io thread may replace it meanwhile
        moment = None if message is None else self._moment(message)
        age = None if moment is None else self._source._wall() - moment
        # A venue time in the future means that one of the two clocks is wrong, so the age is unknown.
        if age is None or age > self._max_age or (self._by == "venue" and age < -self._max_age):
            raise StaleDataError(self._name, age, self._max_age, self._by, has_come=message is not None)
        return message

    def _moment(self, message: Any) -> float | None:
        """Return the message's time in UNIX seconds; None if this message lacks it."""
        if self._by == "receipt":
            received_at: float = message.received_at
            return received_at
        moment: float | None = message.venue_time
        # A message type that has no time of its own inherits the property unchanged.
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
        """Do nothing: a guard holds no resource."""
