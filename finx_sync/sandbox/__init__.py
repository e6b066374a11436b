"""A local server that speaks the venues' protocols over real sockets: no key, no open market, no network needed.

::

    with Sandbox() as sandbox:
        print(sandbox.url)   # ws://127.0.0.1:PORT, the key is "sandbox-key", the secret "sandbox-secret"

From the market to the socket: `prices` (index prices) → `chain` (what is listed) → `market` (tickers and trades),
`history` (past days), `account` (orders and positions, with a `robot` that trades) → each venue's own half, in its
folder (`finx_sync/venues/NAME/sandbox/`) → `connection`, `hub` (websockets and their record) → `server` (the thread,
which mounts the halves that the registry finds). `host` says what a half is given. The halves have codecs of their own:
shared ones would let a mistake cancel itself out.
"""

from __future__ import annotations

from finx_sync.errors import MissingExtraError

try:
    # Asked for first, so that its absence is told apart from a mistake in our own modules.
    import aiohttp as _aiohttp  # noqa: F401 - only asked for
except ModuleNotFoundError as error:
    raise MissingExtraError(
        'the sandbox needs aiohttp, which is not installed: pip install "finx-sync[sandbox]"'
    ) from error

from finx_sync.sandbox.hub import ConnectionInfo
from finx_sync.sandbox.server import Sandbox

__all__ = ["ConnectionInfo", "Sandbox"]
