"""A process that forks: the relay stays the parent's."""

from __future__ import annotations

import os
import sys

import pytest

from finx_sync import Relay, UsageError
from tests.redis_server import RedisServer
from tests.relay.feeds import PATIENCE, Venue, read, stream_to
from tests.waiting import wait_until


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python warns of forks with threads, and warnings are errors")
def test_a_fork(redis_server: RedisServer) -> None:
    """Two processes would write on one connection."""
    with Venue() as venue, Relay(stream := stream_to(venue), redis_server.url) as relay, stream:
        assert relay.wait_until_leading(PATIENCE)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                relay.stats()
            except UsageError:
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        venue.send(10)
        assert wait_until(lambda: relay.stats().written == 10, PATIENCE)
        assert read(redis_server).payloads == venue.sent
