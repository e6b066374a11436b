"""`BitmexStream`: BitMEX's tables, merged, into callbacks."""

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
"""What each symbol subscribes, as in the seed of this venue (bitmex-trio-websocket)."""
PRIVATE_CHANNELS: Final = ("margin", "position", "order", "execution")
"""What an account subscribes, likewise."""
SWITCH_DEFAULT: Final = 60.0
SWITCH_MINIMUM: Final = 20.0
SWITCH_MAXIMUM: Final = 86_400.0
"""Seconds; it is renewed every 15, and a day is no switch any more."""


class BitmexStream(Stream[TableItem]):
    """Streams from BitMEX. Making one does no I/O.

    Handlers and iterators get a `TableItem`, which unpacks into ``(item, symbol, table, action)``: `item` is the whole
    row after the change. `storage` holds all tables; a new connection empties it, and the server's images fill it.

    Args:
        symbols: one, or several; each subscribes all of `channels`.
        environment: "production" (what BitMEX calls the mainnet; as without), "test" or "sandbox" (embedded).
        url: another address, like "wss://host/realtime", or a relay's feed, like "redis://host".
        api_key, api_secret: both or none. With them the account's channels are subscribed as well: margin, position,
            order, execution.
        dead_mans_switch: seconds after which BitMEX cancels all orders of the account if it hears nothing from us;
            renewed every 15 seconds while connected, so not below 20. True is 60 seconds. Stopping the stream leaves
            it running.
        channels: tables for each symbol; tables that know no symbols are subscribed as they are.
        deletes: hand on deleted rows too, as they were, with the action "delete".
        options: what every stream takes; see `finx_sync.session.options.Options`.

    Raises:
        ConfigError: an unknown environment, half of the credentials, or an option that cannot be right.
        InvalidInputError: no symbol, no table.
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
            raise ConfigError("dead_mans_switch is renewed on a connection to BitMEX: it cannot go by way of Redis")
        self._deletes = checked_switch("deletes", deletes)
        codec = BitmexCodec(account.base_url or "", _switch_after(dead_mans_switch, credentials))
        super().__init__(codec, account, **options)
        tables = several(channels, "channels")
        if not symbols and channels is not CHANNELS:
            raise ConfigError("channels are subscribed for each symbol: give symbols, or call subscribe() for tables")
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
        """Call a function with every row that changes (``@stream.on_table``), or with those of a table, or of symbols.

        ``@stream.on_table("order")`` is for a table, ``@stream.on_table("order", "XBTUSD")`` for a symbol in it. A
        plain call works too, ``stream.on_table(handler, "order", "XBTUSD")``, and returns the handler. It runs on
        the dispatch thread.

        Raises:
            HandlerError: it cannot be called with one argument.
            InvalidInputError: no table, no symbol.
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
        """Ask for tables, now or when the stream starts, and again after every reconnect.

        Args:
            topics: a table ("margin"; "trade" is that of all symbols), or a symbol's part of one ("trade:XBTUSD").

        Raises:
            InvalidInputError: no topic.
            ConfigError: a table of the account, and the stream has no credentials.
        """
        for subscription in [parse_topic(one) for one in checked_names(topics)]:
            table = subscription.name.partition(":")[0]
            if table in PRIVATE_TABLES and self._account.key is None and self._account.feed is None:
                raise ConfigError(f"the table {table} is an account's own: give api_key and api_secret")
            self._subscribe(subscription)

    def unsubscribe(self, *topics: str) -> None:
        """Unsubscribe from tables; their rows are dropped at once."""
        for subscription in [parse_topic(one) for one in checked_names(topics)]:
            if self._subscriptions.wants(subscription):
                self._state.forget(subscription.name)
            self._unsubscribe(subscription)

    @property
    def topics(self) -> list[str]:
        """What is subscribed, in the order in which it was asked for; what the server refused is not among it."""
        return [subscription.name for subscription in self._subscriptions.desired()]

    # The tables

    @property
    def storage(self) -> Storage:
        """All tables of this run as they stand; any thread.

        They outlast their connection until the next one opens, or for ever. The next run has tables of its own.
        """
        return self._state.storage

    @property
    def _state(self) -> BitmexState:
        """What the present run remembers."""
        assert isinstance(self._venue, BitmexState)
        return self._venue

    def _new_venue(self, after: VenueState | None) -> BitmexState:
        return BitmexState(self._venue_lock, deletes=self._deletes)

    def latest(self, name: str) -> TableItem | None:
        """The row of a topic, like "quote:XBTUSD" or "margin", that changed last; None where there was none yet."""
        return self._state.newest(*checked_names((name,)))

    def wait_until_filled(self, *topics: str, timeout: float = 10.0) -> None:
        """Wait until the images of tables have come.

        Args:
            topics: which; all that are subscribed without. One that the server refuses is not waited for.
            timeout: seconds.

        Raises:
            StreamTimeoutError: some did not come in time.
            UsageError: the stream is not running, or this is the dispatch thread.
            FinxSyncError: why the stream failed.
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
            # A refusal is not announced here, so look again soon.
            self._venue_changes.wait_for(lambda: not self._missing(topics), min(left, 0.1))

    def _missing(self, topics: tuple[str, ...]) -> list[str]:
        wanted = [name for name in self.topics if not topics or name in topics]
        return [name for name in wanted if not self.storage.is_ready(*split_topic(name))]


def _events(names: tuple[str, ...]) -> list[str]:
    """The events of a table, of symbols in it, or of all.

    Raises:
        InvalidInputError: no table, no symbol.
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
        raise ConfigError("api_key and api_secret belong together: give both, or none for public data")
    if not isinstance(api_key, str) or not isinstance(api_secret, str):
        raise ConfigError("api_key and api_secret are text")
    return BitmexCredentials(api_key, api_secret)


def _switch_after(seconds: float | bool | None, credentials: BitmexCredentials | None) -> int | None:
    """The dead man's switch in milliseconds."""
    if seconds is None or seconds is False:
        return None
    if credentials is None:
        raise ConfigError("dead_mans_switch cancels an account's orders: give api_key and api_secret")
    after = SWITCH_DEFAULT if seconds is True else seconds
    if not isinstance(after, (int, float)) or not SWITCH_MINIMUM <= after <= SWITCH_MAXIMUM:
        raise ConfigError(
            f"dead_mans_switch is renewed every 15 s; it is a number of seconds from {SWITCH_MINIMUM:g} to a day"
        )
    return int(after * 1000)
