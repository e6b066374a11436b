"""The venues of `finx-sync stream`: what each needs to make a stream of the names on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from finx_sync.config import SANDBOX, SANDBOX_KEY, read_credentials
from finx_sync.errors import ConfigError
from finx_sync.manager import StreamManager
from finx_sync.stream import Stream
from finx_sync.venues.bitmex import BitmexStream, TableItem

__all__ = ["VENUES", "Show", "Venue", "embedded"]

SANDBOX_CREDENTIALS: Final = ("sandbox-key", "sandbox-secret")

Show = Callable[[Any], None]
"""Shows a message: a `Message`, or a named tuple."""


FTX_CHANNELS: Final = ("markets", "fills", "orders", "ftxpay")
FTX_MARKET_CHANNELS: Final = ("ticker", "trades", "orderbook")


@dataclass(frozen=True)
class Venue:
    """One venue.

    Attributes:
        example: names that it knows, for help and error texts.
        open: makes a stream from the command's options (`names`, `environment`, `url`, `api_key`, `allow_insecure`),
            subscribed to the names, and with a handler that shows everything. No I/O.
    """

    example: str
    open: Callable[[argparse.Namespace, Show], Stream]


def embedded(*names: str) -> argparse.Namespace:
    """The options for names of the embedded sandbox."""
    return argparse.Namespace(names=list(names), environment=SANDBOX, url=None, api_key=None, allow_insecure=False)


def _finx(options: argparse.Namespace, show: Show) -> Stream:
    manager = StreamManager(
        options.api_key, environment=options.environment, url=options.url, allow_insecure=options.allow_insecure
    )
    return _subscribed(manager, options, show)


def _deribit(options: argparse.Namespace, show: Show) -> Stream:
    known = {None: "deribit", "production": "deribit", "test": "deribit-test", "sandbox": "deribit-sandbox"}
    environment = known.get(options.environment, options.environment)
    return _subscribed(StreamManager(environment=environment, url=options.url), options, show)


def _ftx(options: argparse.Namespace, show: Show) -> Stream:
    from finx_sync.venues.ftx import FtxStream

    in_sandbox = options.environment == SANDBOX and not options.url
    where = SANDBOX if in_sandbox else options.url
    if not where:
        raise ConfigError(
            "the exchange FTX is gone: give --url wss://... of what speaks for it, or --environment sandbox"
        )
    key, secret = SANDBOX_CREDENTIALS if in_sandbox else read_credentials("FTX")
    stream = FtxStream(key, secret, url=where, allow_insecure=options.allow_insecure)
    for name in options.names:
        channel, colon, market = name.partition(":")
        if name in FTX_CHANNELS:
            getattr(stream, f"subscribe_{name}")()
        elif colon and channel in FTX_MARKET_CHANNELS:
            getattr(stream, f"subscribe_{channel}")(market)
        else:
            stream.subscribe_ticker(name)
    for register in (stream.on_ticker, stream.on_trade, stream.on_orderbook, stream.on_fill, stream.on_order):
        register(show)
    stream.on_markets(show)
    stream.on_ftxpay(show)
    return stream


def _ime(options: argparse.Namespace, show: Show) -> Stream:
    from finx_sync.venues.ime import ImeStream

    where = options.url or options.environment
    if not where:
        raise ConfigError("IME has no address of its own: give --url wss://..., or --environment sandbox")
    key = SANDBOX_KEY if options.environment == SANDBOX else read_credentials("IME")[0]
    stream = ImeStream(
        where,
        names=[name for name in options.names if not name.isdigit()],
        ids=[name for name in options.names if name.isdigit()],
        auth=options.api_key or key,
        allow_insecure=options.allow_insecure,
    )
    stream.on_contract(show)
    return stream


def _subscribed(manager: StreamManager, options: argparse.Namespace, show: Show) -> StreamManager:
    manager.subscribe_spot(*(name for name in options.names if ":" in name))
    manager.subscribe_contract(*(name for name in options.names if ":" not in name))
    manager.on_contract(show)
    manager.on_spot(show)
    return manager


class _Row(NamedTuple):
    """A row of a table, as it is shown."""

    topic: str
    action: str
    item: dict[str, Any]


def _bitmex(options: argparse.Namespace, show: Show) -> Stream:
    known = {None: "mainnet", "production": "mainnet", "test": "testnet"}
    endpoint = options.url or known.get(options.environment, options.environment)
    in_sandbox = options.environment == SANDBOX and not options.url
    key, secret = SANDBOX_CREDENTIALS if in_sandbox else read_credentials("BITMEX")
    stream = BitmexStream(endpoint, api_key=key, api_secret=secret, allow_insecure=options.allow_insecure)
    stream.unsubscribe(*stream.topics)  # only what was named
    for name in options.names:
        stream.subscribe(*([name] if ":" in name or name[0].islower() else [f"quote:{name}", f"trade:{name}"]))

    def show_row(row: TableItem) -> None:
        show(_Row(f"{row.table}:{row.symbol}" if row.symbol else row.table, row.action, row.item))

    stream.on_table(show_row)
    return stream


VENUES: Final[dict[str, Venue]] = {
    "finx": Venue("BTC-26AUG22-20000-C BTC:USDC", _finx),
    "bitmex": Venue("XBTUSD orderBook10:XBTUSD margin", _bitmex),
    "deribit": Venue("BTC-PERPETUAL BTC:USD", _deribit),
    "ftx": Venue("BTC-PERP trades:BTC-PERP orderbook:BTC/USD fills", _ftx),
    "ime": Venue("ContractA 12345", _ime),
}
