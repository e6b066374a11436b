"""`FtxStream`: passes FTX's tickers, trades, books, fills and orders to handlers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from finx_sync.config import account_of
from finx_sync.errors import (
    ConfigError,
    InvalidInputError,
    StreamTimeoutError,
    SubscriptionRefusedError,
    UsageError,
)
from finx_sync.messages import Message
from finx_sync.pipeline.iterator import MessageIterator
from finx_sync.pipeline.latest import LastTable
from finx_sync.session.options import StreamOptions, takes_options
from finx_sync.state import ENDED
from finx_sync.stream.checks import checked_limit, checked_names
from finx_sync.venues.base import Subscription
from finx_sync.venues.ftx.books import CHANNELS
from finx_sync.venues.ftx.codec import ENVIRONMENTS, EXAMPLE, FtxCodec
from finx_sync.venues.ftx.handlers import FtxHandlers, FtxMessage
from finx_sync.venues.ftx.messages import (
    FtxFill,
    FtxGroupedOrderBook,
    FtxMarkets,
    FtxOrder,
    FtxOrderBook,
    FtxPay,
    FtxTicker,
    FtxTrade,
)
from finx_sync.venues.ftx.requests import PRIVATE_CHANNELS, FtxCredentials, subscription_to
from finx_sync.venues.ftx.state import FtxState

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["FtxStream"]

DERIVED: Final = (FtxTrade, FtxFill, FtxOrder, FtxPay)
"""The types of the events that frames are split into."""
TOLD: Final = (FtxTicker, *DERIVED, FtxMarkets, FtxOrderBook, FtxGroupedOrderBook)
"""The types of the messages that handlers and iterators get."""

CHANNEL_OF: Final[dict[type[FtxOrderBook], str]] = {kind: channel for channel, kind in CHANNELS.items()}
B = TypeVar("B", bound=FtxOrderBook)

_MARKET: Final = re.compile(r"[^\s@\"\\]+")


class FtxStream(FtxHandlers):
    """A stream from FTX, or from a server with its protocol. Creating one does no I/O.

    Args:
        api_key, api_secret: both or neither; required for fills, orders and payments. Each connect makes a new
            signature.
        subaccount: the subaccount to log in to; None for the main account.
        environment: "sandbox" (embedded); the exchange itself no longer exists.
        url: the address of a server, like "wss://host/ws/" (if it has no path, "/ws/" is added), or of a relay's feed,
            like "redis://host".
        options: the options that every stream takes; see `finx_sync.session.options.Options`.

    Raises:
        ConfigError: only half of the credentials is given, the URL is missing, or an option is invalid.
    """

    @takes_options()
    def __init__(
        self,
        api_key: str | None = None,
        api_secret: str | None = None,
        subaccount: str | None = None,
        *,
        environment: str | None = None,
        url: str | None = None,
        **options: Unpack[StreamOptions],
    ) -> None:
        account = account_of("ftx", ENVIRONMENTS, environment, url, EXAMPLE)
        account.key = _credentials(api_key, api_secret, subaccount)
        self._ftx = FtxCodec(account.base_url or "")
        super().__init__(self._ftx, account, **options)
        self._latest.update({kind: LastTable(self._ftx.decode) for kind in DERIVED})

    def _check_name(self, kind: type[Message], name: str) -> None:
        _checked((name,))

    # Subscriptions

    def subscribe_ticker(self, *markets: str) -> None:
        """Subscribe to the best prices of markets, now or when the stream starts, and again after every reconnect.

        Raises:
            InvalidInputError: a name is not a market, like "BTC-PERP" or "BTC/USD", or no name is given.
        """
        self._ask("ticker", markets)

    def subscribe_trades(self, *markets: str) -> None:
        """Subscribe to the trades of markets; otherwise like `subscribe_ticker`."""
        self._ask("trades", markets)

    def subscribe_orderbook(self, *markets: str) -> None:
        """Subscribe to the order books of markets; otherwise like `subscribe_ticker`.

        The checksum of every update is verified.
        """
        self._ask("orderbook", markets)

    def subscribe_orderbook_grouped(self, market: str, grouping: float) -> None:
        """Subscribe to a market's order book with levels grouped in steps of `grouping`, in units of the price.

        Raises:
            InvalidInputError: the market is invalid, the grouping is not above 0, or the market is subscribed to with
                another grouping, which the server's messages do not distinguish.
        """
        _checked((market,))
        if isinstance(grouping, bool) or not isinstance(grouping, (int, float)) or not 0 < grouping < float("inf"):
            raise InvalidInputError(f"grouping must be a price step above 0, not {grouping!r}")
        wanted = subscription_to("orderbookGrouped", market)
        if wanted in self._subscriptions.desired() and self._ftx.groupings[market] != grouping:
            raise InvalidInputError(f"{market} is subscribed to with another grouping; unsubscribe from it first")
        self._ftx.groupings[market] = grouping
        self._subscribe(wanted)

    def subscribe_markets(self) -> None:
        """Subscribe to the list of markets and its changes."""
        self._subscribe(subscription_to("markets"))

    def subscribe_fills(self) -> None:
        """Subscribe to the account's executions.

        Raises:
            ConfigError: the stream has neither credentials nor a feed.
        """
        self._ask_private("fills")

    def subscribe_orders(self) -> None:
        """Subscribe to every change of the account's orders; raises the same errors as `subscribe_fills`."""
        self._ask_private("orders")

    def subscribe_ftxpay(self) -> None:
        """Subscribe to the account's payments by FTX Pay; raises the same errors as `subscribe_fills`."""
        self._ask_private("ftxpay")

    def unsubscribe_ticker(self, *markets: str) -> None:
        """Unsubscribe from the tickers of markets."""
        self._give_up("ticker", markets)

    def unsubscribe_trades(self, *markets: str) -> None:
        """Unsubscribe from the trades of markets."""
        self._give_up("trades", markets)

    def unsubscribe_orderbook(self, *markets: str) -> None:
        """Unsubscribe from the order books of markets; `order_book` returns None for them at once."""
        self._give_up("orderbook", markets)

    def unsubscribe_orderbook_grouped(self, *markets: str) -> None:
        """Unsubscribe from the grouped order books of markets."""
        self._give_up("orderbookGrouped", markets)

    def unsubscribe_markets(self) -> None:
        """Unsubscribe from the list of markets."""
        self._unsubscribe(subscription_to("markets"))

    def unsubscribe_fills(self) -> None:
        """Unsubscribe from the account's executions."""
        self._unsubscribe(subscription_to("fills"))

    def unsubscribe_orders(self) -> None:
        """Unsubscribe from the account's orders."""
        self._unsubscribe(subscription_to("orders"))

    def unsubscribe_ftxpay(self) -> None:
        """Unsubscribe from the account's payments."""
        self._unsubscribe(subscription_to("ftxpay"))

    def wait_until_subscribed(self, timeout: float = 10.0) -> None:
        """Wait until the server has accepted every subscription. Any thread except the dispatch thread.

        Args:
            timeout: seconds.

        Raises:
            SubscriptionRefusedError: the server refused a subscription, which is then removed.
            StreamTimeoutError: the server has not answered all subscriptions in time.
            UsageError: the stream is not running, or this is the dispatch thread.
            FinxSyncError: the error that the stream failed with.
        """
        self._wait_for_answers(set(self._subscriptions.desired()), checked_limit("timeout", timeout))

    def _wait_for_answers(self, subscriptions: set[Subscription], timeout: float) -> None:
        self._refuse_on_dispatch_thread("wait_until_subscribed")
        answers: dict[Subscription, str | None] = {}

        def are_answered() -> bool:
            nonlocal answers
            answers = {wanted: said for wanted, said in self._state.answers().items() if wanted in subscriptions}
            return len(answers) == len(subscriptions) or self.state in ENDED

        in_time = self._venue_changes.wait_for(are_answered, timeout)
        for wanted, said in answers.items():
            if said is not None:
                raise SubscriptionRefusedError(wanted.kind, wanted.name, said)
        if self.state in ENDED:
            raise self.failure or UsageError("the stream is not running; start() it first")
        if not in_time:
            missing = ", ".join(f"{wanted.kind} {wanted.name}" for wanted in subscriptions - answers.keys())
            raise StreamTimeoutError(f"the server did not answer the subscription to {missing} within {timeout:g} s")

    def _subscribe(self, *subscriptions: Subscription, stale_after: float | None = None) -> None:
        desired = set(self._subscriptions.desired())
        # Forget old answers before the new requests are sent, so that they are not taken for the new answers.
        self._state.expect(*(wanted for wanted in subscriptions if wanted not in desired))
        super()._subscribe(*subscriptions, stale_after=stale_after)

    def _ask(self, channel: str, markets: tuple[str, ...]) -> None:
        self._subscribe(*(subscription_to(channel, market) for market in _checked(markets)))

    def _ask_private(self, channel: str) -> None:
        assert channel in PRIVATE_CHANNELS
        if self._account.key is None and self._account.feed is None:
            raise ConfigError(f"{channel} belong to an account: give api_key and api_secret")
        self._subscribe(subscription_to(channel))

    def _give_up(self, channel: str, markets: tuple[str, ...]) -> None:
        for market in _checked(markets):
            self._unsubscribe(subscription_to(channel, market))

    # Current data

    def order_book(self, market: str) -> FtxOrderBook | None:
        """Return the current order book of a market, verified by its checksum. Any thread; does not wait.

        Returns:
            None while there is no valid book: before the server's image, while not connected, and from a wrong checksum
            until the next image.
        """
        return self._book(FtxOrderBook, market)

    def order_book_grouped(self, market: str) -> FtxGroupedOrderBook | None:
        """Return the current grouped order book of a market; like `order_book`, but without a checksum."""
        return self._book(FtxGroupedOrderBook, market)

    def _book(self, kind: type[B], market: str) -> B | None:
        session = self._session
        if (
            session is None
            or session.state.state in ENDED
            or not session.wants(subscription_to(CHANNEL_OF[kind], market))
        ):
            return None
        return cast("B | None", self._state.book(kind, market))

    def latest(self, name: str) -> FtxMessage | None:
        """Return a market's latest ticker, or else trade, fill or order; None if there is none yet. Never waits."""
        checked_names((name,))
        for kind in (FtxTicker, *DERIVED):
            message: FtxMessage | None = self._latest[kind].get(name)
            if message is not None:
                return message
        return None

    @property
    def duplicates(self) -> int:
        """The number of fills and orders that were received again, as after a reconnect, and not delivered again."""
        return self._state.duplicates

    @property
    def _state(self) -> FtxState:
        """The state of the current run."""
        assert isinstance(self._venue, FtxState)
        return self._venue

    def _fill(self, iterator: MessageIterator[FtxMessage], names: tuple[str, ...]) -> None:
        for kind in TOLD:
            self._handlers.add(kind, iterator.put, names or None)

    # Start and end

    def rotate_key(self, api_key: Any = None, api_secret: str | None = None) -> None:
        """Log in with another key of the same subaccount, on a new connection; return at once.

        FTX confirms a login too late to compare the messages of both connections, so the gap between them is reported
        with the reason "rotation". A refused key ends the stream.

        Args:
            api_key: the new key.
            api_secret: its secret.

        Raises:
            UsageError: the stream is not running, or has never had credentials.
            ConfigError: only half of the credentials is given.
        """
        old = self._account.key
        if old is None:
            raise UsageError("the stream has no credentials to replace; create another stream")
        super().rotate_key(_credentials(api_key, api_secret, old.subaccount))


def _checked(markets: tuple[str, ...]) -> tuple[str, ...]:
    """Check names and return them.

    Raises:
        InvalidInputError: a name is not a market, or there are no names.
    """
    for market in checked_names(markets):
        if not _MARKET.fullmatch(market):
            raise InvalidInputError(f"{market!r} is not a market; give a name like 'BTC-PERP' or 'BTC/USD'")
    if not markets:
        raise InvalidInputError("give at least one market, like 'BTC-PERP'")
    return markets


def _credentials(api_key: str | None, api_secret: str | None, subaccount: str | None) -> FtxCredentials | None:
    if not api_key and not api_secret:
        if subaccount is not None:
            raise ConfigError("a subaccount needs a login: give api_key and api_secret too")
        return None
    if not api_key or not api_secret:
        raise ConfigError("api_key and api_secret belong together: give both, or neither for public data")
    if not isinstance(api_key, str) or not isinstance(api_secret, str):
        raise ConfigError("api_key and api_secret must be strings")
    if subaccount == "":
        raise ConfigError("subaccount is empty; give a name, or None for the main account")
    return FtxCredentials(api_key, api_secret, subaccount)
