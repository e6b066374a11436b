"""The relay's side of the dispatch thread: tags payloads and appends them to the backlog, nothing else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from finx_sync.errors import HandlerRaisedError, RelayError
from finx_sync.messages import Message
from finx_sync.notices import Gap
from finx_sync.pipeline.output import Topic
from finx_sync.relay import wire
from finx_sync.relay.backlog import Backlog, Notice, Received
from finx_sync.state import StateChange
from finx_sync.venues.base import Codec, Subscription

__all__ = ["RelayOutput", "Tags"]

MAX_TAGS: Final = 200_000
"""Tags that are remembered; beyond, all are made anew."""


class Tags:
    """The tags of a venue's messages.

    Args:
        codec: the venue's.
    """

    def __init__(self, codec: Codec) -> None:
        self._kinds = codec.kinds
        self._states: dict[bytes, bool] = {}
        self._of_kind: dict[type[Message], _Names] = {}
        self._kinds_of_tags = {wire.tag_of(self._kind(kind), ""): kind.is_state for kind in codec.message_types}

    def of_type(self, kind: type[Message]) -> _Names:
        """Maps the names of messages of a type to tags; makes a tag for a name that is new."""
        names = self._of_kind.get(kind)
        if names is None or len(names) > MAX_TAGS:
            names = self._of_kind[kind] = _Names(self._kind(kind))
        return names

    def is_state(self, tag: bytes) -> bool:
        """Whether the newest payload of a tag is all that is to be known of it."""
        return self._kinds_of_tags.get(tag[: tag.find(b":") + 1], False)

    def _kind(self, kind: type[Message]) -> str:
        return self._kinds.get(kind, kind.__name__)


class _Names(dict[str, bytes]):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind

    def __missing__(self, name: str) -> bytes:
        tag = self[name] = wire.tag_of(self._kind, name)
        return tag


class RelayOutput:
    """Takes what a stream delivers; see `finx_sync.pipeline.output.Output`.

    Args:
        codec: the venue's.
        backlog: where it goes.
        tags: the venue's tags.
    """

    def __init__(self, codec: Codec, backlog: Backlog, tags: Tags) -> None:
        self._backlog = backlog
        self._tags = tags
        has_images = type(codec).begins_state is not Codec.begins_state
        self._begins_state = codec.begins_state if has_images else None

    def take(self, messages: Sequence[Message], payloads: Sequence[bytes], received_at: float) -> None:
        """Take messages that were received together."""
        try:
            tags = self._tags_of(messages)
        except Exception:  # noqa: BLE001  # a name that cannot be had: `Delivery.spoiled` has reported that message
            for message, payload in zip(messages, payloads, strict=True):
                self.add(message, payload, received_at)
            return
        begins: Sequence[int] = ()
        if self._begins_state is not None:
            begins = [index for index, message in enumerate(messages) if self._begins_state(message)]
        self._backlog.put(Received(tags, payloads, received_at, time.monotonic(), begins))

    def _tags_of(self, messages: Sequence[Message]) -> list[bytes]:
        kinds: list[type[Message]] = list(map(type, messages))
        kind = kinds[0]
        if kinds.count(kind) == len(kinds):
            names = self._tags.of_type(kind)
            return list(map(names.__getitem__, map(kind.name_of, messages)))
        of_type = self._tags.of_type
        return [of_type(kind)[kind.name_of(message)] for kind, message in zip(kinds, messages, strict=True)]

    def add(self, message: Message, payload: bytes, received_at: float) -> None:
        """Take one message."""
        kind = type(message)
        try:
            tag = self._tags.of_type(kind)[kind.name_of(message)]
        except Exception:  # noqa: BLE001  # as in `take`
            return
        begins = (0,) if self._begins_state is not None and self._begins_state(message) else ()
        self._backlog.put(Received([tag], [payload], received_at, time.monotonic(), begins))

    def notice(self, topic: Topic, value: Any) -> None:
        """Take an event."""
        match topic, value:
            case "state", StateChange():
                reason = "" if value.reason is None else str(value.reason)
                self._put(wire.STATE, state=value.new.value, reason=reason)
                self._backlog.incomplete()
                self._backlog.wake()  # a relay leads only while its stream is open
            case "gap", Gap():
                self._gap(value)
            case (("added" | "removed"), Subscription()):
                tag = wire.tag_of(value.kind, value.name).decode()
                self._put(wire.SUBSCRIPTIONS, **{"added": [], "removed": [], topic: [tag]})
            case "error", HandlerRaisedError() | RelayError():
                pass  # about this process, which is nothing to the feed's readers
            case "error", Exception():
                self._put(wire.ERROR, type=type(value).__name__, text=str(value))

    def _gap(self, gap: Gap) -> None:
        content = {"start": gap.start, "end": gap.end, "reason": gap.reason}
        if gap.missed is not None:
            content["missed"] = gap.missed
        self._put(wire.GAP, **content, names=list(gap.names))

    def _put(self, name: bytes, **content: Any) -> None:
        self._backlog.put(Notice(name, content, time.time(), time.monotonic()))
