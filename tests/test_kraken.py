"""The example venue, as a package that is installed beside finx_sync: its tests, and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "kraken"


@pytest.fixture
def python_path(tmp_path: Path) -> str:
    """Where the package is, with the metadata that an installation leaves."""
    info = tmp_path / "finx_kraken-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: finx-kraken\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[finx_sync.venues]\nkraken = finx_sync_kraken.venue:VENUE\n")
    return os.pathsep.join([str(tmp_path), str(EXAMPLE), str(ROOT)])


def python(python_path: str, *arguments: str) -> str:
    """Run Python where the package is installed; returns what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "PYTHONPATH": python_path},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_own_tests_pass(python_path: str) -> None:
    """The package that teaches how to make a venue would be broken."""
    options = ("-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-c", os.devnull, "-p", "finx_sync.testing.plugin")
    assert " passed" in python(python_path, "-m", "pytest", *options, str(EXAMPLE / "tests"))


def test_the_command_line_knows_it(python_path: str) -> None:
    """A venue of somebody else would be one in a library only."""
    assert "kraken" in python(python_path, "-m", "finx_sync", "venues")
    names = ("BTC/USD", "trade:ETH/USD", "book:BTC/USD")
    options = ("--venue", "kraken", "--environment", "sandbox", "--count", "9")
    assert "BTC/USD" in python(python_path, "-W", "error", "-m", "finx_sync", "stream", *names, *options)


def test_the_package_names_its_entry_point() -> None:
    """An installation would leave the venue unknown."""
    assert 'kraken = "finx_sync_kraken.venue:VENUE"' in (EXAMPLE / "pyproject.toml").read_text()
