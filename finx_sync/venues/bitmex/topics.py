"""BitMEX's topics: a table ("margin"), or one symbol of a table ("trade:XBTUSD").

Source: BitMEX documentation, *WebSocket API*, section *Subscriptions*.
"""

from __future__ import annotations

import re
from typing import Final

from finx_sync.errors import InvalidInputError
from finx_sync.venues.base import MAIN_ENDPOINT, Subscription
from finx_sync.venues.bitmex.messages import TableUpdate

__all__ = [
    "PLATFORM_ENDPOINT",
    "PLATFORM_TABLES",
    "PRIVATE_TABLES",
    "SYMBOLLESS_TABLES",
    "TOPIC",
    "answered_by",
    "covers",
    "endpoint_of",
    "parse_topic",
    "split_topic",
]

TOPIC: Final = "topic"
"""The kind of every subscription; its name is the topic."""

PLATFORM_ENDPOINT: Final = "platform"
PLATFORM_TABLES: Final = frozenset({"announcement", "chat", "connected", "publicNotifications"})
"""The tables that are served on a separate connection; they have no symbols."""
PRIVATE_TABLES: Final = frozenset(
    {"account", "affiliate", "execution", "margin", "order", "position", "privateNotifications", "transact", "wallet"}
)
"""The tables of an account, which require credentials ("account-locked")."""
SYMBOLLESS_TABLES: Final = PLATFORM_TABLES | frozenset(
    {
        "account", "affiliate", "funds", "historical", "insurance", "margin", "privateNotifications", "transact",
        "wallet",
    }
)  # fmt: skip

_TABLE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_SYMBOL: Final = re.compile(r"[^\s,:\"\\]+")


def parse_topic(name: str) -> Subscription:
    """Return the subscription to a topic.

    Raises:
        InvalidInputError: it is not a topic.
    """
    table, colon, symbol = name.partition(":") if isinstance(name, str) else ("", "", "")
    if not _TABLE.fullmatch(table) or (colon and not _SYMBOL.fullmatch(symbol)):
        raise InvalidInputError(f"{name!r} is not a topic; give a name like 'margin' or 'trade:XBTUSD'")
    return Subscription(TOPIC, name)


def split_topic(name: str) -> tuple[str, str | None]:
    """Split a topic into its table and its symbol, which is None for all symbols."""
    table, _, symbol = name.partition(":")
    return table, symbol if symbol not in ("", "*") else None


def endpoint_of(topic: str) -> str:
    """Return the endpoint that serves a topic or a table."""
    return PLATFORM_ENDPOINT if topic in PLATFORM_TABLES else MAIN_ENDPOINT


def covers(name: str, table: str, symbol: str | None) -> bool:
    """Return whether a topic includes the rows of a symbol; if `symbol` is None, whether it is of the same table."""
    its_table, its_symbol = split_topic(name)
    return its_table == table and (its_symbol in (None, symbol) or symbol is None)


def answered_by(image: TableUpdate) -> str:
    """Return the topic that an image belongs to."""
    symbol = (image.filter or {}).get("symbol")
    return f"{image.table}:{symbol}" if symbol and isinstance(symbol, str) else image.table
