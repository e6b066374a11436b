"""A run of a stream: live, or of a recording."""

from __future__ import annotations

from finx_sync.recorder.playback import Playback
from finx_sync.session.session import Session

__all__ = ["Run"]

Run = Session | Playback
