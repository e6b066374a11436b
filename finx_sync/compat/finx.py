"""`TickPlant` and `Streamer`, the classes of the old SDK (finx-io 0.1.31), on `StreamManager`.

::

    from finx_sync.compat.finx import Streamer, TickPlant  # was: from finx.tick_client import TickPlant; ...

Methods return what the original's methods return: a function's answer as raw text, REST answers as plain JSON values or
a DataFrame. As in the original, a method called on a thread with a running event loop returns an awaitable, and
``method.run_async(...)`` always does.

Differences: each function uses its own connection, so no answer can be taken for another function's; the original reads
whatever frame comes next. No call waits for ever. A refused key raises `AuthorizationError`, an error from the server
`ServerRefusedError`, and a missing pair `InvalidInputError`; the original prints or returns these. A streamer that
loses its connection opens it again, where the original's `listen` ends. The key is never printed.
"""

from __future__ import annotations

import functools
import math
import sys
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, ParamSpec, TextIO, TypeVar
from urllib.parse import urlsplit

from finx_sync.errors import ConfigError, InvalidInputError, MissingExtraError
from finx_sync.functions.inputs import checked_pair, checked_start, checked_timeout
from finx_sync.moments import Moment, TimeOfDay, read_moment
from finx_sync.session.options import StreamOptions, takes_options
from finx_sync.state import ENDED
from finx_sync.venues.finx.stream import StreamManager

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Streamer", "TickPlant"]

P = ParamSpec("P")
T = TypeVar("T")

HOSTS: Final = {"dev": "beta.finx.io", "prod": "ws.finx.io"}
"""The original's environments; this library adds "sandbox"."""
SANDBOX: Final = "sandbox"
TIMEOUT: Final = 30.0
PANDAS: Final = 'a timeslice is a DataFrame, which needs pandas: pip install "finx-sync[compat]"'


class _Bound(Generic[P, T]):
    """A method of one object that can be called with or without a running event loop."""

    def __init__(self, function: Callable[Concatenate[Any, P], T], instance: object) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._instance = instance

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call the method; if an event loop runs on this thread, return a task to await."""
        if (asyncio := sys.modules.get("asyncio")) is not None:  # if it is not imported, no loop runs
            try:
                return asyncio.get_running_loop().create_task(self.run_async(*args, **kwargs))
            except RuntimeError:
                pass
        return self._function(self._instance, *args, **kwargs)

    async def run_async(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the method on another thread, so that the event loop is not blocked."""
        import asyncio

        return await asyncio.to_thread(self._function, self._instance, *args, **kwargs)


class _Hybrid(Generic[P, T]):
    """Makes a method a `_Bound` one; a decorator."""

    def __init__(self, function: Callable[Concatenate[Any, P], T]) -> None:
        self.__doc__ = function.__doc__
        self._function = function

    def __get__(self, instance: object, owner: type | None = None) -> _Bound[P, T]:
        return _Bound(self._function, instance)


class _Manager(StreamManager):
    """A manager that returns answers without decoding them into this library's types."""

    def text(self, function: str, timeout: float, **params: Any) -> str:
        """Return a function's answer as text."""
        return self._ask(function, timeout, **params).text

    def json(self, function: str, path: str, timeout: float, **params: str | None) -> Any:
        """Return the answer of a REST path as JSON values."""
        try:
            return self._get(function, path, timeout, **params)
        finally:
            self.close()


