"""The types that the library shows to type checkers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

USES = Path(__file__).parent / "uses.py"
ROOT = Path(__file__).parents[2]
WRONG = {number for number, line in enumerate(USES.read_text().splitlines(), 1) if "  # wrong: " in line}


def mypy(_: Path) -> set[int]:
    """The lines that mypy complains of."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(USES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, cwd=ROOT)
    found = re.findall(r"^(.*):(\d+): error: ", done.stdout, re.MULTILINE)
    assert {ROOT / file for file, _ in found} == {USES}, done.stdout + done.stderr
    return {int(line) for _, line in found}


def pyright(folder: Path) -> set[int]:
    """The lines that pyright complains of; basedpyright is pyright with its own copy of Node."""
    if find_spec("basedpyright") is None:
        pytest.skip('basedpyright is not installed: pip install "finx-sync[dev]"')
    settings = {"include": [str(USES)], "extraPaths": [str(ROOT)], "typeCheckingMode": "standard"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--level=error", f"--project={folder}"]
    command.append(f"--pythonpath={sys.executable}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, cwd=folder)
    found = json.loads(done.stdout)["generalDiagnostics"]
    assert {Path(one["file"]) for one in found} == {USES}, done.stdout + done.stderr
    return {one["range"]["start"]["line"] + 1 for one in found}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_type_checkers_understand_every_stream(checker: Callable[[Path], set[int]], tmp_path: Path) -> None:
    """An editor would offer nothing after `latest(...)`, and a handler of another type would pass the check."""
    complaints = checker(tmp_path)
    assert (sorted(complaints - WRONG), sorted(WRONG - complaints)) == ([], [])
