"""Every error that finx_sync raises or reports, in one tree.

::

    FinxSyncError
    ├── ConfigError(ValueError)             an unknown environment, a bad URL or option
    │   └── MissingKeyError                 no API key was given, and none is set
    ├── InvalidInputError(ValueError)       a bad pair, date, time, instrument name or timeout
    ├── HandlerError(TypeError)             a handler is not callable, or does not take one argument
    ├── SlowConsumerError                   overflow="error": the handlers fell too far behind
    ├── StaleDataError                      `guard`: the newest message of a name is too old to act on
    ├── SubscriptionRefusedError            the server refused a subscription, which is not requested again
    ├── HandlerRaisedError                  passed to `on_error`: a handler raised; its exception is the cause
    ├── MissingExtraError(ImportError)      an optional part is not installed
    ├── UsageError(RuntimeError)            a valid call at the wrong time or on the wrong thread
    ├── UnsupportedError(NotImplementedError) this service has no such function
    ├── StreamTimeoutError(TimeoutError)    a wait took longer than its timeout
    ├── ConnectError(ConnectionError)       no connection could be opened
    │   ├── NameResolutionError             the host name has no address
    │   ├── ConnectTimeoutError(TimeoutError)
    │   ├── TLSError                        the certificate or the TLS handshake was refused
    │   ├── ProxyError                      the proxy refused or is unreachable
    │   └── HandshakeError                  the server did not accept the websocket upgrade
    ├── AuthorizationError(PermissionError) the key was refused: never retried
    ├── ConnectionLostError(ConnectionError) an open connection ended
    │   ├── PeerTimeoutError(TimeoutError)  the peer stopped answering pings
    │   └── ProtocolError                   the peer violated RFC 6455; carries the close code we sent
    ├── ChecksumError                       an order book differs from the server's; it is requested again
    ├── UnreadableMessageError(ValueError)  a payload is not a message of this service
    ├── RelayError                          passed to `on_error`: a relay cannot write to Redis; it keeps trying
    ├── RecordingError(ValueError)          a file is not a recording, or was written by another version
    ├── InternalError(RuntimeError)         a defect of this library
    └── FunctionError                       a blocking function failed
        ├── FunctionTimeoutError(TimeoutError)
        ├── ServerRefusedError              the server answered with an error object or an HTTP error status
        │   └── RateLimitedError            too many calls; carries how long to wait
        ├── UnexpectedReplyError            the answer has an unknown structure
        └── IncompleteHistoryError          `strict` was set, and the history is not proven complete

Texts say what happened and what to do about it. Data is in attributes. No text ever contains a key, and each is a
single line: text from outside is cleaned by `finx_sync.redaction` first, and every text again in the root's
constructor.
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
"""Characters of a server's error text that are kept."""


