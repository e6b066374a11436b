"""The venue of docs/new-venue.md, as a person makes it who copies the page: a package of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "new-venue.md").read_text(encoding="utf-8")
FILES: dict[str, str] = dict(re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", PAGE, re.S))
OPTIONAL = ("finx_acme/state.py", "tests/test_acme.py")
NEW_STATE = re.search(r"```\n(    def new_state.*?)```", PAGE, re.S)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The page's files, with the metadata that an installation leaves."""
    for path, text in FILES.items():
        place = tmp_path / path
        place.parent.mkdir(exist_ok=True)
        place.write_text(text, encoding="utf-8")
    install(tmp_path)
    return tmp_path


def install(package: Path) -> None:
    """Write the metadata that an installation leaves, as a package's pyproject.toml has it."""
    project = (package / "pyproject.toml").read_text(encoding="utf-8")
    name, group, entry = re.search(  # type: ignore[union-attr]
        r'name = "(\S+)".*entry-points\."(\S+)"\]\n(.*?)\n', project, re.S
    ).groups()
    info = package / f"{name.replace('-', '_')}-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{entry.replace(chr(34), '')}\n")


def python(package: Path, *arguments: str) -> str:
    """Run Python where the package is installed; returns what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=package,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(package), str(ROOT)])},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_needs_few_lines() -> None:
    """Nobody would try."""
    needed = [text for path, text in FILES.items() if path not in OPTIONAL]
    assert sum(bool(line.strip()) for text in needed for line in text.splitlines()) < 150


def test_its_tests_pass(package: Path) -> None:
    """Whoever copies the page would begin with a riddle."""
    assert "9 passed" in python(package, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "finx_sync.testing.plugin")


@pytest.mark.parametrize("arguments", re.findall(r"^\$ finx-sync ((?!record|replay).*)$", PAGE, re.M))
def test_its_commands_run(package: Path, arguments: str) -> None:
    """The command line, the doctor or the sandbox would not know a venue of somebody else."""
    printed = python(package, "-W", "error", "-m", "finx_sync", *arguments.split())
    assert "BTC-USD" in printed


def test_it_is_recorded_and_replayed(package: Path) -> None:
    """A recording of such a venue could not be read again."""
    record, replay = re.findall(r"^\$ finx-sync ((?:record|replay) .*)$", PAGE, re.M)
    python(package, "-m", "finx_sync", *record.split())
    assert python(package, "-m", "finx_sync", *replay.split()).count("BTC-USD") >= 100


def test_its_state_works(package: Path) -> None:
    """The page's state would be one that nobody has tried."""
    assert NEW_STATE is not None
    codec = package / "finx_acme" / "codec.py"
    text = codec.read_text().replace("\n\ndef _read", f"{NEW_STATE.group(1)}\n\ndef _read", 1)
    codec.write_text(text.replace("import json\n", "import json\n\nfrom finx_acme.state import AcmeState\n", 1))
    (package / "tests" / "test_state.py").write_text("""
from finx_acme.codec import AcmeCodec
from finx_acme.messages import AcmeTicker

def test_old_news():
    state = AcmeCodec().new_state()
    outcomes = [state.take(AcmeTicker(symbol="A", time=time), None, 0.0, ()) for time in (1, 2, 2, 3)]
    assert [len(outcome.messages) for outcome in outcomes] == [1, 1, 0, 1]
""")
    assert "10 passed" in python(package, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "finx_sync.testing.plugin")
