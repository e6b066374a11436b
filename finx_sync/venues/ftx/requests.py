"""The messages that a client of FTX sends: subscriptions, logins and pings.

Source: FTX documentation, *Websocket API*.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any, Final

from finx_sync.venues.base import Subscription

__all__ = ["CHANNELS", "PING", "PRIVATE_CHANNELS", "FtxCredentials", "command", "login", "sign", "subscription_to"]

PRIVATE_CHANNELS: Final = frozenset({"fills", "orders", "ftxpay"})
"""The channels of an account, which require a login and belong to no market."""
CHANNELS: Final = frozenset({"ticker", "trades", "orderbook", "orderbookGrouped", "markets"}) | PRIVATE_CHANNELS
PING: Final = '{"op":"ping"}'


@dataclass(frozen=True, repr=False)
class FtxCredentials:
    """An API key, its secret, and the subaccount to log in to (None for the main account). Never shown."""

    key: str
    secret: str
    subaccount: str | None = None

    def __repr__(self) -> str:
        return "FtxCredentials(***)"


def sign(secret: str, milliseconds: int) -> str:
    """Return the signature of a login at a time in UNIX milliseconds: HMAC-SHA256 in lower-case hex."""
    return hmac.new(secret.encode(), f"{milliseconds}websocket_login".encode(), hashlib.sha256).hexdigest()


def login(credentials: FtxCredentials, now: float) -> str:
    """Return a login message; `now` is UNIX seconds, and the server refuses an old time."""
    milliseconds = int(now * 1000)
    args: dict[str, Any] = {
        "key": credentials.key,
        "sign": sign(credentials.secret, milliseconds),
        "time": milliseconds,
    }
    if credentials.subaccount is not None:  # null would not mean the main account
        args["subaccount"] = credentials.subaccount
    return _dumps({"op": "login", "args": args})


def subscription_to(channel: str, market: str | None = None) -> Subscription:
    """Return the subscription to a channel of a market; the name of a channel without markets is the channel."""
    return Subscription(channel, market or channel)


def command(op: str, subscription: Subscription, grouping: float | None = None) -> str:
    """Return a message that subscribes or unsubscribes; `grouping` is the step of a grouped book."""
    message: dict[str, Any] = {"op": op, "channel": subscription.kind}
    if subscription.name != subscription.kind:
        message["market"] = subscription.name
    if grouping is not None:
        message["grouping"] = int(grouping) if float(grouping).is_integer() else grouping
    return _dumps(message)


def _dumps(message: dict[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"))
