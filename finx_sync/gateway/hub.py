"""`Hub`: takes what the source brings, and gives each item to the clients that want it. On the event loop's thread."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from finx_sync.gateway.clients import OVERHEAD, Client
from finx_sync.gateway.items import Item, gap_item

__all__ = ["FeedState", "Hub"]

KEPT_BYTES: Final = 64 * 1024 * 1024
"""Bytes of recent items, for clients that come back."""
GAPS: Final = 100
"""The newest gaps that `/v1/feed` lists."""


@dataclass
class FeedState:
    """What is known of the feed.

    Attributes:
        venue, feed: the names.
        is_live: whether the source is connected, and its upstream is.
        why: why it is not; "" if it is.
        received_at: when the newest message was received from the venue, UNIX seconds; 0 before the first.
        messages, gaps: how many messages and gaps came.
    """

    venue: str = ""
    feed: str = ""
    is_live: bool = False
    why: str = "no message yet"
    received_at: float = 0.0
    messages: int = 0
    gaps: int = 0


class Hub:
    """The clients, and the newest items.

    Args:
        kept_bytes: how much is kept for clients that come back.

    Attributes:
        state: what is known of the feed.
        clients: all clients.
        last: the newest state of each tag.
        listed: the tags that the venue lists, where that is known.
        recent_gaps: the newest gaps, as JSON objects.
        history: fetches the items of some tags after one token and before another, or up to the end; returns None if it
            cannot.
        on_wanted: called when the first client subscribes to a tag, and when the last one has left it.
        delivered, conflated: how many items clients that have left had got, and not got.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self.state = FeedState()
        self.clients: set[Client] = set()
        self.last: dict[str, Item] = {}
        self.listed: list[str] = []
        self.recent_gaps: deque[Item] = deque(maxlen=GAPS)
        self.history: Callable[[str, str | None, set[str]], Awaitable[list[Item] | None]] = _no_history
        self._fetching: set[asyncio.Task[None]] = set()
        self.on_wanted: Callable[[str, bool], object] = lambda tag, wanted: None
        self.delivered = self.conflated = 0
        self._by_tag: dict[str, set[Client]] = {}
        self._kept: deque[Item] = deque()
        self._kept_bytes = kept_bytes
        self._kept_size = 0
        self._token = ""
        self._slow: set[Client] = set()

    # What the source brings

    def take(self, items: Sequence[Item]) -> None:
        """Pass items on, in order."""
        dirty: list[Client] = []
        by_tag, last = self._by_tag, self.last
        for item in items:
            if item.kind == "data":
                receivers: Iterable[Client] | None = by_tag.get(item.tag)
                if item.is_state:
                    last[item.tag] = item
            else:
                receivers = self.clients
                self._note(item)
            for client in receivers or ():
                client.offer(item)
                if not client.is_dirty:
                    client.is_dirty = True
                    dirty.append(client)
        self._keep(items)
        if items:
            self.state.received_at = items[-1].at
            self.state.messages += sum(item.kind == "data" for item in items)
            self._token = items[-1].token
        for client in dirty:
            client.flush()
            if client.is_slow:
                self._slow.add(client)

    def learn(self, values: Iterable[Item], token: str) -> None:
        """The source has opened: the newest states there are, and where reading begins."""
        for item in values:
            if item.is_state and item.tag not in self.last:
                self.last[item.tag] = item
        self._token = self._token or token

    def _note(self, item: Item) -> None:
        if item.kind == "gap":
            self.state.gaps += 1
            self.recent_gaps.append(item)

    def _keep(self, items: Sequence[Item]) -> None:
        kept = self._kept
        kept.extend(items)
        self._kept_size += sum(len(item.payload) + OVERHEAD for item in items)
        while self._kept_size > self._kept_bytes:
            self._kept_size -= len(kept.popleft().payload) + OVERHEAD

    def change_state(self, *, is_live: bool, why: str) -> None:
        """The source is connected, or no longer."""
        state = self.state
        if (state.is_live, state.why) == (is_live, why):
            return
        state.is_live, state.why = is_live, why
        payload = b'{"live":%b,"why":%b}' % (b"true" if is_live else b"false", _quoted(why))
        item = Item("", self._token, time.time(), payload, kind="state")
        for client in self.clients:
            client.offer(item)
            client.flush()
            if client.is_slow:
                self._slow.add(client)

    # Clients

    def add(self, client: Client) -> None:
        """A client has come."""
        self.clients.add(client)

    def remove(self, client: Client) -> None:
        """A client has gone."""
        if client not in self.clients:
            return
        self.clients.remove(client)
        self._slow.discard(client)
        self.delivered += client.sent
        self.conflated += client.conflated
        for tag in list(client.tags):
            self.unsubscribe(client, tag)

    def subscribe(self, client: Client, tags: Iterable[str], since: str | None = None) -> None:
        """Give a client what comes of some tags.

        Args:
            client: the client.
            tags: what it wants.
            since: the token of the last item that it has, so that it gets what followed; None to begin with the newest
                state of each tag.
        """
        new = [tag for tag in dict.fromkeys(tags) if tag not in client.tags]
        for tag in new:
            client.tags.add(tag)
            receivers = self._by_tag.get(tag)
            if receivers is None:
                self._by_tag[tag] = {client}
                self.on_wanted(tag, True)
            else:
                receivers.add(client)
        if since is not None:
            self._resume(client, new, since)
        else:
            for tag in new:
                if (item := self.last.get(tag)) is not None:
                    client.offer(item)
        client.flush()
        if client.is_slow:
            self._slow.add(client)

    def unsubscribe(self, client: Client, tag: str) -> None:
        """Give a client nothing more of a tag."""
        client.tags.discard(tag)
        receivers = self._by_tag.get(tag)
        if receivers is None:
            return
        receivers.discard(client)
        if not receivers:
            del self._by_tag[tag]
            self.on_wanted(tag, False)

    def _resume(self, client: Client, tags: Sequence[str], since: str) -> None:
        """Give a client what it has missed: what is kept here, and before that what the source still has."""
        wanted = set(tags)
        if since == self._token:
            return
        missed: list[Item] = []
        for item in reversed(self._kept):
            if item.token == since:
                break
            if item.tag in wanted or item.kind == "gap":
                missed.append(item)
        else:
            client.is_paused = True
            until = self._kept[0].token if self._kept else None
            task = asyncio.get_running_loop().create_task(self._fetch(client, wanted, since, until))
            self._fetching.add(task)  # or it might be collected
            task.add_done_callback(self._fetching.discard)
        for item in reversed(missed):
            client.offer(item)

    async def _fetch(self, client: Client, wanted: set[str], since: str, until: str | None) -> None:
        found = await self.history(since, until, wanted)
        if found is None:
            end = time.time()
            gap = gap_item(self._token, end, start=None, end=end, names=sorted(wanted), reason="trimmed", missed=None)
            found = [gap, *(item for tag in sorted(wanted) if (item := self.last.get(tag)) is not None)]
        client.resume(found)
        if client.is_slow:
            self._slow.add(client)

    @property
    def wanted(self) -> list[str]:
        """The tags that any client wants."""
        return list(self._by_tag)

    def look(self) -> None:
        """Called several times a second: slow clients may have read."""
        now = time.monotonic()
        for client in list(self._slow):
            client.look(now)
            if not client.is_slow or client.is_closed:
                self._slow.discard(client)

    def end_all(self, code: int, reason: str) -> None:
        """Close every client."""
        for client in list(self.clients):
            client.end(code, reason)

    def describe(self) -> dict[str, Any]:
        """What `/v1/feed` says, but for the gaps."""
        state = self.state
        return {
            "venue": state.venue,
            "feed": state.feed,
            "live": state.is_live,
            "why": state.why,
            "received_at": state.received_at,
            "messages": state.messages,
            "gaps": state.gaps,
            "clients": len(self.clients),
            "position": self._token,
            "tags": sorted({*self.listed, *self.last}),
        }


async def _no_history(since: str, until: str | None, wanted: set[str]) -> list[Item] | None:
    return None


def _quoted(text: str) -> bytes:
    return json.dumps(text).encode()
