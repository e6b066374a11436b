"""`Run`: one run of a stream, either live or playing a recording."""

from __future__ import annotations

from finx_sync.recorder.playback import Playback
from finx_sync.session.session import Session

__all__ = ["Run"]

Run = Session | Playback
