"""Every error that finx_sync raises or reports, in one tree.

::

    FinxSyncError
    ├── ConfigError(ValueError)             an unknown environment, a bad URL or option
    │   └── MissingKeyError                 no API key was given, and none is set
    ├── InvalidInputError(ValueError)       a bad pair, date, time, instrument name or timeout
    ├── HandlerError(TypeError)             not callable, or it does not take one argument
    ├── SlowConsumerError                   overflow="error": the handlers fell too far behind
    ├── StaleDataError                      `guard`: the newest message of a name is too old to act on
    ├── SubscriptionRefusedError            the server does not grant a subscription: it is not asked for again
    ├── HandlerRaisedError                  given to `on_error`: a handler raised; its exception is the cause
    ├── MissingExtraError(ImportError)      an optional part is not installed
    ├── UsageError(RuntimeError)            right call, wrong moment or wrong thread
    ├── UnsupportedError(NotImplementedError) this service has no such function
    ├── StreamTimeoutError(TimeoutError)    a wait ended before what it waited for came
    ├── ConnectError(ConnectionError)       no connection could be opened
    │   ├── NameResolutionError             the host name has no address
    │   ├── ConnectTimeoutError(TimeoutError)
    │   ├── TLSError                        the certificate or the TLS handshake was refused
    │   ├── ProxyError                      the proxy refused or is unreachable
    │   └── HandshakeError                  the server answered the upgrade with something else
    ├── AuthorizationError(PermissionError) the key was refused: never retried
    ├── ConnectionLostError(ConnectionError) an open connection ended
    │   ├── PeerTimeoutError(TimeoutError)  the peer stopped answering pings
    │   └── ProtocolError                   the peer broke RFC 6455; carries the close code we sent
    ├── ChecksumError                       an order book is not the server's; it is asked for anew
    ├── UnreadableMessageError(ValueError)  a payload that is no message of this service
    ├── RelayError                          given to `on_error`: a relay cannot write to Redis; it goes on trying
    ├── RecordingError(ValueError)          a file is no recording, or one of another version
    ├── InternalError(RuntimeError)         a defect of this library
    └── FunctionError                       a blocking function failed
        ├── FunctionTimeoutError(TimeoutError)
        ├── ServerRefusedError              the server answered with an error object, or an HTTP status of one
        │   └── RateLimitedError            too many calls; carries how long to wait
        ├── UnexpectedReplyError            the server answered with a shape we do not know
        └── IncompleteHistoryError          a history that is not proven complete, and was wanted so

Texts say what happened and what to do about it. Data is in attributes. No text ever holds a key, and each is one line:
whatever came from outside passes `finx_sync.redaction` first, and every text passes it again in the root's constructor.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from finx_sync.pickling import causes_of, link_causes, portable
from finx_sync.redaction import excerpt, sealed, shown

__all__ = [
    "AuthorizationError",
    "ChecksumError",
    "ConfigError",
    "ConnectError",
    "ConnectTimeoutError",
    "ConnectionLostError",
    "FinxSyncError",
    "FunctionError",
    "FunctionTimeoutError",
    "HandlerError",
    "HandlerRaisedError",
    "HandshakeError",
    "IncompleteHistoryError",
    "InternalError",
    "InvalidInputError",
    "MissingExtraError",
    "MissingKeyError",
    "NameResolutionError",
    "PeerTimeoutError",
    "ProtocolError",
    "ProxyError",
    "RateLimitedError",
    "RecordingError",
    "RelayError",
    "ServerRefusedError",
    "SlowConsumerError",
    "StaleDataError",
    "StreamTimeoutError",
    "SubscriptionRefusedError",
    "TLSError",
    "UnexpectedReplyError",
    "UnreadableMessageError",
    "UnsupportedError",
    "UsageError",
]

EXCERPT_LENGTH = 200
"""Characters of a payload that an error text may quote."""
LONGEST_COMPLAINT = 1000
"""Characters of a server's complaint that are kept."""


