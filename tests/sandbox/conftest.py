"""Fixtures for the sandbox's own tests: a running sandbox and clients of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from finx_sync.sandbox import Sandbox
from sandbox_client import KEY, Client

@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a sandbox thread behind."""
    yield
    assert [thread.name for thread in threading.enumerate() if "sandbox" in thread.name] == []


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A running sandbox that streams every 10 ms."""
    with Sandbox(contract_interval=0.01, spot_interval=0.01) as running:
        yield running


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
