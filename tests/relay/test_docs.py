"""What docs/relay.md shows, runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from finx_sync.cli.main import _parser
from tests.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "relay.md").read_text(encoding="utf-8")


def test_the_program(redis_server: RedisServer) -> None:
    """The first thing that a user copies would fail."""
    program = "".join(re.findall(r"```python\n(.*?)```", PAGE, re.S)).replace(
        "redis://127.0.0.1:6379", redis_server.url
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"RelayStats\(received=\d\d+, written=\d\d+, dropped=0", done.stdout)


def test_the_options() -> None:
    """A documented option would not exist."""
    commands = re.findall(r"^\$ finx-sync (.*)$", PAGE, re.M)
    assert commands
    for command in commands:
        _parser().parse_args(command.split())
    for option in re.findall(r"`(--[a-z-]+)", PAGE):
        value = {"--partitions": ["2"], "--overflow": ["drop"], "--on-demand": [], "--check": []}.get(option, ["1"])
        _parser().parse_args(["relay", "X", "--to", "redis://host", option, *value])
