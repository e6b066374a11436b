"""An echo server by other people, and a proxy in front of it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest
import trustme

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


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Issues certificates."""
    return trustme.CA()


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """A server's context for 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    """A client's context that trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context
