"""The connections that the subscriptions need: one supervisor for each line, two while one replaces the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from finx_sync.errors import AuthorizationError, ConnectionLostError, FinxSyncError, HandshakeError
from finx_sync.notices import GapReason
from finx_sync.pipeline.queue import Connection, Event
from finx_sync.pipeline.replacement import Handover
from finx_sync.session.subscriptions import Subscriptions
from finx_sync.session.supervisor import Supervisor
from finx_sync.session.tapped import LineCancelled, LineReplacing
from finx_sync.venues.base import MAIN_ENDPOINT, Dialect

if TYPE_CHECKING:
    from finx_sync.pipeline.gaps import Continuity

Post = Callable[[object, Event], object]
"""Has something done on the dispatch thread; the tap is told the first argument."""

__all__ = ["Lines", "Replacement"]


@dataclass(frozen=True)
class Replacement:
    """A line whose connection is to be replaced.

    Attributes:
        line: its supervisor.
        reason: what a gap is called that this leaves all the same.
        on_refused: called when the server refuses the key on the new connection.
    """

    line: Supervisor
    reason: GapReason
    on_refused: Callable[[], object]


class Lines:
    """The supervisors of one session. Safe from any thread; the lock is held for assignments and thread starts only.

    Args:
        dialect: which lines the venue has.
        subscriptions: what they serve.
        new_line: makes a supervisor, by name and patience.
        on_replaced: told of a connection that has replaced another one.
        on_failure: told why one failed.
    """

    def __init__(
        self,
        dialect: Dialect,
        subscriptions: Subscriptions,
        new_line: Callable[[str, bool], Supervisor],
        on_replaced: Callable[[Connection], object],
        on_failure: Callable[[FinxSyncError], object],
    ) -> None:
        self._on_replaced = on_replaced
        self._on_failure = on_failure
        self._dialect = dialect
        self._subscriptions = subscriptions
        self._new_line = new_line
        self._lock = threading.RLock()  # re-entrant for signal handlers
        self._lines: dict[str, Supervisor] = {}
        self._successors: dict[str, Supervisor] = {}
        self._leaving: list[Supervisor] = []
        self._stopped = False

    def all(self) -> list[Supervisor]:
        """Those that serve the stream."""
        with self._lock:
            return list(self._lines.values())

    def of(self, connection: Connection) -> Supervisor | None:
        """The one whose present connection this is; None when it has gone on to another."""
        with self._lock:
            candidates = (self._lines.get(connection.line), self._successors.get(connection.line))
        return next((line for line in candidates if line is not None and line.connection is connection), None)

    def fit(self) -> bool:
        """Whether `adjust` has nothing to do now."""
        with self._lock:
            return self._stopped or set(self._wanted()) == set(self._lines)

    def _wanted(self) -> list[str]:
        """The names of the connections that the subscriptions need."""
        wanted = self._subscriptions.lines()
        if self._dialect.has_main_endpoint and MAIN_ENDPOINT not in wanted:
            wanted.append(MAIN_ENDPOINT)
        return wanted

    def adjust(self, *, patient: bool) -> None:
        """Have exactly the connections that the subscriptions need.

        Args:
            patient: whether a new connection that cannot be opened is tried again.
        """
        with self._lock:
            if self._stopped:
                return
            wanted = self._wanted()  # under the lock: an older view must not undo a newer one's lines
            needed = set(wanted)
            surplus = [
                lines.pop(name)
                for lines in (self._lines, self._successors)
                for name in list(lines)
                if name not in needed
            ]
            self._leave(surplus)
            for name in wanted:
                if name not in self._lines:
                    line = self._lines[name] = self._new_line(name, patient)
                    line.start()
        for line in surplus:
            line.stop()

    def replace(self, plan: Replacement, continuity: Continuity, post: Post) -> None:
        """Open a second connection for a line; when it has taken over, the first one goes.

        Args:
            plan: what to replace.
            continuity: compares the two connections, on the dispatch thread.
            post: has something done there.
        """
        line, name = plan.line, plan.line.line
        with self._lock:
            old = line.connection
            if self._stopped or old is None or name in self._successors or self._lines.get(name) is not line:
                return  # it is connecting anyway, or being replaced already
            successor = self._successors[name] = self._new_line(name, False)
            line.has_successor = True
        successor.answers_probes = line.answers_probes
        asked = partial(self._subscriptions.asked, name)
        succession = _Succession(self, plan, successor)
        handover = Handover(old, asked, succession, continuity.delivery)
        cancelled = partial(continuity.cancelled, name, succession)
        cancel = partial(post, LineCancelled(successor), cancelled)
        successor.on_failure = lambda error: self._failed(plan, successor, error, cancel)
        post(LineReplacing(name, successor), partial(continuity.hand_over, handover))
        with self._lock:
            if not self._stopped:
                successor.start()

    def retire(self, plan: Replacement, successor: Supervisor, new: Connection) -> bool:
        """The successor serves the line from now on, by `new`; returns False where it has just failed."""
        line = plan.line
        with self._lock:
            if self._successors.get(line.line) is not successor:
                return False
            del self._successors[line.line]
            self._lines[line.line] = successor
            self._leave([line])
            if not successor.confirmed:
                successor.on_refused = self.when_refused(plan)
            successor.take_over()
        line.give_up()
        self._on_replaced(new)
        return True

    def drop(self, plan: Replacement, successor: Supervisor) -> bool:
        """The old connection serves the line, or comes back by itself. Returns False where the new one does already."""
        with self._lock:
            if self._lines.get(successor.line) is successor:
                return False
            if self._successors.get(successor.line) is successor:
                del self._successors[successor.line]
                plan.line.has_successor = False
            self._leave([successor])
        successor.give_up()
        return True

    def _failed(
        self,
        plan: Replacement,
        successor: Supervisor,
        error: FinxSyncError,
        cancel: Callable[[], object],
    ) -> bool:
        """On the successor's io thread: it could not be opened, or was lost before it had taken over, if it had not."""
        if not self.drop(plan, successor):
            return False
        cancel()
        if self._dialect.asks_by_url and not self._subscriptions.desired(successor.line):
            return True  # nothing was wanted of it any more
        self._on_failure(error)
        if isinstance(error, AuthorizationError):
            plan.on_refused()
        elif isinstance(error, (HandshakeError, ConnectionLostError)):  # it allows only one: break before make
            plan.line.reconnect(error, plan.reason)
        return True

    def when_refused(self, plan: Replacement) -> Callable[[FinxSyncError], object] | None:
        """What to do when another than the successor hears that a new key is refused."""
        if plan.reason != "rotation":
            return None

        def refused(error: FinxSyncError) -> None:
            self._on_failure(error)
            plan.on_refused()

        return refused

    def _leave(self, lines: list[Supervisor]) -> None:
        self._leaving = [line for line in [*self._leaving, *lines] if line.is_alive]

    def stop(self) -> None:
        """Make all their threads end, and start no more. Returns at once."""
        with self._lock:
            self._stopped = True
        for line in self._everyone():
            line.stop()

    def join(self, deadline: float) -> bool:
        """Wait until `deadline` (monotonic) for all to end; returns whether they have."""
        ended = True
        for line in self._everyone():
            ended = line.join(max(0.0, deadline - time.monotonic())) and ended
        return ended

    def _everyone(self) -> list[Supervisor]:
        with self._lock:
            return [*self._lines.values(), *self._successors.values(), *self._leaving]


@dataclass(frozen=True)
class _Succession:
    """A successor, as its handover sees it."""

    lines: Lines
    plan: Replacement
    line: Supervisor

    @property
    def is_confirmed(self) -> bool:
        return self.line.confirmed

    def owns(self, connection: Connection) -> bool:
        return connection.owner is self.line

    def take_over(self, new: Connection) -> bool:
        return self.lines.retire(self.plan, self.line, new)

    def give_up(self) -> None:
        self.plan.line.on_refused = self.lines.when_refused(self.plan)  # it is the one to try the new key now
        self.lines.drop(self.plan, self.line)
