"""A gateway whose source is the test itself."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from finx_sync.gateway import Gateway
from finx_sync.gateway.items import Item
from finx_sync.gateway.server import Gateway as Server
from finx_sync.gateway.sources import Handover
from tests.scripted import CONTRACT
from tests.waiting import wait_until


class ManualSource:
    """A source that brings what the test says, with positions ``7-1``, ``7-2`` and so on."""

    def __init__(self) -> None:
        self.wanted: list[tuple[str, bool]] = []
        self._handover: Handover | None = None
        self._offset = 0

    def start(self, handover: Handover) -> None:
        self._handover = handover

    def want(self, tag: str, wanted: bool) -> None:
        self.wanted.append((tag, wanted))

    async def history(self, since: str, until: str | None, wanted: set[str]) -> None:
        """It has none."""

    def stop(self) -> None:
        pass

    def say(self, hub: Any, *, is_live: bool, why: str = "") -> None:
        assert self._handover is not None
        self._handover.call(lambda: hub.change_state(is_live=is_live, why=why))

    def bring(self, *numbers: int, name: str = "A", kind: str = "contract", size: int = 0) -> None:
        """Bring messages of one name, which carry their numbers."""
        items = []
        for number in numbers:
            self._offset += 1
            payload = {**CONTRACT, "instrument_name": name, "redis_key": name, "open_interest": str(number)}
            if size:
                payload["state"] = "x" * size
            text = json.dumps(payload).encode()
            is_state = kind in ("contract", "spot")
            items.append(Item(f"{kind}:{name}", f"7-{self._offset}", time.time(), text, is_state=is_state))
        assert self._handover is not None
        self._handover.put(items)

    def bring_gap(self, **gap: Any) -> None:
        self._offset += 1
        assert self._handover is not None
        self._handover.put([Item("", f"7-{self._offset}", time.time(), json.dumps(gap).encode(), kind="gap")])


class Served:
    """A running gateway and its source."""

    def __init__(self, gateway: Server, source: ManualSource) -> None:
        self.gateway = gateway
        self.source = source
        self.hub = gateway._hub

    def wait_for_clients(self, count: int) -> None:
        assert wait_until(lambda: len(self.hub.clients) == count)

    def wait_for_wanted(self, *tags: str) -> None:
        assert wait_until(lambda: set(tags) <= set(self.hub.wanted))


@pytest.fixture
def options() -> dict[str, Any]:
    """The gateway's arguments; tests override it."""
    return {}


@pytest.fixture
def served(options: dict[str, Any]) -> Iterator[Served]:
    """A gateway that serves what the test brings."""
    gateway = Gateway("redis://127.0.0.1:1", **options)
    source = ManualSource()
    gateway._source = source
    with gateway:
        yield Served(gateway, source)
