"""The command line, as a shell sees it."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys

import pytest
from websockets.sync.server import ServerConnection

from finx_sync.cli.main import main
from finx_sync.sandbox import Sandbox
from tests.scripted import ScriptedServer, text

COMMAND = [sys.executable, "-W", "error", "-m", "finx_sync"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command with its output on a pipe."""
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=200, check=False)


def on_terminal(*arguments: str) -> str:
    """Run the command on a terminal; returns what the terminal got."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "110"}
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # Linux ends a terminal's output so
        pass
    os.close(ours)
    assert process.wait(200) == 0, shown
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


def test_demo_on_a_terminal_shows_a_table() -> None:
    """The first thing that a newcomer runs would look broken."""
    shown = on_terminal("demo", "--seconds", "0.5")
    for expected in ("delta", "BTC-26AUG22-20000-C", "BTC-PERPETUAL", "BTC:USDC", "0 dropped", "the first 1000 ticks"):
        assert expected in shown


def test_demo_on_a_pipe_prints_json_lines() -> None:
    """A script could not read the output, or `make demo | less` would show a thousand rows of history."""
    done = run("demo", "--seconds", "20")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"BTC-26AUG22-20000-C", "BTC-PERPETUAL"} <= {row.get("instrument_name") for row in rows}
    assert sum("time" in row for row in rows) == 6, "a snap, and the first of a history"
    assert len(rows) <= 40


def test_stream_snap_history_and_contracts(sandbox: Sandbox) -> None:
    """A command would print something else than what it was asked for."""
    where = ["--environment", "sandbox", "--url", sandbox.url]
    ticks = run("stream", "BTC-PERPETUAL", "ETH:USDC", "--count", "6", *where).stdout.splitlines()
    assert len(ticks) == 6
    assert {"BTC-PERPETUAL", "ETH:USDC"} == {
        row.get("instrument_name") or row["pair"] for row in map(json.loads, ticks)
    }
    snap = json.loads(run("snap", "BTC:USD", "--date", "2022-06-15", "--time", "12:00", *where).stdout)
    assert (snap["pair"], snap["date"]) == ("BTC:USD", "2022-06-15")
    rows = run("history", "BTC:USD", "2022-06-15", "--time", "12:00", "--end", "12:30", *where).stdout.splitlines()
    assert [json.loads(row)["time"] for row in rows] == [
        row["time"]
        for row in sandbox.controls("finx").history_table("BTC:USD", "2022-06-15")
        if "12:00:00.000Z" < row["time"] <= "12:30:00.000Z"
    ]
    names = run("contracts", "perp", *where).stdout.splitlines()
    assert {"instrument_name": "BTC-PERPETUAL"} in map(json.loads, names)


def test_stream_of_another_venue(sandbox: Sandbox) -> None:
    """`--venue deribit` would need a key, or show nothing; a contract that does not exist would hang the command."""
    where = ["--venue", "deribit", "--url", sandbox.url]
    ticks = run("stream", "BTC-PERPETUAL", "BTC:USD", "--count", "6", *where).stdout.splitlines()
    assert len(ticks) == 6
    assert {"BTC-PERPETUAL", "BTC:USD"} == {row.get("instrument_name") or row["pair"] for row in map(json.loads, ticks)}
    contracts = run("stream", "ContractA", "12345", "--count", "4", "--venue", "ime", "--environment", "sandbox").stdout
    assert {"ContractA", "12345"} == {
        row.get("contractName") or row["ContractId"] for row in map(json.loads, contracts.splitlines())
    }
    done = run("stream", "BTC-1JAN99-1-C", *where)
    assert (done.returncode, done.stdout) == (1, "")
    assert "BTC-1JAN99-1-C" in done.stderr


def test_stream_of_bitmex(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Symbols, topics and an account's tables would not be told apart; or a key would have to be typed."""
    monkeypatch.setenv("BITMEX_API_KEY", "sandbox-key")
    monkeypatch.setenv("BITMEX_API_SECRET", "sandbox-secret")
    where = ["--venue", "bitmex", "--url", sandbox.url]
    lines = run("stream", "XBTUSD", "orderBook10:ETHUSD", "margin", "--count", "30", *where).stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    assert {row["topic"] for row in rows} == {"quote:XBTUSD", "trade:XBTUSD", "orderBook10:ETHUSD", "margin"}
    assert {row["action"] for row in rows if row["topic"] == "quote:XBTUSD"} == {"partial", "insert"}
    assert all(row["item"] for row in rows)
    done = run("stream", "NOPE", *where)
    assert (done.returncode, done.stdout) == (1, "")
    assert "quote:NOPE" in done.stderr


