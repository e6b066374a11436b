"""Interpreters with other people's clients, each in a virtual environment of its own, built once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

INSTALL_TIMEOUT = 300
CACHE = Path(tempfile.gettempdir())
"""Where they are kept from one run to the next: looked up now, since each test has a temporary directory of its own."""


def foreign_python(client: str, *packages: list[str]) -> str:
    """Return an interpreter that has a client; builds it where there is none yet.

    Args:
        client: its name and version, for the directory and for people.
        packages: arguments of `pip install`, one call for each list.
    """
    cache = CACHE / f"finx-sync-{client}-{sys.version_info[0]}.{sys.version_info[1]}"
    python = Path("Scripts/python.exe") if os.name == "nt" else Path("bin/python")
    if (cache / "complete").exists():
        return str(cache / python)
    building = Path(tempfile.mkdtemp(prefix="finx-sync-foreign-", dir=CACHE))
    try:
        _run(sys.executable, "-m", "venv", str(building))
        for names in packages:
            _run(str(building / python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *names)
        (building / "complete").touch()
        building.rename(cache)
    except (subprocess.SubprocessError, OSError) as error:
        shutil.rmtree(building, ignore_errors=True)
        if (cache / "complete").exists():
            # Another run was faster.
            return str(cache / python)
        reason = getattr(error, "stderr", "") or str(error)
        pytest.skip(f"{client} cannot be installed here: {reason.strip()[-300:]}")
    return str(cache / python)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_TIMEOUT)
