"""Read a page of history that is not in the usual form row by row, so that one bad row does not affect others."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from finx_sync.messages import Tick
from finx_sync.ticks.columns import ExchangeNames, micros
from finx_sync.ticks.page import BadRow, DayPage, page_of_ticks, same_pair
from finx_sync.venues.finx import read_tick

__all__ = ["rows_of_page"]

_NOT_A_TICK = (msgspec.ValidationError, ValueError, OverflowError)


def rows_of_page(text: str, pair: str, date: str, names: ExchangeNames) -> DayPage | None:
    """Read a page; None if it is not a page, but an object with keys that are not numbers, or not JSON."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not all(key.isdigit() for key in value):
        return None
    if value and not any(isinstance(row, dict) for row in value.values()):
        return None
    ticks: list[Tick] = []
    bad: list[BadRow] = []
    for row in value.values():
        try:
            tick = read_tick(row)
            micros(tick.datetime)
        except (*_NOT_A_TICK, AttributeError, TypeError) as error:
            aside = _set_aside(row, pair, date, str(error))
            if isinstance(aside, Tick):
                ticks.append(aside)
            else:
                bad.append(aside)
        else:
            ticks.append(tick)
    return page_of_ticks(ticks, pair, date, names, bad)


def _set_aside(row: Any, pair: str, date: str, reason: str) -> Tick | BadRow:
    """Return a bad row, or, if the row names another pair or day, a bare tick that counts as one of those."""
    if not isinstance(row, dict):
        return BadRow(None, row, "it is not an object")
    try:
        bare = read_tick({"pair": row.get("pair") or pair, "date": row.get("date") or date, "time": row.get("time")})
        stamp = micros(bare.datetime)
    except (*_NOT_A_TICK, AttributeError, TypeError):
        return BadRow(None, row, reason)
    is_ours = bare.date == date and same_pair(bare.pair, pair)
    return BadRow(stamp, row, reason) if is_ours else bare
