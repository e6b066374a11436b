"""Create the streams of the commands, from the registry of venues and the command line's arguments."""

from __future__ import annotations

import argparse

from finx_sync.config import SANDBOX
from finx_sync.errors import InvalidInputError
from finx_sync.stream import Stream
from finx_sync.venues.registry import Show, find

__all__ = ["Show", "opened", "player"]


def opened(options: argparse.Namespace, show: Show) -> Stream:
    """Return a stream of a command's venue, subscribed to the names, with `show` as its handler. No I/O.

    Raises:
        InvalidInputError: no names are given.
        ConfigError: the venue or its environment does not exist, or its credentials are missing.
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
    """Return a stream that plays recordings of a venue to `show`; it is never started."""
    venue = find(name)
    stream = venue.open(environment=SANDBOX if SANDBOX in venue.environments else None)
    venue.listen(stream, show)
    return stream
