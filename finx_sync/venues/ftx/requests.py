"""What a client of FTX sends: subscriptions, logins, pings.

Source: FTX documentation, *Websocket API*.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any, Final

from finx_sync.venues.base import Subscription

__all__ = ["CHANNELS", "PING", "PRIVATE_CHANNELS", "FtxCredentials", "command", "login", "sign", "wish"]

PRIVATE_CHANNELS: Final = frozenset({"fills", "orders", "ftxpay"})
"""An account's own: they need a login, and know no market."""
CHANNELS: Final = frozenset({"ticker", "trades", "orderbook", "orderbookGrouped", "markets"}) | PRIVATE_CHANNELS
PING: Final = '{"op":"ping"}'


@dataclass(frozen=True, repr=False)
class FtxCredentials:
    """An API key, its secret, and the subaccount to log in to; None for the main account. Never shown."""

    key: str
    secret: str
    subaccount: str | None = None

    def __repr__(self) -> str:
        return "FtxCredentials(***)"


def sign(secret: str, milliseconds: int) -> str:
    """The signature of a login at a time in UNIX milliseconds: HMAC-SHA256 in lower-case hex."""
    return hmac.new(secret.encode(), f"{milliseconds}websocket_login".encode(), hashlib.sha256).hexdigest()


def login(credentials: FtxCredentials, now: float) -> str:
    """The login of this moment, UNIX seconds; the server refuses it when it is stale."""
    milliseconds = int(now * 1000)
    args: dict[str, Any] = {
        "key": credentials.key,
        "sign": sign(credentials.secret, milliseconds),
        "time": milliseconds,
    }
    if credentials.subaccount is not None:  # null would be another subaccount
        args["subaccount"] = credentials.subaccount
    return _dumps({"op": "login", "args": args})


def wish(channel: str, market: str | None = None, grouping: float | None = None) -> Subscription:
    """The subscription of a channel: of all of it, of a market, or of a market's book in steps of `grouping`."""
    name = market or ""
    return Subscription(channel, name if grouping is None else f"{name}@{grouping:.15g}")


def command(op: str, subscription: Subscription) -> str:
    """The message that subscribes or unsubscribes."""
    message: dict[str, Any] = {"op": op, "channel": subscription.kind}
    market, at, grouping = subscription.name.partition("@")
    if market:
        message["market"] = market
    if at:
        step = float(grouping)
        message["grouping"] = int(step) if step.is_integer() else step
    return _dumps(message)


def _dumps(message: dict[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"))
