"""Where a feed is: the URL of a Redis server, and a connection to it. Nothing here retries anything."""

from __future__ import annotations

import importlib
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from finx_sync.config import FEED_SCHEMES
from finx_sync.errors import (
    AuthorizationError,
    ConfigError,
    ConnectError,
    ConnectTimeoutError,
    FinxSyncError,
    MissingExtraError,
    NameResolutionError,
    ServerRefusedError,
    TLSError,
)
from finx_sync.redaction import remember, shown
from finx_sync.relay.wire import Keys
from finx_sync.spelling import did_you_mean

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["RelayAddress", "checked_feed", "redis_library", "translated"]

CONNECT_TIMEOUT: Final = 5.0
"""Seconds for opening a connection."""
READ_TIMEOUT: Final = 5.0
"""Seconds for an answer."""
DEFAULT_PORT: Final = 6379
DEFAULT_SENTINEL_PORT: Final = 26379
MAX_PORT: Final = 65_535
_FEED: Final = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_TLS_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_PARAMETERS: Final = ("feed", *_TLS_FILES)
_EXAMPLE: Final = "redis://127.0.0.1:6379/0?feed=finx"


def checked_feed(name: object) -> str:
    """The name of a feed.

    Raises:
        ConfigError: it is not a name that can be part of a Redis key.
    """
    if not isinstance(name, str) or _FEED.fullmatch(name) is None:
        raise ConfigError(
            f"{name!r} is not the name of a feed, which has 1 to 100 letters, digits or any of . _ : - in it"
        )
    return name