class FinxSyncError(Exception):
    """The root: ``except FinxSyncError`` catches whatever this library raises on purpose.

    Every error can be pickled and copied, whatever it carries: process pools pickle what their workers raise, and
    would hang or break otherwise. Its type, text, attributes, notes and causes are kept; an attribute or a foreign
    exception that cannot be pickled becomes a text that describes it.

    Attributes:
        history: where a call that fetches tick history has failed, what it had by then; None elsewhere.
    """

    history: Any = None

    def __init__(self, *args: Any) -> None:
        # Texts quote names, reasons and other errors, which may come from a server: no known secret, one line.
        super().__init__(*(sealed(one) if isinstance(one, str) else one for one in args))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it without calling `__init__`, whose arguments are not `args`."""
        args = tuple(map(portable, self.args))
        state = {name: value if isinstance(value, FinxSyncError) else portable(value) for name, value in _state(self)}
        return _rebuilt, (type(self), args), (state, causes_of(self, FinxSyncError), self.__suppress_context__)

    def __setstate__(self, state: Any) -> None:
        """What `__reduce__` has put aside."""
        attributes, causes, suppress = state
        for name, value in attributes.items():
            setattr(self, name, value)
        link_causes(self, causes)
        self.__suppress_context__ = suppress

    def __copy__(self) -> FinxSyncError:
        return self._copied(lambda value: value)

    def __deepcopy__(self, memo: dict[int, Any]) -> FinxSyncError:
        def deep(value: Any) -> Any:
            try:
                return copy.deepcopy(value, memo)
            except Exception:  # noqa: BLE001  # whatever the object's own code raises: what cannot be copied is shared
                return value

        return self._copied(deep, memo)

    def _copied(self, copied: Callable[[Any], Any], memo: dict[int, Any] | None = None) -> FinxSyncError:
        other = _rebuilt(type(self), tuple(copied(one) for one in self.args))
        if memo is not None:
            memo[id(self)] = other
        for name, value in _state(self):
            setattr(other, name, copied(value))
        other.__cause__, other.__context__ = self.__cause__, self.__context__  # shared: a copy would lose its traceback
        other.__suppress_context__ = self.__suppress_context__
        return other


def _rebuilt(kind: type[FinxSyncError], args: tuple[Any, ...]) -> FinxSyncError:
    """An error of a kind, without its own `__init__`, but with that of the built-in exception that it is too."""
    error = kind.__new__(kind, *args)
    super(FinxSyncError, error).__init__(*args)
    error.args = args
    return error


def _state(error: FinxSyncError) -> list[tuple[str, Any]]:
    """Its attributes, and those of the built-in exception that it is too."""
    reduced: Any = super(FinxSyncError, error).__reduce__()
    state = reduced[2] if len(reduced) > 2 else None
    return list(state.items()) if state else []


class ConfigError(FinxSyncError, ValueError):
    """A setting is missing or makes no sense; raised by the call that was given it, before any I/O."""


class MissingKeyError(ConfigError):
    """No API key was given, and none is set in the environment or in ``.env``."""


class InvalidInputError(FinxSyncError, ValueError):
    """An argument cannot be right; raised before any I/O."""


class HandlerError(FinxSyncError, TypeError):
    """A handler is not callable, or cannot be called with one message."""


class HandlerRaisedError(FinxSyncError):
    """What `on_error` is given when a handler raised; the handler's own exception is the `__cause__`.

    Attributes:
        handler: the function that raised.
        message: what it was given.
    """

    def __init__(
        self, name: str, handler: Callable[..., object], message: object, *, stream_goes_on: bool = True
    ) -> None:
        super().__init__(f"the handler {name} raised; the stream {'goes on' if stream_goes_on else 'has ended'}")
        self.handler = handler
        self.message = message


class SlowConsumerError(FinxSyncError):
    """The handlers fell too far behind, and the overflow rule is "error"."""


class StaleDataError(FinxSyncError):
    """The newest message of a name is too old, or there is none: better no order than one on old prices.

    Attributes:
        name: whose.
        age: its age in seconds; None where there is no message, or where it lacks the venue's time.
        by: whose time the age is counted from: "receipt" or "venue".
    """

    def __init__(
        self, name: str, age: float | None, max_age: float, by: str = "receipt", *, has_come: bool = False
    ) -> None:
        self.name = name
        self.age = age
        self.by = by
        whose = " by the venue's time" if by == "venue" else ""
        if age is None:
            what = "does not say when it was so" if has_come else "has not come yet"
        elif age < 0:
            what = f"is dated {-age:.2f} s ahead of this machine's clock"
        else:
            what = f"is {age:.2f} s old{whose}"
        super().__init__(f"the newest message of {name} {what}; at most {max_age:g} s were allowed")


class SubscriptionRefusedError(FinxSyncError):
    """What `on_error` is given when the server refused a subscription; the stream no longer asks for it.

    Attributes:
        kind, name: what was asked for.
        said: what the server said, redacted and on one line; its first thousand characters.
    """

    def __init__(self, kind: str, name: str, said: str) -> None:
        self.kind = kind
        self.name = name
        self.said = shown(said, LONGEST_COMPLAINT)
        what = name if name == kind else f"{kind} {name}"
        super().__init__(
            f"the server refused the subscription {what} and said {excerpt(said, LONGEST_COMPLAINT)!r}; "
            "it is not asked for again"
        )


class ChecksumError(FinxSyncError):
    """What `on_error` is given when an order book does not have the checksum that the server sent with an update.

    Attributes:
        market: whose book.
    """

    def __init__(self, market: str) -> None:
        super().__init__(
            f"the order book of {market} does not have the server's checksum; it is dropped and asked anew"
        )
        self.market = market


class InternalError(FinxSyncError, RuntimeError):
    """A defect of this library ended the stream; the cause is in the log. Please report it."""


class MissingExtraError(FinxSyncError, ImportError):
    """An optional part of the library is not installed; the text holds the pip command."""


class UsageError(FinxSyncError, RuntimeError):
    """The call is right, but not now (already running, never started) or not on this thread."""


class UnsupportedError(FinxSyncError, NotImplementedError):
    """The service that the stream is connected to has nothing like the function; raised before any I/O."""


class StreamTimeoutError(FinxSyncError, TimeoutError):
    """`wait_for`, `take` or `start` waited as long as it was asked to."""


class ConnectError(FinxSyncError, ConnectionError):
    """No connection could be opened."""


class NameResolutionError(ConnectError):
    """The host name could not be turned into an address."""


class ConnectTimeoutError(ConnectError, TimeoutError):
    """Name look-up, TCP, TLS, proxy and handshake together took longer than `connect_timeout`."""


class TLSError(ConnectError):
    """The server's certificate was not accepted, or TLS could not be agreed on."""


