"""The venues' packages, which fetch their streams when they are asked for them."""

from __future__ import annotations

import importlib

import pytest


@pytest.mark.parametrize(
    ("package", "stream"), [("bitmex", "BitmexStream"), ("ftx", "FtxStream"), ("ime", "ImeStream")]
)
def test_a_stream_is_fetched_and_a_misspelt_name_is_told(package: str, stream: str) -> None:
    """A typing error would show as something else, far from its place."""
    module = importlib.import_module(f"finx_sync.venues.{package}")
    assert getattr(module, stream).__name__ == stream
    with pytest.raises(AttributeError, match="has no attribute 'Streem'"):
        _ = module.Streem
