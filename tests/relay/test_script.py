"""Commands that are executed together: as they are sent, and what becomes of those that are refused."""

from __future__ import annotations

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from redis.connection import Connection

from finx_sync.relay.address import RelayAddress
from finx_sync.relay.script import FINISH, is_refusal, packed, transact
from tests.redis_server import RedisServer

ARGUMENTS = st.one_of(st.binary(), st.text(st.characters(exclude_categories=["Cs"])), st.integers())


@given(st.lists(ARGUMENTS, min_size=1))
def test_packing(arguments: list[bytes | str | int]) -> None:
    """Redis would read another command than was meant."""
    assert packed(["XADD", *arguments]) == b"".join(Connection(protocol=2).pack_command("XADD", *arguments))


def test_transactions(redis_server: RedisServer) -> None:
    """What was refused would count as written, or what was written as refused."""
    client = RelayAddress.parse(redis_server.url, feed="f").connect()
    client.response_callbacks.clear()
    try:
        replies = transact(
            client, [("XADD", "s", "5-1", b"a", b"b\r\n"), ("XADD", "s", "4-9", b"a", b"b"), ("GET", "x")]
        )
        assert replies[0] == b"5-1"
        assert is_refusal(replies[1])
        assert replies[2] is None
        finish = ("EVALSHA", FINISH.hash, 3, "s", "l", "i", "5-1", "", 2, b"t", b"v", 2, b"u", b"5-1")
        assert isinstance(transact(client, [finish])[0], redis.exceptions.NoScriptError)
        assert FINISH.call(client, ["s", "l", "i"], finish[6:]) == 1
        assert FINISH.call(client, ["s", "l", "i"], ("5-0", *finish[7:-1], b"5-0")) == 0, "the stream ends elsewhere"
        assert transact(client, [finish, ("HGETALL", "l"), ("HGETALL", "i")]) == [1, [b"t", b"v"], [b"u", b"5-1"]]
        with pytest.raises(redis.exceptions.ResponseError, match="unknown command"):
            transact(client, [("NONSENSE",), ("SET", "y", "1")])
        assert transact(client, [("GET", "y")]) == [None], "nothing of it was executed"
    finally:
        client.close()
