"""How credentials travel to an IME live data server: its documentation demands them and does not say where.

Source: IME Live Data WebSocket documentation, *Authentication*: "All WebSocket endpoints require authentication".
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from finx_sync.errors import ConfigError
from finx_sync.redaction import redact

__all__ = ["Bearer", "Cookie", "Credentials", "Header", "QueryToken", "checked_credentials"]


@dataclass(frozen=True, repr=False)
class Credentials:
    """A secret and where it goes; never shown. Use one of the kinds below.

    Raises:
        ConfigError: (all of them) no secret, or one that no header could carry.
    """

    secret: str

    def __post_init__(self) -> None:
        if not isinstance(self.secret, str) or not self.secret or not self.secret.isprintable():
            raise ConfigError("credentials are a text that is not empty and has no control characters")
        if not self.secret.isascii():
            raise ConfigError("credentials have characters beyond ASCII, which no header can carry")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"

    def headers(self) -> dict[str, str]:
        """What the handshake carries."""
        return {}

    def query(self) -> dict[str, str]:
        """What the URL carries."""
        return {}


@dataclass(frozen=True, repr=False)
class Bearer(Credentials):
    """``Authorization: Bearer SECRET``, the usual way, and what a plain string means."""

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secret}"}


@dataclass(frozen=True, repr=False)
class QueryToken(Credentials):
    """``?token=SECRET`` behind the contracts.

    Attributes:
        name: "token", "access_token", "api_key" or another name that is kept out of logs.
    """

    name: str = "token"

    def __post_init__(self) -> None:
        super().__post_init__()
        if "***" not in redact(f"?{self.name}=value"):
            raise ConfigError(
                f"a parameter named {self.name!r} would be shown in logs; choose token, access_token or api_key"
            )

    def query(self) -> dict[str, str]:
        return {self.name: self.secret}


@dataclass(frozen=True, repr=False)
class Cookie(Credentials):
    """``Cookie: session=SECRET``.

    Attributes:
        name: the cookie's.
    """

    name: str = "session"

    def headers(self) -> dict[str, str]:
        return {"Cookie": f"{self.name}={quote(self.secret, safe='')}"}


@dataclass(frozen=True, repr=False)
class Header(Credentials):
    """A header of the server's own, such as ``X-API-Key: SECRET``.

    Attributes:
        name: the header's.
    """

    name: str = "X-API-Key"

    def headers(self) -> dict[str, str]:
        return {self.name: self.secret}


def checked_credentials(given: object) -> Credentials | None:
    """What a user gave: None, a text (a bearer token), or a kind of `Credentials`.

    Raises:
        ConfigError: something else.
    """
    if given is None or isinstance(given, Credentials):
        return given
    if isinstance(given, str):
        return Bearer(given)
    raise ConfigError(
        f"auth is a token, a kind of credentials such as QueryToken('...'), or a function that returns one, not "
        f"{type(given).__name__}"
    )
