"""The options that every stream takes, in one place: checked when the stream is made, before any I/O."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any, Final, TypedDict

from finx_sync.errors import ConfigError
from finx_sync.session.backoff import Backoff
from finx_sync.transport.frames import DEFAULT_MAX_SIZE
from finx_sync.transport.proxy import read_proxy

__all__ = ["DEFAULT_QUEUE_SIZE", "Options", "StreamOptions"]

DEFAULT_QUEUE_SIZE: Final = 65_536
"""Messages that may wait for the handlers before the reader is held back; about 50 MB of contract ticks."""


class StreamOptions(TypedDict, total=False):
    """The keyword arguments that every venue's stream takes; what they mean stands at `Options`."""

    ping_interval: float
    ping_timeout: float | None
    connect_timeout: float
    reconnect: Backoff
    proxy: str | None
    ssl_context: ssl.SSLContext | None
    queue_size: int
    max_size: int


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to connect, stay connected and deliver; times in seconds.

    Attributes:
        ping_interval, ping_timeout: protocol pings, and how long a pong may take; None never gives up.
        connect_timeout: from name look-up to the end of the handshake.
        reconnect: how long to wait between attempts.
        proxy: URL of a proxy; None for the environment's, "" for none.
        ssl_context: for wss; None verifies against the system's certificates.
        queue_size: messages that may wait for the handlers before the reader is held back.
        max_size: bytes of one message; a larger one closes with 1009.

    Raises:
        ConfigError: a value that cannot be right.
    """

    # where
    proxy: str | None = None
    ssl_context: ssl.SSLContext | None = None
    # timeouts
    ping_interval: float = 15.0
    ping_timeout: float | None = 10.0
    connect_timeout: float = 10.0
    reconnect: Backoff = field(default_factory=Backoff)
    # limits
    queue_size: int = DEFAULT_QUEUE_SIZE
    max_size: int = DEFAULT_MAX_SIZE

    def __post_init__(self) -> None:
        for name in ("ping_interval", "ping_timeout", "connect_timeout"):
            value = getattr(self, name)
            if not (value is None and name == "ping_timeout") and not _is_above_zero(value):
                raise ConfigError(f"{name} is a number of seconds above 0, not {value!r}")
        for name, unit in (("queue_size", "messages"), ("max_size", "bytes")):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ConfigError(f"{name} is a number of {unit} above 0, not {getattr(self, name)!r}")

        if self.proxy:
            read_proxy(self.proxy)

    def run_arguments(self) -> dict[str, Any]:
        """TLS and proxy, as `WebSocketApp.run_forever` takes them."""
        arguments: dict[str, Any] = {"proxy": self.proxy}
        if self.ssl_context is not None:
            arguments["sslopt"] = {"context": self.ssl_context}
        return arguments


def _is_above_zero(value: object) -> bool:
    return isinstance(value, (int, float)) and value > 0
