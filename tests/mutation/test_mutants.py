"""The mutants still fit the source; ``make mutants`` runs them."""

from __future__ import annotations

import pathlib

import pytest

from tests.mutation.mutants import MUTANTS, Mutant

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_changes_exactly_one_place_and_names_its_tests(mutant: Mutant) -> None:
    """After a change of the source a mutant would change nothing, and be called unnoticed, or nothing at all."""
    assert (ROOT / mutant.path).read_text(encoding="utf-8").count(mutant.old) == 1
    file, _, test = mutant.tests[0].partition("::")
    assert f"def {test}" in (ROOT / file).read_text(encoding="utf-8")
