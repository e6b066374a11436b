"""Settings: argument, else environment, else `.env`, else default. The only reader of the environment's variables.

``.env`` is looked for in the working directory and above it; reading it changes nothing in ``os.environ``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from dotenv import dotenv_values, find_dotenv

from finx_sync.errors import ConfigError
from finx_sync.redaction import redact

__all__ = [
    "ENVIRONMENTS",
    "SANDBOX",
    "Account",
    "KeySource",
    "checked_url",
    "read_account",
    "read_credentials",
    "read_grid_account",
]

SANDBOX: Final = "sandbox"
SANDBOX_KEY: Final = "sandbox-key"
ENVIRONMENTS: Final[dict[str, str | None]] = {
    "production": "wss://ws.finx.io",
    "beta": "wss://beta.finx.io",
    SANDBOX: None,  # known once it runs
    "deribit": "wss://www.deribit.com",
    "deribit-test": "wss://test.deribit.com",
    "deribit-sandbox": None,
}
"""Base URL of each environment (FinX documentation, *Streams*; Deribit API documentation)."""
DERIBIT: Final = frozenset({"deribit", "deribit-test", "deribit-sandbox"})
"""The environments where Deribit's own public feed is spoken, which takes no key."""

GRID_URL: Final = "https://api.finx.io"
"""The calculation grid (finx-io SDK)."""

KeySource = str | Callable[[], str]
"""A key, or a function that returns the current one: FinX keys change every 24 hours."""


@dataclass
class Account:
    """Where to connect, and as whom.

    Attributes:
        base_url: ``wss://host``; None for the embedded sandbox, which is started when needed.
        key: the API key, or a venue's own credentials, or a function that returns either; never shown.
            `Stream.rotate_key` replaces it.
        is_deribit: whether Deribit serves there, and not FinX.
    """

    base_url: str | None
    key: Any
    is_deribit: bool = False

    def __repr__(self) -> str:
        return f"Account({redact(self.base_url or SANDBOX)})"

    def current_key(self) -> Any:
        """The key or the credentials now.

        Raises:
            ConfigError: the function did not return any.
        """
        if not callable(self.key):
            return self.key
        key = self.key()
        if not key or (isinstance(key, str) and not key.strip()):
            raise ConfigError("the api_key function returned no key; it must return a non-empty string")
        return key


def read_account(api_key: KeySource | None = None, environment: str | None = None, url: str | None = None) -> Account:
    """Work out where to connect, and as whom.

    Args:
        api_key: else ``FINX_API_KEY``.
        environment: a name in `ENVIRONMENTS`; else ``FINX_ENVIRONMENT``, else "production".
        url: base URL of another server; else ``FINX_URL``. Wins over the environment's.

    Raises:
        ConfigError: no key, an unknown environment, or no websocket URL.
    """
    variables = _variables()
    chosen = environment or variables.get("FINX_ENVIRONMENT") or "production"
    if chosen not in ENVIRONMENTS:
        names = ", ".join(repr(name) for name in ENVIRONMENTS)
        raise ConfigError(f"there is no environment {chosen!r}; choose one of {names}, or give url=")
    address = url if url is not None else (None if environment else variables.get("FINX_URL"))
    base_url = ENVIRONMENTS[chosen] if not address else checked_url(address)
    if chosen in DERIBIT:
        return Account(base_url, "", is_deribit=True)  # a key of FinX's has no business there
    key = api_key if api_key is not None else variables.get("FINX_API_KEY")
    if chosen == SANDBOX and api_key is None:
        key = SANDBOX_KEY  # a real key has no business in the sandbox
    if not key or (isinstance(key, str) and not key.strip()):
        raise ConfigError(
            "no API key: pass api_key=..., or set FINX_API_KEY in the environment or in .env; "
            "environment='sandbox' and environment='deribit' need none"
        )
    if not isinstance(key, str) and not callable(key):
        raise ConfigError(f"api_key must be a string or a function that returns one, not {type(key).__name__}")
    return Account(base_url, key)


def read_grid_account(
    api_key: KeySource | None = None, environment: str | None = None, url: str | None = None
) -> Account:
    """Work out where the calculation grid is, and as whom to call it.

    Args:
        api_key: else ``FINX_API_KEY``.
        environment: "production" or "sandbox"; else ``FINX_ENVIRONMENT``, else "production".
        url: HTTP or websocket address; else ``FINX_API_URL`` or ``FINX_API_ENDPOINT``. Wins over the environment's.

    Raises:
        ConfigError: no key, an unknown environment, or no URL.
    """
    variables = _variables()
    chosen = environment or variables.get("FINX_ENVIRONMENT") or "production"
    named = variables.get("FINX_API_URL") or variables.get("FINX_API_ENDPOINT")
    address = url if url is not None else (None if environment or chosen == SANDBOX else named)
    if address is None and chosen == SANDBOX:
        return read_account(api_key, SANDBOX)
    if address is None and chosen != "production":
        raise ConfigError(f"no source names a calculation grid of the environment {chosen!r}; give url=")
    base = (address if address is not None else GRID_URL).rstrip("/")
    base = base.removesuffix("/api").removesuffix("/ws")
    if base.startswith("http"):
        base = "ws" + base.removeprefix("http")
    return read_account(api_key, environment, checked_url(base, GRID_URL))


def read_credentials(venue: str) -> tuple[str | None, str | None]:
    """An exchange's API key and secret from the environment or ``.env``: ``VENUE_API_KEY`` and ``VENUE_API_SECRET``."""
    variables = _variables()
    return variables.get(f"{venue}_API_KEY") or None, variables.get(f"{venue}_API_SECRET") or None


def _variables() -> dict[str, str]:
    found = dotenv_values(find_dotenv(usecwd=True))
    return {**{name: value for name, value in found.items() if value is not None}, **os.environ}


def checked_url(url: str, example: str = "wss://ws.finx.io") -> str:
    """Return a websocket URL without a slash at its end.

    Raises:
        ConfigError: it is none; the text shows `example`.
    """
    try:
        parts = urlsplit(url)
        ok = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except (ValueError, AttributeError, TypeError):
        ok = False
    if not ok:
        raise ConfigError(f"{redact(str(url))!r} is no websocket URL; it looks like {example}")
    return url.rstrip("/")
