"""The base of every venue's stream: the public methods, connected to the layers below."""

from finx_sync.stream.stream import Stream

__all__ = ["Stream"]
