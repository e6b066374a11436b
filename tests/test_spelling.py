"""Misspelt names: refused by whatever is made with them, before anything else is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import finx_sync
from finx_sync import Backoff, ConfigError, Grid, MissingKeyError, StreamManager
from finx_sync.compat.bitmex import BitMEXWebsocket
from finx_sync.compat.finx import Streamer, TickPlant
from finx_sync.compat.ftx import FtxWebsocketClient
from finx_sync.spelling import did_you_mean
from finx_sync.venues.bitmex import BitmexStream
from finx_sync.venues.ftx import FtxStream
from finx_sync.venues.ime import ImeStream

pytestmark = pytest.mark.usefixtures("without_settings")


@pytest.fixture
def without_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """No key anywhere: whatever asks for one before it looks at names raises MissingKeyError."""
    monkeypatch.chdir(tmp_path)
    for name in ("FINX_API_KEY", "FINX_ENVIRONMENT", "FINX_URL", "FINX_ENV_FILE"):
        monkeypatch.delenv(name, raising=False)


MISSPELT: dict[str, tuple[Callable[..., Any], str, str]] = {
    "StreamManager": (StreamManager, "ping_intervall", "ping_interval"),
    "StreamManager's own": (StreamManager, "enviroment", "environment"),
    "BitmexStream": (lambda **wrong: BitmexStream("no endpoint", **wrong), "symbol", "symbols"),
    "FtxStream": (lambda **wrong: FtxStream("half", **wrong), "queue_sise", "queue_size"),
    "ImeStream": (lambda **wrong: ImeStream(url="no URL", **wrong), "ping_timout", "ping_timeout"),
    "Grid": (Grid, "enviroment", "environment"),
    "Backoff": (Backoff, "frist", "first"),
    "TickPlant": (TickPlant, "time_out", "timeout"),
    "Streamer": (lambda **wrong: Streamer({}, **wrong), "apikey", "api_key"),
    "BitMEXWebsocket": (lambda **wrong: BitMEXWebsocket("", "", **wrong), "subscription", "subscriptions"),
    "FtxWebsocketClient": (FtxWebsocketClient, "sub_account", "subaccount"),
    "a function without a stream": (lambda **wrong: finx_sync.get_tick_snap("BTC", **wrong), "ulr", "url"),
}


@pytest.mark.parametrize(("make", "wrong", "right"), MISSPELT.values(), ids=MISSPELT)
def test_a_misspelt_option_is_refused_first(make: Callable[..., Any], wrong: str, right: str) -> None:
    """A user would be asked for a key, or get a stream without the option, instead of being shown the right name."""
    with pytest.raises(ConfigError, match=f"{wrong!r}; did you mean {right!r}"):
        make(**{wrong: 5})


@pytest.mark.parametrize(
    ("wrong", "right"), [("prodction", "production"), ("Sandbox", "sandbox"), ("deribit_test", "deribit-test")]
)
def test_a_misspelt_environment_is_refused_before_the_key_is_missing(wrong: str, right: str) -> None:
    """A user would look for a key that is there, in another environment."""
    with pytest.raises(ConfigError, match=f"{wrong!r}; did you mean {right!r}") as caught:
        StreamManager(environment=wrong)
    assert not isinstance(caught.value, MissingKeyError)


def test_a_misspelt_environment_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typo in a deployment's settings would send the program to production."""
    monkeypatch.setenv("FINX_ENVIRONMENT", "betta")
    with pytest.raises(ConfigError, match="did you mean 'beta'"):
        StreamManager()


def test_a_name_that_resembles_none_gets_all_of_them() -> None:
    """A user who guesses would learn nothing from a bare refusal."""
    assert did_you_mean("xyz", ["one", "two"]) == "; choose one of 'one', 'two'"
    with pytest.raises(ConfigError, match="choose one of 'production', 'beta', 'sandbox'"):
        StreamManager(environment=5)  # type: ignore[arg-type]


def test_a_subclass_is_named_as_it_is_called() -> None:
    """A user would be told of a class that he does not call."""

    class Mine(StreamManager):
        """With a constructor of its own."""

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)

    with pytest.raises(ConfigError, match="Mine has no option 'keyy'"):
        Mine(keyy=5)
