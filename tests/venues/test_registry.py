"""The registry of venues, with packages installed as a user's are: as distributions on the path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from finx_sync.errors import ConfigError
from finx_sync.sandbox import Sandbox
from finx_sync.stream import Stream
from finx_sync.venues import registry

WORKING = """
from finx_sync.venues.bitmex.venue import VENUE as BITMEX
from finx_sync.venues.registry import Venue

VENUE = Venue(
    name="another", example="XBTUSD", environments={"sandbox": None}, stream=BITMEX.stream,
    subscribe=BITMEX.subscribe, listen=BITMEX.listen,
)
"""


def package(folder: Path, name: str, code: str, venue: str) -> None:
    """A distribution with a venue, as pip leaves it."""
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[finx_sync.venues]\n{venue} = {module}:VENUE\n")


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with such packages installed."""
    paths = os.pathsep.join([str(folder), str(Path(__file__).parents[2])])
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )


def test_every_venue_of_ours_is_installed_like_any_other() -> None:
    """A venue would work from this repository, and be missing for whoever installs the package."""
    assert registry.installed() == ["bitmex", "deribit", "finx", "ftx", "ime"]
    for name in registry.installed():
        venue = registry.find(name)
        assert (venue.name, venue.sandbox is None) == (name, False)


def test_every_venue_opens_in_the_sandbox() -> None:
    """The command line, the doctor or a replay could not make the stream of some venue."""
    for name in registry.installed():
        venue = registry.find(name)
        for environment in ("sandbox", f"{name}-sandbox"):
            stream = venue.open(environment=environment, flight_recorder=False)
            assert isinstance(stream, Stream)
            assert stream._codec.venue.lower() == name, "a recording names its venue so"
            venue.subscribe(stream, venue.example.split())
            venue.listen(stream, print)
            with pytest.raises(ConfigError, match="sandbox"):
                venue.open(environment="sandbax", api_key="sandbox-key")


def test_an_unknown_venue_is_refused_with_the_nearest_and_all() -> None:
    """Whoever misspells a venue would have to search the documents for its name."""
    with pytest.raises(ConfigError, match=r"'bitmax'; did you mean 'bitmex'\?; choose one of bitmex, deribit, finx"):
        registry.find("bitmax")
    with pytest.raises(ConfigError, match="no venue 'x'; choose one of bitmex"):
        registry.find("x")
    with pytest.raises(ConfigError, match=r"'deribittest'; did you mean 'deribit-test'\?"):
        registry.service_at("deribittest")
    with pytest.raises(ConfigError, match="cannot connect to bitmex"):
        registry.service_at("bitmex-test")


def test_the_key_that_is_given_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--api-key` would be ignored, or a stream would go without the credentials of its environment variables."""
    monkeypatch.setenv("BITMEX_API_KEY", "some-key")
    monkeypatch.setenv("BITMEX_API_SECRET", "some-secret")
    venue = registry.find("bitmex")
    keys = [venue.open(url="ws://127.0.0.1:1", api_key=given)._account.key.key for given in (None, "given-key")]
    assert keys == ["some-key", "given-key"]
    stream = venue.open(environment="sandbox", url="ws://127.0.0.1:1")
    assert stream._account.key.key == "sandbox-key", "a real key has no business in the sandbox"


def test_importing_finx_sync_looks_for_no_venue() -> None:
    """Every script would pay for reading the metadata of all installed packages."""
    program = """
import sys, importlib.metadata as metadata
def refuse(*args, **options): raise AssertionError("entry points were read")
metadata.entry_points = refuse
import finx_sync
stream = finx_sync.StreamManager(environment="sandbox")
print([name for name in sys.modules if name.startswith("finx_sync.venues.") and name.split(".")[2] not in
       ("base", "registry", "finx")])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_package_of_somebody_else_brings_a_venue(tmp_path: Path) -> None:
    """A venue would have to be part of finx_sync to be found."""
    package(tmp_path, "another-venue", WORKING, "another")
    done = python(tmp_path, "-m", "finx_sync", "venues")
    venues = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"venue": "another", "environments": "sandbox", "names": "XBTUSD"} in venues, done.stderr
    assert len(venues) == 6


def test_a_package_that_cannot_be_imported_is_named_and_disturbs_no_other(tmp_path: Path) -> None:
    """One broken package would break every command, or nobody would know which one it is."""
    package(tmp_path, "broken-venue", "import no_such_module", "broken")
    package(tmp_path, "odd-venue", "VENUE = 5", "odd")
    done = python(tmp_path, "-m", "finx_sync", "venues")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 5)
    assert "broken-venue" in done.stderr
    assert "no_such_module" in done.stderr
    assert "odd-venue" in done.stderr
    done = python(tmp_path, "-m", "finx_sync", "stream", "x", "--venue", "broken")
    assert done.returncode == 2
    assert "comes with the package broken-venue: update it, or uninstall it" in done.stderr
    done = python(tmp_path, "-m", "finx_sync", "stream", "BTC:USDC", "--environment", "sandbox", "--count", "1")
    assert done.returncode == 0, done.stderr
    assert "the sandbox starts without a venue" in done.stderr


def test_two_packages_with_one_venue_are_both_named(tmp_path: Path) -> None:
    """Which of them is used would depend on the order in which they were installed."""
    package(tmp_path, "first-venue", WORKING, "another")
    package(tmp_path, "second-venue", WORKING, "another")
    done = python(tmp_path, "-m", "finx_sync", "stream", "x", "--venue", "another")
    assert done.returncode == 2
    assert "first-venue and second-venue both provide a venue 'another'" in done.stderr


def test_the_sandbox_says_why_it_has_no_controls() -> None:
    """A test's author would face a KeyError."""
    with pytest.raises(ConfigError, match="did you mean 'bitmex'"):
        Sandbox().controls("bitmax")
