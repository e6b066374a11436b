"""Where the gateway's feed comes from: a relay's feed on Redis, or a stream in this process.

A source runs on threads of its own, and hands what it reads to the event loop, a batch at a time. What the loop has not
taken yet is bounded: beyond, the source's thread waits, so that Redis, or the venue's server, keeps the rest.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any, Final, Protocol

import msgspec

from finx_sync.errors import FinxSyncError
from finx_sync.gateway.hub import Hub
from finx_sync.gateway.items import Item
from finx_sync.gateway.listing import LIST_AGAIN, listed_tags
from finx_sync.gateway.names import TagReader
from finx_sync.notices import Gap
from finx_sync.pipeline.output import Topic
from finx_sync.relay import wire
from finx_sync.relay.about import About, about_of
from finx_sync.relay.address import RelayAddress
from finx_sync.relay.feed import SILENCE, PartitionFeed
from finx_sync.relay.reader import FeedReader, Hole, Notice, Opening, Read, Records
from finx_sync.session.backoff import Backoff
from finx_sync.state import State, StateChange
from finx_sync.stream import Stream
from finx_sync.venues.base import Subscription

__all__ = ["FeedSource", "Handover", "Source", "StreamSource"]

WAITING: Final = 32 * 1024 * 1024
"""Bytes that may be on the way from the source's thread to the event loop."""
HISTORY_BYTES: Final = 32 * 1024 * 1024
"""Bytes that one client may have read again on Redis."""
DEMANDED: Final = 30.0
DEMAND_INTERVAL: Final = 5.0


class Handover:
    """Hands items from a source's threads to the event loop. Made on the loop's thread.

    Args:
        hub: takes them.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._room = threading.Event()  # cleared while too much is on the way
        self._room.set()
        self._lock = threading.Lock()  # guards _size
        self._size = 0
        self._closed = False

    def put(self, items: Sequence[Item]) -> None:
        """Hand items on; waits while too many are on the way. Source threads."""
        if not items:
            return
        size = sum(len(item.payload) for item in items)
        while not self._room.wait(0.5) and not self._closed:
            pass
        with self._lock:
            self._size += size
            if self._size > WAITING:
                self._room.clear()
        self.call(self._take, items, size)

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Have something called on the loop. Any thread."""
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop has ended
            self._closed = True

    def close(self) -> None:
        """Let nobody wait any more."""
        self._closed = True
        self._room.set()

    def _take(self, items: Sequence[Item], size: int) -> None:
        with self._lock:
            self._size -= size
            if self._size <= WAITING // 2:
                self._room.set()
        self._hub.take(items)


class Source(Protocol):
    """Brings a feed's items. `start` and `want` are called on the event loop's thread, and must not block."""

    def start(self, handover: Handover) -> None:
        """Begin."""

    def want(self, tag: str, wanted: bool) -> None:
        """Clients want a tag from now on, or no longer."""

    async def history(self, since: str, until: str | None, wanted: set[str]) -> list[Item] | None:
        """The items of some tags after one token and before another, or up to the end; None if they cannot be read."""

    def stop(self) -> None:
        """End. Blocks for a few seconds at most; not on the event loop's thread."""


