"""Read settings: the argument, else the environment, else `.env`, else the default. No other module reads them.

``.env`` is the file of that name in the working directory, or the one that ``FINX_ENV_FILE`` names. Parent folders are
not searched: others may be able to write there, and the key would be sent to an address in such a file. The file is
read only if a setting is found neither in the arguments nor in the environment; ``os.environ`` is never changed.
"""

from __future__ import annotations

import io
import ipaddress
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from dotenv import dotenv_values

from finx_sync.errors import ConfigError, MissingKeyError
from finx_sync.redaction import redact, remember, secrets_of
from finx_sync.spelling import nearest

__all__ = [
    "ENVIRONMENTS",
    "FEED_SCHEMES",
    "SANDBOX",
    "SANDBOX_KEY",
    "SANDBOX_SECRET",
    "Account",
    "KeySource",
    "account_of",
    "address_of",
    "check_secrecy",
    "checked_url",
    "is_feed_url",
    "is_loopback",
    "read_account",
    "read_address",
    "read_environment",
    "read_grid_account",
    "read_settings",
]

FEED_SCHEMES: Final = (
    "redis",
    "rediss",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)
"""The schemes of a relay's feed on Redis; those that begin with "rediss" use TLS."""

SANDBOX: Final = "sandbox"
SANDBOX_KEY: Final = "sandbox-key"
SANDBOX_SECRET: Final = "sandbox-secret"  # noqa: S105 - everybody's
PRODUCTION: Final = "production"
"""A venue's default environment."""
ENVIRONMENTS: Final[dict[str, str | None]] = {
    PRODUCTION: "wss://ws.finx.io",
    "beta": "wss://beta.finx.io",
    SANDBOX: None,  # known once it runs
}
"""Base URL of each environment of FinX (FinX documentation, *Streams*)."""

ENV_FILE: Final = "FINX_ENV_FILE"
"""Names the file to read instead of ``.env`` in the working directory."""

OWN_HOSTS: Final = ".finx.io"
"""The end of the host names of FinX's own servers: a FinX key may go there wherever it was read."""

GRID_URL: Final = "https://api.finx.io"
"""The calculation grid (finx-io SDK)."""

KeySource = str | Callable[[], str]
"""A key, or a function that returns the current one: FinX keys change every 24 hours."""


@dataclass
class Account:
    """The server's address, and the credentials.

    Attributes:
        base_url: ``wss://host``; None for the embedded sandbox, which is started when needed.
        key: the API key, or a venue's own credentials, or a function that returns either; never shown.
            `Stream.rotate_key` replaces it.
        feed: the URL of a relay's feed on Redis that the stream reads; None for a stream from `base_url` itself, which
            functions are called at in any case.
    """

    base_url: str | None
    key: Any
    feed: str | None = None

    def __repr__(self) -> str:
        return f"Account({redact(self.feed or self.base_url or SANDBOX)})"

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "key":  # also when `Stream.rotate_key` replaces it
            remember(*secrets_of(value))
        super().__setattr__(name, value)

    def current_key(self) -> Any:
        """Return the current key or credentials; calls the function, if `key` is one.

        Raises:
            ConfigError: the function returned no key.
        """
        if not callable(self.key):
            remember(*secrets_of(self.key))
            return self.key
        key = self.key()
        remember(*secrets_of(key))
        if not key or (isinstance(key, str) and not key.strip()):
            raise ConfigError("the api_key function returned no key; it must return a non-empty string")
        return key


def is_feed_url(url: object) -> bool:
    """Return whether a URL names a relay's feed on Redis rather than a venue's server."""
    scheme, mark, _ = url.partition("://") if isinstance(url, str) else ("", "", "")
    return bool(mark) and scheme.lower() in FEED_SCHEMES


def account_of(
    venue: str,
    environments: Mapping[str, str | None],
    environment: str | None,
    url: str | None,
    example: str,
) -> Account:
    """Return the account of a venue's stream, with its address and still without credentials; see `address_of`.

    A URL of a relay's feed is the account's `feed`; then the address is the environment's, or "" if there is none.

    Raises:
        ConfigError: as for `address_of`.
    """
    if url is None or not is_feed_url(url):
        return Account(address_of(venue, environments, environment, url, example), None)
    has_address = environment is not None or PRODUCTION in environments
    return Account(address_of(venue, environments, environment, None, example) if has_address else "", None, url)


