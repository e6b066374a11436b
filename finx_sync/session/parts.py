"""What a session works with: the user's things, and the venue's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from finx_sync.config import Account
from finx_sync.dispatch.handlers import Handlers
from finx_sync.dispatch.latest import LastValues
from finx_sync.dispatch.tap import Taps
from finx_sync.notices import Gap
from finx_sync.session.backfill import History
from finx_sync.session.options import Options
from finx_sync.session.state import StateChange
from finx_sync.session.subscriptions import Subscriptions
from finx_sync.venues.base import Dialect, Subscription

__all__ = ["SessionParts"]


@dataclass(frozen=True)
class SessionParts:
    """What a session works with; it outlives the session.

    Attributes:
        dialect, account, options: see `Supervisor`.
        handlers, subscriptions, latest: the user's, kept from one start to the next.
        stale_limits: the subscriptions with the seconds that each may be silent.
        listen: told of every change of state at once, on the thread that changed it; must not block.
        connection_changed: told, on the dispatch thread and in order with the messages, of a connection's line and
            whether it is open now.
        missed: told, on the dispatch thread, of every gap.
        unreadable: told, on the dispatch thread, of the line of a message that could not be read.
        round: called on the dispatch thread at least twice a second, if no handler keeps it.
        history: where gaps can be filled from; None where the venue has no history.
        taps: who listens in.
    """

    dialect: Dialect
    account: Account
    options: Options
    handlers: Handlers
    subscriptions: Subscriptions
    latest: LastValues
    stale_limits: Callable[[], Iterable[tuple[Subscription, float]]]
    listen: Callable[[StateChange], None]
    connection_changed: Callable[[str, bool], None]
    missed: Callable[[Gap], object]
    unreadable: Callable[[str], object]
    round: Callable[[], object]
    history: History | None = None
    taps: Taps = field(default_factory=Taps)
