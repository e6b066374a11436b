"""What a client may choose from."""

from __future__ import annotations

import json
import urllib.request

from finx_sync.gateway import Gateway
from finx_sync.gateway.listing import listed_tags
from finx_sync.sandbox import Sandbox
from finx_sync.venues.ime import ImeStream
from tests.waiting import wait_until


def test_the_feed_lists_what_nobody_has_subscribed_to(sandbox: Sandbox) -> None:
    """A page would be empty until somebody else had subscribed."""
    with Gateway("sandbox", url=sandbox.url, api_key="sandbox-key") as gateway:

        def tags() -> list[str]:
            with urllib.request.urlopen(f"{gateway.url}/v1/feed", timeout=10) as answer:
                return list(json.load(answer)["tags"])

        assert wait_until(lambda: {"contract:BTC-PERPETUAL", "spot:BTC:USD"} <= set(tags()))


def test_a_venue_that_does_not_say() -> None:
    """A gateway of another venue would not start."""
    assert listed_tags(ImeStream(environment="sandbox")) == []
