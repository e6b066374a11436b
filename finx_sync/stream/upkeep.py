"""Query and control a stream's guarantees: coverage, the age of data, planned reconnects, key rotation."""

from __future__ import annotations

import time
from typing import Any, get_args

from finx_sync.config import Account, check_secrecy
from finx_sync.errors import ConfigError, InvalidInputError, UsageError
from finx_sync.interrupts import uninterrupted
from finx_sync.moments import Moment, read_moment
from finx_sync.notices import Interval
from finx_sync.pipeline.iterator import M
from finx_sync.session.options import Options
from finx_sync.session.session import Session
from finx_sync.state import ENDED
from finx_sync.stream.checks import checked_names
from finx_sync.stream.guard import By, Guard
from finx_sync.stream.reading import Readable

__all__ = ["Upkeep"]


class Upkeep(Readable[M]):
    """The part of a stream for the state of its connection and its data. Any thread may call its methods."""

    _account: Account
    _options: Options

    def coverage(self, name: str) -> list[Interval]:
        """Return what was received of `name` in this run and what is missing: adjacent intervals, up to now."""
        checked_names((name,))
        session = self._session
        return [] if session is None else session.coverage(name)

    def last_message_age(self, name: str) -> float | None:
        """Return the seconds since the newest message of `name` was received; None before the first one."""
        message: Any = self.latest(name)
        return None if message is None else max(0.0, self._wall() - message.received_at)

    def _wall(self) -> float:
        """Return the time now in UNIX seconds, on the clock that stamps received messages."""
        session = self._session
        return time.time() if session is None else session.wall()

    def guard(self, name: str, max_age: float, *, by: By = "receipt") -> Guard:
        """Refuse to continue with old data: check now, and again in each ``with`` statement that uses the guard.

        ::

            with stream.guard("BTC:USDC", max_age=2) as tick:
                place_order(tick.price)

        Args:
            name: the name whose newest message is checked.
            max_age: the greatest age allowed, in seconds.
            by: "receipt" counts from when the message was received here; "venue" counts from the venue's own time,
                which also refuses late data from a slow feed, but needs a correct local clock.

        Raises:
            StaleDataError: the message is too old, there is no message, or it lacks the venue time that its type has.
            InvalidInputError: `max_age` is not a number of seconds above 0; or `by` is "venue", and messages of this
                type carry no time, or one without a time zone (IME).
        """
        if not isinstance(max_age, (int, float)) or not max_age > 0:
            raise InvalidInputError(f"max_age is a number of seconds above 0, not {max_age!r}")
        if by not in get_args(By):
            raise InvalidInputError(f"by is 'receipt' or 'venue', not {by!r}")
        return Guard(self, name, max_age, by)

    def reconnect_now(self) -> None:
        """Replace the connection. Returns at once.

        Where the venue allows it, the new connection is open and subscribed before the old one closes, so no message is
        lost or handled twice; otherwise the gap is reported, with the reason "reconnect".

        Raises:
            UsageError: the stream is not running.
        """
        session = self._running_session("reconnect_now")
        uninterrupted(lambda: session.connections.renew_all("reconnect"), "finx-sync control")

    def reconnect_at(self, when: Moment) -> None:
        """Do `reconnect_now` at a later time. A second call replaces the first; `stop` cancels it.

        Args:
            when: a datetime, ISO 8601 text, or UNIX seconds; UTC unless it has a time zone.

        Raises:
            InvalidInputError: `when` is not a time, or is past.
            UsageError: the stream is not running.
        """
        moment = read_moment(when).timestamp()
        if not moment > time.time():
            raise InvalidInputError(f"reconnect_at needs a time to come; {when!r} is past (without a zone, it is UTC)")
        self._running_session("reconnect_at").health.plan(moment, self._reconnect_as_planned)

    def _reconnect_as_planned(self) -> None:
        session = self._session
        if isinstance(session, Session):
            session.connections.renew_all("reconnect")

    def rotate_key(self, api_key: Any = None) -> None:
        """Switch to a new key without losing a message. Returns at once. See `reconnect_now`.

        If the server refuses the new key, the error goes to `on_error`, and the stream keeps the old connection and
        key.

        Args:
            api_key: the new key; None if the stream's `api_key` is a function, which is then called again.

        Raises:
            UsageError: the stream is not running, or no new key was given and the old one is not a function.
            ConfigError: `api_key` is not a key; or the stream has had no key so far, and the new one would go over
                ws:// to another machine.
        """
        session = self._running_session("rotate_key")
        old = self._account.key
        if api_key is None and not callable(old):
            raise UsageError("rotate_key needs the new key, unless api_key is a function that returns it")
        if api_key is not None and (not api_key or isinstance(api_key, (int, float, bytes))):
            raise ConfigError(f"a key is text, or a function that returns it, not {type(api_key).__name__}")
        if api_key is not None:
            check_secrecy(self._account.base_url, api_key, allow_insecure=self._options.allow_insecure)

        def restore() -> None:
            self._account.key = old

        def rotate() -> None:
            if api_key is not None:
                self._account.key = api_key
            session.connections.renew_all("rotation", restore)

        uninterrupted(rotate, "finx-sync control")

    def dump(self) -> str:
        """Return the flight recorder's report: the last events and frames (redacted), and all threads' stacks."""
        session = self._session
        return "the stream has never run\n" if session is None else session.dump("asked for")

    def _running_session(self, method: str) -> Session:
        session = self._session
        if not isinstance(session, Session) or session.state.state in ENDED:
            raise UsageError(f"{method}() needs a stream that runs; start() it first")
        return session
