"""`ImeStream`: live data of the Iran Mercantile Exchange into callbacks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from finx_sync.config import SANDBOX, SANDBOX_KEY, account_of
from finx_sync.errors import InvalidInputError
from finx_sync.messages import Message
from finx_sync.session.options import StreamOptions, takes_options
from finx_sync.stream import Stream
from finx_sync.stream.checks import checked_names, several
from finx_sync.venues.base import Subscription
from finx_sync.venues.ime.auth import Credentials, checked_credentials
from finx_sync.venues.ime.codec import CONTRACT, ImeCodec
from finx_sync.venues.ime.messages import ImeContract

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["ImeStream"]

ContractHandler = TypeVar("ContractHandler", bound=Callable[[ImeContract], object])
Auth = str | Credentials | Callable[[], "str | Credentials"]

PING_INTERVAL: Final = 20.0
PING_TIMEOUT: Final = 20.0
"""Seconds, as the service's documentation recommends (*Recommended Client Strategy*)."""
EXAMPLE: Final = "wss://ime.example.com"


class ImeStream(Stream[ImeContract]):
    """Streams from an IME live data server. Making one does no I/O.

    The server knows no messages: a connection's URL names its contracts. So another contract takes another connection,
    which is opened before the old one is closed; its first updates may wait for `overlap` seconds, until both have been
    compared. If the server refuses it, `on_error` is called, and the stream goes on without that contract. A connection
    that is refused at first, or when it is lost and opened anew, ends the stream: `AuthorizationError` names what was
    asked for, since the service refuses a wrong contract and wrong credentials alike.

    Args:
        names: contracts by name; one, or several.
        ids: contracts by id, likewise.
        environment: "sandbox" (embedded, no credentials needed); the service itself has no public address.
        url: of a server, like "wss://ime.example.com", or of a relay's feed, like "redis://host", which takes no
            `auth`.
        auth: a token (sent as a bearer token), or `Bearer`, `QueryToken`, `Cookie` or `Header`, or a function that
            returns one of these, asked at each connect.
        options: what every stream takes; see `finx_sync.session.options.Options`. `ping_interval` and `ping_timeout`
            are 20 seconds unless given.

    Raises:
        ConfigError: no websocket URL, no credentials, or an option that cannot be right.
        InvalidInputError: no contract.
    """

    @takes_options(ping_interval=PING_INTERVAL, ping_timeout=PING_TIMEOUT)
    def __init__(
        self,
        *,
        names: str | Iterable[str] | None = None,
        ids: str | int | Iterable[str | int] | None = None,
        environment: str | None = None,
        url: str | None = None,
        auth: Auth | None = None,
        **options: Unpack[StreamOptions],
    ) -> None:
        account = account_of("ime", {SANDBOX: None}, environment, url, EXAMPLE)
        if account.base_url is None and auth is None:
            auth = SANDBOX_KEY
        if auth is not None or account.feed is None:
            account.key = auth if callable(auth) else checked_credentials(auth)
        self._ime = ImeCodec(account.base_url or "")
        self._choosing = threading.Lock()  # guards the choice between name and id
        super().__init__(self._ime, account, **options)
        self.subscribe_name(*several(names, "names"))
        self.subscribe_id(*several(ids, "ids"))

    # Handlers

    @overload
    def on_contract(self, handler: ContractHandler, /, *contracts: str) -> ContractHandler: ...
    @overload
    def on_contract(self, handler: str, /, *contracts: str) -> Callable[[ContractHandler], ContractHandler]: ...
    def on_contract(self, handler: Any = None, /, *contracts: str) -> Any:
        """Call a function with every `ImeContract` (``@stream.on_contract``), or with some.

        ``@stream.on_contract("ContractA")`` is for one, by what it was asked for by: its name or its id. A plain call
        works too, ``stream.on_contract(handler, "ContractA")``, and returns the handler. It runs on the dispatch
        thread.

        Raises:
            HandlerError: it cannot be called with one argument.
        """
        return self._register(ImeContract, handler, contracts)

    def _check_name(self, kind: type[Message], name: str) -> None:
        _checked(name)

    # Subscriptions

    def subscribe_name(self, *names: str) -> None:
        """Ask for contracts by their names, now or when the stream starts.

        Raises:
            InvalidInputError: no name, or one that is asked for as an id already.
        """
        self._want([_checked(name) for name in checked_names(names)], by_id=False)

    def subscribe_id(self, *ids: str | int) -> None:
        """Ask for contracts by their ids; otherwise as `subscribe_name`."""
        self._want([_checked(one) for one in _texts(ids)], by_id=True)

    def unsubscribe_name(self, *names: str) -> None:
        """Unsubscribe from contracts: a connection without them replaces the present one."""
        for name in checked_names(names):
            self._unsubscribe(Subscription(CONTRACT, name))

    def unsubscribe_id(self, *ids: str | int) -> None:
        """The same for contracts by id."""
        self.unsubscribe_name(*_texts(ids))

    def _want(self, contracts: list[str], *, by_id: bool) -> None:
        with self._choosing:
            subscriptions = {contract: Subscription(CONTRACT, contract) for contract in contracts}
            both = [
                contract
                for contract, subscription in subscriptions.items()
                if (contract in self._ime.ids) != by_id and self._subscriptions.wants(subscription)
            ]
            if both:
                raise InvalidInputError(
                    f"{', '.join(sorted(both))}: asked for by name and by id; one stream takes a text as one of them"
                )
            # What is no subscription any more counts no longer.
            (self._ime.ids.update if by_id else self._ime.ids.difference_update)(contracts)
            self._subscribe(*subscriptions.values())


def _texts(ids: tuple[str | int, ...]) -> tuple[str, ...]:
    """Ids as the URL has them."""
    return checked_names(tuple(str(one) if isinstance(one, int) and not isinstance(one, bool) else one for one in ids))


def _checked(contract: str) -> str:
    if not isinstance(contract, str) or not contract.strip() or not contract.isprintable():
        raise InvalidInputError(f"{contract!r} is no contract; it is a name or an id, like 'ContractA' or '12345'")
    return contract
