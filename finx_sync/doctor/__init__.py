"""Find out what is wrong between this machine and a server: each step of connecting, its duration and its remedy.

The steps are those of a stream and use the same functions, one after the other. If one fails, the later ones are not
tried. Nothing is printed here; `finx-sync doctor` does that.
"""

from finx_sync.doctor.examination import examine
from finx_sync.doctor.findings import STEPS, Finding, Step

__all__ = ["STEPS", "Finding", "Step", "examine"]
