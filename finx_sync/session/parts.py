"""What a run of a stream works with: the user's things, and the venue's."""

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
    """What a run works with; all but `venue` outlives it.

    Attributes:
        codec, account, options: see `Supervisor`.
        handlers, subscriptions, latest, stale_limits: the user's, kept from one start to the next.
        listen: called at every change of state, on the thread that changed it; must not block.
        venue: what the venue remembers in this run; None where it remembers nothing.
        venue_changes: wakes those who wait for something in it to change.
        history: where gaps can be filled from; None where they are not.
        sinks: who follows the stream.
        connections: makes what brings the events; None for connections to the venue.
        outlet: where a relay is attached.
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
    connections: MakeConnections | None = None
    outlet: Outlet = field(default_factory=Outlet)