def address_of(
    venue: str, environments: Mapping[str, str | None], environment: str | None, url: str | None, example: str
) -> str | None:
    """Return the address that a venue's stream connects to, by the rule for every venue.

    Args:
        venue: the venue's name.
        environments: the address of each of its environments; None for the embedded sandbox.
        environment: one of these, like "test", with or without the venue's name before it, like "bitmex-test"; the
            venue's name alone, and None, mean "production".
        url: another address, which takes precedence.
        example: an example of an address, for error texts.

    Returns:
        The address; None for the embedded sandbox.

    Raises:
        ConfigError: there is no such environment, `url` is not a websocket URL, or neither is given and the venue has
            no default address.
    """
    chosen = PRODUCTION if environment in (None, venue) else str(environment).removeprefix(f"{venue}-")
    names = ", ".join(repr(name) for name in environments)
    if environment is not None and chosen not in environments:
        meant = nearest(chosen, list(environments))
        raise ConfigError(f"{venue} has no environment {environment!r}{meant}; choose one of {names}, or give url=")
    if url is not None:
        return checked_url(url, example)
    if chosen not in environments:
        raise ConfigError(
            f"{venue} has no usual address: give one like {example} as url= (on the command line --url), "
            f"or an environment, one of {names}"
        )
    return environments[chosen]


def read_environment(environment: str | None = None) -> str:
    """Return the environment's name: as given, else ``FINX_ENVIRONMENT``, else "production".

    Raises:
        ConfigError: `environment` is not text.
    """
    chosen = environment or _Settings(is_optional=True).get("FINX_ENVIRONMENT") or PRODUCTION
    if not isinstance(chosen, str):
        raise ConfigError(f"environment is a name, not {chosen!r}; choose one of {', '.join(map(repr, ENVIRONMENTS))}")
    return chosen


def read_address(url: str | None, environment: str | None) -> str | None:
    """Return the address as given, else ``FINX_URL`` unless an environment is given."""
    return url if url is not None or environment else _Settings(is_optional=True).get("FINX_URL")


def read_account(api_key: KeySource | None = None, environment: str | None = None, url: str | None = None) -> Account:
    """Return the address of FinX's server, and the key.

    Args:
        api_key: the key; None for ``FINX_API_KEY``.
        environment: a name in `ENVIRONMENTS`; None for ``FINX_ENVIRONMENT``, else "production".
        url: the base URL of another server; None for ``FINX_URL``. Takes precedence over the environment's. A relay's
            feed is only streamed from, which takes no key: a missing one is reported by the first function that needs
            it.

    Raises:
        MissingKeyError: there is no key.
        ConfigError: the environment is unknown, the URL is not a websocket URL, or `.env` cannot be read.
    """
    settings = _Settings(is_optional=api_key is not None)
    chosen = environment or settings.get("FINX_ENVIRONMENT") or PRODUCTION
    address = url if url is not None else (None if environment else settings.get("FINX_URL"))
    account = account_of("finx", ENVIRONMENTS, chosen, address or None, "wss://ws.finx.io")
    if chosen.removeprefix("finx-") == SANDBOX and api_key is None:
        account.key = SANDBOX_KEY  # a real key has no business in the sandbox
    elif account.feed is None:
        account.key = _key(api_key, settings)
        if address and url is None:
            _check_sources("FINX_URL", account.base_url or "", settings, api_key)
    else:
        account.key = _key_at_call(api_key, settings)
    return account


def read_grid_account(
    api_key: KeySource | None = None, environment: str | None = None, url: str | None = None
) -> Account:
    """Return the address of the calculation grid, and the key.

    Args:
        api_key: the key; None for ``FINX_API_KEY``.
        environment: "production" or "sandbox"; None for ``FINX_ENVIRONMENT``, else "production".
        url: an HTTP or websocket address; None for ``FINX_API_URL`` or ``FINX_API_ENDPOINT``. Takes precedence over the
            environment's.

    Raises:
        MissingKeyError: there is no key.
        ConfigError: the environment is unknown, the address is not a URL, or `.env` cannot be read.
    """
    settings = _Settings(is_optional=api_key is not None)
    chosen = environment or settings.get("FINX_ENVIRONMENT") or "production"
    variable, address = "", url
    if url is None and not environment and chosen != SANDBOX:
        variable = next((name for name in ("FINX_API_URL", "FINX_API_ENDPOINT") if settings.get(name)), "")
        address = settings.get(variable) if variable else None
    if address is None and chosen == SANDBOX:
        return read_account(api_key, SANDBOX)
    if address is None and chosen != "production":
        raise ConfigError(f"no source names a calculation grid of the environment {chosen!r}; give url=")
    base = (address if address is not None else GRID_URL).rstrip("/")
    base = base.removesuffix("/api").removesuffix("/ws")
    if base.startswith("http"):
        base = "ws" + base.removeprefix("http")
    account = read_account(api_key, chosen, checked_url(base, GRID_URL))
    if variable and account.key:
        _check_sources(variable, account.base_url or "", settings, api_key)
    return account


def read_settings(*names: str) -> list[str | None]:
    """Return the values of variables in the environment or ``.env``; None for one that is unset, empty or unnamed."""
    settings = _Settings()
    return [(settings.get(name) or None) if name else None for name in names]


