"""Many ticks at once: columns instead of objects, bars, and export to frames and files."""

from __future__ import annotations

from finx_sync.ticks.bars import Bar, Bars
from finx_sync.ticks.history import TickHistory
from finx_sync.ticks.labels import Rejected, Unproven

__all__ = ["Bar", "Bars", "Rejected", "TickHistory", "Unproven"]
