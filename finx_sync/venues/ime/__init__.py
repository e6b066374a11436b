"""IME, the Iran Mercantile Exchange's live data: the dialect, its messages, how to log in; and the stream, made above.

::

    from finx_sync.venues.ime import ImeStream
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finx_sync.venues.ime.auth import Bearer, Cookie, Credentials, Header, QueryToken
from finx_sync.venues.ime.dialect import ImeDialect
from finx_sync.venues.ime.messages import Aggregate, AllowedRange, ContractInfo, ImeContract, Limit

if TYPE_CHECKING:
    from finx_sync.streams.ime import ImeStream

__all__ = [
    "Aggregate",
    "AllowedRange",
    "Bearer",
    "ContractInfo",
    "Cookie",
    "Credentials",
    "Header",
    "ImeContract",
    "ImeDialect",
    "ImeStream",
    "Limit",
    "QueryToken",
]


def __getattr__(name: str) -> Any:
    """Fetch the stream from the layer above when it is asked for: the dialect itself needs nothing of it."""
    if name == "ImeStream":
        from finx_sync.streams.ime import ImeStream

        return ImeStream
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
