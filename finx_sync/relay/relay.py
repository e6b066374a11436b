"""`Relay`: write what a stream receives to Redis, from where any number of processes read it."""

from __future__ import annotations

import atexit
import os
import socket
import string
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from types import TracebackType
from typing import Any, Final, get_args

from finx_sync import forks
from finx_sync.errors import ConfigError, UsageError
from finx_sync.interrupts import uninterrupted
from finx_sync.relay import wire
from finx_sync.relay.address import RelayAddress, redis_library, translated
from finx_sync.relay.backlog import Backlog, Overflow
from finx_sync.relay.checks import OLDEST, info_of, version_of
from finx_sync.relay.output import RelayOutput, Tags
from finx_sync.relay.partition import Partition
from finx_sync.relay.trimming import KEEP_BYTES, KEEP_RECORDS, KEEP_SECONDS, Limits
from finx_sync.relay.upstream import Followed
from finx_sync.relay.writer import Writer, WriterSettings
from finx_sync.spelling import keywords_checked
from finx_sync.state import State

__all__ = ["MAX_WAITING", "Relay", "RelayStats"]

MAX_WAITING: Final = 64 * 1024 * 1024
"""Bytes of payloads that may wait for Redis."""
MAX_PARTITIONS: Final = 256
STOP_TIMEOUT: Final = 5.0
"""Seconds that a stop lets what waits be written."""
END_TIMEOUT: Final = 3.0
"""Seconds that a call to Redis may still take after that."""
AT_EXIT_TIMEOUT: Final = 1.0


@dataclass(frozen=True)
class RelayStats:
    """A relay's numbers since its start: received = written + dropped + unneeded + waiting.

    Attributes:
        received: messages that the stream has delivered.
        written: messages that are on Redis.
        dropped: messages left out since more waited than may; a gap in the feed names them.
        unneeded: messages that another relay has written, or will, and those left when the relay was stopped.
        waiting: messages that are to be written; on standby, those that are kept for a take-over.
        waiting_bytes: bytes of these.
        entries, calls: entries written, and calls of Redis that wrote them.
        is_leading: whether this relay writes; False on standby.
        is_connected: whether Redis answers.
        positions: of the last record of each partition that this relay wrote, as resume tokens.
    """

    received: int
    written: int
    dropped: int
    unneeded: int
    waiting: int
    waiting_bytes: int
    entries: int
    calls: int
    is_leading: bool
    is_connected: bool
    positions: tuple[str, ...]


