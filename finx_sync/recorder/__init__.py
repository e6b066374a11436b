"""Records raw payloads with their receive times to files, and replays them to the same handlers.

`format` (the file format) → `writer` (a sink with its own thread) → `reader` → `playback` (a run without a network) and
`convert` (to tables).
"""

from __future__ import annotations

from finx_sync.recorder.reader import Damage
from finx_sync.recorder.replay import Replay
from finx_sync.recorder.writer import Recording

__all__ = ["Damage", "Recording", "Replay"]
