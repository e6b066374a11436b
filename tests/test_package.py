"""What the package promises as a whole: its names, its weight, its settings."""

from __future__ import annotations

import builtins
import pathlib
import re
import subprocess
import sys
import textwrap

import pytest

import finx_sync
from finx_sync import ConfigError, errors
from finx_sync.config import read_account
from finx_sync.venues.bitmex import BitmexStream
from finx_sync.venues.ftx import FtxStream
from finx_sync.venues.ime import ImeStream

OWN = [
    "Backoff", "ContractTick", "Drift", "Gap", "Greeks", "Grid", "Instrument", "Interval", "Lag", "Relay", "SpotTick",
    "Stale", "State", "StateChange", "Stats", "StreamManager", "Tick", "TickHistory", "WebSocketApp",
    "authenticate", "calculate_greeks", "call",
    "get_five_minute_matrix", "get_options_timeslice", "get_options_timeslice_series", "get_pair_quote",
    "get_pair_quote_series", "get_reference_data", "get_tick_history", "get_tick_snap", "iter_tick_history",
    "list_contracts", "list_pairs", "option_chain", "parse_instrument",
]  # fmt: skip
"""Public names beside the errors."""
MODULES = ["analytics", "errors", "messages", "moments", "notices", "pricing", "ticks", "venues"]
"""The public submodules that come with the package; others are imported by name."""


def test_public_names() -> None:
    """A release would drop a name that programs import."""
    assert set(finx_sync.__all__) == {*OWN, *errors.__all__}
    assert all(hasattr(finx_sync, name) for name in finx_sync.__all__)


def test_what_dir_shows() -> None:
    """A newcomer who presses Tab would find the library's internals beside what is meant to be used."""
    program = "import finx_sync; print(*(name for name in dir(finx_sync) if not name.startswith('__')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert set(done.stdout.split()) == {*OWN, *errors.__all__, *MODULES}


def _documented_errors(documentation: str | None) -> set[str]:
    """The names before the colons of "Raises:" sections."""
    found: set[str] = set()
    for section in re.findall(r"^\s*Raises:\n((?:\s+.*\n?)+)", documentation or "", re.MULTILINE):
        for names in re.findall(r"^\s*((?:\w+Error|\w+Interrupt)(?:, \w+Error)*):", section, re.MULTILINE):
            found.update(names.split(", "))
    return found


def test_every_documented_error_can_be_imported() -> None:
    """A user who wants to catch what a docstring names would search the package for it."""
    things = [getattr(finx_sync, name) for name in OWN] + [BitmexStream, FtxStream, ImeStream]
    bases = [base for thing in things if isinstance(thing, type) for base in thing.__mro__]
    parts = [*things, *(part for base in bases for part in vars(base).values())]
    documented = set().union(*(_documented_errors(getattr(part, "__doc__", None)) for part in parts))
    assert len(documented) > 15
    assert not {name for name in documented if not hasattr(finx_sync, name) and not hasattr(builtins, name)}


def test_one_root_of_errors() -> None:
    """`except FinxSyncError` would miss an error, or the documented tree would be wrong."""
    assert errors.__doc__ is not None
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), errors.FinxSyncError)
        assert f" {name}" in errors.__doc__ or name == "FinxSyncError"


def test_importing_is_light() -> None:
    """Every script would pay for parts that it does not use."""
    heavy = (
        "aiohttp",
        "asyncio",
        "numpy",
        "scipy",
        "pandas",
        "matplotlib",
        "rich",
        "redis",
        "finx_sync.sandbox",
        "finx_sync.cli",
    )
    program = f"import sys, finx_sync; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"


def test_sandbox_without_its_extra_names_the_remedy() -> None:
    """A newcomer would see a bare ImportError."""
    program = """
        import sys
        sys.modules["aiohttp"] = None
        from finx_sync import StreamManager
        from finx_sync.errors import MissingExtraError
        try:
            StreamManager(environment="sandbox").start()
        except MissingExtraError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30, check=False
    )
    assert 'pip install "finx-sync[sandbox]"' in done.stdout, done.stderr


def test_settings_in_order_of_precedence(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """A key in .env would win over the argument, or not be found at all."""
    (tmp_path / ".env").write_text("FINX_API_KEY=from-file\nFINX_ENVIRONMENT=beta\n")
    account = read_account()
    assert (account.current_key(), account.base_url) == ("from-file", "wss://beta.finx.io")
    monkeypatch.setenv("FINX_API_KEY", "from-environment")
    monkeypatch.setenv("FINX_URL", "ws://127.0.0.1:9/")
    account = read_account()
    assert (account.current_key(), account.base_url) == ("from-environment", "ws://127.0.0.1:9")
    account = read_account("from-argument", "production")
    assert (account.current_key(), account.base_url) == ("from-argument", "wss://ws.finx.io")
    assert read_account(environment="sandbox").current_key() == "sandbox-key"
    assert "from" not in repr(account)


def test_a_key_function_must_return_a_key() -> None:
    """A function that returns None would send "None" as the key."""
    with pytest.raises(ConfigError, match="returned no key"):
        read_account(lambda: None, "beta").current_key()  # type: ignore[arg-type, return-value]
