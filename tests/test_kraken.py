"""The venue in examples/kraken, as a person has it who installs that package."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.test_new_venue import ROOT, install, python

README = (ROOT / "examples" / "kraken" / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy, with the metadata that an installation leaves."""
    place = tmp_path / "kraken"
    shutil.copytree(ROOT / "examples" / "kraken", place, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    install(place)
    return place


def test_its_tests_pass(package: Path) -> None:
    """The example of a whole venue would be one that does not work."""
    printed = python(
        package, "-m", "pytest", "-q", "-W", "error", "-p", "no:randomly", "-p", "finx_sync.testing.plugin", "tests"
    )
    assert re.search(r"^\d+ passed", printed, re.M), printed


@pytest.mark.parametrize("names", ["BTC/USD", "trade:BTC/USD book:ETH/USD"])
def test_the_command_line_streams_it(package: Path, names: str) -> None:
    """Whoever installs the package would need a program of his own to see a price."""
    arguments = ["stream", *names.split(), "--venue", "kraken", "--environment", "sandbox", "--count", "3"]
    printed = python(package, "-W", "error", "-m", "finx_sync", *arguments)
    assert len(printed.splitlines()) == 3
    assert "/USD" in printed


def test_the_doctor_finds_it_well(package: Path) -> None:
    """A person whose connection fails would be told to ask somebody else."""
    assert "BTC/USD" in python(package, "-m", "finx_sync", "doctor", "--venue", "kraken", "--environment", "sandbox")


def test_the_readme_s_program_runs(package: Path) -> None:
    """Whoever copies it would begin with a riddle."""
    (program,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert "KrakenOrderBook(" in python(package, "-W", "error", "-c", program)
