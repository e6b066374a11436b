"""Captures and vectors that lie beside the project; tests that need them are skipped where they are not there."""

from __future__ import annotations

from pathlib import Path

import pytest


def material(name: str) -> Path:
    """A file of the material, by its path in it."""
    for folder in Path(__file__).resolve().parents:
        if (path := folder / "shared" / name).exists():
            return path
    pytest.skip(f"{name} is not there")
