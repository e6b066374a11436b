"""The keys that clients need, each with its limits: a file of hashes, read again when it has changed."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from finx_sync.errors import ConfigError
from finx_sync.spelling import nearest

__all__ = ["ANYBODY", "Key", "KeyRing", "hash_of"]

_HASH: Final = re.compile(r"[0-9a-f]{64}")


def hash_of(key: str) -> str:
    """How a key stands in the file: its SHA-256, in hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass(frozen=True)
class Key:
    """A client's key.

    Attributes:
        name: for logs and metrics; the key itself is nowhere.
        connections: how many connections may be open with it at a time; 0 for any number.
        subscriptions: how many names one connection may subscribe to; 0 for any number.
        names: what it may subscribe to, like ``contract:BTC-*``; empty for everything. ``*`` at the end stands for the
            rest.
    """

    name: str
    connections: int = 0
    subscriptions: int = 0
    names: tuple[str, ...] = ()

    def allows(self, tag: str) -> bool:
        """Whether it may subscribe to a tag."""
        return not self.names or any(
            tag.startswith(name[:-1]) if name.endswith("*") else tag == name for name in self.names
        )


ANYBODY: Final = Key("anybody")
"""The key of a gateway that is open to everybody."""
FIELDS: Final = ("name", "sha256", "connections", "subscriptions", "names")


class KeyRing:
    """The keys. On the event loop's thread, but for the constructor.

    Args:
        path: the file, JSON lines with the fields ``name``, ``sha256``, ``connections``, ``subscriptions`` and
            ``names``; None for a gateway that is open to everybody.

    Raises:
        ConfigError: the file cannot be read.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._keys: dict[str, Key] = {}
        self._read_at: tuple[int, int] | None = None
        self._open: Counter[str] = Counter()
        if path is not None:
            self._read_at = _stamp(path)
            self._keys = _read(path)

    @property
    def is_open(self) -> bool:
        """Whether everybody may connect."""
        return self._path is None

    def find(self, key: str | None) -> Key | None:
        """What a key allows; None if there is no such key."""
        if self._path is None:
            return ANYBODY
        given = hash_of(key or "")
        found = None
        for known, allowed in self._keys.items():  # all of them, so that the time says nothing
            if hmac.compare_digest(known, given):
                found = allowed
        return found

    def enter(self, key: Key) -> bool:
        """Open a connection with a key; returns False if it has as many as it may have."""
        if key.connections and self._open[key.name] >= key.connections:
            return False
        self._open[key.name] += 1
        return True

    def leave(self, key: Key) -> None:
        """Close a connection that `enter` has let in."""
        self._open[key.name] -= 1

    def reload(self) -> ConfigError | None:
        """Read the file again if it has changed. Returns why it cannot be read; the keys stay as they were then."""
        if self._path is None:
            return None
        try:
            stamp = _stamp(self._path)
            if stamp == self._read_at:
                return None
            self._read_at = stamp
            self._keys = _read(self._path)
        except ConfigError as error:
            return error
        return None


def _stamp(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise ConfigError(f"the keys in {path} cannot be read: {error.strerror}") from None
    return status.st_mtime_ns, status.st_size


def _read(path: str) -> dict[str, Key]:
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"the keys in {path} cannot be read: {why}") from None
    keys: dict[str, Key] = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            sha256, key = _key(line, f"line {number} of {path}")
            keys[sha256] = key
    return keys


def _key(line: str, where: str) -> tuple[str, Key]:
    try:
        entry: Any = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{where} is not JSON: {error}") from None
    if not isinstance(entry, dict):
        raise ConfigError(f'{where} is not an object like {{"name": "bots", "sha256": "..."}}')
    for name in entry:
        if name not in FIELDS:
            raise ConfigError(f"{where} has an unknown field {name!r}{nearest(name, list(FIELDS))}")
    name, sha256 = entry.get("name"), entry.get("sha256")
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{where} has no name")
    if not isinstance(sha256, str) or _HASH.fullmatch(sha256.lower()) is None:
        raise ConfigError(
            f"{where} has no sha256 of 64 hexadecimal digits; `finx-sync serve --hash` makes one from a key"
        )
    limits = {limit: entry.get(limit, 0) for limit in ("connections", "subscriptions")}
    for limit, value in limits.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= sys.maxsize:
            raise ConfigError(f"{where}: {limit} is a whole number, 0 for any number")
    names = entry.get("names", [])
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        raise ConfigError(f"{where}: names is a list of texts like contract:BTC-*")
    return sha256.lower(), Key(name, limits["connections"], limits["subscriptions"], tuple(names))
