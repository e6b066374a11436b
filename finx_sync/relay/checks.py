"""What is wrong with a Redis server that is to carry a feed, in plain sentences. `finx-sync relay --check` shows it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from finx_sync.relay import wire
from finx_sync.relay.address import RelayAddress, redis_library, translated

__all__ = ["OLDEST", "Finding", "examine", "info_of", "version_of"]

OLDEST: Final = (6, 2)
"""The oldest Redis that has all commands."""
SLOW: Final = 0.01
"""Seconds that an answer may take."""
CLOCKS_APART: Final = 1.0
"""Seconds."""
PINGS: Final = 5

Verdict = Literal["good", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        about: what was looked at.
        verdict: "good", "warning" (a feed works, with the restriction that `text` says) or "error" (it does not).
        text: a sentence.
    """

    about: str
    verdict: Verdict
    text: str


def examine(address: RelayAddress) -> list[Finding]:
    """Look at a server; it reads only.

    Raises:
        ConnectError, AuthorizationError, ServerRefusedError: it cannot be looked at.
    """
    client: Any = address.connect(name="finx-sync relay --check")
    try:
        client.response_callbacks.clear()
        info = info_of(client.execute_command("INFO"))
        return [
            _version(info),
            _role(info),
            _memory(info),
            _persistence(info),
            _replicas(info),
            *_times(client),
            _feed(client, address),
        ]
    except (redis_library().RedisError, OSError) as error:
        raise translated(error, str(address)) from error
    finally:
        client.close()


def info_of(reply: bytes) -> dict[str, str]:
    """The names and values of a reply of INFO."""
    pairs = (line.partition(":") for line in reply.decode(errors="replace").splitlines() if not line.startswith("#"))
    return {name: value for name, _, value in pairs if name}


def version_of(info: Mapping[str, str]) -> tuple[int, ...]:
    """The server's version, like (7, 0)."""
    return tuple(int(part) for part in info.get("redis_version", "0").split(".")[:2] if part.isdecimal())


def _version(info: Mapping[str, str]) -> Finding:
    version = info.get("redis_version", "unknown")
    if version_of(info) < OLDEST:
        return Finding("version", "error", f"Redis {version} is too old; a feed needs 6.2 or newer")
    return Finding("version", "good", f"Redis {version}")


def _role(info: Mapping[str, str]) -> Finding:
    if info.get("role") == "slave":
        return Finding("role", "error", "this is a replica, to which nothing can be written; give the master's address")
    return Finding("role", "good", "this is a master")


def _memory(info: Mapping[str, str]) -> Finding:
    limit, policy = int(info.get("maxmemory", "0")), info.get("maxmemory_policy", "noeviction")
    if not limit:
        text = "maxmemory is not set: the server takes what keep_bytes and the readers need, and more if others write"
        return Finding("memory", "good", text)
    if policy.startswith("allkeys"):
        text = f"maxmemory-policy is {policy}: Redis may delete the feed at any time; set noeviction"
        return Finding("memory", "error", text)
    if policy.startswith("volatile"):
        text = f"maxmemory-policy is {policy}: Redis may delete the lease, so that relays change; set noeviction"
        return Finding("memory", "warning", text)
    text = f"maxmemory is {limit // 2**20} MiB: when it is full, the relay waits; keep_bytes must be well below it"
    return Finding("memory", "good", text)


def _persistence(info: Mapping[str, str]) -> Finding:
    if info.get("aof_enabled") == "1":
        return Finding(
            "persistence", "good", "the append-only file is on: a restart loses a second of the feed at most"
        )
    text = (
        "the append-only file is off: a restart loses the feed since the last snapshot. Relays go on, and readers that "
        "were up to date lose nothing; others get a gap"
    )
    return Finding("persistence", "warning", text)


def _replicas(info: Mapping[str, str]) -> Finding:
    if (count := int(info.get("connected_slaves", "0"))) == 0:
        text = "there is no replica: while this server is down, the feed stands still"
        return Finding("replication", "warning", text)
    return Finding("replication", "good", f"{count} replicas; what a failover loses is reported to readers as a gap")


def _times(client: Any) -> Iterator[Finding]:
    took = []
    for _ in range(PINGS):
        begun = time.monotonic()
        seconds, microseconds = client.execute_command("TIME")
        took.append(time.monotonic() - begun)
    apart = abs(int(seconds) + int(microseconds) / 1e6 - time.time())
    answer = min(took)
    if answer > SLOW:
        yield Finding("answer", "warning", f"an answer takes {answer * 1000:.1f} ms, which every message waits for")
    else:
        yield Finding("answer", "good", f"an answer takes {answer * 1000:.2f} ms")
    if apart > CLOCKS_APART:
        yield Finding("clock", "warning", f"the server's clock and this one's are {apart:.1f} s apart; use NTP on both")
    else:
        yield Finding("clock", "good", "the server's clock and this one's agree")


def _feed(client: Any, address: RelayAddress) -> Finding:
    keys = address.keys()
    about = {
        name.decode(): value.decode() for name, value in wire.pairs_of(client.execute_command("HGETALL", keys.about))
    }
    if not about:
        return Finding("feed", "good", f"there is no feed {address.feed!r} yet")
    holder = client.execute_command("GET", keys.lease)
    length = client.execute_command("XLEN", keys.stream)
    who = "no relay writes it now" if holder is None else f"the relay {holder.decode()} writes it"
    text = f"the feed {address.feed!r} of {about.get('venue', 'an unknown venue')} has {length} entries; {who}"
    return Finding("feed", "good", text)
