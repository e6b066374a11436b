"""`StreamManager`: FinX's live contracts and spot rates into callbacks, and its functions as blocking calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from finx_sync import embedded
from finx_sync.analytics.chain import chain_frame, read_expiry
from finx_sync.config import ENVIRONMENTS, KeySource, read_environment
from finx_sync.errors import ConfigError
from finx_sync.functions.backend import DEFAULT_TIMEOUT, Functions, RequestForm
from finx_sync.functions.finx import FinxFunctions
from finx_sync.functions.http import HttpClient
from finx_sync.functions.inputs import checked_contract, checked_name, checked_pair
from finx_sync.functions.rest import RestBackend
from finx_sync.messages import ContractTick, Message, SpotTick
from finx_sync.moments import Moment
from finx_sync.pipeline.backfill import History
from finx_sync.session.options import StreamOptions, takes_options
from finx_sync.stream import Stream
from finx_sync.stream.checks import checked_names
from finx_sync.venues import registry
from finx_sync.venues.base import Subscription
from finx_sync.venues.finx.codec import CONTRACT, SPOT, Interval, Path
from finx_sync.venues.finx.service import FinxService, Service

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import Unpack


__all__ = ["StreamManager"]

OWN_DEFAULTS: Final[dict[str, Any]] = {
    "path": "streaming",
    "stream_per_url": False,
    "request_form": "query",
    "interval": None,
}
"""The arguments that only one service has, as they are where nobody gives them."""

ContractHandler = TypeVar("ContractHandler", bound=Callable[[ContractTick], object])
SpotHandler = TypeVar("SpotHandler", bound=Callable[[SpotTick], object])


class StreamManager(FinxFunctions, Stream[ContractTick | SpotTick]):
    """Streams from FinX, and its functions. Making one does no I/O.

    Args:
        api_key: the key, or a function that returns the current one, asked at each connect; else ``FINX_API_KEY`` from
            the environment or ``.env``.
        environment: "production", "beta" or "sandbox" (embedded, no key needed); "deribit", "deribit-test" or
            "deribit-sandbox" for Deribit's own public feed (no key needed); else ``FINX_ENVIRONMENT``.
        url: base URL of another server, like "wss://host". Or the URL of a relay's feed on Redis, like "redis://host"
            (also ``rediss://``, ``redis+sentinel://`` and ``redis+cluster://``): ticks come from there, without a key;
            functions are called as without `url`. A feed of Deribit's takes ``environment="deribit"`` as well.
        path: the documented path to stream from: "streaming", "streamer" or "root".
        stream_per_url: one connection for each subscription, as FinX documented it before August 2022.
        request_form: how functions are called: "query", "segment" or "message".
        interval: how often Deribit may send a contract: "100ms" (default), "agg2" (2 s) or "raw".
        options: timeouts, limits and guarantees, the same for every venue; see `finx_sync.session.options.Options`.

    Raises:
        ConfigError: a missing key, an unknown environment, or an option that cannot be right.
    """

    @takes_options()
    def __init__(
        self,
        api_key: KeySource | None = None,
        *,
        # where
        environment: str | None = None,
        url: str | None = None,
        # forms that the sources disagree on
        path: Path = "streaming",
        stream_per_url: bool = False,
        request_form: RequestForm = "query",
        interval: Interval | None = None,
        # timeouts, limits, guarantees
        **options: Unpack[StreamOptions],
    ) -> None:
        own = {"path": path, "stream_per_url": stream_per_url, "request_form": request_form, "interval": interval}
        given = {name: value for name, value in own.items() if value != OWN_DEFAULTS[name]}
        self._service = _service(api_key, environment, url, given)
        super().__init__(self._service.codec, self._service.account, **options)
        if self._options.backfill and self._history() is None:
            raise ConfigError(f"backfill needs a tick history, and {self._service.codec.venue} has none")

    # Handlers

    @overload
    def on_contract(self, handler: ContractHandler, /, *names: str) -> ContractHandler: ...
    @overload
    def on_contract(self, handler: str, /, *names: str) -> Callable[[ContractHandler], ContractHandler]: ...
    def on_contract(self, handler: Any = None, /, *names: str) -> Any:
        """Call a function with every ContractTick (``@stream.on_contract``), or some (``@stream.on_contract("NAME")``).

        A plain call works too, ``stream.on_contract(handler, "NAME")``, and returns the handler.

        Raises:
            HandlerError: it cannot be called with one argument.
        """
        return self._register(ContractTick, handler, names)

    @overload
    def on_spot(self, handler: SpotHandler, /, *names: str) -> SpotHandler: ...
    @overload
    def on_spot(self, handler: str, /, *names: str) -> Callable[[SpotHandler], SpotHandler]: ...
    def on_spot(self, handler: Any = None, /, *names: str) -> Any:
        """Call a function with every SpotTick, or those of some pairs; used like `on_contract`."""
        return self._register(SpotTick, handler, names)

    def _check_name(self, kind: type[Message], name: str) -> None:
        (checked_contract if kind is ContractTick else checked_pair)(name)

    # Subscriptions

    def subscribe_contract(self, *instrument_names: str, stale_after: float | None = None) -> None:
        """Ask for the ticks of contracts, now or when the stream starts, and again after every reconnect.

        Raises:
            InvalidInputError: no instrument name, like "BTC-26AUG22-20000-C".
        """
        names = checked_names(instrument_names)
        subscriptions = [Subscription(CONTRACT, checked_contract(name)) for name in names]
        self._subscribe(*subscriptions, stale_after=stale_after)

    def subscribe_spot(self, *pairs: str, stale_after: float | None = None) -> None:
        """Ask for the spot rates of pairs, like "BTC:USDC"; otherwise as `subscribe_contract`."""
        subscriptions = [Subscription(SPOT, checked_pair(pair)) for pair in checked_names(pairs)]
        self._subscribe(*subscriptions, stale_after=stale_after)

    def unsubscribe_contract(self, *instrument_names: str) -> None:
        """Unsubscribe from contracts.

        Deribit has a message for that. No source describes one for FinX: what still comes counts as unclaimed where no
        handler wants it, and the server stops sending at the next reconnect.
        """
        for name in checked_names(instrument_names):
            self._unsubscribe(Subscription(CONTRACT, checked_contract(name)))

    def unsubscribe_spot(self, *pairs: str) -> None:
        """Unsubscribe from pairs; see `unsubscribe_contract`."""
        for pair in checked_names(pairs):
            self._unsubscribe(Subscription(SPOT, checked_pair(pair)))

    # Options

    def option_chain(
        self,
        base: str,
        expiry: Moment | None = None,
        *,
        at: Moment | None = None,
        price_unit: str | None = None,
        recompute: bool = False,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> pd.DataFrame:
        """The options of a base instrument as a frame of strikes by expiry; see `finx_sync.analytics.chain_frame`.

        Its index begins with the underlying and the price unit: "USDC" has options on many underlyings, "BTC" can have
        some priced in BTC and others in USDC.

        Its ``attrs["source"]`` says where it came from: "live" for the newest ticks of this stream, which hold what is
        subscribed to; "snapped" for a five-minute matrix, which holds everything.

        Args:
            base: "BTC", "ETH", "SOL", or "USDC" for the options on all underlyings that are priced in it.
            expiry: only this one, like "26AUG22", a date or a datetime (its day in UTC); None for all.
            at: snap the chain of then: "latest", or a moment on the five-minute grid like "2022-08-04T04:05". None
                takes live ticks where there are any, else "latest".
            price_unit: only options that are priced in this: with base "BTC", "BTC" gives the inverse options
                (``BTC-26AUG22-20000-C``), "USDC" the linear ones (``BTC_USDC-26AUG22-20000-C``). None takes what the
                matrix of `base` holds, or what is live.
            recompute: compute greeks and the volatilities of quotes here, instead of taking the feed's; Deribit's
                matrix has none.
            timeout: seconds, for snapping.

        Raises:
            MissingExtraError: pandas is not installed, or NumPy or SciPy to recompute.
            InvalidInputError: no base, expiry, price unit or moment.
            FunctionError, ConnectError, ConnectionLostError: as `get_five_minute_matrix`.
        """
        checked_name(base, "a base instrument", "BTC")
        if price_unit is not None:
            checked_name(price_unit, "a price unit", "USDC")
        day = None if expiry is None else read_expiry(expiry)

        def framed(ticks: Iterable[ContractTick]) -> pd.DataFrame:
            return chain_frame(ticks, base, day, price_unit=price_unit, recompute=recompute)

        if at is None:
            live = framed(self._latest[ContractTick].values())
            if len(live):
                live.attrs["source"] = "live"
                return live
        # A matrix is of the currency that its options are priced in: BTC_USDC is in that of USDC.
        ticks = self.get_five_minute_matrix(price_unit or base, "latest" if at is None else at, timeout=timeout)
        chain = framed(ticks)
        chain.attrs["source"] = "snapped"
        return chain

    # Where functions are called, and gaps filled from

    def _history(self) -> History | None:
        return self._service.history(self._tick_history_between)

    @contextmanager
    def _server(self) -> Iterator[str]:
        """The server's base URL, for the time of one call."""
        if self._account.base_url is not None:
            yield self._account.base_url
            return
        base_url = embedded.acquire()
        try:
            yield base_url
        finally:
            embedded.release()

    @contextmanager
    def _backend(self) -> Iterator[Functions]:
        with self._server() as base_url:
            yield self._service.functions(base_url, self._options)

    @contextmanager
    def _rest(self) -> Iterator[RestBackend]:
        with self._server() as base_url:
            yield self._service.rest(base_url, lambda: self._http)

    def _release(self) -> None:
        if (http := self.__dict__.get("_http")) is not None:
            http.close()

    @cached_property
    def _http(self) -> HttpClient:
        """Keeps connections from call to call. Two threads at first use may make one too many, which is let go."""
        return HttpClient(self._options)


def _service(api_key: KeySource | None, environment: str | None, url: str | None, given: dict[str, Any]) -> Service:
    """The service that an environment belongs to.

    Raises:
        ConfigError: there is no such environment, or one of the options given is another service's.
    """
    chosen = read_environment(environment)
    is_own = chosen.removeprefix("finx-") in (*ENVIRONMENTS, "finx")
    make: type[Service] = FinxService if is_own else registry.service_at(chosen)
    foreign = sorted(given.keys() - make.options)
    if foreign:
        raise ConfigError(f"the environment {chosen!r} has no option {', '.join(foreign)}; leave it out")
    return make(api_key, environment, url, **given)
