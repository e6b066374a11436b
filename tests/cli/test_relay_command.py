"""The command that relays, and the one that looks at a Redis server."""

from __future__ import annotations

import json
import signal

import pytest

from finx_sync.cli.main import main
from finx_sync.relay.address import RelayAddress
from finx_sync.relay.checks import examine
from tests.redis_server import RedisServer
from tests.relay.feeds import KEYS, PATIENCE, Venue, read, relay_process
from tests.servers import refused_address
from tests.waiting import wait_until


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_order(redis_server: RedisServer, how: signal.Signals) -> None:
    """A deployment would lose what waits, and the next relay would wait for the lease."""
    with Venue() as venue, relay_process(venue, redis_server, "--publish", "p:{name}", "--keep-records", "900") as it:
        assert wait_until(lambda: redis_server.call("EXISTS", KEYS.lease, KEYS.about) == 2, PATIENCE)
        venue.send(100)
        assert wait_until(lambda: len(read(redis_server).payloads) == 100, PATIENCE)
        it.send_signal(how)
        out, error = it.communicate(timeout=PATIENCE)
        assert it.returncode == (0 if how == signal.SIGTERM else 130), error
        assert json.loads(out) == {
            "received": 100,
            "written": 100,
            "dropped": 0,
            "unneeded": 0,
            "calls": json.loads(out)["calls"],
        }
        assert redis_server.call("EXISTS", KEYS.lease) == 0
        assert redis_server.call("HGET", KEYS.about, "keep_records") == b"900"
        feed = read(redis_server)
        assert feed.payloads == venue.sent
        assert [content["state"] for name, content in feed.notices if name == b"@state"] == ["open"]


def test_a_stream_that_fails(redis_server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    """A relay without a feed would look as if it worked."""
    host, port = refused_address()
    arguments = [
        "relay",
        "BTC:USD",
        "--to",
        redis_server.url,
        "--url",
        f"ws://{host}:{port}",
        "--api-key",
        "sandbox-key",
    ]
    assert main(arguments) == 4
    assert "refused" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name at least one"),
        (["BTC:USD", "--partitions", "0"], "partitions"),
        (["BTC:USD", "--publish", "x"], "channel"),
        (["--contract", "X", "--venue", "ftx", "--environment", "sandbox"], "no --contract"),
    ],
)
def test_mistakes(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They would be found later, or not at all."""
    where = [] if "--environment" in arguments else ["--environment", "sandbox"]
    assert main(["relay", "--to", "redis://127.0.0.1:1", *where, *arguments]) == 2
    assert said in capsys.readouterr().err


def test_without_redis(capsys: pytest.CaptureFixture[str]) -> None:
    """A script could not tell what is wrong."""
    host, port = refused_address()
    for more in (["--check"], ["BTC:USD", "--environment", "sandbox"]):
        assert main(["relay", "--to", f"redis://{host}:{port}", *more]) == 4
        assert "cannot be reached" in capsys.readouterr().err


def test_check(redis_server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody would run a feed on a server that deletes it."""
    assert main(["relay", "--to", redis_server.url, "--check"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = {row["about"]: row for row in rows}
    assert {about for about, row in found.items() if row["verdict"] == "warning"} == {"persistence", "replication"}
    assert "no feed 'finx' yet" in found["feed"]["finding"]
    with RedisServer(persistent=True, maxmemory="50mb", maxmemory_policy="allkeys-lru") as unfit:
        assert main(["relay", "--to", unfit.url, "--check"]) == 1 + 1
        found = {row["about"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
        assert found["memory"]["verdict"] == "error"
        assert "at any time" in found["memory"]["finding"]
        assert found["persistence"]["verdict"] == "good"
        unfit.call("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
        assert _verdict(unfit, "memory") == "warning"
        unfit.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
        assert _verdict(unfit, "memory") == "good"
        unfit.call("REPLICAOF", "127.0.0.1", redis_server.port)
        assert _verdict(unfit, "role") == "error"
        assert wait_until(lambda: _verdict(redis_server, "replication") == "good", PATIENCE)


def _verdict(server: RedisServer, about: str) -> str:
    findings = examine(RelayAddress.parse(server.url, feed="f"))
    return next(one.verdict for one in findings if one.about == about)