class TickPlant:
    """FinX's functions, under the original's names.

    Args:
        finx_api_key: the key; "" for ``FINX_API_KEY`` from the environment or ``.env``.
        environment: "dev", "prod", or this library's "sandbox" (embedded, no key needed).
        timeout: seconds that each call may take.
        options: what every stream takes; see `finx_sync.session.options.Options`.

    Attributes:
        endpoint: the endpoint of the functions; only its host is used. As in the original, it may be set to another
            server's.
        rest_endpoint: the endpoint of the REST paths, with the same rules.

    Raises:
        ConfigError: the environment is unknown.
    """

    @takes_options()
    def __init__(
        self,
        finx_api_key: str = "public",
        environment: str = "dev",
        *,
        timeout: float = TIMEOUT,
        **options: Unpack[StreamOptions],
    ) -> None:
        host = _host(environment)
        self.endpoint = f"wss://{host}/streamer/" if host else SANDBOX
        self.rest_endpoint = f"https://{host}/backend/" if host else SANDBOX
        self._key = (finx_api_key if host or finx_api_key != "public" else "") or None
        self._timeout = checked_timeout(timeout)
        self._options = options

    def __repr__(self) -> str:
        return f"<TickPlant on {urlsplit(self.endpoint).netloc or self.endpoint}>"

    def __enter__(self) -> TickPlant:
        _connect(self)
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open between two calls."""

    async def __aenter__(self) -> TickPlant:
        import asyncio

        await asyncio.to_thread(_connect, self)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open between two calls."""

    @_Hybrid
    def connect(self) -> None:
        """Check the key, and call one function, as the original does.

        Raises:
            AuthorizationError: the key was refused.
            ConnectError: no connection could be opened.
            ServerRefusedError, FunctionTimeoutError: the server refused the call, or did not answer in time. Every
                method here raises them.
        """
        _connect(self)

    @_Hybrid
    def get_reference_data(self, ticker: str) -> str:
        """Return what FinX knows about a security, as JSON text."""
        return self._functions().text("referenceData", self._timeout, securityId=ticker)

    @_Hybrid
    def list_deribit_contracts(self) -> str:
        """Return the names of all contracts, as JSON text."""
        return self._functions().text("listDeribitContracts", self._timeout)

    @_Hybrid
    def tick_history(self, pair: str, date: Moment, time: TimeOfDay | None = None) -> str:
        """Return a page of a day's ticks as JSON text: at most 1000, unsorted, with the keys "0" to "999".

        Args:
            pair: like "BTC:USD".
            date: a day in UTC, like "2022-06-15"; or a moment.
            time: only ticks after this time of that day; None for "00:00", as in the original.
        """
        day, clock = checked_start(date, time)
        asked = {"pair": checked_pair(pair), "date": day, "time": clock or "00:00"}
        return self._functions().text("tickHistory", self._timeout, **asked)

    @_Hybrid
    def tick_snap(self, pair: str, unix_time_target: Moment = "", time_target_width_seconds: str = "") -> Any:
        """Return the quote of a pair as a plain JSON object: the newest one, or one near a moment.

        Args:
            pair: like "BTC:USD".
            unix_time_target: UNIX seconds, or a moment in another form; "" for now.
            time_target_width_seconds: the width around that moment, in seconds; "" for 10.
        """
        asked = {"pair": checked_pair(pair)}
        if not (isinstance(unix_time_target, str) and unix_time_target == ""):
            asked["unixTimeTarget"] = _seconds_text(unix_time_target)
            asked["timeTargetWidthSeconds"] = str(time_target_width_seconds or 10)
        return self._rest().json("tick_snap", "observations/tick/snap", self._timeout, **asked)

    @_Hybrid
    def get_timeslice(self, timeslice_datestamp: Moment, timeslice_width_seconds: str, underlying_symbol: str) -> Any:
        """Return all options on an underlying near a moment, as a DataFrame of texts.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return self._timeslice(timeslice_datestamp, timeslice_width_seconds, underlying_symbol)

    @_Hybrid
    def get_timeslice_series(  # noqa: PLR0917 - the original's
        self,
        api_key: str,
        series_start_datestamp: Moment,
        series_end_datestamp: Moment,
        series_step_seconds: str,
        timeslice_width_seconds: str,
        underlying_symbol: str,
    ) -> Any:
        """Return timeslices from a moment on, one for each step, without the end, in one DataFrame.

        The original passes `api_key` as the wrong argument and fails; here `api_key` is ignored.

        Raises:
            InvalidInputError: the step is not above 0, or the series is empty.
        """
        start, end = (int(float(_seconds_text(at))) for at in (series_start_datestamp, series_end_datestamp))
        step = int(series_step_seconds)
        if step <= 0 or not start < end:
            raise InvalidInputError("a series has a step above 0, and an end after its start")
        frames = [
            self._timeslice(str(at), timeslice_width_seconds, underlying_symbol)
            for at in range(start, start + (end - start) // step * step, step)
        ]
        frames = [frame for frame in frames if len(frame)] or frames[:1]
        return _pandas().concat(frames, ignore_index=True) if frames else _pandas().DataFrame()

    def _timeslice(self, at: Moment, width: str, underlying: str) -> Any:
        pandas = _pandas()
        rows = self._rest().json(
            "get_timeslice",
            "observations/options/time_slice",
            self._timeout,
            timeslice_target_datestamp=_seconds_text(at),
            timeslice_width_seconds=str(width),
            underlying_symbol=underlying,
        )
        return pandas.DataFrame(rows)

    def _functions(self) -> _Manager:
        return _manager(self._key, self.endpoint, request_form="message", path="streamer", **self._options)

    def _rest(self) -> _Manager:
        return _manager(self._key, self.rest_endpoint, **self._options)


def _connect(plant: TickPlant) -> None:
    functions = plant._functions()
    functions.authenticate(timeout=plant._timeout)
    functions.text("tickSnap", plant._timeout, pair="BTC:USDC")


class Streamer:
    """One pair's live quotes.

    Args:
        payload: ``{"pair": "BTC:USDC"}``.
        environment: as for `TickPlant`.
        api_key: the key; None for ``FINX_API_KEY``, as in the original.
        options: what every stream takes; see `finx_sync.session.options.Options`.

    Attributes:
        pair: the pair.
        endpoint: the endpoint of the stream; only its host is used, and its key if no other key is given.
        stream: the underlying `StreamManager`; None before the first connection.

    Raises:
        ConfigError: the environment is unknown.
        InvalidInputError: `payload` has no pair.
    """

    @takes_options()
    def __init__(
        self,
        payload: Mapping[str, str],
        environment: str = "dev",
        *,
        api_key: str | None = None,
        **options: Unpack[StreamOptions],
    ) -> None:
        host = _host(environment)
        self.pair = checked_pair(payload.get("pair", ""))
        self.endpoint = f"wss://{host}/streamer/" if host else SANDBOX
        self.stream: StreamManager | None = None
        self._key = api_key
        self._options = options
        self._failure: OSError | ValueError | None = None

    def __repr__(self) -> str:
        return f"<Streamer of {self.pair} on {self.stream!r}>"

    def __enter__(self) -> Streamer:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Streamer:
        import asyncio

        await asyncio.to_thread(self._open)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    @_Hybrid
    def connect(self) -> None:
        """Connect in the background.

        Raises:
            AuthorizationError: the key was refused.
            ConnectError: no connection could be opened.
            ConfigError: there is no key, or the endpoint is not a websocket URL.
        """
        self._open()

    @_Hybrid
    def listen(self, output: str = "console") -> None:
        """Write every frame unchanged, one per line, until `close` is called or Ctrl+C is pressed.

        Args:
            output: "console" for standard output, else the path of a file, which is overwritten.

        Raises:
            OSError: the output cannot be written.
            FinxSyncError: the stream failed, or could not connect; see `connect`.
        """
        if output == "console":
            self._write_to(sys.stdout)
            return
        with open(output, "w", encoding="utf-8") as file:
            self._write_to(file)

    def close(self) -> None:
        """End the stream. Any thread, repeatedly."""
        if self.stream is not None:
            self.stream.stop()

    def _open(self) -> StreamManager:
        if self.stream is None or not self.stream.is_connected:
            key = self._key or _key_in(self.endpoint)
            self.stream = _manager(key, self.endpoint, path="streamer", stream_per_url=True, **self._options)
            self.stream.subscribe_spot(self.pair)
            self.stream.start()
        return self.stream

    def _write_to(self, output: TextIO) -> None:
        stream, ended = self._open(), threading.Event()

        def write(text: str) -> None:
            if self.pair not in text:  # an answer to a request of this library
                return
            try:
                output.write(f"{text}\n")
                output.flush()
            except (OSError, ValueError) as error:  # a full disk, a broken pipe, a closed file
                self._failure = error  # set before the event, so the thread that waits for the event sees it
                ended.set()

        stream.on_message(write)
        stream.on_state(lambda change: ended.set() if change.new in ENDED else None)
        try:
            while not ended.wait(1.0) and stream.state not in ENDED:
                pass
        finally:
            stream.off(write)
            stream.stop()
        failure, self._failure = self._failure or stream.failure, None
        if failure is not None:
            raise failure


def _host(environment: str) -> str | None:
    """Return the host of an environment; None for the sandbox."""
    if environment == SANDBOX:
        return None
    if environment not in HOSTS:
        raise ConfigError(f"there is no environment {environment!r}; it is 'dev', 'prod' or 'sandbox'")
    return HOSTS[environment]


def _manager(key: str | None, endpoint: str, **options: Any) -> _Manager:
    """Return a manager for the host of an endpoint."""
    if endpoint == SANDBOX:
        return _Manager(key, environment=SANDBOX, **options)
    parts = urlsplit(endpoint)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    return _Manager(key, url=f"{scheme}://{parts.netloc}", **options)


def _seconds_text(at: Moment) -> str:
    """Return a moment as the text that the original sends: UNIX seconds. A text of UNIX seconds stays as it is."""
    try:
        if isinstance(at, str) and math.isfinite(float(at)):
            return at
    except ValueError:
        pass
    return f"{read_moment(at).timestamp():.3f}".rstrip("0").rstrip(".")


def _key_in(endpoint: str) -> str | None:
    """Return the key in ``wss://host/streamer/KEY/PAIR``; None if there is none."""
    _, *parts = urlsplit(endpoint).path.strip("/").split("/")
    return parts[0] if parts else None


def _pandas() -> Any:
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise MissingExtraError(PANDAS) from error
    return pandas
