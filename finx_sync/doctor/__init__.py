"""What is wrong between this machine and a server: each step of connecting by itself, with its time and its remedy.

The steps are those of a stream, taken with the same functions, one after the other: where one fails, those behind it
are not tried. Nothing is printed here; `finx-sync doctor` does that.
"""

from finx_sync.doctor.examination import examine
from finx_sync.doctor.findings import STEPS, Finding, Step

__all__ = ["STEPS", "Finding", "Step", "examine"]