class FeedSource:
    """A relay's feed on Redis. The positions of its items are those on Redis, so any gateway can resume a client.

    Args:
        hub: takes the items.
        address: of the feed.
        tags: reads names.
        venue: the venue's name.
    """

    def __init__(self, hub: Hub, address: RelayAddress, tags: TagReader, venue: str) -> None:
        self._hub = hub
        self._address = address
        self._tags = tags
        self._venue = venue
        self._feeds: list[PartitionFeed] = []
        self._lock = threading.Lock()  # guards _feeds, _tokens and _demanded between the io threads and the loop
        self._tokens: list[str] = ["0-0"]
        self._demanded: set[bytes] = set()
        self._demand_at = 0.0
        self._about: About | None = None
        self._stopped = False
        self._handover: Handover | None = None

    def start(self, handover: Handover) -> None:
        """See `Source`."""
        self._handover = handover
        hub = self._hub
        hub.state.venue, hub.state.feed = self._venue, self._address.feed
        self._read([0])

    def _read(self, partitions: Iterable[int]) -> None:
        with self._lock:
            if self._stopped:
                return
            for partition in partitions:
                feed = PartitionFeed(FeedReader(self._address, partition), partition, self, Backoff())
                self._feeds.append(feed)
                feed.start()

    def want(self, tag: str, wanted: bool) -> None:
        """See `Source`."""
        with self._lock:
            (self._demanded.add if wanted else self._demanded.discard)(tag.encode())
            self._demand_at = 0.0

    async def history(self, since: str, until: str | None, wanted: set[str]) -> list[Item] | None:
        """See `Source`."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(None, self._read_again, since, until, wanted)
        except (FinxSyncError, ValueError):  # Redis does not answer, or the token is none
            return None

    def _read_again(self, since: str, until: str | None, wanted: set[str]) -> list[Item] | None:
        """Read a stretch of the feed once more, on a connection of its own."""
        if len(self._tokens) > 1:  # the partitions have no common order
            return None
        first = wire.Position.read(since)
        reader = FeedReader(self._address, since=first)
        try:
            opening = reader.open([])
            end = opening.end
            if end is None or end < first:  # of another feed, or of before a FLUSHALL
                return None
            last = wire.Position(end.term, end.offset + 1) if until is None else wire.Position.read(until)
            if first >= last:
                return None
            found: list[Item] = []
            size = 0
            while parts := reader.read(0.01):
                for part in parts:
                    for item in self._again(part, last, wanted):
                        found.append(item)
                        size += len(item.payload)
                if size > HISTORY_BYTES:
                    return None
                if reader.position is not None and reader.position >= last:
                    break
            return found
        finally:
            reader.close()

    def _again(self, part: Read, last: wire.Position, wanted: set[str]) -> Iterable[Item]:
        if isinstance(part, Hole):
            gap = asdict(Gap(part.start, part.end, (), part.reason, part.missed))
            yield Item("", str(part.before), part.end, msgspec.json.encode(gap), kind="gap")
        elif isinstance(part, Notice):
            if part.name == wire.GAP and part.position < last:
                yield Item("", str(part.position), part.at, msgspec.json.encode(part.content), kind="gap")
        else:
            term, offset = part.position.term, part.position.offset - len(part.payloads)
            for number, (tag, payload) in enumerate(zip(part.tags, part.payloads, strict=True), offset + 1):
                position = wire.Position(term, number)
                name = tag.decode("utf-8", "replace")
                if position < last and name in wanted:
                    yield self._item(name, str(position), part.at, payload)

    def stop(self) -> None:
        """See `Source`."""
        with self._lock:
            self._stopped = True
            feeds = list(self._feeds)
        for feed in feeds:
            feed.stop()
        deadline = time.monotonic() + 3.0
        for feed in feeds:
            feed.join(max(0.0, deadline - time.monotonic()))

    # What the partitions report, on their io threads; see `FeedOwner`

    def tags(self) -> None:
        """All last values are wanted: clients may come for any of them."""

    def opened(self, feed: PartitionFeed, opening: Opening) -> None:
        """See `FeedOwner`."""
        if feed.partition == 0 and (opening.about or self._about is None):
            first = self._about is None
            self._about = about_of(opening.about, self._address, self._venue)
            if first:
                with self._lock:
                    self._tokens = ["0-0"] * self._about.partitions
                self._read(range(1, self._about.partitions))
        with self._lock:
            self._tokens[feed.partition] = str(feed.reader.position or wire.START)
            token = ",".join(self._tokens)
        values = [
            self._item(tag.decode("utf-8", "replace"), token, value.at, value.payload)
            for tag, value in opening.last.items()
        ]
        self._call(self._hub.learn, values, token)

    def read(self, feed: PartitionFeed, parts: list[Read]) -> None:
        """See `FeedOwner`."""
        items: list[Item] = []
        for part in parts:
            if isinstance(part, Records):
                self._records(feed.partition, part, items)
            elif isinstance(part, Hole):
                gap = Gap(part.start, part.end, (), part.reason, part.missed)
                items.append(self._gap(feed.partition, str(part.before), part.end, asdict(gap)))
            else:
                self._note(feed.partition, part, items)
        if self._handover is not None:
            self._handover.put(items)

    def look(self, feed: PartitionFeed) -> None:
        """See `FeedOwner`."""
        now = time.monotonic()
        if feed.partition == 0 and self._about is not None and self._about.on_demand and now >= self._demand_at:
            self._demand_at = now + DEMAND_INTERVAL
            with self._lock:
                demanded = list(self._demanded)
            feed.reader.demand(demanded, DEMANDED)

    def changed(self) -> None:
        """See `FeedOwner`."""
        with self._lock:
            feeds = list(self._feeds)
        about = self._about
        if not all(feed.is_connected for feed in feeds):
            self._say(False, "Redis does not answer")
        elif any(feed.is_silent for feed in feeds):
            self._say(False, f"the relay has been silent for {SILENCE:g} s")
        elif about is not None and not about.is_open:
            self._say(False, "the relay is not connected to the venue")
        else:
            self._say(True, "")

    def ended(self, feed: PartitionFeed, error: FinxSyncError) -> bool:
        """See `FeedOwner`: whatever the error is, the gateway goes on trying, and says what is wrong."""
        self._say(False, str(error))
        return True

    def left(self, feed: PartitionFeed) -> None:
        """See `FeedOwner`."""

    def fail(self, error: FinxSyncError) -> None:
        """See `FeedOwner`."""
        self._say(False, str(error))

    # Items

    def _records(self, partition: int, records: Records, items: list[Item]) -> None:
        term, end = records.position
        offset = end - len(records.payloads)
        for tag, payload in zip(records.tags, records.payloads, strict=True):
            offset += 1
            token = self._move(partition, f"{term}-{offset}")
            items.append(self._item(tag.decode("utf-8", "replace"), token, records.at, payload))

    def _note(self, partition: int, notice: Notice, items: list[Item]) -> None:
        if notice.name == wire.GAP:
            items.append(self._gap(partition, str(notice.position), notice.at, notice.content))
            return
        if partition == 0 and self._about is not None:
            if notice.name == wire.STATE:
                self._about.change_state(notice.content)
                self.changed()
            elif notice.name == wire.SUBSCRIPTIONS:
                self._about.change_subscriptions(notice.content)
        self._move(partition, str(notice.position))

    def _gap(self, partition: int, position: str, at: float, gap: Any) -> Item:
        return Item("", self._move(partition, position), at, msgspec.json.encode(gap), kind="gap")

    def _move(self, partition: int, position: str) -> str:
        """The token after a record of one partition."""
        tokens = self._tokens
        if len(tokens) == 1:
            tokens[0] = position
            return position
        with self._lock:
            tokens[partition] = position
            return ",".join(tokens)

    def _item(self, tag: str, token: str, at: float, payload: bytes) -> Item:
        return Item(tag, token, at, payload, is_state=self._tags.is_state(tag))

    def _say(self, is_live: bool, why: str) -> None:
        hub = self._hub
        self._call(lambda: hub.change_state(is_live=is_live, why=why))

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        if self._handover is not None:
            self._handover.call(function, *arguments)


class StreamSource:
    """A stream in this process. Its positions are the gateway's own: after a restart, clients begin anew.

    Args:
        hub: takes the items.
        stream: the stream; it is started and stopped here.
        tags: reads names.
        venue: the venue's name.
    """

    def __init__(self, hub: Hub, stream: Stream[Any], tags: TagReader, venue: str) -> None:
        self._hub = hub
        self._stream = stream
        self._tags = tags
        self._venue = venue
        self._term = int(time.time() * 1000)
        self._offset = 0
        self._upstream = stream._upstream()
        self._handover: Handover | None = None
        self._thread = threading.Thread(target=self._run, name="finx-sync gateway source", daemon=True)
        self._wishes: list[tuple[str, bool]] = []
        self._lock = threading.Lock()  # guards _wishes
        self._wake = threading.Event()
        self._stopped = False

    def start(self, handover: Handover) -> None:
        """See `Source`."""
        self._handover = handover
        self._hub.state.venue = self._hub.state.feed = self._venue
        self._upstream.attach(self)
        self._thread.start()

    def want(self, tag: str, wanted: bool) -> None:
        """See `Source`."""
        with self._lock:
            self._wishes.append((tag, wanted))
        self._wake.set()

    async def history(self, since: str, until: str | None, wanted: set[str]) -> None:
        """See `Source`: a stream has nothing that the hub does not keep."""

    def stop(self) -> None:
        """See `Source`."""
        self._stopped = True
        self._wake.set()
        self._thread.join(10.0)
        self._stream.close()
        self._upstream.detach(self)

    def _run(self) -> None:
        """Start the stream, again where it fails, and have it subscribe to what clients want."""
        backoff, failures, begin_at, list_at = Backoff(), 0, 0.0, 0.0
        while not self._stopped:
            if self._stream.state in (State.NEW, State.STOPPED, State.FAILED) and time.monotonic() >= begin_at:
                try:
                    self._stream.start()
                    failures = 0
                except FinxSyncError as error:
                    failures += 1
                    begin_at = time.monotonic() + backoff.delay(failures, lambda: 1.0)
                    self._say(False, str(error))
            self._subscribe()
            if self._stream.state is State.OPEN and time.monotonic() >= list_at:
                list_at = time.monotonic() + LIST_AGAIN
                self._list()
            self._wake.wait(0.5)
            self._wake.clear()

    def _list(self) -> None:
        tags = listed_tags(self._stream)
        if self._handover is not None:
            self._handover.call(setattr, self._hub, "listed", tags)

    def _subscribe(self) -> None:
        with self._lock:
            wishes, self._wishes = self._wishes, []
        for tag, wanted in wishes:
            kind, _, name = tag.partition(":")
            if wanted:
                self._upstream.subscribe([Subscription(kind, name)])
            else:
                self._upstream.unsubscribe(Subscription(kind, name))

    # See `finx_sync.pipeline.output.Output`; on the dispatch thread

    def take(self, messages: Sequence[Any], payloads: Sequence[bytes], received_at: float) -> None:
        """See `Output`."""
        items = [self._item(one, payload, received_at) for one, payload in zip(messages, payloads, strict=True)]
        if self._handover is not None:
            self._handover.put(items)

    def add(self, message: Any, payload: bytes, received_at: float) -> None:
        """See `Output`."""
        self.take([message], [payload], received_at)

    def notice(self, topic: Topic, value: Any) -> None:
        """See `Output`."""
        if topic == "gap" and self._handover is not None:
            self._offset += 1
            item = Item("", f"{self._term}-{self._offset}", time.time(), msgspec.json.encode(asdict(value)), kind="gap")
            self._handover.put([item])
        elif topic == "state" and isinstance(value, StateChange):
            is_live = value.new is State.OPEN
            self._say(is_live, "" if is_live else str(value.reason or f"the stream is {value.new.value}"))

    def _item(self, message: Any, payload: bytes, received_at: float) -> Item:
        self._offset += 1
        kind = self._upstream.codec.kinds.get(type(message)) or type(message).__name__
        tag = f"{kind}:{message.name_of(message)}"
        return Item(tag, f"{self._term}-{self._offset}", received_at, payload, is_state=self._tags.is_state(tag))

    def _say(self, is_live: bool, why: str) -> None:
        if self._handover is not None:
            hub = self._hub
            self._handover.call(lambda: hub.change_state(is_live=is_live, why=why))