def redis_library() -> Any:
    """The package redis.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module("redis")
    except ImportError as error:
        raise MissingExtraError(
            'a feed on Redis needs the Redis client: install it with: pip install "finx-sync[redis]"'
        ) from error


@dataclass(frozen=True)
class RelayAddress:
    """A feed on a Redis server. `parse` reads it from a URL.

    Attributes:
        scheme: one of `finx_sync.config.FEED_SCHEMES`.
        hosts: the server's host and port; with Sentinel or Cluster, those of some of its nodes.
        feed: the feed's name.
        database: the number of the database; 0 with Cluster.
        username, password: the credentials; None if there are none.
        master: the name by which Sentinel knows the master; "" without Sentinel.
        tls: the files of certificates and keys, by the names that redis-py gives them.
    """

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    feed: str
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    master: str = ""
    tls: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, url: str, *, default_feed: str = "", feed: str | None = None) -> RelayAddress:
        """Read a URL. No I/O.

        These are understood: ``redis://[[user]:password@]host[:port][/database]``, ``rediss://…`` for TLS,
        ``redis+sentinel://host[:port][,host…]/master[/database]`` and ``redis+cluster://host[:port][,host…]``; and
        ``?feed=NAME`` after any of these, as well as ``ssl_ca_certs``, ``ssl_certfile`` and ``ssl_keyfile``.

        Args:
            url: the URL.
            default_feed: the feed's name if neither `feed` nor the URL has one.
            feed: the feed's name; None for the one in the URL.

        Raises:
            ConfigError: it is not such a URL.
        """
        if not isinstance(url, str):
            raise ConfigError(f"the address of a feed is a URL like {_EXAMPLE}, not {type(url).__name__}")
        try:
            parts = urlsplit(url)
        except ValueError:
            raise _bad("its host cannot be read") from None
        scheme = parts.scheme.lower()
        if scheme not in FEED_SCHEMES:
            raise ConfigError(f"{shown(scheme)!r} is no scheme of a feed's address{did_you_mean(scheme, FEED_SCHEMES)}")
        login, _, where = parts.netloc.rpartition("@")
        username, _, password = (unquote(one) for one in login.partition(":"))
        remember(password)
        parameters = _parameters(parts.query)
        is_sentinel, is_cluster = scheme.endswith("+sentinel"), scheme.endswith("+cluster")
        path = [unquote(one) for one in parts.path.split("/") if one]
        master = path.pop(0) if is_sentinel and path else ""
        if is_sentinel and not master:
            raise _bad("it does not say which master Sentinel is to be asked for, like /mymaster after the hosts")
        if len(path) > 1 or (path and not path[0].isdecimal()):
            raise _bad("after the host it may only have the number of the database")
        if path and is_cluster and int(path[0]):
            raise _bad("a Redis Cluster has only the database 0")
        hosts = _hosts(where, DEFAULT_SENTINEL_PORT if is_sentinel else DEFAULT_PORT)
        if len(hosts) > 1 and not (is_sentinel or is_cluster):
            raise _bad("only Sentinel and Cluster have several hosts")
        return cls(
            scheme=scheme,
            hosts=hosts,
            feed=checked_feed(feed if feed is not None else parameters.get("feed", default_feed)),
            database=int(path[0]) if path else 0,
            username=username or None,
            password=password or None,
            master=master,
            tls=tuple((name, parameters[name]) for name in _TLS_FILES if name in parameters),
        )

    def __str__(self) -> str:
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        path = [one for one in (self.master, str(self.database) if self.database else "") if one]
        return f"{self.scheme}://{'/'.join((hosts, *path))}?feed={self.feed}"

    def keys(self, partition: int = 0) -> Keys:
        """The names of the Redis keys of a partition."""
        return Keys(self.feed, partition)

    def connect(
        self,
        partition: int = 0,
        *,
        name: str = "finx-sync",
        timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
    ) -> Redis:
        """Open one connection to the server that holds a partition: Sentinel's master, or a node of the Cluster.

        The client has this one connection and does not retry a command. After an error, `close` it and connect again.

        Args:
            partition: the partition's number.
            name: the connection's name in the server's list of clients.
            timeout: seconds for each attempt to open a connection.
            read_timeout: seconds to wait for an answer.

        Raises:
            MissingExtraError: the package redis is not installed.
            AuthorizationError: the password was refused.
            ConnectError: no server can be reached; the subclass says why.
            ServerRefusedError: the server answered with another error.
        """
        redis = redis_library()
        settings = self._settings(redis, name, timeout, read_timeout)
        if self.scheme.endswith("+sentinel"):
            find = self._find_master
        elif self.scheme.endswith("+cluster"):
            find = self._find_node
        else:
            return self._open(redis, self.hosts[0], {**settings, "db": self.database})
        failure: FinxSyncError | None = None
        for seed in self.hosts:
            try:
                host = find(redis, seed, settings, partition)
                return self._open(redis, host, {**settings, "db": self.database})
            except (ConnectError, ServerRefusedError) as error:
                failure = failure or error
        assert failure is not None
        raise failure

    def _settings(self, redis: Any, name: str, timeout: float, read_timeout: float) -> dict[str, Any]:
        return {
            "username": self.username,
            "password": self.password,
            "client_name": name.replace(" ", "-"),
            "protocol": 2,  # replies are what the server sends; RESP3 maps would lose the order of repeated names
            "socket_connect_timeout": timeout,
            "socket_timeout": read_timeout,
            "socket_keepalive": True,
            "health_check_interval": 0,
            # A hidden retry would send a command twice, or hide a cut.
            "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0),
            "retry_on_error": [],
            "single_connection_client": True,
            "ssl": self.scheme.startswith("rediss"),
            **(dict(self.tls) if self.scheme.startswith("rediss") else {}),
        }

    def _open(self, redis: Any, host: tuple[str, int], settings: Mapping[str, Any]) -> Redis:
        try:
            client: Redis = redis.Redis(host=host[0], port=host[1], **settings)
        except (redis.RedisError, OSError) as error:
            raise translated(error, f"{host[0]}:{host[1]}") from error
        return client

    def _ask(self, redis: Any, host: tuple[str, int], settings: Mapping[str, Any], *command: Any) -> Any:
        """Ask a node on a connection of its own, which is closed again."""
        client: Any = self._open(redis, host, settings)
        try:
            return client.execute_command(*command)
        except (redis.RedisError, OSError) as error:
            raise translated(error, f"{host[0]}:{host[1]}") from error
        finally:
            client.close()

    def _find_master(
        self, redis: Any, seed: tuple[str, int], settings: Mapping[str, Any], partition: int
    ) -> tuple[str, int]:
        # The URL's password is the data nodes'; a Sentinel has none as a rule, and would refuse it.
        plain = {**settings, "username": None, "password": None}
        found = self._ask(redis, seed, plain, "SENTINEL GET-MASTER-ADDR-BY-NAME", self.master)
        if not found:
            raise ConnectError(f"Sentinel at {seed[0]}:{seed[1]} knows no master {self.master!r}")
        return _text(found[0]), int(found[1])

    def _find_node(
        self, redis: Any, seed: tuple[str, int], settings: Mapping[str, Any], partition: int
    ) -> tuple[str, int]:
        slot = redis.crc.key_slot(self.keys(partition).stream.encode())
        slots = self._ask(redis, seed, {**settings, "single_connection_client": True}, "CLUSTER SLOTS")
        for (first, last), node in _ranges(slots):
            if first <= slot <= last:
                return node[0] or seed[0], node[1]
        raise ConnectError(f"the cluster at {seed[0]}:{seed[1]} has no node for the feed {self.feed!r}")


def translated(error: BaseException, where: str = "Redis") -> FinxSyncError:
    """What an error of redis-py or of the socket means, as an error of this library; the caller raises it.

    Args:
        error: the error.
        where: the server, for the text.
    """
    exceptions = redis_library().exceptions
    said = shown(str(error), 300) or type(error).__name__
    cause = _cause(error)
    if isinstance(error, (exceptions.AuthenticationError, exceptions.NoPermissionError)) or "NOAUTH" in said:
        return AuthorizationError(f"Redis at {where} refused the credentials and said {said!r}; check the URL")
    if isinstance(cause, ssl.SSLError):
        return TLSError(f"TLS with Redis at {where} failed: {said}")
    if isinstance(cause, socket.gaierror):
        return NameResolutionError(f"the host of {where} has no address: {said}")
    if isinstance(error, (exceptions.TimeoutError, TimeoutError)):
        return ConnectTimeoutError(f"Redis at {where} did not answer in time")
    if isinstance(error, (exceptions.ConnectionError, OSError)):
        return ConnectError(f"Redis at {where} cannot be reached: {said}")
    return ServerRefusedError("Redis", said)


def _cause(error: BaseException) -> BaseException:
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return error


def _bad(why: str) -> ConfigError:
    return ConfigError(f"the address of the feed cannot be used: {why}; it looks like {_EXAMPLE}")


def _parameters(query: str) -> dict[str, str]:
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    for name in parameters:
        if name not in _PARAMETERS:
            raise ConfigError(f"the address of a feed has no parameter {name!r}{did_you_mean(name, _PARAMETERS)}")
    return parameters


def _hosts(where: str, default_port: int) -> tuple[tuple[str, int], ...]:
    return tuple(_host(one, default_port) for one in where.split(","))


def _host(text: str, default_port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _bad(f"a port is a number up to {MAX_PORT}") from None
    if not host:
        raise _bad("it names no host")
    return host, default_port if port is None else port


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _ranges(slots: Any) -> list[tuple[tuple[int, int], tuple[str, int]]]:
    """The ranges of slots and their masters: redis-py gives a dictionary, the server a list."""
    if isinstance(slots, dict):
        return [(span, (_text(one["primary"][0]), int(one["primary"][1]))) for span, one in slots.items()]
    return [((int(one[0]), int(one[1])), (_text(one[2][0]), int(one[2][1]))) for one in slots]