@keywords_checked
class Relay:
    """Write every message of a stream to a feed on Redis, exactly as it was received.

    ::

        with Relay(stream, "redis://127.0.0.1:6379"):
            stream.run()

    Whatever the stream delivers is written, in order, each message once, whether it has a handler or not; and so are
    gaps, changes of the stream's state, errors and subscriptions. If another relay of the same feed is running, this
    one stands by, and goes on where that one ends. The stream is started and stopped by its owner, before the relay or
    after it; it may be started repeatedly.

    Errors of Redis go to the stream's `on_error` handlers, as `RelayError`, or to the log. The relay goes on trying.

    Args:
        stream: the stream.
        url: of Redis: ``redis://``, ``rediss://``, ``redis+sentinel://`` or ``redis+cluster://``; see
            `finx_sync.relay.address.RelayAddress.parse`.
        feed: the feed's name; None for the one in the URL (``?feed=``), else the venue's name.
        partitions: how many streams of Redis the feed is divided into. All relays of a feed must agree.
        publish: also publish each payload, at most once, on the Pub/Sub channel of this name, in which ``{name}`` and
            ``{kind}`` are the message's; None for no publishing.
        keep_records, keep_bytes, keep_seconds: how much of each partition is kept for readers that are behind.
        on_demand: also subscribe to what readers ask for.
        overflow: what happens when `max_waiting` is reached: "drop" leaves out the oldest messages, and writes a gap
            that names them; "block" lets the stream wait, and so the server.
        max_waiting: bytes of messages that may wait for Redis.

    Raises:
        ConfigError: an argument cannot be right.
    """

    def __init__(
        self,
        stream: Followed,
        url: str,
        *,
        feed: str | None = None,
        partitions: int = 1,
        publish: str | None = None,
        keep_records: int = KEEP_RECORDS,
        keep_bytes: int = KEEP_BYTES,
        keep_seconds: float = KEEP_SECONDS,
        on_demand: bool = False,
        overflow: Overflow = "drop",
        max_waiting: int = MAX_WAITING,
    ) -> None:
        if not hasattr(stream, "_upstream"):
            raise ConfigError(f"a relay follows a stream, such as a StreamManager, not {type(stream).__name__}")
        if isinstance(partitions, bool) or not isinstance(partitions, int) or not 0 < partitions <= MAX_PARTITIONS:
            raise ConfigError(f"partitions is a number from 1 to {MAX_PARTITIONS}, not {partitions!r}")
        if overflow not in get_args(Overflow):
            raise ConfigError(f"overflow of a relay is 'drop' or 'block', not {overflow!r}")
        if isinstance(max_waiting, bool) or not isinstance(max_waiting, int) or max_waiting < 1:
            raise ConfigError(f"max_waiting is a number of bytes above 0, not {max_waiting!r}")
        self._limits = Limits(keep_records, keep_bytes, keep_seconds)
        self._channel = None if publish is None else _channel_maker(publish)
        self._upstream = stream._upstream()
        self._venue = self._upstream.codec.venue
        self.address = RelayAddress.parse(url, default_feed=self._venue.lower(), feed=feed)
        self._count = partitions
        self._on_demand = bool(on_demand)
        self._overflow: Overflow = overflow
        self._max_waiting = max_waiting
        self._relay = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._writer: Writer | None = None
        self._output: RelayOutput | None = None
        self._set_up()
        forks.watch(self, Relay._forked)

    def _set_up(self) -> None:
        """Make what one run works with."""
        tags = Tags(self._upstream.codec)
        self._backlog = Backlog(self._max_waiting, self._overflow, self._is_stream_stopping)
        self._tags = tags
        self._partitions = [
            Partition(self.address, number, is_state=tags.is_state, limits=self._limits, channel=self._channel)
            for number in range(self._count)
        ]

    def _is_stream_stopping(self) -> bool:
        return self._upstream.state in (State.STOPPING, State.STOPPED, State.FAILED)

    def start(self) -> None:
        """Connect to Redis and begin to write, or to stand by. Not on the stream's dispatch thread.

        Raises:
            ConnectError: Redis cannot be reached; the subclass says why.
            AuthorizationError: Redis refused the credentials.
            ConfigError: the feed has other partitions or another venue, or Redis is too old.
            MissingExtraError: the package redis is not installed.
            UsageError: the relay is running, or the stream is relayed already.
        """
        uninterrupted(self._start, "finx-sync control", undo=lambda _: self._stop(0.0))

    def _start(self) -> None:
        if self._writer is not None:
            raise UsageError("the relay is running; stop() it before starting it again")
        self._set_up()
        settings = WriterSettings(
            address=self.address,
            relay=self._relay,
            venue=self._venue,
            about=self._about(),
            on_demand=self._on_demand,
        )
        writer = Writer(settings, self._partitions, self._backlog, self._upstream)
        writer.connect()
        try:
            self._check()
            output = RelayOutput(self._upstream.codec, self._backlog, self._tags)
            self._upstream.attach(output)
        except BaseException:
            for partition in self._partitions:
                partition.close()
            raise
        self._output, self._writer = output, writer
        writer.start()
        atexit.register(self._stop_at_exit)

    def _about(self) -> dict[str, str]:
        limits = self._limits
        return {
            "version": _version(),
            "keep_records": str(limits.records),
            "keep_bytes": str(limits.size),
            "keep_seconds": str(limits.seconds),
        }

    def _check(self) -> None:
        """Refuse a feed that this relay would spoil."""
        client = self._partitions[0].client
        try:
            server = client.execute_command("INFO", "server")
            about = client.execute_command("HGETALL", self._partitions[0].keys.about)
        except (redis_library().RedisError, OSError) as error:
            raise translated(error, str(self.address)) from error
        if version_of(info_of(server)) < OLDEST:
            raise ConfigError(f"a feed needs Redis 6.2 or newer; the server at {self.address} is older")
        known = {name.decode(): value.decode() for name, value in wire.pairs_of(about)}
        for name, ours in (("venue", self._venue), ("partitions", str(self._count))):
            if known.get(name, ours) != ours:
                raise ConfigError(
                    f"the feed {self.address.feed!r} has {name} {known[name]!r}, not {ours!r}; give this one another "
                    "name (feed=), or delete its keys"
                )

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Write what waits, give the lease to a relay that stands by, and end. Any thread, repeatedly; never raises.

        Args:
            timeout: seconds after which what still waits is left.
        """
        uninterrupted(lambda: self._stop(timeout), "finx-sync control")

    def _stop(self, timeout: float) -> None:
        writer, output = self._writer, self._output
        if writer is None or output is None:
            return
        self._upstream.detach(output)
        writer.stop(timeout)
        if writer.join(timeout + END_TIMEOUT):
            self._writer = self._output = None
            atexit.unregister(self._stop_at_exit)

    def close(self) -> None:
        """The same as `stop`."""
        self.stop()

    def _stop_at_exit(self) -> None:
        self._stop(AT_EXIT_TIMEOUT)

    def __enter__(self) -> Relay:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not forks.is_disowned(self):
            self.stop()

    def __repr__(self) -> str:
        writer = self._writer
        state = "stopped" if writer is None else "leading" if writer.is_leading else "on standby"
        return f"<Relay {self.address} {state}>"

    @property
    def is_leading(self) -> bool:
        """Whether this relay writes; False on standby, and while it is stopped."""
        writer = self._writer
        return writer is not None and writer.is_leading

    def wait_until_leading(self, timeout: float) -> bool:
        """Wait until this relay writes; returns whether it does. Any thread.

        Args:
            timeout: seconds.
        """
        deadline = time.monotonic() + timeout
        while not self.is_leading and time.monotonic() < deadline:
            time.sleep(min(0.01, max(0.0, deadline - time.monotonic())))
        return self.is_leading

    def stats(self) -> RelayStats:
        """The numbers of this run. Any thread."""
        counts, writer = self._backlog.counts(), self._writer
        return RelayStats(
            received=counts.received,
            written=counts.written,
            dropped=counts.dropped,
            unneeded=counts.unneeded,
            waiting=counts.waiting,
            waiting_bytes=counts.waiting_bytes,
            entries=sum(one.entries for one in self._partitions),
            calls=sum(one.calls for one in self._partitions),
            is_leading=writer is not None and writer.is_leading,
            is_connected=writer is not None and writer.is_connected,
            positions=tuple(str(one.position) for one in self._partitions),
        )

    def _forked(self) -> None:
        """Give up the relay in the child of a fork: its thread does not exist there, its connection is the parent's."""
        if self._writer is None:
            return
        atexit.unregister(self._stop_at_exit)
        for partition in self._partitions:
            _close_descriptor(partition.client)
        forks.disown(self, "this Relay runs in the process that was forked; make a new one in the child")


def _version() -> str:
    try:
        return metadata.version("finx-sync")
    except metadata.PackageNotFoundError:  # run from a folder that was never installed
        return ""


def _close_descriptor(client: Any) -> None:
    connection = getattr(client, "connection", None)
    sock = getattr(connection, "_sock", None)
    if sock is not None:
        try:
            os.close(sock.detach())
        except OSError:
            pass


def _channel_maker(template: str) -> Callable[[bytes], bytes]:
    """What makes the Pub/Sub channel of a tag.

    Raises:
        ConfigError: it cannot.
    """
    try:
        fields = {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}
        if fields - {"name", "kind"} or "name" not in fields:
            raise ValueError
        template.format(name="", kind="")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise ConfigError(
            f"publish is the name of a channel with {{name}} in it, like 'prices:{{name}}', not {template!r}"
        ) from None
    known: dict[bytes, bytes] = {}

    def channel(tag: bytes) -> bytes:
        found = known.get(tag)
        if found is None:
            kind, name = wire.read_tag(tag)
            found = known[tag] = template.format(kind=kind, name=name).encode()
        return found

    return channel