class FinxSyncError(Exception):
    """The root: ``except FinxSyncError`` catches everything that this library raises on purpose.

    Every error can be pickled and copied, whatever it carries: process pools pickle what their workers raise, and
    would hang or break otherwise. Its type, text, attributes, notes and causes are kept; an attribute or a foreign
    exception that cannot be pickled is replaced by a text that describes it.

    Attributes:
        history: if a call that fetches tick history failed, the part it had fetched by then; None otherwise.
    """

    history: Any = None

    def __init__(self, *args: Any) -> None:
        # Texts quote names, reasons and other errors, which may come from a server: remove secrets and line breaks.
        super().__init__(*(sealed(one) if isinstance(one, str) else one for one in args))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it without calling `__init__`, whose arguments are not `args`."""
        args = tuple(map(portable, self.args))
        state = {name: value if isinstance(value, FinxSyncError) else portable(value) for name, value in _state(self)}
        return _rebuilt, (type(self), args), (state, causes_of(self, FinxSyncError), self.__suppress_context__)

    def __setstate__(self, state: Any) -> None:
        """Restore what `__reduce__` saved."""
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
            except Exception:  # noqa: BLE001  # anything its own code raises: an object that cannot be copied is shared
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
    """Create an error of type `kind` without its own `__init__`, but with that of its built-in base class."""
    error = kind.__new__(kind, *args)
    super(FinxSyncError, error).__init__(*args)
    error.args = args
    return error


def _state(error: FinxSyncError) -> list[tuple[str, Any]]:
    """Return its attributes, including those of its built-in base class."""
    reduced: Any = super(FinxSyncError, error).__reduce__()
    state = reduced[2] if len(reduced) > 2 else None
    return list(state.items()) if state else []


class ConfigError(FinxSyncError, ValueError):
    """A setting is missing or invalid; raised by the call that received it, before any I/O."""


class MissingKeyError(ConfigError):
    """No API key was given, and none is set in the environment or in ``.env``."""


class InvalidInputError(FinxSyncError, ValueError):
    """An argument is invalid; raised before any I/O."""


class HandlerError(FinxSyncError, TypeError):
    """A handler is not callable, or cannot be called with one message."""


class HandlerRaisedError(FinxSyncError):
    """Passed to `on_error` when a handler raised; the handler's own exception is the `__cause__`.

    Attributes:
        handler: the function that raised.
        message: the argument that it was called with.
    """

    def __init__(
        self, name: str, handler: Callable[..., object], message: object, *, stream_goes_on: bool = True
    ) -> None:
        super().__init__(f"the handler {name} raised; the stream {'goes on' if stream_goes_on else 'has ended'}")
        self.handler = handler
        self.message = message


class SlowConsumerError(FinxSyncError):
    """The handlers fell too far behind, and `overflow` is "error"."""


class StaleDataError(FinxSyncError):
    """The newest message of a name is too old, or there is none: better no order than an order based on old prices.

    Attributes:
        name: the contract, pair or market.
        age: the message's age in seconds; None if there is no message, or if it lacks the venue's time.
        by: the time that the age is counted from: "receipt" or "venue".
    """

    def __init__(
        self, name: str, age: float | None, max_age: float, by: str = "receipt", *, has_come: bool = False
    ) -> None:
        self.name = name
        self.age = age
        self.by = by
        whose = " by the venue's time" if by == "venue" else ""
        if age is None:
            what = "carries no venue time" if has_come else "has not arrived yet"
        elif age < 0:
            what = f"is dated {-age:.2f} s ahead of this machine's clock"
        else:
            what = f"is {age:.2f} s old{whose}"
        super().__init__(f"the newest message of {name} {what}; at most {max_age:g} s are allowed")


class SubscriptionRefusedError(FinxSyncError):
    """Passed to `on_error` when the server refused a subscription; the stream does not request it again.

    Attributes:
        kind, name: the kind and the name of the subscription.
        said: the first thousand characters of what the server said, redacted and on one line.
    """

    def __init__(self, kind: str, name: str, said: str) -> None:
        self.kind = kind
        self.name = name
        self.said = shown(said, LONGEST_COMPLAINT)
        what = name if name == kind else f"{kind} {name}"
        super().__init__(
            f"the server refused the subscription {what} and said {excerpt(said, LONGEST_COMPLAINT)!r}; "
            "it is not requested again"
        )


class ChecksumError(FinxSyncError):
    """Passed to `on_error` when an order book does not have the checksum that the server sent with an update.

    Attributes:
        market: the book's market.
    """

    def __init__(self, market: str) -> None:
        super().__init__(
            f"the order book of {market} does not match the server's checksum; it is dropped and requested again"
        )
        self.market = market


class InternalError(FinxSyncError, RuntimeError):
    """A defect of this library ended the stream; the cause is in the log. Please report it."""


class MissingExtraError(FinxSyncError, ImportError):
    """An optional part of the library is not installed; the text contains the pip command."""


class UsageError(FinxSyncError, RuntimeError):
    """The call is valid, but not now (already running, never started) or not on this thread."""


class UnsupportedError(FinxSyncError, NotImplementedError):
    """The service that the stream connects to has no such function; raised before any I/O."""


class StreamTimeoutError(FinxSyncError, TimeoutError):
    """`wait_for`, `take` or `start` took longer than its timeout."""


class ConnectError(FinxSyncError, ConnectionError):
    """No connection could be opened."""


class NameResolutionError(ConnectError):
    """The host name could not be resolved to an address."""


class ConnectTimeoutError(ConnectError, TimeoutError):
    """Name look-up, TCP, TLS, proxy and handshake together took longer than `connect_timeout`."""


class TLSError(ConnectError):
    """The server's certificate was not accepted, or the TLS handshake failed."""


