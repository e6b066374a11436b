"""What a relay says about its feed: whose it is, and what it contains. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from finx_sync.errors import ConfigError, ConnectError
from finx_sync.redaction import shown
from finx_sync.relay.address import RelayAddress
from finx_sync.relay.filtering import subscription_of
from finx_sync.venues.base import Codec, Subscription

__all__ = ["About", "about_of"]


class About:
    """The hash `about` of a feed, and what notices change of it. What cannot be read counts as not said.

    Args:
        said: the hash.

    Attributes:
        venue: the venue's name.
        partitions: how many partitions the feed has.
        on_demand: whether the relay subscribes to what its readers want.
        is_open: whether the relay is connected to the venue.
        why: what it says about that; "" if nothing.
    """

    def __init__(self, said: Mapping[str, str]) -> None:
        self.venue = said.get("venue", "")
        count = said.get("partitions", "")
        self.partitions = max(1, int(count)) if count.isascii() and count.isdigit() else 1
        self.on_demand = said.get("on_demand", "").lower() in ("1", "true")
        self.is_open = said.get("state", "open") == "open"
        self.why = ""
        listed = _tags(_json(said.get("subscriptions", "")))
        self._listed = None if listed is None else set(listed)

    def lists(self, subscription: Subscription, codec: Codec) -> bool:
        """Whether the feed contains a subscription; True if the relay does not say."""
        return self._listed is None or codec.covers(self._listed, subscription)

    def change_subscriptions(self, content: Mapping[str, Any]) -> None:
        """The relay has other subscriptions."""
        if self._listed is not None:
            self._listed.update(_tags(content.get("added")) or ())
            self._listed.difference_update(_tags(content.get("removed")) or ())

    def change_state(self, content: Mapping[str, Any]) -> None:
        """The relay's own stream has another state."""
        if isinstance(state := content.get("state"), str):
            self.is_open = state == "open"
            self.why = str(content.get("reason") or "")


def about_of(said: Mapping[str, str], address: RelayAddress, venue: str) -> About:
    """What is said about a feed that a venue's stream is to read.

    Args:
        said: the hash `about`; empty if there is none.
        address: of the feed.
        venue: the name of the stream's venue.

    Raises:
        ConnectError: there is no feed of that name.
        ConfigError: it is another venue's.
    """
    if not said:
        raise ConnectError(
            f"there is no feed {address.feed!r} at {address}; start a relay for it, or name another one by ?feed=NAME "
            "at the end of the URL"
        )
    about = About(said)
    if about.venue.lower() != venue.lower():
        raise ConfigError(
            f"the feed {address.feed!r} at {address} is one of {shown(about.venue, 100)}, and this stream reads those "
            f"of {venue}; choose that venue's stream or environment, or another feed"
        )
    return about


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None


def _tags(value: Any) -> list[Subscription] | None:
    if not isinstance(value, list):
        return None
    found = (subscription_of(tag.encode("utf-8", "replace")) for tag in value if isinstance(tag, str))
    return [subscription for subscription in found if subscription is not None]
