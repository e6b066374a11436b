"""Live data of the Iran Mercantile Exchange (IME): the codec, its messages, the credentials and the stream.

::

    from finx_sync.venues.ime import ImeStream
"""

from __future__ import annotations

from finx_sync.venues.ime.auth import Bearer, Cookie, Credentials, Header, QueryToken
from finx_sync.venues.ime.codec import ImeCodec
from finx_sync.venues.ime.messages import Aggregate, AllowedRange, ContractInfo, ImeContract, Limit
from finx_sync.venues.ime.stream import ImeStream

__all__ = [
    "Aggregate",
    "AllowedRange",
    "Bearer",
    "ContractInfo",
    "Cookie",
    "Credentials",
    "Header",
    "ImeCodec",
    "ImeContract",
    "ImeStream",
    "Limit",
    "QueryToken",
]
