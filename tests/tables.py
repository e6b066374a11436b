"""Compares BitMEX tables with the sandbox's own."""

from __future__ import annotations

import json
from typing import Any

from finx_sync.sandbox import Sandbox
from finx_sync.venues.bitmex import BitmexStream

__all__ = ["agrees", "canonical"]


def canonical(rows: list[dict[str, Any]]) -> list[str]:
    """Rows that can be compared, whatever their order."""
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def agrees(stream: BitmexStream, sandbox: Sandbox, table: str) -> bool:
    """Whether a table is row by row what the sandbox has: of one that grows, the rows since the image."""
    storage, theirs = stream.storage, sandbox.controls("bitmex").rows(table)
    mine, keys = storage.data.get(table), storage.keys.get(table)
    if mine is None or keys is None:
        return False
    if table == "order":
        mine = [row for row in mine if row["leavesQty"]]
    if not keys:
        symbols = {row["symbol"] for row in theirs}
        counts = {symbol: len(storage.rows(table, symbol)) for symbol in symbols}
        rows = {symbol: [row for row in theirs if row["symbol"] == symbol] for symbol in symbols}
        theirs = [row for symbol in symbols for row in rows[symbol][len(rows[symbol]) - counts[symbol] :]]
    return canonical(mine) == canonical(theirs)
