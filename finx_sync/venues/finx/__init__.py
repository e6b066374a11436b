"""FinX's protocol for contracts and spot rates. The stream is `finx_sync.StreamManager`."""

from __future__ import annotations

from finx_sync.venues.finx.codec import (
    CONTRACT,
    SPOT,
    FinxCodec,
    HistoryReply,
    NameList,
    Path,
    Raw,
    Reply,
    parse_reply,
    read_contracts,
    read_tick,
    request,
)

__all__ = [
    "CONTRACT",
    "SPOT",
    "FinxCodec",
    "HistoryReply",
    "NameList",
    "Path",
    "Raw",
    "Reply",
    "parse_reply",
    "read_contracts",
    "read_tick",
    "request",
]
