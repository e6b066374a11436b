"""What was asked on a connection and not yet answered, in order.

FTX's answers hold no request id, and its error frames do not even repeat the request, so the order is all there is to
tie them by. A login that succeeds is answered by silence: whatever is answered next confirms what came before it.
"""

from __future__ import annotations

from typing import Final

from finx_sync.venues.base import (
    Authentication,
    Command,
    Confirmed,
    Ignored,
    Refused,
    Request,
    ServerError,
    Subscription,
)
from finx_sync.venues.ftx.messages import FtxAnswer

__all__ = ["FtxConversation"]

BAD_LOGIN: Final = "Invalid login credentials"
LOGGED_IN: Final = "Already logged in"
NOT_LOGGED_IN: Final = "Not logged in"
ALREADY: Final = "Already subscribed"
NO_MARKET: Final = "No such market: "

OPERATIONS: Final = {"subscribed": "subscribe", "unsubscribed": "unsubscribe"}


class FtxConversation:
    """The open requests of one connection, and what the server's answers to them mean.

    Attributes:
        answers: what the server has said to each subscription; None for granted.
        has_ponged: whether it has answered a ping: then the first burst of requests, which one follows, is behind it.
    """

    def __init__(self) -> None:
        self.answers: dict[Subscription, str | None] = {}
        self.has_ponged = False
        self._login_refused = False  # what follows from that is no news
        self._waiting: list[Request] = []

    def asked(self, request: Request) -> None:
        """A request is about to be sent."""
        self._waiting.append(request)
        if request.op == "subscribe":
            for subscription in request.subscriptions:
                self.answers.pop(subscription, None)

    def answered(self, answer: FtxAnswer) -> Command:
        """What an answer means for the stream."""
        if answer.type in OPERATIONS:
            return self._acknowledged(answer)
        return self._failed(answer)

    def _acknowledged(self, answer: FtxAnswer) -> Command:
        op, subscription = OPERATIONS[answer.type], Subscription(answer.channel, answer.market or answer.channel)
        for position, request in enumerate(self._waiting):
            if request.op == op and subscription in request.subscriptions:
                # What was asked before that has had its answer, be it silence.
                del self._waiting[: position + 1]
                return self._granted(subscription) if op == "subscribe" else Ignored()
        return Ignored()  # nobody asked, as in a recording that began later

    def _granted(self, subscription: Subscription) -> Command:
        self.answers[subscription] = None
        # At first the pong proves all subscriptions together, so that a gap ends for all of them at once.
        return Confirmed(subscription) if self.has_ponged else Ignored()

    def _failed(self, answer: FtxAnswer) -> Command:
        """What an error frame means, and for which request."""
        message, said = answer.message, answer.said
        if message.startswith((BAD_LOGIN, LOGGED_IN)):
            if self._waiting and self._waiting[0].op == "open":
                del self._waiting[0]
            self._login_refused |= message.startswith(BAD_LOGIN)
            return Authentication(message.startswith(LOGGED_IN), said)
        request = self._take(message.removeprefix(NO_MARKET) if message.startswith(NO_MARKET) else None)
        if request is None or not request.subscriptions:
            return ServerError(said)
        (subscription,) = request.subscriptions
        if request.op == "unsubscribe":
            return ServerError(f"{said} (to: {request.op} {subscription.kind} {subscription.name})")
        if message.startswith(ALREADY):
            return self._granted(subscription)
        if message.startswith(NOT_LOGGED_IN) and self._login_refused:
            return Ignored()  # a consequence of what is known; the subscription itself still stands
        self.answers[subscription] = said
        return Refused(subscription, said)

    def _take(self, market: str | None) -> Request | None:
        """The request that the server said no to, naming a market or not."""
        while self._waiting and self._waiting[0].op == "open":  # it succeeded silently
            del self._waiting[0]
        for position, request in enumerate(self._waiting):
            if market is None or any(subscription.name == market for subscription in request.subscriptions):
                return self._waiting.pop(position)
        return None
