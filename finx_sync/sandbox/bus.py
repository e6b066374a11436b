"""Publish and subscribe for a venue's part of the sandbox: inside the process, or on Redis, a channel for each subject.

Used on the event loop only.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Protocol

from finx_sync.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import PubSub

__all__ = ["Bus", "LocalBus", "RedisBus"]

logger = logging.getLogger("finx_sync.sandbox")

RETRY: Final = 0.5
"""Seconds between two attempts to read from Redis again."""

Receive = Callable[[str, str], None]
"""A function that receives a channel and a text."""


class Bus(Protocol):
    """A publish/subscribe channel.

    Attributes:
        is_shared: whether other processes may listen.
    """

    is_shared: bool

    async def open(self, channels: Iterable[str], receive: Receive) -> None:
        """Call `receive` with every text published on `channels`."""

    async def publish(self, channel: str, text: str) -> None:
        """Publish a text."""

    async def close(self) -> None:
        """Stop receiving, and close the connection if there is one."""


class LocalBus:
    """A bus inside the process."""

    is_shared = False

    def __init__(self) -> None:
        self._receive: Receive | None = None

    async def open(self, channels: Iterable[str], receive: Receive) -> None:
        """See `Bus`. The channels need no filter, since only the caller publishes."""
        self._receive = receive

    async def publish(self, channel: str, text: str) -> None:
        """See `Bus`."""
        if self._receive is not None:
            self._receive(channel, text)

    async def close(self) -> None:
        """See `Bus`."""
        self._receive = None


class RedisBus:
    """A bus on Redis Pub/Sub.

    Args:
        url: like ``redis://127.0.0.1:6379/0``.

    Raises:
        ConfigError: `url` is not a Redis URL.
        MissingExtraError: the client library is not installed.
    """

    is_shared = True

    def __init__(self, url: str) -> None:
        try:
            from redis import asyncio as redis
        except ImportError as error:
            raise MissingExtraError(
                'redis_url needs the Redis client, which is not installed; install it: pip install "finx-sync[redis]"'
            ) from error
        try:
            self._client: Redis = redis.from_url(url)
        except ValueError as error:
            raise ConfigError(
                f"redis_url is not a Redis URL ({error}); pass one like redis://127.0.0.1:6379/0"
            ) from None
        self._subscription: PubSub | None = None
        self._reader: asyncio.Task[None] | None = None

    async def open(self, channels: Iterable[str], receive: Receive) -> None:
        """See `Bus`.

        Raises:
            ConfigError: Redis cannot be reached.
        """
        from redis.exceptions import RedisError

        self._subscription = subscription = self._client.pubsub(ignore_subscribe_messages=True)
        try:
            await subscription.subscribe(*channels)
        except (RedisError, OSError) as error:
            await self._client.aclose()
            raise ConfigError(f"the sandbox cannot reach Redis ({error}); check redis_url") from error

        async def read() -> None:
            while True:
                try:
                    async for message in subscription.listen():
                        receive(message["channel"].decode(), message["data"].decode())
                except (RedisError, OSError) as error:
                    logger.warning("the sandbox lost its connection to Redis and tries again: %s", error)
                    await asyncio.sleep(RETRY)

        self._reader = asyncio.get_running_loop().create_task(read())

    async def publish(self, channel: str, text: str) -> None:
        """See `Bus`."""
        await self._client.publish(channel, text)

    async def close(self) -> None:
        """See `Bus`."""
        if self._reader is not None and self._subscription is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
            await self._subscription.aclose()  # type: ignore[no-untyped-call]
        await self._client.aclose()
