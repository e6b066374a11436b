"""`FtxStream`: FTX's tickers, trades, books, fills and orders into callbacks."""

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
"""What frames of several, or of what may come twice, are taken apart into."""
TOLD: Final = (FtxTicker, *DERIVED, FtxMarkets, FtxOrderBook, FtxGroupedOrderBook)
"""What handlers and iterators get."""

CHANNEL_OF: Final[dict[type[FtxOrderBook], str]] = {kind: channel for channel, kind in CHANNELS.items()}
B = TypeVar("B", bound=FtxOrderBook)

_MARKET: Final = re.compile(r"[^\s@\"\\]+")


class FtxStream(FtxHandlers):
    """Streams from FTX, or from whatever speaks its protocol. Making one does no I/O.

    Args:
        api_key, api_secret: both or none; for fills, orders and payments. Each connect signs anew.
        subaccount: to log in to; None for the main account.
        environment: "sandbox" (embedded); the exchange itself is gone.
        url: of what speaks its protocol, like "wss://host/ws/" (which is the path where it has none), or of a relay's
            feed, like "redis://host".
        options: what every stream takes; see `finx_sync.session.options.Options`.

    Raises:
        ConfigError: half of the credentials, no URL, or an option that cannot be right.
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
        """Ask for the best prices of markets, now or when the stream starts, and again after every reconnect.

        Raises:
            InvalidInputError: no market, like "BTC-PERP" or "BTC/USD".
        """
        self._ask("ticker", markets)

    def subscribe_trades(self, *markets: str) -> None:
        """Ask for the trades of markets; otherwise as `subscribe_ticker`."""
        self._ask("trades", markets)

    def subscribe_orderbook(self, *markets: str) -> None:
        """Ask for the order books of markets; every update's checksum is verified. Otherwise as `subscribe_ticker`."""
        self._ask("orderbook", markets)

    def subscribe_orderbook_grouped(self, market: str, grouping: float) -> None:
        """Ask for a market's order book in steps of `grouping`, in units of the price.

        Raises:
            InvalidInputError: no market, a grouping that is not above 0, or another one of this market is subscribed:
                the server's messages do not say which they are of.
        """
        _checked((market,))
        if isinstance(grouping, bool) or not isinstance(grouping, (int, float)) or not 0 < grouping < float("inf"):
            raise InvalidInputError(f"grouping is a step of the price, above 0, not {grouping!r}")
        wanted = subscription_to("orderbookGrouped", market)
        if wanted in self._subscriptions.desired() and self._ftx.groupings[market] != grouping:
            raise InvalidInputError(f"the book of {market} is subscribed in other steps; unsubscribe it first")
        self._ftx.groupings[market] = grouping
        self._subscribe(wanted)

    def subscribe_markets(self) -> None:
        """Ask for the list of markets, and its changes."""
        self._subscribe(subscription_to("markets"))

    def subscribe_fills(self) -> None:
        """Ask for the account's executions.

        Raises:
            ConfigError: the stream has no credentials.
        """
        self._ask_private("fills")

    def subscribe_orders(self) -> None:
        """Ask for every change of every order of the account; raises as `subscribe_fills`."""
        self._ask_private("orders")

    def subscribe_ftxpay(self) -> None:
        """Ask for the account's payments by FTX Pay; raises as `subscribe_fills`."""
        self._ask_private("ftxpay")

    def unsubscribe_ticker(self, *markets: str) -> None:
        """Unsubscribe from the tickers of markets."""
        self._give_up("ticker", markets)

    def unsubscribe_trades(self, *markets: str) -> None:
        """Unsubscribe from the trades of markets."""
        self._give_up("trades", markets)

    def unsubscribe_orderbook(self, *markets: str) -> None:
        """Unsubscribe from the order books of markets; `order_book` forgets them at once."""
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
        """Wait until the server has granted every subscription.

        Args:
            timeout: seconds.

        Raises:
            SubscriptionRefusedError: it refused one, which is not among the subscriptions any more.
            StreamTimeoutError: it has not answered all in time.
            UsageError: the stream is not running, or this is the dispatch thread.
            FinxSyncError: why the stream failed.
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
            raise StreamTimeoutError(f"the server has not answered the subscription of {missing} within {timeout:g} s")

    def _subscribe(self, *subscriptions: Subscription, stale_after: float | None = None) -> None:
        desired = set(self._subscriptions.desired())
        # Of what was unsubscribed or refused before, this is another try.
        self._state.expect(*(wanted for wanted in subscriptions if wanted not in desired))
        super()._subscribe(*subscriptions, stale_after=stale_after)

    def _ask(self, channel: str, markets: tuple[str, ...]) -> None:
        self._subscribe(*(subscription_to(channel, market) for market in _checked(markets)))

    def _ask_private(self, channel: str) -> None:
        assert channel in PRIVATE_CHANNELS
        if self._account.key is None and self._account.feed is None:
            raise ConfigError(f"{channel} are an account's own: give api_key and api_secret")
        self._subscribe(subscription_to(channel))

    def _give_up(self, channel: str, markets: tuple[str, ...]) -> None:
        for market in _checked(markets):
            self._unsubscribe(subscription_to(channel, market))

    # What is known

    def order_book(self, market: str) -> FtxOrderBook | None:
        """A market's order book as it stands, verified by its checksum; safe from any thread, never waits.

        Returns:
            None while there is none that can be trusted: before the server's image, while not connected, and after a
            wrong checksum until the next image.
        """
        return self._book(FtxOrderBook, market)

    def order_book_grouped(self, market: str) -> FtxGroupedOrderBook | None:
        """A market's grouped order book as it stands; otherwise as `order_book`, but for the checksum."""
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
        """A market's newest ticker, or else trade, fill or order; None when there was none yet. Never waits."""
        checked_names((name,))
        for kind in (FtxTicker, *DERIVED):
            message: FtxMessage | None = self._latest[kind].get(name)
            if message is not None:
                return message
        return None

    @property
    def duplicates(self) -> int:
        """Fills and orders that came again in this run, as after a reconnect, and were not handed on again."""
        return self._state.duplicates

    @property
    def _state(self) -> FtxState:
        """What the present run remembers."""
        assert isinstance(self._venue, FtxState)
        return self._venue

    def _fill(self, iterator: MessageIterator[FtxMessage], names: tuple[str, ...]) -> None:
        for kind in TOLD:
            self._handlers.add(kind, iterator.put, names or None)

    # Start and end

    def rotate_key(self, api_key: Any = None, api_secret: str | None = None) -> None:
        """Log in with another key of the same subaccount, on a new connection; returns at once.

        FTX confirms a login too late for two connections to be compared, so the gap between them is reported, with the
        reason "rotation"; a key that is refused ends the stream.

        Args:
            api_key: the new key.
            api_secret: its secret.

        Raises:
            UsageError: the stream is not running, or has never had credentials.
            ConfigError: half of the credentials.
        """
        old = self._account.key
        if old is None:
            raise UsageError("the stream has no credentials that could be replaced; make another stream")
        super().rotate_key(_credentials(api_key, api_secret, old.subaccount))


def _checked(markets: tuple[str, ...]) -> tuple[str, ...]:
    """The same names.

    Raises:
        InvalidInputError: one of them is no market, or there is none.
    """
    for market in checked_names(markets):
        if not _MARKET.fullmatch(market):
            raise InvalidInputError(f"{market!r} is no market; it looks like 'BTC-PERP' or 'BTC/USD'")
    if not markets:
        raise InvalidInputError("name at least one market, like 'BTC-PERP'")
    return markets


def _credentials(api_key: str | None, api_secret: str | None, subaccount: str | None) -> FtxCredentials | None:
    if not api_key and not api_secret:
        if subaccount is not None:
            raise ConfigError("a subaccount is logged in to: give api_key and api_secret as well")
        return None
    if not api_key or not api_secret:
        raise ConfigError("api_key and api_secret belong together: give both, or none for public data")
    if not isinstance(api_key, str) or not isinstance(api_secret, str):
        raise ConfigError("api_key and api_secret are text")
    if subaccount == "":
        raise ConfigError("subaccount is a name, or None for the main account; it is empty")
    return FtxCredentials(api_key, api_secret, subaccount)
