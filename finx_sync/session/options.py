"""The options that every stream takes. They are checked when the stream is created, before any I/O."""

from __future__ import annotations

import functools
import inspect
import math
import os
import ssl
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Final, Literal, TypedDict, TypeVar, cast, get_args

from finx_sync.errors import ConfigError
from finx_sync.pipeline.queue import Overflow
from finx_sync.session.backoff import Backoff
from finx_sync.spelling import keyword_names, refuse_unknown
from finx_sync.transport.frames import DEFAULT_MAX_SIZE
from finx_sync.transport.proxy import read_proxy

__all__ = ["DEFAULT_QUEUE_SIZE", "Options", "StreamOptions", "takes_options"]

F = TypeVar("F", bound=Callable[..., None])

DEFAULT_QUEUE_SIZE: Final = 65_536
"""The number of messages that may wait for the handlers before the reader is held back; about 50 MB of contracts."""
SECONDS: Final = (
    "ping_interval",
    "ping_timeout",
    "connect_timeout",
    "max_lag",
    "stale_after",
    "overlap",
    "backfill_timeout",
)
SWITCHES: Final = ("allow_insecure", "reconnect_on_drift", "backfill")


class StreamOptions(TypedDict, total=False):
    """The keyword arguments that every venue's stream takes; `Options` describes them."""

    ping_interval: float
    ping_timeout: float | None
    connect_timeout: float
    reconnect: Backoff
    proxy: str | None
    ssl_context: ssl.SSLContext | None
    allow_insecure: bool
    queue_size: int
    max_size: int
    overflow: Overflow
    max_lag: float
    stale_after: float | None
    overlap: float
    reconnect_on_drift: bool
    backfill: bool
    backfill_timeout: float
    handler_errors: Literal["report", "raise"]
    flight_recorder: bool | str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to connect, stay connected and deliver; times in seconds.

    Attributes:
        ping_interval, ping_timeout: the interval of protocol pings, and how long a pong may take; a timeout of None
            waits forever.
        connect_timeout: how long connecting may take, from name look-up to the end of the handshake.
        reconnect: how long to wait between attempts to connect.
        proxy: the URL of a proxy; None for the environment's proxy, "" for no proxy.
        ssl_context: for wss; None verifies against the system's certificates.
        allow_insecure: whether a key may go over ws:// to another machine, where everyone on the network path can read
            it.
        queue_size: the number of messages that may wait for the handlers before the reader is held back.
        max_size: the greatest size of a message, in bytes; a larger one closes the connection with 1009.
        overflow: what happens when handlers are slower than the feed. "auto" holds the reader back, so that a burst
            loses nothing, and lets newer states replace older ones once a message has waited for `max_lag`; "block"
            only holds the reader back; "latest" always keeps only the newest states; "drop_oldest" continues to read
            and drops the messages that have waited longest; "error" ends the stream. Dropped messages are counted, and
            reported to `on_gap`.
        max_lag: how long a message may wait under "auto".
        stale_after: how long a subscription may be silent before `on_stale` is called; None for no limit.
        overlap: how long two connections may serve the stream when one replaces the other.
        reconnect_on_drift: whether a connection whose feed falls behind is replaced, at most once in five minutes; see
            `finx_sync.notices.Drift`.
        backfill: whether gaps in spot rates are filled from tick history.
        backfill_timeout: how long live ticks wait for a backfill.
        handler_errors: "report" calls `on_error` and continues; "raise" ends the stream, and `run` and iterators raise.
        flight_recorder: where a report is written when the stream stalls or fails: a directory, or True for the
            system's directory for temporary files; False writes none.

    Raises:
        ConfigError: a value is invalid.
    """

    # network
    proxy: str | None = None
    ssl_context: ssl.SSLContext | None = None
    allow_insecure: bool = False
    # timeouts
    ping_interval: float = 15.0
    ping_timeout: float | None = 10.0
    connect_timeout: float = 10.0
    reconnect: Backoff = field(default_factory=Backoff)
    # limits
    queue_size: int = DEFAULT_QUEUE_SIZE
    max_size: int = DEFAULT_MAX_SIZE
    overflow: Overflow = "auto"
    max_lag: float = 1.0
    # guarantees
    stale_after: float | None = None
    overlap: float = 2.0
    reconnect_on_drift: bool = False
    backfill: bool = False
    backfill_timeout: float = 5.0
    # when something goes wrong
    handler_errors: Literal["report", "raise"] = "report"
    flight_recorder: bool | str | os.PathLike[str] = True

    def __post_init__(self) -> None:
        for name in SECONDS:
            value = getattr(self, name)
            if not (value is None and name in ("ping_timeout", "stale_after")) and not _is_above_zero(value):
                raise ConfigError(f"{name} is a number of seconds above 0, not {value!r}")
        for name, unit in (("queue_size", "messages"), ("max_size", "bytes")):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} is a number of {unit} above 0, not {value!r}")
        for name in SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} is True or False, not {getattr(self, name)!r}")
        self._check_types()
        for name, choices in (("overflow", get_args(Overflow)), ("handler_errors", ("report", "raise"))):
            if getattr(self, name) not in choices:
                known = ", ".join(repr(choice) for choice in choices)
                raise ConfigError(f"{name} is one of {known}, not {getattr(self, name)!r}")

    def _check_types(self) -> None:
        if not isinstance(self.reconnect, Backoff):
            raise ConfigError(f"reconnect is a Backoff, such as Backoff(first=1, cap=30), not {self.reconnect!r}")
        if self.ssl_context is not None and not isinstance(self.ssl_context, ssl.SSLContext):
            raise ConfigError(
                "ssl_context is an ssl.SSLContext, as made by ssl.create_default_context(), "
                f"not {type(self.ssl_context).__name__}"
            )
        if not isinstance(self.flight_recorder, (bool, str, os.PathLike)):
            raise ConfigError(f"flight_recorder is a directory, True or False, not {self.flight_recorder!r}")
        if self.proxy is not None and not isinstance(self.proxy, str):
            raise ConfigError(f"proxy is a URL such as 'http://proxy:3128', not {type(self.proxy).__name__}")
        if self.proxy:
            read_proxy(self.proxy)

    def run_arguments(self) -> dict[str, Any]:
        """Return the TLS and proxy options as arguments of `WebSocketApp.run_forever`."""
        arguments: dict[str, Any] = {"proxy": self.proxy}
        if self.ssl_context is not None:
            arguments["sslopt"] = {"context": self.ssl_context}
        return arguments


def takes_options(**defaults: Any) -> Callable[[F], F]:
    """Check the options of a constructor that ends with ``**options: Unpack[StreamOptions]``; a decorator.

    The constructor's signature, and so ``help()``, shows every option with its default. Names and values are checked
    before the constructor itself begins, so that a misspelt option is not reported as, for example, a missing key.

    Args:
        defaults: the defaults that differ from those of `Options`.
    """

    def decorate(create: F) -> F:
        signature = _spelled_out(inspect.signature(create), defaults)
        known = keyword_names(signature)

        @functools.wraps(create)
        def checked(self: Any, *args: Any, **keywords: Any) -> None:
            refuse_unknown(self, keywords, known)
            keywords = {**defaults, **keywords}
            Options(**{name: value for name, value in keywords.items() if name in OPTIONS})
            create(self, *args, **keywords)

        checked.__signature__ = signature  # type: ignore[attr-defined]
        return cast("F", checked)

    return decorate


def _spelled_out(signature: inspect.Signature, defaults: dict[str, Any]) -> inspect.Signature:
    parameters = []
    for one in signature.parameters.values():
        if one.kind is not inspect.Parameter.VAR_KEYWORD:
            parameters.append(one)
            continue
        for name, option in OPTIONS.items():
            default = defaults.get(name, _default_of(option))
            parameters.append(one.replace(name=name, kind=one.KEYWORD_ONLY, default=default, annotation=option.type))
    return signature.replace(parameters=parameters)


def _default_of(option: Field[Any]) -> Any:
    return option.default if option.default_factory is MISSING else option.default_factory()


def _is_above_zero(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


OPTIONS: Final = {option.name: option for option in fields(Options)}
