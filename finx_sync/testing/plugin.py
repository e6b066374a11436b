"""Fixtures for pytest, which finds them automatically if finx-sync is installed (entry point ``pytest11``).

- `finx_sandbox`: a running sandbox for this test alone.
- `fault_proxy`: a `FaultProxy` in front of it, seeded by ``--finx-seed`` (default 0).
- `finx_stream`: a `StreamManager` that is connected through the proxy, with timeouts short enough for tests.
- `finx_environment`: sets ``FINX_URL`` and ``FINX_API_KEY``, so that a bot's own ``StreamManager()`` connects through
  the proxy too.

To change them, override `finx_sandbox_options` or `finx_stream_options` in a module or ``conftest.py``.

pytest imports this module in every run, whether or not a test uses it, so it imports little before a fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from finx_sync import StreamManager
    from finx_sync.sandbox import Sandbox
    from finx_sync.testing.proxy import FaultProxy

__all__ = [
    "fault_proxy",
    "finx_environment",
    "finx_sandbox",
    "finx_sandbox_options",
    "finx_stream",
    "finx_stream_options",
]

KEY: Final = "sandbox-key"
CONTRACT: Final = "BTC-26AUG22-20000-C"
PAIR: Final = "BTC:USDC"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--finx-seed``."""
    group = parser.getgroup("finx-sync")
    group.addoption(
        "--finx-seed", type=int, default=0, metavar="N", help="seed of the fault_proxy fixture, to repeat a run"
    )


@pytest.fixture
def finx_sandbox_options() -> dict[str, Any]:
    """Arguments of `finx_sandbox`; override this fixture to change them. By default a message comes every 10 ms."""
    return {"contract_interval": 0.01, "spot_interval": 0.01}


@pytest.fixture
def finx_sandbox(finx_sandbox_options: dict[str, Any]) -> Iterator[Sandbox]:
    """A running `finx_sync.sandbox.Sandbox`; needs the extra ``sandbox``."""
    from finx_sync.sandbox import Sandbox

    with Sandbox(**finx_sandbox_options) as sandbox:
        yield sandbox


@pytest.fixture
def fault_proxy(finx_sandbox: Sandbox, request: pytest.FixtureRequest) -> Iterator[FaultProxy]:
    """A `finx_sync.testing.FaultProxy` in front of the sandbox; pass its `url` to the program under test."""
    from finx_sync.testing.proxy import FaultProxy

    with FaultProxy(finx_sandbox.url, seed=request.config.getoption("--finx-seed")) as proxy:
        yield proxy


@pytest.fixture
def finx_stream_options() -> dict[str, Any]:
    """Arguments of `finx_stream`; override this fixture to change them. By default it notices a dead peer in 1.5 s."""
    from finx_sync.session.backoff import Backoff

    return {
        "ping_interval": 1.0,
        "ping_timeout": 0.5,
        "connect_timeout": 2.0,
        "reconnect": Backoff(first=0.05, cap=0.5),
    }


@pytest.fixture
def finx_stream(fault_proxy: FaultProxy, finx_stream_options: dict[str, Any]) -> Iterator[StreamManager]:
    """A connected `finx_sync.StreamManager`, subscribed to one contract and one pair, through `fault_proxy`."""
    from finx_sync import StreamManager

    stream = StreamManager(KEY, url=fault_proxy.url, **finx_stream_options)
    stream.subscribe_contract(CONTRACT)
    stream.subscribe_spot(PAIR)
    with stream:
        yield stream


@pytest.fixture
def finx_environment(fault_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a ``StreamManager()`` without arguments connect through `fault_proxy`; returns the proxy's URL."""
    monkeypatch.delenv("FINX_ENVIRONMENT", raising=False)
    monkeypatch.setenv("FINX_API_KEY", KEY)
    monkeypatch.setenv("FINX_URL", fault_proxy.url)
    return fault_proxy.url
