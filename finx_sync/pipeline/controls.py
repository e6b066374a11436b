"""Acts on control messages, which are for the library and not for the user. Runs on the dispatch thread."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any, Final

from finx_sync.errors import (
    LONGEST_COMPLAINT,
    AuthorizationError,
    ConnectionLostError,
    FinxSyncError,
    ServerRefusedError,
    SubscriptionRefusedError,
)
from finx_sync.events import Connection
from finx_sync.pipeline.commands import (
    AskAgain,
    CommandSink,
    Confirm,
    DropSubscription,
    ProbeAnswered,
    Refuse,
    RenewConnection,
)
from finx_sync.pipeline.delivery import Delivery, Disposition
from finx_sync.pipeline.gaps import GapTracker
from finx_sync.pipeline.venue import VenueDriver
from finx_sync.pipeline.wanted import Wanted
from finx_sync.redaction import excerpt, shown
from finx_sync.venues.base import (
    Authentication,
    Command,
    Confirmed,
    Ignored,
    KeepAliveReply,
    Notify,
    Postponed,
    Reconnect,
    Refused,
    Report,
    Resubscribe,
    ServerError,
    Several,
    Subscription,
    Unreadable,
)

__all__ = ["Controls"]

logger = logging.getLogger("finx_sync")

LOGGED: Final = 100
"""The number of errors of one kind that are logged one by one."""


class Controls:
    """Acts on control messages and on the commands of the venue's state.

    Args:
        name: the name of the venue, for the log.
        wanted: the wanted subscriptions.
        gaps: notified of messages that prove that subscriptions work.
        delivery: calls the error handlers.
        venue: notified of refused subscriptions and unreadable messages, after the handlers.
        commands: executes commands that concern connections and subscriptions.
    """

    def __init__(
        self,
        name: str,
        *,
        wanted: Wanted,
        gaps: GapTracker,
        delivery: Delivery,
        venue: VenueDriver,
        commands: CommandSink,
    ) -> None:
        self._name = name
        self._wanted = wanted
        self._gaps = gaps
        self._delivery = delivery
        self._venue = venue
        self._commands = commands
        self._postponed: dict[Subscription, float] = {}  # when to request it again, monotonic
        self._doubted: dict[str, bool] = {}  # endpoints with unreadable messages since the last timer: more than one?
        self._logged: Counter[str] = Counter()

    def take(self, message: Any, connection: Connection) -> Disposition:
        """Act on a decoded message that is not for the user. Returns its disposition."""
        if type(message) in self._venue.answers:
            for command in self._venue.answer(message, connection).commands:
                self.obey(command, connection)
            return "control"
        if isinstance(message, Unreadable):
            self.report(message.error, "a message could not be read")
            self._doubt(connection.endpoint)
            return "unreadable"
        return self._control(message, connection)

    def obey(self, command: Command, connection: Connection | None = None) -> None:
        """Execute a command of the venue's state. `connection` is None if no connection's message caused it."""
        match command:
            case Report():
                self.report(command.error, self._name)
            case Resubscribe():
                self._log_resubscription(command)
                self._commands.execute(command)
            case Notify():
                self._commands.execute(command)
            case _ if connection is not None:
                self._control(command, connection)

    def _control(self, message: Any, connection: Connection) -> Disposition:
        match message:
            case Authentication():
                self._authentication(message, connection)
            case ServerError(said=said):
                self._server_error(said, connection)
            case Refused() | Postponed() | Confirmed():
                self._subscription(message)
            case Reconnect(said=said):
                why = shown(said, LONGEST_COMPLAINT)
                error = ConnectionLostError(f"the server asked for a new connection: {why}")
                self._commands.execute(RenewConnection(connection, error, "server"))
            case KeepAliveReply():
                self._commands.execute(ProbeAnswered(connection))
                self._gaps.answered(connection)
            case Several(parts=parts):
                for part in parts:
                    self._control(part, connection)
            case _:
                return "control" if isinstance(message, Ignored) else "unknown"
        return "control"

    def fire_timer(self, now: float) -> None:
        """Do what is due at `now`, monotonic seconds."""
        for subscription in [one for one, due in self._postponed.items() if now >= due]:
            del self._postponed[subscription]
            self._commands.execute(AskAgain(subscription))
        # One call for all messages that could not be decoded since the first one was reported.
        doubted, self._doubted = self._doubted, {}
        for endpoint in [endpoint for endpoint, several in doubted.items() if several]:
            self._venue.unreadable(endpoint)

    def _doubt(self, endpoint: str) -> None:
        """A message of an endpoint could not be decoded. Notify the venue, at most twice between two timers.

        A venue may check all its subscriptions each time. It is therefore notified of the first such message at once,
        and at the next timer of all that followed.
        """
        if endpoint in self._doubted:
            self._doubted[endpoint] = True
        else:
            self._doubted[endpoint] = False
            self._venue.unreadable(endpoint)

    def _subscription(self, message: Refused | Postponed | Confirmed) -> None:
        """Act on the server's answer about a subscription."""
        subscription = message.subscription
        if isinstance(message, Confirmed):
            self._gaps.confirmed(subscription)
        elif isinstance(message, Postponed):
            logger.info("%s: %s will be requested again in %.1f s", self._name, subscription.name, message.seconds)
            self._postponed[subscription] = self._delivery.now + message.seconds
        else:
            self._commands.execute(DropSubscription(subscription))
            self._wanted.remove(subscription)
            self._venue.removed(subscription)
            self._gaps.removed(subscription)
            self._delivery.subscription("removed", subscription)
            error = SubscriptionRefusedError(subscription.kind, subscription.name, message.said)
            self.report(error, self._name)

    def _authentication(self, answer: Authentication, connection: Connection) -> None:
        if answer.accepted:
            self._commands.execute(Confirm(connection))
            return
        refusal = _refused(answer.said or "isAuth: false")
        if connection.is_over:  # another key is being tried
            self.report(refusal, self._name)
        else:
            self._commands.execute(Refuse(connection, refusal))

    def _server_error(self, said: str, connection: Connection) -> None:
        if connection.is_over or connection.is_confirmed:
            self.report(ServerRefusedError("stream", said), f"{self._name}: the server reports an error")
        else:
            self._commands.execute(Refuse(connection, _refused(said)))

    def report(self, error: FinxSyncError, what: str) -> None:
        """Report an error to the error handlers. If there are none, log it, but not so often that it floods the log."""
        if self._delivery.notify("error", error):
            return
        self._logged[what] += 1
        count = self._logged[what]
        if count <= LOGGED:
            logger.warning("%s: %s", what, error)
        elif str(count).strip("0") == "1":
            logger.warning(
                "%s: %s (%d times so far; only the 1000th, 10000th and so on are logged)", what, error, count
            )

    def _log_resubscription(self, command: Resubscribe) -> None:
        if command.why:
            names = ", ".join(sorted(subscription.name for subscription in command.subscriptions))
            logger.warning("%s: %s; asking again for %s", self._name, command.why, names)


def _refused(said: str) -> AuthorizationError:
    return AuthorizationError(
        f"the server refused the key and said {excerpt(said, LONGEST_COMPLAINT)!r}; check the key "
        "(FinX keys change every 24 hours; a signature also needs the right secret and a clock that is right)"
    )
