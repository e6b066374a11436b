"""What is in examples/scale, as a person has it who copies it: each part where its tool is found."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from finx_sync import Relay, StreamManager
from finx_sync.gateway import Gateway
from finx_sync.sandbox import Sandbox
from tests.redis_server import RedisServer

FOLDER = pathlib.Path(__file__).parents[1] / "examples" / "scale"
NAMES = ("BTC-26AUG22-20000-C", "BTC-PERPETUAL")


@pytest.fixture
def feed_url(redis_server: RedisServer, sandbox: Sandbox) -> Iterator[str]:
    """A feed on Redis that a relay writes."""
    stream = StreamManager("sandbox-key", url=sandbox.url)
    stream.subscribe_contract(*NAMES)
    with Relay(stream, redis_server.url) as relay, stream:
        assert relay.wait_until_leading(10)
        yield redis_server.url


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """A gateway that serves the sandbox."""
    with Gateway("sandbox") as served:
        yield served


def test_bots_share_one_key(feed_url: str) -> None:
    """The bot of the compose file would not find the feed, or would need a key of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "FINX_API_KEY"}
    bots = [
        subprocess.Popen(
            [sys.executable, str(FOLDER / "bot.py")],
            env={**environment, "FEED_URL": feed_url, "BOT_TICKS": "5", "BOT_NAME": f"bot-{number}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for number, bot in enumerate(bots):
        out, err = bot.communicate(timeout=200)
        assert (bot.returncode, err) == (0, "")
        assert re.match(rf"bot-{number} 1 BTC-\S+ [\d.]+\n", out)


def test_a_node_client(gateway: Gateway) -> None:
    """The page on the gateway names a client that does not work."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node")
    version = int(
        subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout[1:].split(".")[0]
    )
    if version < 20:
        pytest.skip("this node has no WebSocket")
    options = [] if version >= 22 else ["--experimental-websocket", "--no-warnings"]
    done = subprocess.run(
        [node, *options, str(FOLDER / "client.mjs"), f"{gateway.ws_url}/v1/ws", "BTC-PERPETUAL"],
        env={**os.environ, "TICKS": "3"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"(BTC-PERPETUAL [\d.]+\n){3}", done.stdout)


def test_a_shell_client(gateway: Gateway) -> None:
    """`nc` would not be a client."""
    nc = shutil.which("nc")
    if nc is None:
        pytest.skip("there is no nc")
    assert gateway.tcp_address is not None
    host, port = gateway.tcp_address
    command = f"echo BTC-PERPETUAL | timeout 40 {nc} {host} {port} | grep --max-count=2 instrument_name"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=200, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["data"]["instrument_name"] for one in lines] == ["BTC-PERPETUAL"] * 2


def test_the_services_name_commands_that_exist() -> None:
    """A unit or a container would end with a usage error."""
    texts = [path.read_text(encoding="utf-8") for path in (FOLDER / "systemd").iterdir()]
    texts.append((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    commands = [found for text in texts for found in re.findall(r"(?:finx-sync|command:) ((?:relay|serve) .*)", text)]
    assert len(commands) == 4
    for command in commands:
        options = set(re.findall(r"--[a-z-]+", command))
        shown = subprocess.run(
            [sys.executable, "-m", "finx_sync", command.split()[0], "--help"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert options <= set(re.findall(r"--[a-z-]+", shown)), command
