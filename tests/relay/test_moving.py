"""A feed whose Redis moves: Sentinel makes another server the master, and readers follow."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from finx_sync import State
from tests.redis_server import RedisServer, redis_executable
from tests.relay.test_source import Seen, tick
from tests.relay.writing import FeedWriter
from tests.waiting import wait_until

MASTER = "feed"


@contextlib.contextmanager
def sentinel(master: RedisServer) -> Iterator[int]:
    """A Sentinel that decides alone, and soon; its port."""
    executable = redis_executable()
    assert executable is not None
    with socket.socket() as listener, tempfile.TemporaryDirectory() as folder:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        listener.close()
        config = Path(folder) / "sentinel.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor {MASTER} 127.0.0.1 {master.port} 1\n"
            f"sentinel down-after-milliseconds {MASTER} 300\nsentinel failover-timeout {MASTER} 3000\n"
        )
        process = subprocess.Popen([executable, str(config), "--sentinel"], stdout=subprocess.DEVNULL)
        try:
            yield port
        finally:
            process.kill()
            process.wait(10)


def knows_a_replica(port: int) -> bool:
    with contextlib.suppress(redis.RedisError), redis.Redis(port=port, protocol=2) as client:
        state = client.execute_command("SENTINEL MASTER", MASTER)
        return bool(state and state["num-slaves"])
    return False


@pytest.mark.usefixtures("redis_server")  # skips where there is none
def test_readers_follow_the_master() -> None:
    """After a failover readers would wait at the old server for ever, or read the feed again from its beginning."""
    with RedisServer() as first, RedisServer() as second:
        second.call("REPLICAOF", "127.0.0.1", first.port)
        with sentinel(first) as port, first.client() as client:
            assert wait_until(lambda: knows_a_replica(port), 20)
            writer = FeedWriter(client, subscriptions=("spot:BTC:USDC",))
            seen = Seen(f"redis+sentinel://127.0.0.1:{port}/{MASTER}")
            with seen.stream:
                writer.write(tick(1))
                seen.wait_for(1)
                client.wait(1, 5000)
                first.pause()
                seen.states.wait(lambda states: states[-1] is State.RECONNECTING)
                with second.client() as promoted:
                    assert wait_until(lambda: promoted.role()[0] == b"master", 20)
                    writer.client = promoted
                    writer.begin_term()
                    writer.write(tick(2), at=time.time())
                    seen.prices.wait(lambda got: got == [1, 2], 20)
                first.resume()
            assert seen.gaps.items == []
