"""`FeedReader`: reads one partition of a feed from Redis. Blocking, without a thread of its own.

::

    reader = FeedReader(RelayAddress.parse("redis://127.0.0.1/0?feed=finx"))
    opening = reader.open()                     # the last values, and where reading begins, of one moment
    while True:
        for part in reader.read(block=0.5):     # [] if nothing came
            match part:
                case Records(position, at, tags, payloads): ...
                case Notice(position, at, name, content): ...
                case Hole(before, after, missed, start, end, reason): ...

After an error the reader is closed: `open` connects again and goes on where it was. What was trimmed or lost meanwhile
is a `Hole`; if everything is still there, nothing shows that the connection was another one.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from finx_sync.errors import ConnectError, ConnectionLostError, ConnectTimeoutError, FinxSyncError, PeerTimeoutError
from finx_sync.redaction import shown
from finx_sync.relay.address import RelayAddress, translated
from finx_sync.relay.opening import (
    LastValue,
    Opening,
    last_values_of,
    opening_of,
    position_of,
    seconds_of,
    snapshots_of,
)
from finx_sync.relay.tracking import Hole, Notice, Read, Records, Tracker
from finx_sync.relay.wire import START, Keys, Position, pairs_of

__all__ = ["FeedReader", "Hole", "LastValue", "Notice", "Opening", "Read", "Records"]

PAIRS: Final = 8192
"""Pairs that one read should bring, about: enough to be fast, and few enough that Redis and the reader stay quick."""
FEW_ENTRIES: Final = 4
MANY_ENTRIES: Final = 64
"""Entries to ask for in one read. One may be a single message or two thousand, so more are asked for step by step."""
IDLE: Final = 1.0
"""Seconds without an entry after which the end of the stream is compared with where this reader is."""
LONGEST_BLOCK: Final = 1.0
"""Seconds that Redis may hold back an answer."""
ANSWER_TIMEOUT: Final = 3.0
"""Seconds after which a Redis that does not answer is taken for dead."""

TIP: Final = """
if redis.call('EXISTS', KEYS[1]) == 0 then return false end
local info = redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then return info[i + 1] end
end
return false
"""
"""Returns a stream's last ID. XINFO by itself would send whole entries, too."""


