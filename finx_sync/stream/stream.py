"""`Stream`: the base of every venue's stream. It connects the layers and knows no protocol."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from finx_sync import embedded, forks
from finx_sync.config import Account, check_secrecy
from finx_sync.errors import FinxSyncError
from finx_sync.interrupts import Notifier
from finx_sync.messages import Message
from finx_sync.notices import Drift, Gap, Lag, Stale
from finx_sync.pipeline.backfill import History
from finx_sync.pipeline.counters import Counters
from finx_sync.pipeline.handlers import Handlers, check_handler
from finx_sync.pipeline.health import StaleLimits
from finx_sync.pipeline.iterator import M, OpenIterators
from finx_sync.pipeline.latest import LastTable, LastValues
from finx_sync.pipeline.output import Outlet
from finx_sync.pipeline.sinks import Sinks
from finx_sync.relay.source import reading_from
from finx_sync.session.options import Options, StreamOptions, takes_options
from finx_sync.session.parts import SessionParts
from finx_sync.session.subscriptions import Subscriptions
from finx_sync.state import State, StateChange
from finx_sync.stream.checks import checked_limit, names_of_handler
from finx_sync.stream.lifecycle import Lifecycle
from finx_sync.stream.relaying import StreamUpstream
from finx_sync.stream.stats import Stats, handler_stats
from finx_sync.venues.base import Codec, Subscription, VenueState

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Stream"]

H = TypeVar("H", bound=Callable[..., object])
TextHandler = TypeVar("TextHandler", bound=Callable[[str], object])
ErrorHandler = TypeVar("ErrorHandler", bound=Callable[[FinxSyncError], object])
StateHandler = TypeVar("StateHandler", bound=Callable[[StateChange], object])
GapHandler = TypeVar("GapHandler", bound=Callable[[Gap], object])
StaleHandler = TypeVar("StaleHandler", bound=Callable[[Stale], object])
DriftHandler = TypeVar("DriftHandler", bound=Callable[[Drift], object])
LagHandler = TypeVar("LagHandler", bound=Callable[[Lag], object])


class Stream(Lifecycle[M]):
    """Pass live messages to callbacks. The base of every venue's stream.

    Any thread may call any method. Handlers run on the dispatch thread, one at a time, in the order of arrival. The
    blocking methods (`start`, `run`, `ticks`, `take`, `wait_for`) refuse to run on that thread, since they would wait
    for themselves.

    Args:
        codec: the venue's protocol.
        account: the server's address, and the credentials.
        options: see `Options`.

    Raises:
        ConfigError: an option does not exist or is invalid, or credentials would go over ws:// to another machine.
    """

    @takes_options()
    def __init__(self, codec: Codec, account: Account, **options: Unpack[StreamOptions]) -> None:
        self._codec = codec
        self._account = account
        self._options = Options(**options)
        check_secrecy(account.base_url, account.key, allow_insecure=self._options.allow_insecure)
        self._connections = None if account.feed is None else reading_from(account.feed, codec.venue)
        self._handlers = Handlers()
        self._subscriptions = Subscriptions(codec)
        self._stale_limits = StaleLimits(self._options.stale_after)
        self._latest: LastValues = {kind: LastTable(codec.decode) for kind in codec.message_types}
        self._venue_lock = threading.RLock()  # guards the parts of a venue's state that any thread may read
        self._venue_changes = Notifier()  # notifies threads that wait for a change of that state
        self._venue = self._new_venue(None)  # the state of the current run, or of the first run before it begins
        self._live_venue: VenueState | None = None  # the state of the last live run
        self._lease = embedded.SandboxLease()
        self._init_lifecycle()
        self._iterators = OpenIterators()
        self._sinks = Sinks()
        self._outlet = Outlet()
        self._recording = None
        forks.watch(self, Stream._forked)

    # The embedded sandbox runs as long as a stream uses it.

    def _before_start(self) -> None:
        if self._account.base_url is None and self._account.feed is None:
            self._codec.go_to(self._lease.begin())

    def _after_end(self) -> None:
        self._lease.end()

    # What a run works with

    def _new_venue(self, after: VenueState | None) -> VenueState | None:
        """Return the venue's state for one run; see `Codec.new_state`."""
        return self._codec.new_state(self._venue_lock, after)

    def _next_venue(self, *, live: bool) -> VenueState | None:
        """Return the venue's state for a run that begins; a replay's state knows nothing of live runs."""
        if self._session is not None:
            self._venue = self._new_venue(self._live_venue if live else None)
        if live:
            self._live_venue = self._venue
        return self._venue

    def _session_parts(self, *, live: bool) -> SessionParts:
        return SessionParts(
            self._codec,
            self._account,
            self._options,
            self._handlers,
            self._subscriptions,
            self._latest,
            self._stale_limits,
            self._iterators.state_changed,
            self._next_venue(live=live),
            self._venue_changes,
            self._history() if live and self._options.backfill else None,
            self._sinks,
            self._outlet,
            connections=self._connections,
        )

    def _upstream(self) -> StreamUpstream:
        """Return what a relay needs of this stream."""
        return StreamUpstream(self, self._codec, self._outlet)

    def _history(self) -> History | None:
        """Return the history that gaps are filled from; None if the venue has no history."""
        return None

    @property
    def state(self) -> State:
        """The stream's current state."""
        session = self._session
        return State.NEW if session is None else session.state.state

    @property
    def is_connected(self) -> bool:
        """Whether the stream is open now."""
        return self.state is State.OPEN

    @property
    def failure(self) -> FinxSyncError | None:
        """The error that ended the stream; None unless its state is FAILED."""
        session = self._session
        return None if session is None else session.state.failure

    def stats(self) -> Stats:
        """Return the statistics of this run."""
        session = self._session
        return Stats(
            state=State.NEW if session is None else session.state.state,
            messages=Counters() if session is None else session.counters(),
            reconnects=0 if session is None else session.reconnects,
            handlers=tuple(handler_stats(one) for one in self._handlers.snapshot()),
            lag=0.0 if session is None else session.lag(),
        )

    def __repr__(self) -> str:
        wanted = len(self._subscriptions.desired())
        return f"<{type(self).__name__} {self._account!r} {self.state.value}, {wanted} subscriptions>"

    # Handlers

    def on_message(self, handler: TextHandler) -> TextHandler:
        """Call `handler(text)` with the raw text of every message, before the typed handlers."""
        self._handlers.add("message", handler)
        return handler

    def on_error(self, handler: ErrorHandler) -> ErrorHandler:
        """Call `handler(error)` when a handler raised, a message could not be read, or the server reports an error."""
        self._handlers.add("error", handler)
        return handler

    def on_state(self, handler: StateHandler) -> StateHandler:
        """Call `handler(change)` with a `StateChange` whenever the state changes."""
        self._handlers.add("state", handler)
        return handler

    def off(self, handler: Callable[..., object]) -> bool:
        """Remove a handler from wherever it is registered; return whether it was registered."""
        check_handler(handler)
        return self._handlers.remove(handler) > 0

    def on_gap(self, handler: GapHandler) -> GapHandler:
        """Call `handler(gap)` with a `Gap` when messages were or may have been missed, before the next message."""
        self._handlers.add("gap", handler)
        return handler

    def on_stale(self, handler: StaleHandler) -> StaleHandler:
        """Call `handler(stale)` with a `Stale` when a subscription has been silent for its `stale_after`.

        It is called once for each silence. The connection may be fine: see `Stale.connected`.
        """
        self._handlers.add("stale", handler)
        return handler

    def on_drift(self, handler: DriftHandler) -> DriftHandler:
        """Call `handler(drift)` with a `Drift` when a feed falls behind while data flows, and when it has caught up.

        Drift is reported within half a minute if a message comes at least every two seconds, and again whenever the lag
        has doubled. It is measured by the venue's own times, so nothing is reported if messages carry no time.
        """
        self._handlers.add("drift", handler)
        return handler

    def on_lag(self, handler: LagHandler) -> LagHandler:
        """Call `handler(lag)` with a `Lag` when the handlers fall behind by `max_lag`, and when they have caught up."""
        self._handlers.add("lag", handler)
        return handler

    def _register(self, kind: type[Message], first: Any, names: tuple[Any, ...]) -> Any:
        """Register a handler by `@on`, `@on("NAME", ...)`, `on(handler)` or `on(handler, "NAME", ...)`."""
        wanted = names_of_handler((first, *names) if isinstance(first, str) else names)
        for name in wanted:
            self._check_name(kind, name)
        if isinstance(first, str):

            def decorator(handler: H) -> H:
                self._handlers.add(kind, handler, wanted)
                return handler

            return decorator
        self._handlers.add(kind, first, wanted or None)
        return first

    def _check_name(self, kind: type[Message], name: str) -> None:
        """Refuse a name that no subscription to messages of a type can have.

        Raises:
            InvalidInputError: no such subscription can have the name.
        """

    # Subscriptions

    def _subscribe(self, *subscriptions: Subscription, stale_after: float | None = None) -> None:
        if stale_after is not None:
            self._stale_limits.set(checked_limit("stale_after", stale_after), *subscriptions)
        # Another thread may start a new run at any line. The old run gets the subscriptions first; a new run either
        # finds them in `_subscriptions` when it begins, or gets them below.
        before = self._session
        if before is not None:
            before.add(*subscriptions)
        self._subscriptions.add(*subscriptions)
        session = self._session
        if session is not None:
            if session is not before:  # a run that began meanwhile may have missed them
                session.add(*subscriptions)
            session.adjust()

    def _unsubscribe(self, subscription: Subscription) -> bool:
        before = self._session
        if before is not None:
            before.remove(subscription)
        removed = self._subscriptions.remove(subscription)
        self._stale_limits.forget(subscription)
        session = self._session
        if session is not None:
            if session is not before:
                session.remove(subscription)
            session.adjust()
        return removed
