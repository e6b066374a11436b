"""What the pipeline wants done: it calls no connection, it says what is to happen, and whoever runs it does that.

A live session executes commands at once, on the dispatch thread; a replay has nobody to ask, and ignores them.
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
    """The server has taken the key on a connection."""

    connection: Connection


@dataclass(frozen=True)
class Refuse:
    """The server has refused the key on a connection: close it, and do not come back with this key."""

    connection: Connection
    error: FinxSyncError


@dataclass(frozen=True)
class RenewConnection:
    """Close a connection and open another at once; `reason` is what the gap is called."""

    connection: Connection
    error: FinxSyncError
    reason: GapReason


@dataclass(frozen=True)
class Replace:
    """Replace the connection of an endpoint by a new one that is open and subscribed before the old one goes."""

    endpoint: str
    reason: GapReason


@dataclass(frozen=True)
class ProbeAnswered:
    """The server has answered a keep-alive on this connection, so its silence means something from now on."""

    connection: Connection


@dataclass(frozen=True)
class DropSubscription:
    """The server does not grant a subscription: ask for it no more."""

    subscription: Subscription


@dataclass(frozen=True)
class AskAgain:
    """Ask for a subscription once more, if it is still wanted."""

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
    """Does what the pipeline wants done. On the dispatch thread; must not block, nor call handlers."""

    def execute(self, command: Command) -> None:
        """Do it."""


class NoCommands:
    """A replay's: everything that followed from a command is in the recording."""

    def execute(self, command: Command) -> None:
        """There is nobody to ask."""
