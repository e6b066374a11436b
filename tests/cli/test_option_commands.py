"""The commands for options and REST: what they print, and what they say to bad input."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from finx_sync import calculate_greeks
from finx_sync.cli.main import main
from finx_sync.sandbox import Sandbox


@pytest.fixture
def here(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands' server."""
    monkeypatch.setenv("FINX_API_KEY", "sandbox-key")
    monkeypatch.setenv("FINX_URL", sandbox.url)
    monkeypatch.setenv("FINX_API_URL", sandbox.http_url)


def rows(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    """What a command prints on a pipe."""
    assert main(arguments) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.usefixtures("here")
def test_chain(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    """A chain on a pipe would not be JSON, or its picture would be missing."""
    options = rows(capsys, "chain", "BTC")
    assert len(options) > 50
    assert {row["option_side"] for row in options} == {"call", "put"}
    assert all(row["bid_iv"] is None or row["bid_iv"] > 0 for row in options)
    expiry = options[-1]["expiry"]
    path = tmp_path / "smile.png"
    assert {row["expiry"] for row in rows(capsys, "chain", "BTC", expiry, "--plot", str(path))} == {expiry}
    assert path.read_bytes().startswith(b"\x89PNG")


def test_greeks(capsys: pytest.CaptureFixture[str]) -> None:
    """The command would give other numbers than the function."""
    found = rows(capsys, "greeks", "100", "95", "30", "--price", "1.2", "--side", "put", "--rate", "0.03")
    assert found == [calculate_greeks(100, 95, 0.03, None, 0, 30, 1.2, "put").to_dict()]


@pytest.mark.usefixtures("here")
def test_rest(capsys: pytest.CaptureFixture[str]) -> None:
    """A REST function could not be used from a shell."""
    assert {"pair": "BTC:USD"} in rows(capsys, "pairs")
    assert rows(capsys, "quote", "BTC:USD", "--at", "1659586000")[0]["date"] == "2022-08-04"
    assert rows(capsys, "quote", "BTC:USD", "--at", "2199-01-01") == []
    series = rows(
        capsys, "quote", "BTC:USD", "--at", "2022-08-04", "--until", "2022-08-05", "--periods", "3", "--width", "0"
    )
    assert [row["asked"] for row in series] == [f"2022-08-04 {hour}:00:00+00:00" for hour in ("00", "08", "16")]
    assert len(rows(capsys, "slice", "ETH", "2022-08-04T04:05")) > 50
    assert {"instrument_name": "BTC-24JUN22"} in rows(capsys, "contracts", "BTC", "--as-of", "2022-06-15")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("via", ["websocket", "rest"])
def test_grid(capsys: pytest.CaptureFixture[str], via: str) -> None:
    """The grid could not be tried from a shell."""
    assert {"method": "interpolate_curve(t_obs, r_obs, t_new, interpolator=None)"} in rows(capsys, "grid", "--via", via)
    assert main(["grid", "coverage_check", "security_id=912796YB9", "--via", via]) == 0
    assert json.loads(capsys.readouterr().out)["result"] == {"security_id": "912796YB9", "is_covered": False}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["chain", "BTC", "26AUX22"], "no expiry"),
        (["chain", "BTC", "--plot", "smile.xyz"], "cannot draw to smile.xyz"),
        (["greeks", "100", "95", "30", "--price", "200"], "no volatility gives the price 200.0"),
        (["quote", "BTC:USD", "--until", "2022-08-05"], "--at, where it begins"),
        (["quote", "BTC:USD", "--at", "noon"], "'noon' is not a point in time"),
        (["grid", "calculate_greeks", "k"], "'k' is no parameter"),
        (["grid", "calculate_greeks", "k=100"], "missing"),
        (["contracts", "--as-of", "june"], "not a date"),
    ],
)
def test_bad_input(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    """A typo would end in a traceback."""
    assert main(arguments) == 2
    assert words in capsys.readouterr().err
