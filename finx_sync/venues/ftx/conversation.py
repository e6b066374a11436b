"""The unanswered requests of a connection, in order.

FTX's answers contain no request id, and its error frames do not repeat the request either, so answers can only be
matched to requests by their order. A successful login is not answered: the next answer confirms the login before it.
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
    """The open requests of one connection, and the meaning of the server's answers.

    Attributes:
        answers: the answer to each subscription: the reason of a refusal, or None if it was accepted.
        has_ponged: whether the server has answered a ping. A ping follows the first burst of requests, so the server
            has then processed them all.
    """

    def __init__(self) -> None:
        self.answers: dict[Subscription, str | None] = {}
        self.has_ponged = False
        self._login_refused = False  # errors that follow from it are not reported
        self._waiting: list[Request] = []

    def asked(self, request: Request) -> None:
        """Add a request that is about to be sent."""
        self._waiting.append(request)
        if request.op == "subscribe":
            for subscription in request.subscriptions:
                self.answers.pop(subscription, None)

    def answered(self, answer: FtxAnswer) -> Command:
        """Return the command that follows from an answer."""
        if answer.type in OPERATIONS:
            return self._acknowledged(answer)
        return self._failed(answer)

    def _acknowledged(self, answer: FtxAnswer) -> Command:
        op, subscription = OPERATIONS[answer.type], Subscription(answer.channel, answer.market or answer.channel)
        for position, request in enumerate(self._waiting):
            if request.op == op and subscription in request.subscriptions:
                # The requests before it have been answered too, or have succeeded without an answer.
                del self._waiting[: position + 1]
                return self._granted(subscription) if op == "subscribe" else Ignored()
        return Ignored()  # no such request, as in a recording that began after it

    def _granted(self, subscription: Subscription) -> Command:
        self.answers[subscription] = None
        # The first pong confirms all subscriptions at once, so that a gap ends for all of them together.
        return Confirmed(subscription) if self.has_ponged else Ignored()

    def _failed(self, answer: FtxAnswer) -> Command:
        """Match an error frame to a request, and return the command that follows."""
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
            return Ignored()  # a consequence of the refused login; the subscription itself was not refused
        self.answers[subscription] = said
        return Refused(subscription, said)

    def _take(self, market: str | None) -> Request | None:
        """Remove and return the request that the server refused: the oldest one, or the oldest one for `market`."""
        while self._waiting and self._waiting[0].op == "open":  # a login that succeeded without an answer
            del self._waiting[0]
        for position, request in enumerate(self._waiting):
            if market is None or any(subscription.name == market for subscription in request.subscriptions):
                return self._waiting.pop(position)
        return None
