"""The functions of the package itself: each is its method of `StreamManager`, argument for argument."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import finx_sync
from finx_sync import StreamManager, oneshot
from finx_sync.functions.query import HistoryOptions, HistoryQuery
from finx_sync.sandbox import Sandbox

LATEST = "latest"


def arguments(function: Any) -> list[tuple[str, Any, Any, Any]]:
    """Name, kind, default and type of each argument, but for `self` and the one that takes whatever is left."""
    return [
        (one.name, one.kind, one.default, one.annotation)
        for one in inspect.signature(function).parameters.values()
        if one.name != "self" and one.kind is not one.VAR_KEYWORD
    ]


@pytest.mark.parametrize("name", oneshot.__all__)
def test_a_function_takes_what_its_method_takes(name: str) -> None:
    """An argument that the method has would be taken for one of the connection's, or have another default."""
    function, method = getattr(finx_sync, name), getattr(StreamManager, name)
    mine, theirs = arguments(function), arguments(method)
    if name == "call":  # its method takes the fields as keywords, which here say where to connect
        mine = [one for one in mine if one[0] != "params"]
    if name == "option_chain":  # without a stream there are no live ticks: None would mean nothing
        assert [(one[2], one[3]) for one in mine if one[0] == "at"] == [(LATEST, "Moment")]
        mine, theirs = ([one for one in some if one[0] != "at"] for some in (mine, theirs))
    assert mine == theirs
    assert inspect.signature(function).return_annotation == inspect.signature(method).return_annotation
    assert inspect.signature(function).parameters["where"].kind is inspect.Parameter.VAR_KEYWORD


def test_reference_data_by_either_way(sandbox: Sandbox) -> None:
    """`via` would be taken for an option of the connection, and end with a TypeError."""
    where = {"api_key": "sandbox-key", "url": sandbox.url}
    by_rest = finx_sync.get_reference_data("BTC-26AUG22-20000-C", via="rest", **where)
    assert by_rest == finx_sync.get_reference_data("BTC-26AUG22-20000-C", **where)
    with pytest.raises(finx_sync.FinxSyncError, match="via"):
        finx_sync.get_reference_data("BTC-26AUG22-20000-C", via="post", **where)  # type: ignore[arg-type]


@pytest.mark.parametrize("function", [finx_sync.get_tick_history, StreamManager.iter_tick_history])
def test_help_shows_each_option_of_a_history_with_its_default(function: Any) -> None:
    """Whoever asks `help`, or an editor, would see `**options`; or an option would be missing there."""
    shown = inspect.signature(function).parameters
    query = inspect.signature(HistoryQuery).parameters
    options = [name for name, one in query.items() if one.kind is one.KEYWORD_ONLY]
    assert [(name, shown[name].default) for name in options] == [(name, query[name].default) for name in options]
    assert set(options) == set(HistoryOptions.__annotations__)
    assert shown["workers"].annotation == "int"
