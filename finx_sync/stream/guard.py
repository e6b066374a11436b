"""A guard against acting on old data."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol

from finx_sync.errors import StaleDataError

__all__ = ["Guard"]


class _Source(Protocol):
    def latest(self, name: str) -> Any: ...
    def _age_of(self, message: Any) -> float | None: ...


class Guard:
    """Checks, when it is made and when a ``with`` statement enters it, that a name's newest message is young enough.

    Args:
        source: the stream.
        name: whose.
        max_age: seconds.

    Attributes:
        message: the newest message as of the last check.

    Raises:
        StaleDataError: it is older, or there is none.
    """

    def __init__(self, source: _Source, name: str, max_age: float) -> None:
        self._source = source
        self._name = name
        self._max_age = max_age
        self.message = self._checked()

    def _checked(self) -> Any:
        message = self._source.latest(self._name)  # looked up once: another may come before its age is known
        age = self._source._age_of(message)
        if age is None or age > self._max_age:
            raise StaleDataError(self._name, age, self._max_age)
        return message

    def __enter__(self) -> Any:
        self.message = self._checked()
        return self.message

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing to end."""
