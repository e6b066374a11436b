"""Which of a feed's payloads a stream wants. Pure; one thread at a time."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from finx_sync.relay.wire import read_tag
from finx_sync.venues.base import Codec, Subscription

__all__ = ["TagFilter", "subscription_of"]

MAX_TAGS: Final = 100_000
"""Unwanted tags that are remembered; whoever writes a feed may make up any number."""


class TagFilter:
    """Lets through what belongs to the wanted subscriptions, and what belongs to none, such as unknown channels.

    Args:
        codec: the venue's.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._kinds = frozenset(codec.kinds.values())
        self._wanted: Collection[Subscription] = ()
        self._yes: set[bytes] = set()
        self._no: set[bytes] = set()

    def want(self, wanted: Collection[Subscription]) -> None:
        """Want these from now on."""
        self._wanted = wanted
        self._yes.clear()
        self._no.clear()

    def passes(self, tag: bytes) -> bool:
        """Whether payloads of a tag are wanted."""
        if tag in self._yes or tag in self._no:
            return tag in self._yes
        if len(self._no) > MAX_TAGS:
            self._no.clear()
        subscription = subscription_of(tag)
        wanted = subscription is not None and (
            subscription.kind not in self._kinds or self._codec.covers(self._wanted, subscription)
        )
        (self._yes if wanted else self._no).add(tag)
        return wanted

    def sift(self, tags: list[bytes], payloads: list[bytes]) -> list[bytes]:
        """The wanted ones among payloads, in order; the list itself if all are wanted."""
        yes = self._yes
        found = set(tags)
        for tag in found - yes - self._no:
            self.passes(tag)
        if found <= yes:
            return payloads
        if found <= self._no:
            return []
        return [payload for tag, payload in zip(tags, payloads, strict=True) if tag in yes]


def subscription_of(tag: bytes) -> Subscription | None:
    """The subscription that a tag names; None if it is no text."""
    try:
        return read_tag(tag)
    except UnicodeDecodeError:
        return None
