"""The scripts that a relay has Redis execute: each does all that it does, or stops at the first command refused."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from finx_sync.relay.address import redis_library

__all__ = ["CLAIM", "LAST_ID", "RELEASE", "RENEW", "WRITE", "Script", "is_refusal"]


class Script:
    """A Lua script, called by its hash; the text is sent only to a server that does not know it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._hash = hashlib.sha1(text.encode()).hexdigest()  # noqa: S324  # Redis's name for it, no secret

    def call(self, client: Any, keys: Sequence[str], arguments: Sequence[Any] = ()) -> Any:
        """Have a server execute it; may raise whatever redis-py raises."""
        try:
            return client.execute_command("EVALSHA", self._hash, len(keys), *keys, *arguments)
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

WRITE: Final = Script("""
local at = 2
for _ = 1, tonumber(ARGV[1]) do
  local last = at + 1 + tonumber(ARGV[at + 1])
  redis.call('XADD', KEYS[1], ARGV[at], unpack(ARGV, at + 2, last))
  at = last + 1
end
local values = {}
local function flush(key)
  if #values > 0 then redis.call('HSET', key, unpack(values)) end
  values = {}
end
local count = tonumber(ARGV[at])
at = at + 1
for _ = 1, count do
  local tag = tonumber(ARGV[at + 2])
  values[#values + 1] = ARGV[tag]
  values[#values + 1] = ARGV[tonumber(ARGV[at])] .. ' ' .. ARGV[tonumber(ARGV[at + 1])] .. ' ' .. ARGV[tag + 1]
  at = at + 3
  if #values >= 1000 then flush(KEYS[2]) end
end
flush(KEYS[2])
count = tonumber(ARGV[at])
for place = at + 1, at + 2 * count, 2 do
  redis.call('HSET', KEYS[3], ARGV[place], ARGV[place + 1])
end
at = at + 1 + 2 * count
if ARGV[at] ~= '' then redis.call('XTRIM', KEYS[1], 'MINID', ARGV[at]) end
for place = at + 1, #ARGV, 2 do
  redis.call('PUBLISH', ARGV[place], ARGV[tonumber(ARGV[place + 1])])
end
return 1
""")
"""Write entries and what goes with them.

Keys: the stream, the last values, the newest snapshots. Arguments, where an index counts from 1:

- the number of entries; for each its ID, its number of fields, and these;
- the number of last values; for each the indexes of the entry's ID, of the time and of the tag, which the payload
  follows;
- the number of snapshots; for each its tag and the ID of its entry;
- the ID before which entries are deleted, or nothing;
- for each publication its channel, and the index of the payload.
"""


def is_refusal(error: BaseException) -> bool:
    """Whether Redis refused an entry since its ID is not above all others."""
    return "equal or smaller" in str(error)
