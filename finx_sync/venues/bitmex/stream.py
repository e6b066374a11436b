"""`BitmexStream`: merges BitMEX's tables and passes their rows to handlers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from finx_sync.config import account_of
from finx_sync.errors import ConfigError, StreamTimeoutError, UsageError
from finx_sync.pipeline.iterator import MessageIterator
from finx_sync.session.options import StreamOptions, takes_options
from finx_sync.state import ENDED
from finx_sync.stream import Stream
from finx_sync.stream.checks import checked_limit, checked_names, checked_switch, names_of_handler, several
from finx_sync.venues.base import VenueState
from finx_sync.venues.bitmex.codec import ENVIRONMENTS, EXAMPLE, BitmexCodec, BitmexCredentials
from finx_sync.venues.bitmex.messages import TableItem
from finx_sync.venues.bitmex.state import ROWS, BitmexState, rows_of
from finx_sync.venues.bitmex.storage import Storage
from finx_sync.venues.bitmex.topics import PRIVATE_TABLES, SYMBOLLESS_TABLES, parse_topic, split_topic

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["BitmexStream"]

TableHandler = TypeVar("TableHandler", bound=Callable[[TableItem], object])

CHANNELS: Final = ("instrument", "quote", "trade", "tradeBin1m")
"""The default tables of each symbol, as in the client that this venue is modelled on (bitmex-trio-websocket)."""
PRIVATE_CHANNELS: Final = ("margin", "position", "order", "execution")
"""The tables of an account, as in the same client."""
SWITCH_DEFAULT: Final = 60.0
SWITCH_MINIMUM: Final = 20.0
SWITCH_MAXIMUM: Final = 86_400.0
"""Seconds. The switch is renewed every 15 s, so it must be longer; a switch of more than a day is useless."""


class BitmexStream(Stream[TableItem]):
    """A stream from BitMEX. Creating one does no I/O.

    Handlers and iterators get a `TableItem`, which unpacks into ``(item, symbol, table, action)``; `item` is the
    complete row after the change. `storage` holds all tables; a new connection empties it until the server's images
    arrive.

    Args:
        symbols: one or several symbols; the stream subscribes to all `channels` of each.
        environment: "production" (the default, which BitMEX calls the mainnet), "test" or "sandbox" (embedded).
        url: another address, like "wss://host/realtime", or that of a relay's feed, like "redis://host".
        api_key, api_secret: both or neither. If they are given, the stream also subscribes to the account's tables
            margin, position, order and execution.
        dead_mans_switch: seconds after which BitMEX cancels all orders of the account if the switch is not renewed;
            at least 20, because it is renewed every 15 seconds while connected. True means 60 seconds. The switch is
            still active after the stream stops.
        channels: the tables to subscribe to for each symbol; those without symbols are subscribed to once.
        deletes: whether to deliver deleted rows too, with their last values and the action "delete".
        options: the options that every stream takes; see `finx_sync.session.options.Options`.

    Raises:
        ConfigError: the environment is unknown, only half of the credentials is given, or an option is invalid.
        InvalidInputError: a symbol or a table is invalid.
    """

    @takes_options()
    def __init__(
        self,
        symbols: str | Iterable[str] | None = None,
        *,
        environment: str | None = None,
        url: str | None = None,
        api_key: str | None = None,
        api_secret: str | None = None,
        dead_mans_switch: float | bool | None = None,
        channels: str | Iterable[str] = CHANNELS,
        deletes: bool = False,
        **options: Unpack[StreamOptions],
    ) -> None:
        account = account_of("bitmex", ENVIRONMENTS, environment, url, EXAMPLE)
        account.key = credentials = _credentials(api_key, api_secret)
        if dead_mans_switch and account.feed is not None:
            raise ConfigError("dead_mans_switch needs a connection to BitMEX, which a feed on Redis does not have")
        self._deletes = checked_switch("deletes", deletes)
        codec = BitmexCodec(account.base_url or "", _switch_after(dead_mans_switch, credentials))
        super().__init__(codec, account, **options)
        tables = several(channels, "channels")
        if not symbols and channels is not CHANNELS:
            raise ConfigError("channels apply to each symbol: give symbols too, or call subscribe() for whole tables")
        for symbol in several(symbols, "symbols"):
            for channel in tables:
                self.subscribe(channel if channel in SYMBOLLESS_TABLES else f"{channel}:{symbol}")
        if credentials is not None:
            self.subscribe(*PRIVATE_CHANNELS)

    # Handlers

    @overload
    def on_table(self, handler: TableHandler, /, *names: str) -> TableHandler: ...
    @overload
    def on_table(self, handler: str, /, *names: str) -> Callable[[TableHandler], TableHandler]: ...
    def on_table(self, handler: Any = None, /, *names: Any) -> Any:
        """Register a handler for every row that changes, or for the rows of a table or of some of its symbols.

        It is a decorator: ``@stream.on_table`` for all rows, ``@stream.on_table("order")`` for a table, or
        ``@stream.on_table("order", "XBTUSD")`` for a symbol in it. A plain call works too:
        ``stream.on_table(handler, "order", "XBTUSD")`` returns the handler. The handler runs on the dispatch thread.

        Raises:
            HandlerError: the handler cannot be called with one argument.
            InvalidInputError: the table or a symbol is invalid.
        """
        if isinstance(handler, str):
            events = _events((handler, *names))

            def decorator(function: TableHandler) -> TableHandler:
                return self._add(function, events)

            return decorator
        return self._add(handler, _events(names))

    def _add(self, handler: TableHandler, events: list[str]) -> TableHandler:
        for event in events:
            self._handlers.add(event, handler)
        return handler

    def _fill(self, iterator: MessageIterator[TableItem], names: tuple[str, ...]) -> None:
        for event in [rows_of(name) for name in names] or [ROWS]:
            self._handlers.add(event, iterator.put)

    # Subscriptions

    def subscribe(self, *topics: str) -> None:
        """Subscribe to tables, now or when the stream starts, and again after every reconnect.

        Args:
            topics: tables ("margin"; "trade" covers all symbols), or tables of one symbol ("trade:XBTUSD").

        Raises:
            InvalidInputError: a topic is invalid.
            ConfigError: a table belongs to an account, but the stream has neither credentials nor a feed.
        """
        for subscription in [parse_topic(one) for one in checked_names(topics)]:
            table = subscription.name.partition(":")[0]
            if table in PRIVATE_TABLES and self._account.key is None and self._account.feed is None:
                raise ConfigError(f"the table {table} belongs to an account: give api_key and api_secret")
            self._subscribe(subscription)

    def unsubscribe(self, *topics: str) -> None:
        """Unsubscribe from tables; their rows are removed at once."""
        for subscription in [parse_topic(one) for one in checked_names(topics)]:
            if self._subscriptions.wants(subscription):
                self._state.forget(subscription.name)
            self._unsubscribe(subscription)

    @property
    def topics(self) -> list[str]:
        """The subscribed topics, in the order in which they were requested, without those that the server refused."""
        return [subscription.name for subscription in self._subscriptions.desired()]

    # Tables

    @property
    def storage(self) -> Storage:
        """All tables of this run in their current state; any thread.

        They can be read after their connection has ended, until the next connection opens. The next run has new tables.
        """
        return self._state.storage

    @property
    def _state(self) -> BitmexState:
        """The state of the current run."""
        assert isinstance(self._venue, BitmexState)
        return self._venue

    def _new_venue(self, after: VenueState | None) -> BitmexState:
        return BitmexState(self._venue_lock, deletes=self._deletes)

    def latest(self, name: str) -> TableItem | None:
        """Return the row of a topic, like "quote:XBTUSD" or "margin", that changed last; None if there is none yet."""
        return self._state.newest(*checked_names((name,)))

    def wait_until_filled(self, *topics: str, timeout: float = 10.0) -> None:
        """Wait until the images of tables have been received. Any thread except the dispatch thread.

        Args:
            topics: the topics to wait for; all subscribed ones if none are given. Refused topics are ignored.
            timeout: seconds.

        Raises:
            StreamTimeoutError: an image was not received in time.
            UsageError: the stream is not running, or this is the dispatch thread.
            FinxSyncError: the error that the stream failed with.
        """
        checked_names(topics)
        checked_limit("timeout", timeout)
        self._refuse_on_dispatch_thread("wait_until_filled")
        deadline = time.monotonic() + timeout
        while True:
            if self.state in ENDED:
                raise self.failure or UsageError("the stream is not running; start() it first")
            if not (missing := self._missing(topics)):
                return
            if (left := deadline - time.monotonic()) <= 0:
                raise StreamTimeoutError(f"no image of {', '.join(missing)} within {timeout:g} s")
            # A refusal does not wake this wait, so check again soon.
            self._venue_changes.wait_for(lambda: not self._missing(topics), min(left, 0.1))

    def _missing(self, topics: tuple[str, ...]) -> list[str]:
        wanted = [name for name in self.topics if not topics or name in topics]
        return [name for name in wanted if not self.storage.is_ready(*split_topic(name))]


def _events(names: tuple[str, ...]) -> list[str]:
    """Return the events of a table, of symbols in it, or of all tables.

    Raises:
        InvalidInputError: the table or a symbol is invalid.
    """
    table, *symbols = names_of_handler(names) or ("",)
    if not table:
        return [ROWS]
    topics = [f"{table}:{symbol}" for symbol in symbols] or [table]
    return [rows_of(parse_topic(topic).name) for topic in topics]


def _credentials(api_key: str | None, api_secret: str | None) -> BitmexCredentials | None:
    if not api_key and not api_secret:
        return None
    if not api_key or not api_secret:
        raise ConfigError("api_key and api_secret belong together: give both, or neither for public data")
    if not isinstance(api_key, str) or not isinstance(api_secret, str):
        raise ConfigError("api_key and api_secret must be strings")
    return BitmexCredentials(api_key, api_secret)


def _switch_after(seconds: float | bool | None, credentials: BitmexCredentials | None) -> int | None:
    """Convert `dead_mans_switch` to milliseconds; None for no switch."""
    if seconds is None or seconds is False:
        return None
    if credentials is None:
        raise ConfigError("dead_mans_switch cancels an account's orders: give api_key and api_secret")
    after = SWITCH_DEFAULT if seconds is True else seconds
    if not isinstance(after, (int, float)) or not SWITCH_MINIMUM <= after <= SWITCH_MAXIMUM:
        raise ConfigError(
            f"dead_mans_switch is renewed every 15 s; give a number of seconds from {SWITCH_MINIMUM:g} to a day"
        )
    return int(after * 1000)