class ProxyError(ConnectError):
    """The proxy refused the connection, or cannot be reached."""


class HandshakeError(ConnectError):
    """The server answered the websocket upgrade with something other than 101.

    Attributes:
        status_code: the HTTP status, or None where the answer was no HTTP at all.
        headers: the response headers, names in lower case.
    """

    def __init__(self, message: str, status_code: int | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.headers: dict[str, str] = dict(headers or {})


class AuthorizationError(FinxSyncError, PermissionError):
    """The server refused the key; the stream does not retry it."""


class ConnectionLostError(FinxSyncError, ConnectionError):
    """An open connection ended.

    Attributes:
        code: the close code of RFC 6455 7.4; 1006 where the peer vanished without a close frame.
        reason: the peer's reason, redacted and on one line; often empty.
    """

    def __init__(self, message: str, code: int = 1006, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = shown(reason)


class PeerTimeoutError(ConnectionLostError, TimeoutError):
    """The peer answered no ping within `ping_timeout`."""


class ProtocolError(ConnectionLostError):
    """The peer sent what RFC 6455 forbids; `code` is the close code that we answered with."""


class UnreadableMessageError(FinxSyncError, ValueError):
    """A payload could not be read as a message of this service.

    Attributes:
        excerpt: the first characters of the payload, redacted and on one line.
    """

    def __init__(self, why: str, payload: str) -> None:
        self.excerpt = shown(payload, EXCERPT_LENGTH)
        super().__init__(f"{excerpt(why, EXCERPT_LENGTH)}; the message begins {excerpt(payload, EXCERPT_LENGTH)!r}")


class RelayError(FinxSyncError):
    """What `on_error` is given when a relay cannot write to Redis, or has been replaced; the relay goes on trying."""


class RecordingError(FinxSyncError, ValueError):
    """A file is no recording of this library, or was written by another version of it."""


class FunctionError(FinxSyncError):
    """A blocking function could not return what it was asked for."""


class FunctionTimeoutError(FunctionError, TimeoutError):
    """The whole call, from name look-up to the last byte, took longer than its timeout."""


class ServerRefusedError(FunctionError):
    """The server answered with an error object, or with an HTTP status that is one.

    Attributes:
        said: what the server said, redacted and on one line; its first thousand characters.
        status_code: the HTTP status; None where there is none.
    """

    def __init__(self, function: str, said: Any, status_code: int | None = None) -> None:
        self.said = shown(str(said), LONGEST_COMPLAINT)
        self.status_code = status_code
        super().__init__(f"{function}: the server refused the call and said {excerpt(str(said), LONGEST_COMPLAINT)!r}")


class RateLimitedError(ServerRefusedError):
    """The server got too many calls, and asked for a longer pause than the call had time for.

    Attributes:
        retry_after: seconds to wait, as the server says; None where it does not.
    """

    def __init__(self, function: str, said: Any, retry_after: float | None) -> None:
        super().__init__(function, said, 429)
        self.retry_after = retry_after
        if retry_after is not None:
            self.args = (f"{self.args[0]}; it may be called again in {retry_after:g} s",)


class UnexpectedReplyError(FunctionError):
    """The server answered with a shape that no source describes; the text quotes its beginning."""


class IncompleteHistoryError(FunctionError):
    """Tick history that is not proven complete, where `strict` was asked for.

    Attributes:
        history: what there is; its `unproven` are the intervals.
    """

    def __init__(self, history: Any) -> None:
        self.history = history
        shown = "; ".join(str(one) for one in history.unproven[:3])
        more = f" and {len(history.unproven) - 3} more" if len(history.unproven) > 3 else ""
        left_out = "".join(f"; {count} rows of {reason} were left out" for reason, count in history.discarded.items())
        super().__init__(
            f"the history of {history.pair} is not proven complete in {shown}{more}{left_out}; its {len(history)} rows "
            "are this error's `history`"
        )
