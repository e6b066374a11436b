"""The scripts that a relay has Redis execute: each does all that it does, or stops at the first command refused."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from finx_sync.relay.address import redis_library

__all__ = ["ACQUIRE", "CLAIM", "FINISH", "LAST_ID", "RELEASE", "RENEW", "Script", "is_refusal", "packed", "transact"]

MAX_KNOWN_SIZE: Final = 10_000
"""Bytes of an argument below which what stands before it is kept."""
_VALUES: Final = 1000
"""Arguments that a script hands to one command at most; Lua's stack is limited."""


class Script:
    """A Lua script, called by its hash; the text is sent only to a server that does not know it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.hash = hashlib.sha1(text.encode()).hexdigest()  # noqa: S324  # Redis's name for it, no secret

    def call(self, client: Any, keys: Sequence[str], arguments: Sequence[Any] = ()) -> Any:
        """Have a server execute it; may raise whatever redis-py raises."""
        try:
            return client.execute_command("EVALSHA", self.hash, len(keys), *keys, *arguments)
        except redis_library().exceptions.NoScriptError:  # nothing was executed
            return client.execute_command("EVAL", self._text, len(keys), *keys, *arguments)


_LAST: Final = """
local function last_id(key)
  if redis.call('EXISTS', key) == 0 then return '0-0' end
  local about = redis.call('XINFO', 'STREAM', key)
  for at = 1, #about, 2 do
    if about[at] == 'last-generated-id' then return about[at + 1] end
  end
end
"""

LAST_ID: Final = Script(f"{_LAST}return last_id(KEYS[1])")
"""The ID of the newest entry of a stream, also if it has been trimmed away; ``0-0`` if there is no stream.

Keys: the stream.
"""

CLAIM: Final = Script(f"""{_LAST}
if KEYS[2] and redis.call('GET', KEYS[2]) ~= ARGV[1] then return 'lease' end
if last_id(KEYS[1]) ~= ARGV[2] then return 'moved' end
redis.call('XADD', KEYS[1], unpack(ARGV, 3))
return 'ok'
""")
"""Begin a term, unless another relay has the lease, or the stream has gone on since it was looked at.

Keys: the stream; the lease, on the partition that has it. Arguments: the relay; the ID expected; the ID and the fields
of the first entry. Returns ``ok``, ``lease`` or ``moved``.
"""

ACQUIRE: Final = Script("""
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""")
"""Take a lease that is free or ours. Keys: the lease. Arguments: the relay; milliseconds. Returns 1, or 0."""

RENEW: Final = Script("""
local holder = redis.call('GET', KEYS[1])
if not holder then return 'free' end
if holder ~= ARGV[1] then return 'other' end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 'ours'
""")
"""Keep a lease. Keys: the lease. Arguments: the relay; milliseconds. Returns ``ours``, ``free`` or ``other``."""

RELEASE: Final = Script("if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 1")
"""Give up a lease. Keys: the lease. Arguments: the relay."""

FINISH: Final = Script(f"""{_LAST}
if last_id(KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] ~= '' then redis.call('XTRIM', KEYS[1], 'MINID', ARGV[2]) end
local at = 3
for place = 2, 3 do
  local count = tonumber(ARGV[at])
  for first = at + 1, at + count, {_VALUES} do
    redis.call('HSET', KEYS[place], unpack(ARGV, first, math.min(at + count, first + {_VALUES} - 1)))
  end
  at = at + count + 1
end
for place = at, #ARGV, 2 do
  redis.call('PUBLISH', ARGV[place], ARGV[place + 1])
end
return 1
""")
"""What goes with entries that have just been written; nothing if the stream does not end with them.

Keys: the stream, the last values, the newest images. Arguments: the ID of the last entry; the ID before which entries
are deleted, or nothing; how many arguments belong to the last values, and these, each a tag and a value; the same for
the newest images; a channel and a payload for each publication. Returns 1, or 0 if it did nothing.
"""


def transact(client: Any, commands: Sequence[Sequence[Any]]) -> list[Any]:
    """Have a server execute commands one after another, with nothing in between.

    Unlike a script, it hands on the arguments of a command as they are, which takes Redis half the time.

    Args:
        client: a client with one connection.
        commands: the commands, each with its arguments.

    Returns:
        Their replies; an exception of redis-py for a command that failed. The others have been executed.

    Raises:
        redis.RedisError, OSError: nothing was executed, or it is not known.
    """
    connection, failure = client.connection, None
    connection.send_packed_command([packed(command) for command in (("MULTI",), *commands, ("EXEC",))])
    refused = redis_library().exceptions.ResponseError
    for _ in range(len(commands) + 1):
        try:
            connection.read_response()
        except refused as error:
            failure = failure or error
    try:
        replies: list[Any] = connection.read_response()
    except refused as error:
        raise (failure or error) from None
    return replies


class _Heads(dict[int, bytes]):
    def __missing__(self, size: int) -> bytes:
        head = b"$%d\r\n" % size
        if size < MAX_KNOWN_SIZE:
            self[size] = head
        return head


_heads: Final = _Heads()


def packed(command: Sequence[Any]) -> bytes:
    """A command as it is sent. redis-py copies every argument three times; this joins thousands of them in one step."""
    arguments = [one if type(one) is bytes else str(one).encode() for one in command]
    parts = [b"\r\n"] * (3 * len(arguments))
    parts[::3] = map(_heads.__getitem__, map(len, arguments))
    parts[1::3] = arguments
    return b"*%d\r\n%b" % (len(arguments), b"".join(parts))


def is_refusal(error: BaseException) -> bool:
    """Whether Redis refused an entry since its ID is not above all others."""
    return "equal or smaller" in str(error)
