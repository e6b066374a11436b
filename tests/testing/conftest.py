"""An echo server by other people, and a proxy in front of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from finx_sync.testing import FaultProxy
from tests.servers import Server, echo


@pytest.fixture
def server() -> Iterator[Server]:
    """The `websockets` project's server; sends back whatever comes."""
    with Server(echo) as one:
        yield one


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    """In front of `server`."""
    with FaultProxy(server.url) as one:
        yield one
