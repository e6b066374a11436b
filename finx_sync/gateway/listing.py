"""What a venue lists, so that a client can choose from it before anybody has subscribed."""

from __future__ import annotations

import logging
from typing import Any, Final

from finx_sync.errors import FinxSyncError
from finx_sync.functions.finx import FinxFunctions

__all__ = ["LIST_AGAIN", "listed_tags"]

logger = logging.getLogger("finx_sync.gateway")

LIST_AGAIN: Final = 3600.0
"""Seconds; listings change once a day."""
TIMEOUT: Final = 5.0


def listed_tags(stream: Any) -> list[str]:
    """The tags of the contracts and pairs that a stream's venue lists; empty for a venue that does not say.

    Blocks for at most ten seconds.
    """
    if not isinstance(stream, FinxFunctions):
        return []
    tags: list[str] = []
    for kind, function in (("contract", stream.list_contracts), ("spot", stream.list_pairs)):
        try:
            tags += (f"{kind}:{name}" for name in function(timeout=TIMEOUT))
        except FinxSyncError as error:
            logger.info("the gateway does not know every %s of the feed: %s", kind, error)
    return tags
