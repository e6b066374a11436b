"""What was asked on each connection and not yet answered, in order.

FTX's answers hold no request id, and its error frames do not even repeat the request, so the order is all there is to
tie them by. A login that succeeds is answered by silence: whatever is answered next confirms what came before it.

The io thread and the user's threads ask, the dispatch thread reads the answers; it may still be reading those of one
connection when the next is open already. So each connection has a list of its own, and `connected` tells the reader
when to go on to the next one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from finx_sync.venues.base import Subscription

__all__ = ["Conversation", "Request"]


@dataclass(frozen=True)
class Request:
    """Something that the server is expected to answer; `wish` is None for a login."""

    op: Literal["login", "subscribe", "unsubscribe"]
    wish: Subscription | None = None

    def is_about(self, channel: str | None, name: str) -> bool:
        """Whether it is about a market, and a channel where one is given."""
        wish = self.wish
        return wish is not None and channel in (None, wish.kind) and wish.name == name

    def __str__(self) -> str:
        return self.op if self.wish is None else f"{self.op} {self.wish.kind} {self.wish.name}"


class Conversation:
    """The requests of a stream's connections.

    `opened` and `asked` are for the thread that sends, one at a time; the rest for the one that reads. Between them
    stand only a deque's append and popleft, which need no lock.

    Attributes:
        login_refused: whether the connection that is read now has refused the login; what follows from that is no news.
        has_ponged: whether it has answered a ping: then the first burst of requests, which one follows, is behind it.
    """

    def __init__(self) -> None:
        self._asked: dict[int, deque[Request]] = {0: deque()}
        self._writing = self._reading = 0
        self._unanswered: list[Request] = []
        self.login_refused = self.has_ponged = False

    def opened(self) -> None:
        """A connection is open; what is asked from now on is asked on it."""
        self._asked[self._writing + 1] = deque()
        self._writing += 1

    def asked(self, request: Request) -> None:
        """A request is about to be sent."""
        self._asked[self._writing].append(request)

    def connected(self) -> None:
        """What is read from now on came on the next connection."""
        self._asked.pop(self._reading, None)
        self._reading += 1
        self._unanswered.clear()
        self.login_refused = self.has_ponged = False

    def granted(self, op: str, channel: str, name: str) -> Request | None:
        """The server said yes; returns to what. What was asked before that has had its answer, be it silence."""
        for position, request in enumerate(self._waiting()):
            if request.op == op and request.is_about(channel, name):
                del self._unanswered[: position + 1]
                return request
        return None

    def login_answered(self) -> None:
        """The server said something about a login."""
        if (waiting := self._waiting()) and waiting[0].op == "login":
            del waiting[0]

    def failed(self, market: str | None) -> Request | None:
        """The server said no, naming a market or not; returns to what."""
        waiting = self._waiting()
        while waiting and waiting[0].op == "login":  # it succeeded, in silence
            del waiting[0]
        for position, request in enumerate(waiting):
            if market is None or request.is_about(None, market):
                return waiting.pop(position)
        return None

    def _waiting(self) -> list[Request]:
        asked = self._asked.get(self._reading)
        while asked:
            self._unanswered.append(asked.popleft())
        return self._unanswered
