"""Option chains as frames and plots: `chain` (pandas, extra ``greeks``) and `plots` (matplotlib, extra ``plot``).

The rest of the library imports nothing from here before it is used.
"""

from __future__ import annotations

from finx_sync.analytics.chain import CHAIN_COLUMNS, chain_frame, term_structure
from finx_sync.analytics.plots import plot_smile, plot_term_structure

__all__ = ["CHAIN_COLUMNS", "chain_frame", "plot_smile", "plot_term_structure", "term_structure"]
