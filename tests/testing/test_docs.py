"""What docs/testing.md and its example show, runs."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pytest

from tests.testing.test_plugin import run_pytest

ROOT = pathlib.Path(__file__).parents[2]
SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "testing.md").read_text(encoding="utf-8"), re.S)


@pytest.mark.parametrize("snippet", [one for one in SNIPPETS if "def test_" in one], ids=range(3))
def test_tests_in_the_document_pass(tmp_path: pathlib.Path, snippet: str) -> None:
    """The first thing that a bot's author copies would fail."""
    done = run_pytest(tmp_path, snippet)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("snippet", [one for one in SNIPPETS if "def test_" not in one], ids=range(2))
def test_programs_in_the_document_run(snippet: str) -> None:
    """The proxy's documentation would be a riddle."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", snippet], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all("connection lost" in line for line in done.stderr.splitlines()), done.stderr  # which is what they show
    assert done.stdout


def test_the_example_passes(tmp_path: pathlib.Path) -> None:
    """The example of a bot's test would not be one."""
    done = run_pytest(tmp_path, (ROOT / "examples" / "test_a_bot.py").read_text(encoding="utf-8"))
    assert done.returncode == 0, done.stdout + done.stderr
