"""The commands that the pipeline issues instead of calling connections itself.

A live session executes them at once, on the dispatch thread. A replay has no connections and ignores them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from finx_sync.errors import FinxSyncError
from finx_sync.events import Connection
from finx_sync.notices import GapReason
from finx_sync.venues.base import Notify, Resubscribe, Subscription

__all__ = [
    "AskAgain",
    "Command",
    "CommandSink",
    "Confirm",
    "DropSubscription",
    "FailStream",
    "NoCommands",
    "ProbeAnswered",
    "Refuse",
    "RenewConnection",
    "Replace",
]


@dataclass(frozen=True)
class Confirm:
    """Mark a connection as confirmed: the server has accepted its key."""

    connection: Connection


@dataclass(frozen=True)
class Refuse:
    """Close a connection and do not reconnect with its key, which the server has refused."""

    connection: Connection
    error: FinxSyncError


@dataclass(frozen=True)
class RenewConnection:
    """Close a connection and open a new one at once; `reason` is the reason of the gap."""

    connection: Connection
    error: FinxSyncError
    reason: GapReason


@dataclass(frozen=True)
class Replace:
    """Replace the connection of an endpoint by a new one, which is open and subscribed before the old one closes."""

    endpoint: str
    reason: GapReason


@dataclass(frozen=True)
class ProbeAnswered:
    """Note that the server has answered a keep-alive on a connection, so that silence is a fault from now on."""

    connection: Connection


@dataclass(frozen=True)
class DropSubscription:
    """Drop a subscription that the server has refused."""

    subscription: Subscription


@dataclass(frozen=True)
class AskAgain:
    """Request a subscription again if it is still wanted."""

    subscription: Subscription


@dataclass(frozen=True)
class FailStream:
    """End the stream with an error."""

    error: FinxSyncError


Command = (
    Confirm
    | Refuse
    | RenewConnection
    | Replace
    | ProbeAnswered
    | DropSubscription
    | AskAgain
    | FailStream
    | Resubscribe
    | Notify
)


class CommandSink(Protocol):
    """Executes the pipeline's commands. Called on the dispatch thread; must not block and must not call handlers."""

    def execute(self, command: Command) -> None:
        """Execute a command."""


class NoCommands:
    """Ignores all commands. For replays: whatever followed from a command is in the recording."""

    def execute(self, command: Command) -> None:
        """Do nothing."""
