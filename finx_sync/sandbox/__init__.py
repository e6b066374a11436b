"""A local server that speaks the venues' protocols over real sockets; it needs no key, no open market, no network.

::

    with Sandbox() as sandbox:
        print(sandbox.url)   # ws://127.0.0.1:PORT, the key is "sandbox-key", the secret "sandbox-secret"

From the market to the socket: `prices` (index prices) → `chain` (listed instruments) → `market` (tickers and trades),
`history` (past days), `account` (orders and positions, with a `robot` that trades) → each venue's part of the sandbox,
in the venue's folder (`finx_sync/venues/NAME/sandbox/`) → `connection`, `hub` (websockets and their record) → `server`
(the thread, which mounts the parts that the registry finds). `host` is the interface between a part and the sandbox.
The parts do not use the client's codecs: a mistake in a shared codec would cancel itself out.
"""

from __future__ import annotations

from finx_sync.errors import MissingExtraError

try:
    # Imported first, to distinguish a missing aiohttp from an import error in the sandbox's own modules.
    import aiohttp as _aiohttp  # noqa: F401 - only to check
except ModuleNotFoundError as error:
    raise MissingExtraError(
        'the sandbox needs aiohttp, which is not installed; install it: pip install "finx-sync[sandbox]"'
    ) from error

from finx_sync.sandbox.hub import ConnectionInfo
from finx_sync.sandbox.server import Sandbox

__all__ = ["ConnectionInfo", "Sandbox"]
