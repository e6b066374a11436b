"""Clients of the running sandbox."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from finx_sync.sandbox import Sandbox
from tests.sandbox.sandbox_client import KEY, Client


@pytest.fixture
def connect(sandbox: Sandbox) -> Iterator[Callable[..., Client]]:
    """Connect to a path of the sandbox; closed after the test."""
    clients: list[Client] = []

    def open_client(path: str = f"/streaming/{KEY}", **options: Any) -> Client:
        clients.append(Client(sandbox.url + quote(path, safe="/?&=:%"), **options))
        return clients[-1]

    yield open_client
    for client in clients:
        client.close()
