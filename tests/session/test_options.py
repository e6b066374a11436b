"""Options: one list of them, checked before any I/O."""

from __future__ import annotations

import dataclasses

import pytest

from finx_sync.errors import ConfigError
from finx_sync.session.options import Options, StreamOptions


def test_the_keywords_are_the_options() -> None:
    """A type checker would refuse an option that works, or pass one that does not."""
    assert set(StreamOptions.__annotations__) == {field.name for field in dataclasses.fields(Options)}


@pytest.mark.parametrize("value", [0, -1, "5", None])
def test_a_wrong_option_names_itself(value: object) -> None:
    """A wrong number would be noticed only when a connection hangs."""
    with pytest.raises(ConfigError, match="connect_timeout"):
        Options(connect_timeout=value)  # type: ignore[arg-type]


def test_an_unknown_option_is_a_type_error() -> None:
    """A misspelt option would be ignored in silence."""
    with pytest.raises(TypeError, match="ping_intervall"):
        Options(ping_intervall=5)  # type: ignore[call-arg]
