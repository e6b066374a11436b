"""`finx-sync serve`, as a shell and its clients see it."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys

import pytest

from finx_sync.cli.main import main
from finx_sync.gateway.keys import hash_of


def test_the_sandbox_is_served_until_sigterm() -> None:
    """The first line of the page on the gateway would not work, or a service manager could not end it in order."""
    process = subprocess.Popen(
        [sys.executable, "-m", "finx_sync", "serve", "--source", "sandbox", "--port", "0", "--tcp-port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    found = re.fullmatch(r"gateway at http://127\.0\.0\.1:(\d+), lines of JSON at (\d+); Ctrl\+C ends it\n", said)
    assert found is not None, said
    with socket.create_connection(("127.0.0.1", int(found[2])), timeout=20) as connection:
        connection.sendall(b"BTC-PERPETUAL\n")
        file = connection.makefile("rb")
        message = next(value for line in file if line.strip() and "data" in (value := json.loads(line)))
        assert message["data"]["instrument_name"] == "BTC-PERPETUAL"
        process.send_signal(signal.SIGTERM)
        assert "connect again" in file.read().decode().splitlines()[-1]
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")


def test_a_key_is_hashed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever writes the file of keys would have to know how a hash is made."""
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO("sandbox-key\n"))
    assert main(["serve", "--hash"]) == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == hash_of("sandbox-key")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--keys", "/nowhere"],
        ["--cert", "/nowhere"],
        ["--cert-key", "/nowhere"],
        ["--venue", "finks"],
        ["--source", "sandboks"],
    ],
)
def test_mistakes_end_it_at_once(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A gateway without its keys would serve everybody."""
    assert main(["serve", "--source", "sandbox", "--port", "0", *arguments]) == 2
    assert capsys.readouterr().err
