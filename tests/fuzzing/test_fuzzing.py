"""The fuzzing run itself: that it builds, runs, and finds nothing in a second."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.fuzzing import run

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.skipif(
    shutil.which(run.COMPILER) is None or not os.path.isabs(run.runtime(run.RUNTIMES[0])),
    reason="needs a C compiler with the sanitizers",
)
def test_a_second_of_fuzzing_finds_nothing() -> None:
    """`make fuzz` would have rotted, or the part in C would touch what is not its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzzing.run", "1", "1"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "the same as in Python" in done.stdout