def test_stream_of_ftx(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Markets and channels would not be told apart; or a key would have to be typed."""
    monkeypatch.setenv("FTX_API_KEY", "sandbox-key")
    monkeypatch.setenv("FTX_API_SECRET", "sandbox-secret")
    where = ["--venue", "ftx", "--url", sandbox.url]
    names = ["BTC-PERP", "trades:ETH-PERP", "orderbook:BTC/USD", "orders", "markets"]
    rows = [json.loads(line) for line in run("stream", *names, "--count", "200", *where).stdout.splitlines()]
    assert {row["market"] for row in rows if "last" in row} == {"BTC-PERP"}
    assert {row["market"] for row in rows if "liquidation" in row and "price" in row and "status" not in row} == {
        "ETH-PERP"
    }
    assert {row["market"] for row in rows if "bids" in row} == {"BTC/USD"}
    assert any("BTC-PERP" in row for row in rows), "the list of markets"
    done = run("stream", "NOPE", *where)
    assert (done.returncode, done.stdout) == (1, "")
    assert "NOPE" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (["stream", "BTC-PERP", "--venue", "ftx"], 2, "--url"),
        (["stream", "fills", "--venue", "ftx", "--url", "ws://127.0.0.1:1"], 2, "api_key"),
        (["stream", "--venue", "bitmex", "--environment", "sandbox"], 2, "XBTUSD"),
        (["stream", "margin", "--venue", "bitmex"], 2, "api_key"),
        (["stream", "XBTUSD", "--venue", "bitmex", "--environment", "beta"], 2, "production"),
        (["stream", "--venue", "deribit", "--environment", "sandbox"], 2, "BTC-PERPETUAL"),
        (["stream", "ContractA", "--venue", "ime"], 2, "--url"),
        (["snap", "BTCUSD", "--environment", "sandbox"], 2, "BTC:USD"),
        (["stream", "--environment", "sandbox"], 2, "name at least one"),
        (["snap", "BTC:USD"], 2, "FINX_API_KEY"),
        (["snap", "BTC:USD", "--environment", "prod"], 2, "production"),
        (["snap", "BTC:USD", "--api-key", "my-key", "--url", "ws://127.0.0.1:1"], 4, "refused"),
    ],
)
def test_errors_are_one_line_and_a_code(arguments: list[str], code: int, hint: str) -> None:
    """A shell script could not tell what went wrong, or a user would face a traceback."""
    done = run(*arguments)
    assert done.returncode == code
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert hint in done.stderr
    assert "my-key" not in done.stderr


def test_a_refused_key_has_its_own_code(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """A script that renews its key could not see that it must."""
    assert main(["stream", "BTC-PERPETUAL", "--api-key", "wrong-key", "--url", sandbox.url]) == 3
    assert "wrong-key" not in capsys.readouterr().err


def test_a_failure_while_streaming_ends_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The command would go on for ever after the key has expired."""
    with ScriptedServer(lambda connection: connection.close(1008, "key expired")) as server:
        assert main(["stream", "BTC-PERPETUAL", "--api-key", "sandbox-key", "--url", server.url]) == 3
    assert "key expired" in capsys.readouterr().err


def test_messages_that_cannot_be_read_are_reported_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong server, or a changed protocol, would look like a quiet market until Ctrl+C."""

    def script(connection: ServerConnection) -> None:
        for _ in range(3):
            connection.send('{"redis_key": "BTC-PERPETUAL"')
        connection.send(text(instrument_name="BTC-PERPETUAL"))
        for _ in connection:
            pass

    with ScriptedServer(script) as server:
        code = main(["stream", "BTC-PERPETUAL", "--count", "1", "--api-key", "sandbox-key", "--url", server.url])
    out, err = capsys.readouterr()
    assert code == 1
    assert json.loads(out)["instrument_name"] == "BTC-PERPETUAL"
    assert err.count("the message begins") == 1, "one of three: the first"


def test_a_closed_pipe_ends_quietly(sandbox: Sandbox) -> None:
    """`finx-sync stream ... | head` would end with a traceback."""
    process = subprocess.Popen(
        [*COMMAND, "stream", "BTC-PERPETUAL", "--environment", "sandbox", "--url", sandbox.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())
    process.stdout.close()
    assert process.wait(20) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


def test_ctrl_c_ends_a_stream_and_a_sandbox() -> None:
    """Ctrl+C would print a traceback, or leave the process behind."""
    server = subprocess.Popen([*COMMAND, "sandbox"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert server.stderr is not None
    url = server.stdout.readline().split()[2]
    client = subprocess.Popen(
        [*COMMAND, "stream", "BTC-PERPETUAL", "--environment", "sandbox", "--url", url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert client.stdout is not None
    assert client.stdout.readline()
    for process in (client, server):
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (130, "")


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """A user would have to guess the arguments."""
    commands = ["demo", "stream", "snap", "history", "contracts", "sandbox", "doctor", "record", "replay", "convert"]
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
        assert f"  finx-sync {command}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "exit codes" in capsys.readouterr().out
