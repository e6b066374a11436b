"""Raw payloads with their receive times on disk, and back into the same handlers.

`format` (bytes) → `writer` (a tap's thread) → `reader` → `playback` (a session without a network) and `convert`.
"""

from __future__ import annotations

from finx_sync.recorder.reader import Damage
from finx_sync.recorder.replay import Replay
from finx_sync.recorder.writer import Recording

__all__ = ["Damage", "Recording", "Replay"]