class FeedReader:
    """Reads one partition of a feed.

    All methods but `interrupt` belong to one thread at a time. They raise, and the reader is closed then:

    - ConnectError, or a subclass that says why, if `open` cannot reach Redis;
    - ConnectionLostError if an open connection ends, or `interrupt` was called; PeerTimeoutError, which is one, if
      Redis does not answer within three seconds;
    - AuthorizationError if the password or a command is refused, ServerRefusedError for any other answer of that kind.

    `open` connects anew and goes on where the reader was. Nothing is tried twice without being asked.

    Args:
        address: where the feed is.
        partition: the partition's number, from 0.
        since: go on after this record, as with a resume token; None to begin with what is written from now on, `START`
            for everything that the stream still has. Whoever takes positions from strangers compares them with
            `Opening.end`: a position beyond the end is of another feed, or of before a FLUSHALL.

    Attributes:
        position: the last record that was read or that the stream had when reading began; None before the first.
        cursor: the entry after which the next `read` goes on. It is behind `position` after Redis has lost entries.
        where: the server, for texts.
        heard_at: when the last entry came, or reading began, monotonic seconds; 0.0 if no relay was there then. A relay
            writes at least every second, so a reader that has heard nothing for five seconds knows that it is gone.
    """

    def __init__(self, address: RelayAddress, partition: int = 0, since: Position | None = None) -> None:
        self.keys: Keys = address.keys(partition)
        self.cursor = since
        self.heard_at = 0.0
        self.where = ",".join(f"{host}:{port}" for host, port in address.hosts)
        self._address = address
        self._partition = partition
        self._tracker = Tracker(since)
        self._lock = threading.Lock()  # guards the next three, which `interrupt` looks at
        self._client: Any = None
        self._connection: Any = None
        self._interrupted = False
        self._entries = FEW_ENTRIES  # to ask for in one read
        self._compared_at = 0.0
        self._has_begun = False

    @property
    def position(self) -> Position | None:
        """See the class."""
        return self._tracker.position

    # The connection

    def open(self, tags: Iterable[bytes] | None = None) -> Opening:
        """Connect, and see what there is. The first call fixes where reading begins, unless `since` was given.

        Args:
            tags: whose last values to read; None for all.
        """
        self.close()
        connection = self._connect()
        wanted = None if tags is None else list(tags)
        keys = self.keys
        last = ("HGETALL", keys.last) if wanted is None else ("HMGET", keys.last, *(wanted or [b""]))
        end, found, since, about, leases, now = self._transaction(
            connection,
            ("EVAL", TIP, 1, keys.stream),
            last,
            ("HGETALL", keys.since),
            ("HGETALL", keys.about),
            ("EXISTS", keys.lease),
            ("TIME",),
        )
        values = pairs_of(found) if wanted is None else zip(wanted, found, strict=False)
        is_led = bool(leases) or self._partition != 0
        opening = opening_of(end, values, since, about, now, is_led=is_led)
        self._begin(opening)
        return opening

    def _begin(self, opening: Opening) -> None:
        if self.cursor is None:
            self.cursor = opening.end or START
            self._tracker = Tracker(opening.end, opening.at)
        elif not self._tracker.at:
            self._tracker.at = opening.at
        self._compared_at = time.monotonic()
        if not self._has_begun:
            self._has_begun = True
            self.heard_at = self._compared_at if opening.is_led else 0.0
        self._compare(opening.end)

    def _connect(self) -> Any:
        with _Translation(self):
            client: Any = self._address.connect(self._partition, name="finx-sync reader", read_timeout=ANSWER_TIMEOUT)
            with self._lock:
                self._client, self._connection = client, client.connection
        return client.connection

    def close(self) -> None:
        """Close the connection. `open` opens another; position and cursor stay."""
        with self._lock:
            client, self._client, self._connection = self._client, None, None
        if client is not None:
            client.connection.disconnect()
            client.close()

    def interrupt(self) -> None:
        """End the call that is running, or else the next one, with ConnectionLostError. Any thread; returns at once.

        Opening a connection cannot be interrupted, which may take some seconds; `open` raises when it has ended.
        """
        with self._lock:
            self._interrupted = True
            sock = None if self._connection is None else self._connection._sock
        if sock is not None:
            try:
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # past TLS, whose own shutdown is not for other threads
            except OSError:  # it has ended by itself
                pass

    # Reading

    def read(self, block: float) -> list[Read]:
        """Wait for entries; return what they say, in order.

        Args:
            block: seconds to wait if there is nothing; at most one second is waited.
        """
        waited = min(max(block, 0.001), LONGEST_BLOCK)
        command = ("XREAD", "COUNT", self._entries, "BLOCK", int(waited * 1000), "STREAMS", self.keys.stream)
        answer = self._call(*command, str(self.cursor))
        now = time.monotonic()
        entries = answer[0][1] if answer else []
        if not entries:  # also where what has just been written was deleted in the same transaction
            if now - max(self.heard_at, self._compared_at) >= IDLE:
                self._compared_at = now
                self._compare(position_of(self._call("EVAL", TIP, 1, self.keys.stream)))
            return []
        self.heard_at = now
        found: list[Read] = []
        for key, fields in entries:
            found += self._tracker.take(key, fields)
        self.cursor = Position.read(entries[-1][0])
        self._entries = _adapted(self._entries, entries)
        return found

    def _compare(self, end: Position | None) -> None:
        """A cursor beyond the stream's end would wait in silence: read from the beginning what is there now.

        FLUSHALL, a restart without persistence and a failover do that. The tracker knows what was read before, and
        finds what is missing.
        """
        if self.cursor is not None and self.cursor > (end or START):
            self.cursor = START

    def between(self, first: Position, last: Position) -> Iterator[tuple[Position, list[Read]]]:
        """Read entries again, both included, without moving the reader: for tables that begin with a snapshot.

        Yields:
            Each entry's ID, and what it says. The first one is another than `first` if that has been trimmed.
        """
        tracker, begin, count = Tracker(), f"{first}", FEW_ENTRIES
        while entries := self._call("XRANGE", self.keys.stream, begin, str(last), "COUNT", count):
            for key, fields in entries:
                yield Position.read(key), tracker.take(key, fields)
            begin = f"({entries[-1][0].decode()}"
            count = _adapted(count, entries)

    def last_values(self, tags: Sequence[bytes]) -> dict[bytes, LastValue]:
        """The newest payloads of some tags, as far as there are any; what cannot be read is left out."""
        if not tags:
            return {}
        found = self._call("HMGET", self.keys.last, *tags)
        return last_values_of(zip(tags, found, strict=True))[0]

    def snapshots(self) -> dict[bytes, Position]:
        """By tag, the entry with the newest snapshot; see `Opening`."""
        return snapshots_of(self._call("HGETALL", self.keys.since))[0]

    def demand(self, tags: Iterable[bytes], seconds: float) -> None:
        """Ask a relay that subscribes on demand for these tags, for some time. Partition 0 only.

        Args:
            tags: what is wanted.
            seconds: how long; whoever wants it longer asks again before.
        """
        assert self._partition == 0
        wanted = list(tags)
        if wanted:
            until = seconds_of(self._call("TIME")) + seconds
            scores = [part for tag in wanted for part in (f"{until:.3f}", tag)]
            self._call("ZADD", self.keys.demand, *scores)

    # Commands

    def _call(self, *command: Any) -> Any:
        with self._lock:
            connection = self._connection
        with _Translation(self):
            if connection is None:
                raise ConnectionLostError("the connection to Redis is not open; open() it first")
            connection.send_command(*command)
            return connection.read_response()

    def _transaction(self, connection: Any, *commands: tuple[Any, ...]) -> list[Any]:
        """Several commands as one; none of their answers may be an error."""
        with _Translation(self):
            connection.send_packed_command(connection.pack_commands([("MULTI",), *commands, ("EXEC",)]))
            for _ in range(len(commands) + 1):
                connection.read_response()
            answers: list[Any] = connection.read_response()
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
            return answers

    def has_been_interrupted(self) -> bool:
        """Whether `interrupt` was called since the last time that this was asked."""
        with self._lock:
            was, self._interrupted = self._interrupted, False
        return was


