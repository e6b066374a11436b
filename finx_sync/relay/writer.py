"""The thread of a relay that talks to Redis: it leads or stands by, writes, and connects again."""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from finx_sync.errors import FinxSyncError, InternalError, RelayError
from finx_sync.relay import wire
from finx_sync.relay.address import RelayAddress, redis_library, translated
from finx_sync.relay.backlog import Backlog, Item, Notice, Received
from finx_sync.relay.demand import Demand
from finx_sync.relay.lease import RENEW_SECONDS, TRY_SECONDS, Lease
from finx_sync.relay.partition import Partition, SupersededError, split
from finx_sync.relay.takeover import MEMORY_SECONDS, TakeOver
from finx_sync.relay.upstream import Upstream
from finx_sync.relay.wire import Position
from finx_sync.session.backoff import Backoff
from finx_sync.state import State

__all__ = ["Writer", "WriterSettings"]

logger = logging.getLogger("finx_sync")

MAX_RECORDS: Final = 8000
"""Records of one call."""
MAX_BYTES: Final = 4 * 1024 * 1024
"""Bytes of payloads of one call."""
ALIVE_SECONDS: Final = 1.0
"""Without a record, after which a sign of life is written."""
LAST_PAUSE: Final = 0.1
"""Seconds between two attempts to connect while the relay is stopping."""
IMAGE_SECONDS: Final = 30.0
"""Between two requests for the same image."""


@dataclass(frozen=True)
class WriterSettings:
    """What a writer is told.

    Attributes:
        address: the feed's.
        relay: the relay's own name, unlike any other's.
        venue: the venue's name.
        about: what `about` says besides.
        on_demand: whether to subscribe to what readers ask for.
        backoff: between attempts to connect.
    """

    address: RelayAddress
    relay: str
    venue: str
    about: dict[str, str] = field(default_factory=dict)
    on_demand: bool = False
    backoff: Backoff = field(default_factory=lambda: Backoff(first=0.2, cap=2.0))