class ProxyError(ConnectError):
    """The proxy refused the connection, or could not be reached."""


class HandshakeError(ConnectError):
    """The server answered the websocket upgrade with something other than 101.

    Attributes:
        status_code: the HTTP status, or None if the answer was not HTTP.
        headers: the response headers, names in lower case.
    """

    def __init__(self, message: str, status_code: int | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.headers: dict[str, str] = dict(headers or {})


class AuthorizationError(FinxSyncError, PermissionError):
    """The server refused the key; the stream does not try again."""


class ConnectionLostError(FinxSyncError, ConnectionError):
    """An open connection ended.

    Attributes:
        code: the close code of RFC 6455 7.4; 1006 if the connection ended without a close frame.
        reason: the peer's reason, redacted and on one line; often empty.
    """

    def __init__(self, message: str, code: int = 1006, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = shown(reason)


class PeerTimeoutError(ConnectionLostError, TimeoutError):
    """The peer did not answer a ping within `ping_timeout`."""


class ProtocolError(ConnectionLostError):
    """The peer violated RFC 6455; `code` is the close code that we answered with."""


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
    """A file is not a recording of this library, or was written by another version of it."""


class FunctionError(FinxSyncError):
    """A blocking function failed."""


class FunctionTimeoutError(FunctionError, TimeoutError):
    """The whole call, from name look-up to the last byte, took longer than its timeout."""


class ServerRefusedError(FunctionError):
    """The server answered with an error object or with an HTTP error status.

    Attributes:
        said: the first thousand characters of what the server said, redacted and on one line.
        status_code: the HTTP status; None if there is none.
    """

    def __init__(self, function: str, said: Any, status_code: int | None = None) -> None:
        self.said = shown(str(said), LONGEST_COMPLAINT)
        self.status_code = status_code
        super().__init__(f"{function}: the server refused the call and said {excerpt(str(said), LONGEST_COMPLAINT)!r}")


class RateLimitedError(ServerRefusedError):
    """The server received too many calls, and demanded a longer pause than the call's timeout allowed.

    Attributes:
        retry_after: seconds to wait, as stated by the server; None if it did not say.
    """

    def __init__(self, function: str, said: Any, retry_after: float | None) -> None:
        super().__init__(function, said, 429)
        self.retry_after = retry_after
        if retry_after is not None:
            self.args = (f"{self.args[0]}; call it again in {retry_after:g} s",)


class UnexpectedReplyError(FunctionError):
    """The server's answer has a structure that no source describes; the text quotes its beginning."""


class IncompleteHistoryError(FunctionError):
    """A tick history is not proven complete, although `strict` was set.

    Attributes:
        history: the rows that were fetched; its `unproven` lists the intervals that are not proven complete.
    """

    def __init__(self, history: Any) -> None:
        self.history = history
        shown = "; ".join(str(one) for one in history.unproven[:3])
        more = f" and {len(history.unproven) - 3} more" if len(history.unproven) > 3 else ""
        left_out = "".join(f"; {count} rows of {reason} were left out" for reason, count in history.discarded.items())
        super().__init__(
            f"the history of {history.pair} is not proven complete in {shown}{more}{left_out}; the {len(history)} rows "
            "that were fetched are in this error's `history`"
        )