class _Translation:
    """Turns what redis-py and the socket raise into errors of this library, and closes the reader then."""

    def __init__(self, reader: FeedReader) -> None:
        self._reader = reader

    def __enter__(self) -> None:
        self._refuse_if_interrupted()

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._refuse_if_interrupted()
        if error is not None:
            self._reader.close()
            if isinstance(error, Exception) and not isinstance(error, FinxSyncError):
                raise self._meaning(error) from error

    def _meaning(self, error: Exception) -> FinxSyncError:
        """What an error means on a connection that was open."""
        where = self._reader.where
        meaning = translated(error, where)
        if isinstance(meaning, ConnectTimeoutError):
            return PeerTimeoutError(f"Redis at {where} does not answer any more")
        if isinstance(meaning, ConnectError):
            return ConnectionLostError(f"the connection to Redis at {where} was lost: {shown(str(error), 300)}")
        return meaning

    def _refuse_if_interrupted(self) -> None:
        if self._reader.has_been_interrupted():
            self._reader.close()
            raise ConnectionLostError("reading from Redis was interrupted")


def _adapted(count: int, entries: Sequence[tuple[bytes, list[bytes]]]) -> int:
    """How many entries to ask for next: more at once while the reader is behind and they are small."""
    pairs = sum(len(fields) for _, fields in entries) // 2
    if len(entries) < count:
        return FEW_ENTRIES
    if pairs < PAIRS // 2:
        return min(MANY_ENTRIES, count * 2)
    return max(1, count // 2) if pairs > PAIRS else count