class Writer:
    """Writes what is in a backlog to Redis, as long as its relay has the lease.

    Args:
        settings: see `WriterSettings`.
        partitions: of the feed.
        backlog: what is to be written.
        upstream: the stream.

    Attributes:
        is_leading: whether this relay writes. Any thread may read it.
        is_connected: whether Redis answers. Any thread may read it.
    """

    def __init__(
        self, settings: WriterSettings, partitions: Sequence[Partition], backlog: Backlog, upstream: Upstream
    ) -> None:
        self._settings = settings
        self._partitions = partitions
        self._backlog = backlog
        self._upstream = upstream
        self._lease = Lease(partitions[0].keys.lease, settings.relay)
        self._demand = Demand(partitions[0].keys.demand, upstream) if settings.on_demand else None
        self.is_leading = self.is_connected = False
        self._stop_at: float | None = None  # monotonic; None until it is to stop
        self._in_flight: list[Item] = []
        self._renewed = self._wrote = self._looked = 0.0  # monotonic
        self._seen: Position | None = None  # the end of the stream, as a relay on standby last saw it
        self._alive_until: float | None = None
        self._asked: dict[bytes, float] = {}
        self._failures = 0
        self._is_reported = False
        self._thread = threading.Thread(target=self._run, name="finx-sync relay", daemon=True)

    def connect(self) -> None:
        """Open the connections; may raise what `RelayAddress.connect` raises."""
        try:
            for partition in self._partitions:
                partition.connect()
        except BaseException:
            self._disconnect()
            raise
        self.is_connected = True

    def start(self) -> None:
        """Start the thread."""
        self._backlog.stand_by(MEMORY_SECONDS, has_gap=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Write what waits, and end; whatever is left after `timeout` seconds is not written. Returns at once."""
        self._stop_at = time.monotonic() + timeout
        self._backlog.wake()

    def join(self, timeout: float) -> bool:
        """Wait until the thread has ended; returns whether it has."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    # The thread

    def _run(self) -> None:
        try:
            while not self._is_over():
                try:
                    self.connect()
                    if self.is_leading:
                        self._resume()
                    self._serve()
                except SupersededError:
                    self._step_down()
                except (redis_library().RedisError, OSError, FinxSyncError) as error:
                    self._lost(error)
            self._release()
        except BaseException as error:  # a defect; never silent
            logger.critical("the relay's thread has crashed", exc_info=error)
            crash = InternalError(
                f"the relay has ended: its thread has crashed: {type(error).__name__}; please report it"
            )
            crash.__cause__ = error
            self._upstream.complain(crash, "relay")
        finally:
            self.is_leading = False
            self._disconnect()
            self._backlog.close()

    def _is_over(self) -> bool:
        if self._stop_at is None:
            return False
        is_done = not self.is_leading or (self._backlog.is_empty and not self._in_flight)
        return is_done or time.monotonic() >= self._stop_at

    def _serve(self) -> None:
        while not self._is_over():
            now = time.monotonic()
            if self._demand is not None:
                self._demand.look(self._partitions[0].client, now)
            if self.is_leading:
                self._lead(now)
            else:
                self._stand_by(now)
            self._recovered()

    def _recovered(self) -> None:
        self._failures = 0
        if self._is_reported:
            self._is_reported = False
            logger.warning("the relay has reached Redis again")

    # On standby

    def _stand_by(self, now: float) -> None:
        last = self._partitions[0].last()
        if self._seen is not None and last != self._seen:
            self._alive_until = self._looked  # it was written to after that look
        self._seen, self._looked = last, now
        if self._upstream.state is State.OPEN and self._lease.acquire(self._partitions[0].client):
            self._renewed = now
            self._take_over()
        else:
            self._backlog.wait(TRY_SECONDS)

    def _take_over(self) -> None:
        settings = self._settings
        about = {"venue": settings.venue, "version": settings.about.get("version", "")}
        TakeOver(
            self._partitions,
            self._backlog,
            self._upstream,
            relay=settings.relay,
            about=about,
            alive_until=self._alive_until,
        ).run()
        self.is_leading = True
        self._wrote = time.monotonic()
        self._describe()
        logger.info("the relay %s writes the feed %s now", settings.relay, settings.address.feed)

    def _step_down(self) -> None:
        """Another relay leads, or is about to."""
        if self.is_leading:
            logger.warning("another relay writes the feed %s now; this one stands by", self._settings.address.feed)
        self._backlog.stand_by(MEMORY_SECONDS, has_gap=self.is_leading)
        self._backlog.settle(_count(self._in_flight), written=False)
        self.is_leading, self._in_flight = False, []
        self._seen = self._alive_until = None
        for partition in self._partitions:
            partition.abandon()
        self._release()

    # Leading

    def _lead(self, now: float) -> None:
        if now - self._renewed >= RENEW_SECONDS:
            self._renew(now)
        items = self._backlog.take(MAX_RECORDS, MAX_BYTES)
        if items:
            self._write(items)
        elif now - self._wrote >= ALIVE_SECONDS:
            self._write([Notice(wire.ALIVE, {}, time.time(), now)])
        else:
            self._backlog.wait(min(self._renewed + RENEW_SECONDS, self._wrote + ALIVE_SECONDS) - now)

    def _write(self, items: list[Item]) -> None:
        self._in_flight = _merged(items)
        parts = split(self._in_flight, len(self._partitions), self._upstream.kinds)
        for partition, part in zip(self._partitions, parts, strict=True):
            partition.prepare(part)
        for partition in self._partitions:
            partition.send()
        self._written()

    def _written(self) -> None:
        items, self._in_flight = self._in_flight, []
        self._wrote = time.monotonic()
        self._backlog.settle(_count(items))
        if any(isinstance(item, Notice) and item.name == wire.SUBSCRIPTIONS for item in items):
            self._describe()

    def _resume(self) -> None:
        """Complete, on new connections, what was in flight when the old ones were lost."""
        for partition in self._partitions:
            partition.resume()
        self._written()
        self._renewed = 0.0

    def _renew(self, now: float) -> None:
        answer = self._lease.renew(self._partitions[0].client)
        if answer == "other":
            raise SupersededError
        if answer == "free":  # it has run out, or Redis has been emptied
            if not self._lease.acquire(self._partitions[0].client):
                raise SupersededError
            for partition in self._partitions:
                partition.resume()
            self._restore()
        self._renewed = now
        self._ask_for_images(now)

    def _restore(self) -> None:
        """Write again what readers begin with, in case Redis has lost it."""
        self._describe()
        values = list(self._upstream.last_values())
        for number, partition in enumerate(self._partitions):
            partition.restore([one for one in values if wire.partition_of(one[0], len(self._partitions)) == number])

    def _describe(self) -> None:
        tags = sorted(wire.tag_of(*one).decode() for one in self._upstream.desired())
        about = {
            **self._settings.about,
            "venue": self._settings.venue,
            "feed": self._settings.address.feed,
            "partitions": str(len(self._partitions)),
            "subscriptions": json.dumps(tags),
            "on_demand": "1" if self._settings.on_demand else "0",
            "relay": self._settings.relay,
        }
        pairs = [part for pair in about.items() for part in pair]
        self._partitions[0].client.execute_command("HSET", self._partitions[0].keys.about, *pairs)

    def _ask_for_images(self, now: float) -> None:
        """Have the venue send an image anew before the newest one is deleted."""
        for partition in self._partitions:
            old = [tag for tag in partition.aging(now) if now - self._asked.get(tag, -IMAGE_SECONDS) >= IMAGE_SECONDS]
            if old:
                self._asked.update(dict.fromkeys(old, now))
                self._upstream.ask_again([wire.read_tag(tag) for tag in old])

    # Errors, and the end

    def _lost(self, error: BaseException) -> None:
        """Redis has not done what it was asked. Connect again after a pause; what is in flight stays so."""
        self._disconnect()
        self._failures += 1
        if not self.is_leading:
            self._backlog.stand_by(MEMORY_SECONDS, has_gap=False)
        failure = error if isinstance(error, FinxSyncError) else translated(error, str(self._settings.address))
        if not self._is_reported:
            self._is_reported = True
            report = RelayError(f"the relay cannot write to Redis and goes on trying: {failure}")
            report.__cause__ = failure
            self._upstream.complain(report, "relay")
        pause = self._settings.backoff.delay(self._failures, random.random)
        self._backlog.pause(pause if self._stop_at is None else min(pause, LAST_PAUSE))

    def _release(self) -> None:
        if self._partitions[0].client is not None:
            try:
                self._lease.release(self._partitions[0].client)
            except (redis_library().RedisError, OSError):
                self._disconnect()  # the lease runs out by itself

    def _disconnect(self) -> None:
        self.is_connected = False
        for partition in self._partitions:
            partition.close()


def _count(items: Sequence[Item]) -> int:
    return sum(len(item.tags) for item in items if isinstance(item, Received))


def _merged(items: list[Item]) -> list[Item]:
    """The same, with the subscriptions that follow on each other in one notice."""
    merged: list[Item] = []
    for item in items:
        last: Any = merged[-1] if merged else None
        if (
            isinstance(item, Notice)
            and item.name == wire.SUBSCRIPTIONS
            and isinstance(last, Notice)
            and last.name == wire.SUBSCRIPTIONS
            and not item.content["removed"]
            and not last.content["removed"]
        ):
            added = [*last.content["added"], *item.content["added"]]
            merged[-1] = Notice(item.name, {"added": added, "removed": []}, item.at, item.arrived)
        else:
            merged.append(item)
    return merged
