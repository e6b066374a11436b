"""What a session works with: the user's things, and the venue's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from finx_sync.config import Account
from finx_sync.pipeline.backfill import History
from finx_sync.pipeline.handlers import Handlers
from finx_sync.pipeline.latest import LastValues
from finx_sync.pipeline.tap import Taps
from finx_sync.session.options import Options
from finx_sync.session.state import StateChange
from finx_sync.session.subscriptions import Subscriptions
from finx_sync.venues.base import Dialect, Subscription, VenueState

__all__ = ["SessionParts"]


@dataclass(frozen=True)
class SessionParts:
    """What a session works with; all but `venue` outlives the session.

    Attributes:
        dialect, account, options: see `Supervisor`.
        handlers, subscriptions, latest: the user's, kept from one start to the next.
        stale_limits: the subscriptions with the seconds that each may be silent.
        listen: told of every change of state at once, on the thread that changed it; must not block.
        venue: what the venue remembers in this run; None where it remembers nothing.
        venue_changed: told, on the dispatch thread, that something which other threads may wait for has changed in it.
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
    venue: VenueState | None
    venue_changed: Callable[[], object]
    history: History | None = None
    taps: Taps = field(default_factory=Taps)
