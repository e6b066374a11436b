"""The objects that a run of a stream works with: the user's and the venue's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from finx_sync.config import Account
from finx_sync.interrupts import Notifier
from finx_sync.pipeline.backfill import History
from finx_sync.pipeline.handlers import Handlers
from finx_sync.pipeline.health import StaleLimits
from finx_sync.pipeline.latest import LastValues
from finx_sync.pipeline.output import Outlet
from finx_sync.pipeline.sinks import Sinks
from finx_sync.session.manager import MakeConnections
from finx_sync.session.options import Options
from finx_sync.session.subscriptions import Subscriptions
from finx_sync.state import StateChange
from finx_sync.venues.base import Codec, VenueState

__all__ = ["Listener", "SessionParts"]

Listener = Callable[[StateChange], object]


@dataclass(frozen=True)
class SessionParts:
    """The objects that a run works with; all but `venue` outlive it.

    Attributes:
        codec, account, options: see `Supervisor`.
        handlers, subscriptions, latest, stale_limits: the user's; they are kept from one start to the next.
        listen: called at every change of state, on the thread that changed it; must not block.
        venue: the venue's state in this run; None if the venue keeps none.
        venue_changes: notified when that state changes.
        history: the source from which gaps are filled; None if they are not filled.
        sinks: the sinks that follow the stream.
        outlet: where a relay is attached.
        connections: makes the source of the events; None for connections to the venue.
    """

    codec: Codec
    account: Account
    options: Options
    handlers: Handlers
    subscriptions: Subscriptions
    latest: LastValues
    stale_limits: StaleLimits
    listen: Listener
    venue: VenueState | None
    venue_changes: Notifier
    history: History | None = None
    sinks: Sinks = field(default_factory=Sinks)
    outlet: Outlet = field(default_factory=Outlet)
    connections: MakeConnections | None = None
