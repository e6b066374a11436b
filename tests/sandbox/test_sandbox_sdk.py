"""The old SDK, finx-io 0.1.31, against the sandbox, unchanged but for its endpoint."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from finx_sync.sandbox import Sandbox
from tests.foreign import INSTALL_TIMEOUT, foreign_python
from tests.sandbox.sandbox_client import KEY

# Read now: during a test the developer's own FINX_ variables are kept out.
SDK_PYTHON = os.environ.get("FINX_SDK_PYTHON")
# Newer releases of these break the SDK; its own pins have no wheels for today's Pythons.
PACKAGES = [
    ["--no-deps", "finx-io==0.1.31"],
    ["--only-binary", "numpy,pandas,aiohttp", "numpy<2", "pandas<2.2", "aiohttp"],
    ["websockets==10.3", "requests", "nest-asyncio", "python-dateutil"],
]


def sdk_python() -> str:
    """Return an interpreter with the SDK: the environment's, or one of the tests' own."""
    return SDK_PYTHON or foreign_python("sdk-0.1.31", *PACKAGES)


@pytest.mark.timeout(INSTALL_TIMEOUT * 3)
def test_the_old_sdk_works_against_the_sandbox() -> None:
    """The sandbox would speak a protocol of its own, and so would a client that was only tried against it."""
    script = Path(__file__).with_name("sdk_session.py")
    with Sandbox(spot_interval=0.02) as sandbox:
        ran = subprocess.run(
            [sdk_python(), str(script), sandbox.url, sandbox.http_url, KEY],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        functions = [message.get("functionName", "message") for _, message in sandbox.requests]
    seen: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    assert functions[:2] == ["authenticate", "tickSnap"]
    assert "BTC-26AUG22-20000-C" in seen["contracts"]
    assert seen["contracts"] == seen["rest_contracts"]
    assert sorted(map(int, seen["history"])) == list(range(1000))
    assert seen["reference"]["securityId"] == "BTC-26AUG22-20000-C"
    assert seen["snap"]["pair"] == "BTC:USDC"
    assert seen["snap_then"]["date"] == "2022-06-15"
    assert seen["slice_rows"] > 50
    assert seen["slice_columns"][0] == "redis_key"
    assert len(seen["slice_columns"]) == 31
    assert seen["time_slice_rows"] > 50
    assert "BTC:USDC" in seen["pairs"]
    assert seen["rest_reference"]["kind"] == "perpetual"
    assert seen["quote"]["pair"] == "ETH:USD"
    assert [frame["resultData"]["pair"] for frame in seen["stream"]] == ["BTC:USDC"] * 5
