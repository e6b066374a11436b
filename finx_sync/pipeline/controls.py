"""What the library itself does about messages that are for it and not for the user. On the dispatch thread."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from finx_sync.errors import (
    LONGEST_COMPLAINT,
    AuthorizationError,
    ConnectionLostError,
    FinxSyncError,
    ServerRefusedError,
    SubscriptionRefusedError,
)
from finx_sync.pipeline.delivery import Fate
from finx_sync.pipeline.gaps import Continuity
from finx_sync.pipeline.queue import Connection
from finx_sync.pipeline.venue import VenueDriver
from finx_sync.redaction import excerpt, shown
from finx_sync.session.subscriptions import Subscriptions
from finx_sync.session.supervisor import Supervisor
from finx_sync.venues.base import (
    Authentication,
    Confirmed,
    Ignored,
    KeepAliveReply,
    Postponed,
    Reconnect,
    Refused,
    ServerError,
    Several,
    Subscription,
    Unreadable,
)

__all__ = ["Controls"]

logger = logging.getLogger("finx_sync")

LOGGED: Final = 100
"""Errors of one kind that are logged one by one."""


class Controls:
    """Acts on control messages.

    Args:
        venue: its name, for the log.
        subscriptions: the user's wishes.
        continuity: told of what proves that subscriptions flow.
        line_of: the supervisor whose present connection is this one; None when it has gone on to another.
        tell: calls the handlers of a topic; returns whether there was one.
        driver: told of what was refused, and of messages that could not be read, after `on_error` was.
    """

    def __init__(
        self,
        venue: str,
        *,
        subscriptions: Subscriptions,
        continuity: Continuity,
        endpoint_of: Callable[[Connection], Supervisor | None],
        notify: Callable[[str, object], bool],
        driver: VenueDriver,
    ) -> None:
        self._venue = venue
        self._subscriptions = subscriptions
        self._continuity = continuity
        self._endpoint_of = endpoint_of
        self._notify = notify
        self._driver = driver
        self._postponed: dict[Subscription, float] = {}  # when to ask for it again, monotonic
        self._doubted: dict[str, bool] = {}  # lines with unreadable messages since the last round; whether with several
        self._logged: Counter[str] = Counter()

    def take(self, message: Any, connection: Connection) -> Fate:
        """Act on a decoded thing that is no user message; returns what became of it."""
        if isinstance(message, Unreadable):
            self._report(message.error, "a message could not be read")
            self._doubt(connection.line)
            return "unreadable"
        line = self._endpoint_of(connection)
        match message:
            case Authentication():
                self._authentication(message, line)
            case ServerError(said=said):
                self._server_error(said, line)
            case Refused() | Postponed() | Confirmed():
                self._subscription(message)
            case Reconnect(said=said):
                self._reconnect(said, line)
            case KeepAliveReply():
                if line is not None:
                    line.answers_probes = True
                self._continuity.answered(connection)
            case Several(parts=parts):
                for part in parts:
                    self.take(part, connection)
            case _:
                return "control" if isinstance(message, Ignored) else "unknown"
        return "control"

    def report(self, error: FinxSyncError) -> None:
        """Pass an error of the venue's to `on_error`."""
        self._report(error, self._venue)

    def round(self) -> None:
        """Ask again for what the server has postponed, where it is time. Called now and then."""
        for subscription in [subscription for subscription, due in self._postponed.items() if time.monotonic() >= due]:
            del self._postponed[subscription]
            self._subscriptions.again(subscription)

    def settle_doubts(self) -> None:
        """Tell the venue once of all that could not be read since it was told first. Called now and then."""
        doubted, self._doubted = self._doubted, {}
        for line in [line for line, several in doubted.items() if several]:
            self._driver.unreadable(line)

    def _doubt(self, line: str) -> None:
        """Something on this line could not be read. What is to be done about that is done at once, but for a flood.

        A venue may look at everything that it has asked for: once now, and once in the next round for all that came
        until then.
        """
        if line in self._doubted:
            self._doubted[line] = True
        else:
            self._doubted[line] = False
            self._driver.unreadable(line)

    def _subscription(self, message: Refused | Postponed | Confirmed) -> None:
        """What the server says about a subscription."""
        subscription = message.subscription
        if isinstance(message, Confirmed):
            self._continuity.confirmed(subscription)
        elif isinstance(message, Postponed):
            logger.info("%s: %s is to be asked for again in %.1f s", self._venue, subscription.name, message.seconds)
            self._postponed[subscription] = time.monotonic() + message.seconds
        else:
            self._subscriptions.refused(subscription)
            self._driver.removed(subscription)
            self._continuity.unwanted(subscription)
            self._report(SubscriptionRefusedError(subscription.kind, subscription.name, message.said), self._venue)

    def _authentication(self, verdict: Authentication, line: Supervisor | None) -> None:
        if line is not None and verdict.accepted:
            line.confirm()
        elif not verdict.accepted:
            refusal = _refused(verdict.said or "isAuth: false")
            if line is not None:
                line.refuse(refusal)
            else:  # its connection has gone meanwhile, and is being tried again
                self._report(refusal, self._venue)

    def _reconnect(self, said: str, line: Supervisor | None) -> None:
        if line is not None:
            why = shown(said, LONGEST_COMPLAINT)
            line.reconnect(ConnectionLostError(f"the server asked for a new connection: {why}"), "server")

    def _server_error(self, said: str, line: Supervisor | None) -> None:
        if line is not None and not line.confirmed:
            line.refuse(_refused(said))
        else:
            self._report(ServerRefusedError("stream", said), f"{self._venue}: the server reports an error")

    def _report(self, error: FinxSyncError, what: str) -> None:
        """To `on_error`; to the log where nobody listens, which a server cannot flood."""
        if self._notify("error", error):
            return
        self._logged[what] += 1
        count = self._logged[what]
        if count <= LOGGED:
            logger.warning("%s: %s", what, error)
        elif str(count).strip("0") == "1":
            logger.warning(
                "%s: %s (%d times so far; only the 1000th, 10000th and so on are logged)", what, error, count
            )


def _refused(said: str) -> AuthorizationError:
    return AuthorizationError(
        f"the server refused the key and said {excerpt(said, LONGEST_COMPLAINT)!r}; check the key "
        "(FinX keys change every 24 hours; a signature also needs the right secret and a clock that is right)"
    )
