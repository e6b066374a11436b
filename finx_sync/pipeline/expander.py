"""Between decoding and handlers: what makes of a message that which handlers get, where they are not the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from finx_sync.messages import Message

__all__ = ["Expander", "Expansion", "NoExpander"]


class Expansion(Protocol):
    """What becomes of a message; see `finx_sync.venues.base.Outcome`."""

    @property
    def messages(self) -> Sequence[tuple[type[Message] | str, Any]]:
        """What handlers get, each with the topic that they are registered for."""

    @property
    def is_duplicate(self) -> bool:
        """Whether it brought nothing but what was handed on before."""

    @property
    def names(self) -> Sequence[str]:
        """Further names under which it is the newest message."""


class Expander(Protocol):
    """Makes what handlers get of messages that are not for them as they come. On the dispatch thread."""

    @property
    def kinds(self) -> frozenset[type[Message]]:
        """Of these types."""

    def expand(self, message: Message) -> Expansion:
        """What handlers get of `message`, which has its `received_at`."""

    def withheld(self, messages: Sequence[Any]) -> None:
        """These of it were not handed on, since the stream stops."""


class NoExpander:
    """Where all messages are handed on as they come."""

    kinds: frozenset[type[Message]] = frozenset()

    def expand(self, message: Message) -> Expansion:
        """It is never asked."""
        raise NotImplementedError

    def withheld(self, messages: Sequence[Any]) -> None:
        """As `expand`."""
