"""Ways to send credentials to an IME live data server; its documentation requires them but does not say how.

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
    """A secret, and where a request contains it; never shown. Use one of its subclasses.

    Attributes:
        secret: the secret.

    Raises:
        ConfigError: the secret is empty, or has characters that a header cannot contain. All subclasses raise it.
    """

    secret: str

    def __post_init__(self) -> None:
        if not isinstance(self.secret, str) or not self.secret or not self.secret.isprintable():
            raise ConfigError("credentials must be a string that is not empty and has no control characters")
        if not self.secret.isascii():
            raise ConfigError("credentials must be ASCII, because a header cannot contain other characters")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"

    def headers(self) -> dict[str, str]:
        """Return the headers of the handshake that contain the secret."""
        return {}

    def query(self) -> dict[str, str]:
        """Return the parameters of the URL that contain the secret."""
        return {}


@dataclass(frozen=True, repr=False)
class Bearer(Credentials):
    """``Authorization: Bearer SECRET``, the usual way. A plain string is sent like this."""

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secret}"}


@dataclass(frozen=True, repr=False)
class QueryToken(Credentials):
    """``token=SECRET`` in the URL's query, after the contracts.

    Attributes:
        name: the parameter's name: "token", "access_token", "api_key" or another one whose value is redacted in logs.
    """

    name: str = "token"

    def __post_init__(self) -> None:
        super().__post_init__()
        if "***" not in redact(f"?{self.name}=value"):
            raise ConfigError(
                f"the value of parameter {self.name!r} would be shown in logs; use token, access_token or api_key"
            )

    def query(self) -> dict[str, str]:
        return {self.name: self.secret}


@dataclass(frozen=True, repr=False)
class Cookie(Credentials):
    """``Cookie: session=SECRET``.

    Attributes:
        name: the cookie's name.
    """

    name: str = "session"

    def headers(self) -> dict[str, str]:
        return {"Cookie": f"{self.name}={quote(self.secret, safe='')}"}


@dataclass(frozen=True, repr=False)
class Header(Credentials):
    """A custom header of the server, such as ``X-API-Key: SECRET``.

    Attributes:
        name: the header's name.
    """

    name: str = "X-API-Key"

    def headers(self) -> dict[str, str]:
        return {self.name: self.secret}


def checked_credentials(given: object) -> Credentials | None:
    """Convert a user's argument, which is None, a string (a bearer token) or a kind of `Credentials`.

    Raises:
        ConfigError: it is something else.
    """
    if given is None or isinstance(given, Credentials):
        return given
    if isinstance(given, str):
        return Bearer(given)
    raise ConfigError(
        f"auth must be a token, a kind of credentials such as QueryToken('...'), or a function that returns one, not "
        f"{type(given).__name__}"
    )