def check_secrecy(url: str | None, credentials: object, *, allow_insecure: bool) -> None:
    """Refuse to send credentials in clear text to another machine.

    Args:
        url: the address that they would be sent to; None for the embedded sandbox.
        credentials: the key, a venue's credentials, or a function that returns either; None or "" for none.
        allow_insecure: whether the user allows it.

    Raises:
        ConfigError: the URL is a ws:// URL of another machine.
    """
    if url is None or allow_insecure or not credentials:
        return
    parts = urlsplit(url)
    if parts.scheme == "ws" and not is_loopback(parts.hostname or ""):
        raise ConfigError(
            f"ws:// would send the key in clear text to {parts.hostname}; use wss://, or pass allow_insecure=True "
            "(on the command line --allow-insecure) if everybody on the way may read it"
        )


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine. No name but "localhost" is, since it may resolve to any address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _key_at_call(given: KeySource | None, settings: _Settings) -> KeySource:
    """Return the key; if there is none, a function that says so when it is needed."""
    try:
        return _key(given, settings)
    except MissingKeyError as error:
        text = str(error)

    def missing() -> str:
        raise MissingKeyError(text)

    return missing


def _key(given: KeySource | None, settings: _Settings) -> KeySource:
    key = given if given is not None else settings.get("FINX_API_KEY")
    if not key or (isinstance(key, str) and not key.strip()):
        raise MissingKeyError(
            "no API key: pass api_key=..., or set FINX_API_KEY in the environment or in .env"
            f"{settings.why_no_file()}; environment='sandbox' and environment='deribit' need none"
        )
    if isinstance(key, str) and key in ENVIRONMENTS:
        raise ConfigError(f"{key!r} is an environment, not a key: write environment={key!r}")
    if not isinstance(key, str) and not callable(key):
        raise ConfigError(f"api_key must be a string or a function that returns one, not {type(key).__name__}")
    return key


def _check_sources(variable: str, address: str, settings: _Settings, key: KeySource | None) -> None:
    """Warn if the key and the address that it is sent to have different sources, unless the address is trusted."""
    address_from = settings.source(variable)
    key_from = "the argument api_key" if key is not None else settings.source("FINX_API_KEY")
    host = urlsplit(address).hostname or ""
    if address_from != key_from and not is_loopback(host) and not f".{host}".endswith(OWN_HOSTS):
        warnings.warn(
            f"the key is from {key_from}, but {variable}, the address that it is sent to ({host}), is from "
            f"{address_from}; set both in one place, or pass url=",
            stacklevel=_callers_level(),
        )


def _callers_level() -> int:
    """Return the `stacklevel` of the first line outside this library: the user's own code."""
    level, frame = 1, sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith("finx_sync"):
        level, frame = level + 1, frame.f_back  # type: ignore[assignment]
    return level


class _Settings:
    """The variables of the environment and of the file; the file is read once the environment lacks a variable.

    Args:
        is_optional: ignore a file that cannot be read, since the key is known without it.
    """

    def __init__(self, *, is_optional: bool = False) -> None:
        self._is_optional = is_optional
        self._file: Mapping[str, str] | None = None
        self._missing = ""

    def get(self, name: str) -> str | None:
        """Return a variable's value; None if it is not set.

        Raises:
            ConfigError: the file cannot be read.
        """
        if name in os.environ:
            return os.environ[name]
        if self._file is None:
            self._file = self._read()
        return self._file.get(name)

    def source(self, name: str) -> str:
        """Return where a variable is set, in words for a message."""
        return "the environment" if name in os.environ else os.environ.get(ENV_FILE) or ".env in the working directory"

    def why_no_file(self) -> str:
        """Return what an error text adds if there can be no file; "" otherwise."""
        return self._missing

    def _read(self) -> Mapping[str, str]:
        named = os.environ.get(ENV_FILE)
        try:
            path = named or os.path.join(os.getcwd(), ".env")
        except OSError:
            self._missing = " (the working directory does not exist any more, and so no .env)"
            return {}
        if not named and not os.path.isfile(path):  # a folder of that name is usually a virtual environment
            return {}
        try:
            with open(path, encoding="utf-8-sig") as file:
                text = file.read()
            if "\0" in text:  # UTF-16 without a byte order mark
                raise UnicodeError
        except (OSError, UnicodeError) as error:
            if self._is_optional:
                return {}
            why = "it is not UTF-8" if isinstance(error, UnicodeError) else error.strerror or type(error).__name__
            raise ConfigError(
                f"{path} cannot be read: {why}; repair it, pass its settings as arguments, or name another file by "
                f"{ENV_FILE}"
            ) from None
        found = dotenv_values(stream=io.StringIO(text))
        return {name: value for name, value in found.items() if value is not None}


def checked_url(url: str, example: str = "wss://ws.finx.io") -> str:
    """Return a websocket URL without its trailing slash.

    Raises:
        ConfigError: `url` is not a websocket URL; the text shows `example`.
    """
    try:
        parts = urlsplit(url)
        ok = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except (ValueError, AttributeError, TypeError):
        ok = False
    if not ok:
        raise ConfigError(f"{redact(str(url))!r} is no websocket URL; it looks like {example}")
    return url.rstrip("/")
