"""Deribit's state in one run: the subscriptions of each open request."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from finx_sync.venues.base import (
    Command,
    Confirmed,
    Ignored,
    Outcome,
    Refused,
    Request,
    RequestAnswer,
    ServerError,
    Several,
    Subscription,
    Topic,
    VenueState,
)

__all__ = ["DeribitState", "RpcAnswer"]

KEPT: Final = 1024
"""The number of open requests remembered per connection, so that a server that never answers cannot fill the memory."""


@dataclass(frozen=True)
class RpcAnswer(RequestAnswer):
    """The answer to a subscription request.

    Attributes:
        number: the request's id.
        accepted: the channels that the server has accepted.
        error: the server's words if it refused them all, not yet redacted; otherwise None.
    """

    number: int
    accepted: frozenset[str] = frozenset()
    error: str | None = None


class DeribitState(VenueState):
    """Matches answers to requests.

    Args:
        channel_of: returns the channel of a subscription; pure.
    """

    takes: ClassVar[frozenset[type]] = frozenset({RpcAnswer})

    def __init__(self, channel_of: Callable[[Subscription], str]) -> None:
        self._channel_of = channel_of
        self._asked: dict[Hashable, dict[int, tuple[Subscription, ...]]] = {}

    def requested(self, connection: Hashable, request: Request) -> None:
        if request.number is not None:
            asked = self._asked.setdefault(connection, {})
            asked[request.number] = request.subscriptions
            asked.pop(request.number - KEPT, None)

    def closed(self, connection: Hashable, endpoint: str, now: float) -> Outcome:
        self._asked.pop(connection, None)
        return Outcome()

    def take(self, message: Any, connection: Hashable | None, now: float, wanted: Container[Topic]) -> Outcome:
        return Outcome(commands=(self._meaning(message, connection),))

    def _meaning(self, answer: RpcAnswer, connection: Hashable | None) -> Command:
        subscriptions = self._asked.get(connection, {}).pop(answer.number, ())
        if answer.error is not None:
            said = answer.error
            return (
                Several(tuple(Refused(subscription, said) for subscription in subscriptions))
                if subscriptions
                else ServerError(said)
            )
        if not subscriptions:
            return Ignored()
        return Several(
            tuple(
                Confirmed(subscription)
                if self._channel_of(subscription) in answer.accepted
                else Refused(subscription, "no such channel")
                for subscription in subscriptions
            )
        )
