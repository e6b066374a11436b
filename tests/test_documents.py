"""Whatever the README and the examples show, runs."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.S)
COMMANDS = [line for line in re.findall(r"^\$ (finx-sync .*)$", README, re.M) if " sandbox --port" not in line]
TOPICS = (
    "guarantees",
    "history",
    "legacy",
    "options",
    "recording",
    "rest",
    "venues/bitmex",
    "venues/deribit",
    "venues/ftx",
    "venues/ime",
)
"""Of docs/: all their snippets together are one program."""
ARGUMENTS = {"real_options.py": ["--offline"]}
"""Of examples that would go out into the world."""
EXPECTED = {
    "real_options.py": r"(?:BTC-\S+-C  mark [\d.]+ BTC  iv [\d.]+ %  delta [\d.]+\n){20,}BTC is at [\d.]+ dollars\n",
    "bitmex_order_book.py": r"(?: *[\d.]+ @ [\d.]+ \| [\d.]+ @ [\d.]+ +\(\d+ and \d+ levels\)\n){5}",
    "bitmex_account.py": r"10\.0{8} XBT at the start\n(?:order .*\n)+filled  (?:Buy |Sell) 100 XBTUSD at [\d.]+\n",
    "ftx_order_book.py": r"(?: *[\d.]+ @ [\d.]+ \| [\d.]+ @ [\d.]+ +checksum \d+\n){5}",
    "ftx_orders.py": (  # a fill may be a part of the order, and the rest follow at once
        r"(?:order  .*\n)+filled (?:buy |sell) 0\.\d+ BTC-PERP at [\d.]+, fee [\d.]+ USD\n(?:(?:order|filled) .*\n)*"
    ),
    "record_and_replay.py": r"\d+ messages in feed\.finxrec, the last at .*\n.* the same: True\n",
    "smile.py": r"the smile of .* is in smile\.png\n(?:[\d,]+ (?:call|put): mark .*\n){3}",
    "first_ticks.py": r"(?:BTC-\S+  mark [\d.]+ BTC .*\n){10,}",
    "legacy_bot.py": r"(?s).*31 fields.*no delta.*10 calls have a delta of \d+\.\d{4}\n",
    "repl_session.py": r"(?s).*ETH trades at [\d.]+ on \w+.*two prices: [\d.]+ [\d.]+.*",
    "history_to_csv.py": r"(?:\d\d:00  .* ticks\n){4}\d+ ticks, 08:00:.* complete: True, in history.csv\n",
    "drop_in_websocketapp.py": r"(?:BTC:USDC [\d.]+\n){5}closed 1000 None\n",
}


def run(*arguments: str) -> str:
    """Run a program against the sandbox; returns what it printed."""
    done = subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "FINX_ENVIRONMENT": "sandbox", "MPLBACKEND": "agg"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_readme_is_short_and_starts_with_something_that_runs() -> None:
    """A newcomer would give up before the first working line."""
    lines = README.splitlines()
    assert len(lines) <= 150
    assert lines.index("```python") < 25
    assert len(SNIPPETS) == 2
    assert all("[sandbox]" in line for line in lines if "pip install" in line)
    assert not any('"finx-sync' in line for line in lines if "pip install" in line), "no index has it yet"


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_readme_snippets_run(snippet: str) -> None:
    """The first thing that a user types would fail."""
    assert len(run(sys.executable, "-W", "error", "-c", snippet).splitlines()) >= 5


@pytest.mark.parametrize("command", COMMANDS)
def test_readme_commands_run(command: str) -> None:
    """A documented command would not exist, or end with an error."""
    assert run(sys.executable, "-W", "error", "-m", "finx_sync", *command.split()[1:])


def topic(name: str) -> str:
    """A document's text."""
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", TOPICS)
def test_snippets_of_topics_run(name: str) -> None:
    """What a document shows would fail."""
    program = "".join(re.findall(r"```python\n(.*?)```", topic(name), re.S))
    assert len(run(sys.executable, "-W", "error", "-c", program).splitlines()) >= 5


@pytest.mark.parametrize(
    "command", [line for name in TOPICS for line in re.findall(r"^\$ (finx-sync .*)$", topic(name), re.M)]
)
def test_commands_of_topics_run(command: str) -> None:
    """A documented command would not exist, or end with an error."""
    assert run(sys.executable, "-W", "error", "-m", "finx_sync", *command.split()[1:])


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "examples").glob("[!t]*.py")))
def test_examples_run(name: str) -> None:
    """An example would be a riddle instead of a help."""
    program = [str(ROOT / "examples" / name), *ARGUMENTS.get(name, [])]
    assert re.fullmatch(EXPECTED[name], run(sys.executable, "-W", "error", *program))


def test_history_example_writes_every_row(tmp_path: pathlib.Path) -> None:
    """Rows would be missing from the file."""
    path = tmp_path / "out.csv"
    run(sys.executable, str(ROOT / "examples" / "history_to_csv.py"), str(path))
    rows = path.read_text().splitlines()
    assert rows[0] == "datetime,pair,exchange,price,unproven"
    assert len(rows) > 1001
    assert rows[1:] == sorted(rows[1:], key=lambda row: row.split(",")[0])
