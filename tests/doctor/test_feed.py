"""`finx-sync doctor --url redis://…`: each step, and what it says when just that one fails."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest

from finx_sync import StreamManager
from finx_sync.cli.main import main
from finx_sync.doctor import Finding, examine, feed
from finx_sync.doctor.findings import FEED_STEPS
from tests.redis_server import RedisServer
from tests.relay.test_source import PAIR, TAG, spot
from tests.relay.writing import FeedWriter


@pytest.fixture
def writer(redis_server: RedisServer) -> Iterator[FeedWriter]:
    with redis_server.client() as client:
        yield FeedWriter(client, subscriptions=(TAG,))


def diagnosis(url: str, *names: str) -> dict[str, Finding]:
    """The findings by step; each step has exactly one, reported in order."""
    reported: list[Finding] = []
    stream = StreamManager(url=url)
    stream.subscribe_spot(*names or (PAIR,))
    found = examine(stream, reported.append, tick_timeout=0.5)
    assert found == reported
    assert [one.step for one in found] == list(FEED_STEPS)
    return {one.step: one for one in found}


def verdicts(found: dict[str, Finding]) -> list[str]:
    return [one.verdict for one in found.values()]


@pytest.fixture
def keep_writing(writer: FeedWriter) -> Iterator[None]:
    """A relay that writes ten times a second."""
    ended = threading.Event()

    def write() -> None:
        while not ended.wait(0.02):
            writer.write((TAG, spot(1)), at=time.time())

    thread = threading.Thread(target=write)
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.mark.usefixtures("keep_writing")
def test_all_is_well(redis_server: RedisServer) -> None:
    """The doctor would complain of a feed on which nothing is wrong."""
    found = diagnosis(redis_server.url)
    assert set(verdicts(found)) == {"ok"}
    assert PAIR in found["tick"].text


@pytest.mark.usefixtures("keep_writing")
def test_a_name_that_nobody_relays(redis_server: RedisServer) -> None:
    """A wrong name would look like a quiet market."""
    found = diagnosis(redis_server.url, "SOL:USDC")
    assert verdicts(found) == ["ok", "ok", "warning", "ok", "ok", "failed"]
    assert "SOL:USDC" in found["feed"].text


def test_a_relay_that_is_gone(redis_server: RedisServer, writer: FeedWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead relay would look like a quiet market."""
    monkeypatch.setattr(feed, "SILENCE", 0.3)
    found = diagnosis(redis_server.url)
    assert verdicts(found) == ["ok", "ok", "ok", "ok", "failed", "skipped"]
    assert "has written nothing" in found["relay"].text
    assert found["relay"].remedy


def test_no_feed_and_no_redis(redis_server: RedisServer) -> None:
    """A wrong feed and a wrong host would look alike."""
    found = diagnosis(redis_server.url)
    assert verdicts(found) == ["ok", "ok", "failed", "skipped", "skipped", "skipped"]
    redis_server.kill()
    found = diagnosis(redis_server.url)
    assert verdicts(found) == ["ok", "failed", "skipped", "skipped", "skipped", "skipped"]


@pytest.mark.usefixtures("keep_writing")
def test_on_the_command_line(redis_server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands would take no such URL, or ask for a key."""
    assert main(["doctor", PAIR, "--url", redis_server.url]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["step"] for row in rows] == list(FEED_STEPS)
    assert main(["stream", PAIR, "--url", redis_server.url, "--count", "2"]) == 0
    assert [json.loads(line)["pair"] for line in capsys.readouterr().out.splitlines()] == [PAIR, PAIR]
    assert main(["record", PAIR, "--url", redis_server.url, "--count", "2", "--output", "feed.finxrec"]) == 0
    assert main(["stream", PAIR, "--url", redis_server.url.replace("redis:", "redsi:")]) != 0
