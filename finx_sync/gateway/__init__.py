"""The gateway: one feed, served to any number of clients in any language.

A source (a feed on Redis, or a stream in this process) hands messages to the `Hub`, which queues them for the clients
that want them; each client writes them in the form of its protocol. Everything but the source runs on one event loop,
the thread named "finx-sync gateway".
"""

from finx_sync.gateway.server import Gateway

__all__ = ["Gateway"]
