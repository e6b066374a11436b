"""The shape that every venue's stream has: what users touch, wired to the layers below."""

from finx_sync.stream.stream import Stream

__all__ = ["Stream"]
