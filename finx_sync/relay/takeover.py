"""A relay begins to lead: a new term in every partition, which goes on where the stream has ended."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Final

from finx_sync.relay import wire
from finx_sync.relay.backlog import Backlog, Item, Notice, Received
from finx_sync.relay.joining import Joining, Tail, join, read_tail
from finx_sync.relay.partition import Partition, SupersededError, split
from finx_sync.relay.upstream import Upstream
from finx_sync.relay.wire import Position

__all__ = ["MEMORY_SECONDS", "TakeOver"]

MEMORY_SECONDS: Final = 15.0
"""What a relay on standby keeps."""
PATIENCE: Final = 1.0
"""Seconds to wait for a payload that is in the stream to come here too."""
PAUSE: Final = 0.05
MARGIN: Final = 1.0
"""Seconds by which the end of the stream is read further back than the memory reaches."""
MAX_GAPS: Final = 100
"""Gaps that a take-over reports one by one; beyond, one covers all."""


class TakeOver:
    """One take-over.

    Args:
        partitions: of the feed.
        backlog: what was received here.
        upstream: the stream.
        relay: the relay's name.
        about: what the first record of a term says besides.
        alive_until: when the relay before this one was last seen to write, monotonic seconds; None if it is not known.
    """

    def __init__(
        self,
        partitions: Sequence[Partition],
        backlog: Backlog,
        upstream: Upstream,
        *,
        relay: str,
        about: dict[str, str],
        alive_until: float | None,
    ) -> None:
        self._partitions = partitions
        self._backlog = backlog
        self._upstream = upstream
        self._relay = relay
        self._about = about
        self._alive_until = alive_until

    def run(self) -> None:
        """Begin the term.

        Raises:
            SupersededError: another relay has the lease, or has written meanwhile.
        """
        self._backlog.stop_forgetting()
        tails, joinings = self._look()
        for number, (partition, tail) in enumerate(zip(self._partitions, tails, strict=True)):
            now = time.time()
            first = [self._term(tail, now), *self._gaps(number, tail, joinings[number], now), *self._situation(number)]
            partition.look()
            if partition.claim(self._term_after(partition, tail.last), tail.last, self._relay, first) != "ok":
                raise SupersededError
        skip = {tag: count for one in joinings for tag, count in one.skip.items()}
        broken = {tag for one in joinings for tag in one.broken}
        self._forget_written(skip, broken, min((tail.at or 0.0) for tail in tails))
        self._upstream.ask_again([wire.read_tag(tag) for tag in broken if self._is_built(tag)])

    def _look(self) -> tuple[list[Tail], list[Joining]]:
        """Compare until all is joined, or no more can be expected to come."""
        deadline = time.monotonic() + PATIENCE
        while True:
            items, complete_since = self._backlog.memory()
            parts = split(items, len(self._partitions), self._upstream.kinds)
            tails = [self._tail(*pair) for pair in zip(self._partitions, parts, strict=True)]
            joinings = [self._join(*pair, complete_since) for pair in zip(parts, tails, strict=True)]
            if not any(one.broken for one in joinings) or not self._upstream.can_overlap:
                return tails, joinings
            if time.monotonic() > deadline:
                return tails, joinings
            time.sleep(PAUSE)  # on the writer's own thread: what is missing may be on its way

    def _tail(self, partition: Partition, items: Iterable[Item]) -> Tail:
        received = [item for item in items if isinstance(item, Received)]
        wanted = dict.fromkeys(tag for item in received for tag in item.tags)
        since = received[0].at - MARGIN if received else time.time()
        tail = read_tail(partition.client, partition.keys.stream, wanted, since)
        tail.last = max(tail.last, partition.last())  # the newest entries may have been trimmed away
        return tail

    def _overlaps(self, tail: Tail, complete_since: float) -> bool:
        if tail.last == wire.START:
            return True
        if self._alive_until is not None:
            return complete_since <= self._alive_until
        return tail.at is not None and complete_since + time.time() - time.monotonic() <= tail.at

    def _join(self, items: Iterable[Item], tail: Tail, complete_since: float) -> Joining:
        overlaps = self._overlaps(tail, complete_since)
        if tail.last == wire.START:
            return Joining()
        if not self._upstream.can_overlap:
            received = [item for item in items if isinstance(item, Received)]
            tags = {wire.tag_of(*one) for one in self._upstream.desired()} | {t for item in received for t in item.tags}
            return Joining(broken=dict.fromkeys(tags))
        joining = join(items, tail, overlaps=overlaps)
        if not overlaps:
            known = joining.skip.keys() | joining.broken.keys()
            for subscription in self._upstream.desired():
                if (tag := wire.tag_of(*subscription)) not in known:
                    joining.broken[tag] = None
        return joining

    def _term(self, tail: Tail, now: float) -> Notice:
        previous = None if tail.last == wire.START else str(tail.last)
        content = {"previous": previous, "previous_at": tail.at, "relay": self._relay, **self._about}
        return Notice(wire.TERM, content, now, time.monotonic())

    def _term_after(self, partition: Partition, last: Position) -> int:
        seconds, microseconds = partition.client.execute_command("TIME")
        return max(last.term + 1, int(seconds) * 1000 + int(microseconds) // 1000)

    def _gaps(self, number: int, tail: Tail, joining: Joining, now: float) -> list[Item]:
        starts: dict[float, dict[bytes, int]] = {}
        for tag, at in joining.broken.items():
            start = at if at is not None else tail.at if tail.at is not None else now
            starts.setdefault(start, {})[tag] = 0
        if len(starts) > MAX_GAPS:
            starts = {min(starts): dict.fromkeys(joining.broken, 0)}
        gaps: list[Item] = [
            Notice(wire.GAP, {"start": start, "end": now, "reason": "relay lost"}, now, time.monotonic(), tags)
            for start, tags in sorted(starts.items())
        ]
        return split(gaps, len(self._partitions), self._upstream.kinds)[number]

    def _situation(self, number: int) -> list[Item]:
        if number:
            return []
        now, arrived = time.time(), time.monotonic()
        tags = [wire.tag_of(*one).decode() for one in self._upstream.desired()]
        return [
            Notice(wire.STATE, {"state": self._upstream.state.value, "reason": ""}, now, arrived),
            Notice(wire.SUBSCRIPTIONS, {"added": tags, "removed": []}, now, arrived),
        ]

    def _forget_written(self, skip: dict[bytes, int], broken: set[bytes], ended: float) -> None:
        """Leave in the backlog only what the stream lacks: what came of broken tags up to now is in their gap."""
        items, _ = self._backlog.memory()
        for item in items:
            if isinstance(item, Received):
                for tag in item.tags:
                    if tag in broken:
                        skip[tag] = skip.get(tag, 0) + 1
        self._backlog.leave_out(skip, lambda notice: notice.name == wire.GAP and notice.content["end"] > ended - MARGIN)

    def _is_built(self, tag: bytes) -> bool:
        return any(tag in partition.since for partition in self._partitions) or self._upstream.has_images
