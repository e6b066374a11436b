"""Shows that the tests notice what they are there for: ``python -m tests.mutation.run [NAME ...]``.

Each mutant is a copy of the project with one small change, in which the tests that the mutant names must fail. Without
the change they must pass, so that a test that always fails proves nothing.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from tests.mutation.mutants import MUTANTS, Mutant

ROOT = pathlib.Path(__file__).parents[2]
COPIED = ("finx_sync", "tests", "pyproject.toml", "SECURITY.md", "README.md")
FAILED = 1
"""pytest's exit code when tests have failed; others mean that they could not run."""


def passes(project: pathlib.Path, tests: tuple[str, ...]) -> bool:
    """Whether the tests pass in a copy.

    Raises:
        RuntimeError: they could not be run.
    """
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, FAILED):
        raise RuntimeError(f"pytest could not run {tests}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def notices(mutant: Mutant, project: pathlib.Path) -> str:
    """What became of a mutant: "noticed", or why not. The copy is as before afterwards."""
    path = project / mutant.path
    source = path.read_text(encoding="utf-8")
    if source.count(mutant.old) != 1:
        return "its text does not stand there exactly once"
    if not passes(project, mutant.tests):
        return "its tests fail without it"
    path.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        return "nobody noticed it" if passes(project, mutant.tests) else "noticed"
    finally:
        path.write_text(source, encoding="utf-8")


def main(names: list[str]) -> int:
    """Run the mutants of these names, or all; returns how many went unnoticed."""
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    unnoticed = 0
    with tempfile.TemporaryDirectory() as directory:
        project = pathlib.Path(directory)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, project / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, project / name)
        for mutant in chosen:
            begin = time.monotonic()
            fate = notices(mutant, project)
            unnoticed += fate != "noticed"
            print(f"{mutant.name:<50} {fate} ({time.monotonic() - begin:.0f} s)", flush=True)
    print(f"{len(chosen) - unnoticed} of {len(chosen)} noticed")
    return unnoticed


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
