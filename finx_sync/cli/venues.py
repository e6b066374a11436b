"""Streams for the commands: a venue of the registry, what the command line says of it, and a function that shows."""

from __future__ import annotations

import argparse

from finx_sync.config import SANDBOX
from finx_sync.errors import InvalidInputError
from finx_sync.stream import Stream
from finx_sync.venues.registry import Show, find

__all__ = ["Show", "opened", "player"]


def opened(options: argparse.Namespace, show: Show) -> Stream:
    """A stream of a command's venue, subscribed to its names, and with a handler that shows everything. No I/O.

    Raises:
        InvalidInputError: there are no names.
        ConfigError: no such venue, or no such environment of it; or its credentials are missing.
    """
    venue = find(options.venue)
    if not options.names:
        raise InvalidInputError(f"name at least one of the venue's streams, like {venue.example}")
    stream = venue.open(
        environment=options.environment,
        url=options.url,
        api_key=options.api_key,
        allow_insecure=options.allow_insecure,
    )
    venue.subscribe(stream, options.names)
    venue.listen(stream, show)
    return stream


def player(name: str, show: Show) -> Stream:
    """A stream of a venue that shows everything, for a recording: it is never started."""
    venue = find(name)
    stream = venue.open(environment=SANDBOX if SANDBOX in venue.environments else None)
    venue.listen(stream, show)
    return stream
