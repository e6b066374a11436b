"""Options: they are listed once, checked before any I/O, and shown by `help()`."""

from __future__ import annotations

import dataclasses
import inspect
import math
import pydoc
from typing import Any

import pytest

from finx_sync import Backoff, StreamManager
from finx_sync.compat.bitmex import BitMEXWebsocket
from finx_sync.compat.finx import Streamer, TickPlant
from finx_sync.compat.ftx import FtxWebsocketClient
from finx_sync.errors import ConfigError
from finx_sync.session.options import Options, StreamOptions, takes_options
from finx_sync.venues.bitmex import BitmexStream
from finx_sync.venues.ftx import FtxStream
from finx_sync.venues.ime import ImeStream

WITH_OPTIONS = (
    *(StreamManager, BitmexStream, FtxStream, ImeStream),
    *(TickPlant, Streamer, BitMEXWebsocket, FtxWebsocketClient),
)


def test_the_keywords_are_the_options() -> None:
    """A type checker would refuse an option that works, or pass one that does not."""
    assert set(StreamOptions.__annotations__) == {field.name for field in dataclasses.fields(Options)}


@pytest.mark.parametrize("value", [0, -1, "5", None, True, math.nan, math.inf])
def test_a_wrong_option_names_itself(value: object) -> None:
    """An invalid number would not be noticed until a connection hangs."""
    with pytest.raises(ConfigError, match="connect_timeout"):
        Options(connect_timeout=value)  # type: ignore[arg-type]


WRONG: list[tuple[str, Any, str]] = [
    ("reconnect", 5, r"such as Backoff\(first=1, cap=30\), not 5"),
    ("reconnect", False, "Backoff"),
    ("backfill", "yes", "True or False"),
    ("allow_insecure", "no", "True or False"),
    ("reconnect_on_drift", 1, "True or False"),
    ("queue_size", True, "messages above 0"),
    ("max_size", 1e6, "bytes above 0"),
    ("overflow", "lastest", "one of 'auto'"),
    ("handler_errors", "ignore", "'report', 'raise'"),
    ("ssl_context", {"cert_reqs": 0}, "ssl.create_default_context"),
    ("proxy", 3128, "URL"),
    ("flight_recorder", 3, "a directory, True or False"),
]


@pytest.mark.parametrize(("name", "value", "words"), WRONG)
def test_an_option_of_the_wrong_kind_is_refused_before_the_key_is_asked_for(name: str, value: Any, words: str) -> None:
    """`allow_insecure="no"` would allow it; `reconnect=5` would fail in a thread after the first lost connection."""
    with pytest.raises(ConfigError, match=f"^{name}.*{words}"):
        StreamManager(environment="no such", **{name: value})


@pytest.mark.parametrize("value", [True, "1", None, math.nan, math.inf])
@pytest.mark.parametrize("name", ["first", "cap", "factor", "healthy_after"])
def test_a_pause_that_is_no_number(name: str, value: Any) -> None:
    """The first pause would raise in a thread, or never end."""
    with pytest.raises(ConfigError, match=f"{name} is a number"):
        Backoff(**{name: value})


@pytest.mark.parametrize("kind", WITH_OPTIONS, ids=lambda kind: kind.__name__)
def test_help_shows_every_option_with_its_default(kind: type) -> None:
    """A user would have to read the source to know the options and their defaults."""
    parameters = inspect.signature(kind).parameters
    own = {"ping_interval": 20.0, "ping_timeout": 20.0} if kind is ImeStream else {}
    defaults = {**dataclasses.asdict(Options()), "reconnect": Backoff(), **own}
    assert {name: parameters[name].default for name in defaults} == defaults
    assert not [one for one in parameters.values() if one.kind is one.VAR_KEYWORD]
    assert "reconnect: 'Backoff' = Backoff(first=1.0" in pydoc.plain(pydoc.render_doc(kind))


def test_the_defaults_that_are_shown_are_those_that_hold() -> None:
    """`help()` would show IME's ping interval while the usual one is used."""

    class Venue:
        """A stream with its own defaults."""

        @takes_options(ping_interval=20.0)
        def __init__(self, **options: Any) -> None:
            self.options = options

    assert inspect.signature(Venue).parameters["ping_interval"].default == 20.0
    assert Venue().options == {"ping_interval": 20.0}
    assert Venue(ping_interval=7, backfill=True).options == {"ping_interval": 7, "backfill": True}
