"""The command that runs a gateway."""

from __future__ import annotations

import argparse
import getpass
import signal
import ssl
import sys

from finx_sync.cli.output import on_terminal
from finx_sync.errors import ConfigError, MissingExtraError
from finx_sync.interrupts import Flag

__all__ = ["add_arguments", "serve"]


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    command.add_argument(
        "--source",
        metavar="SOURCE",
        default="production",
        help="redis://... for a relay's feed, or an environment of the venue, like production or sandbox",
    )
    command.add_argument("--venue", default="finx", metavar="NAME", help="whose feed (default finx)")
    command.add_argument("--url", help="another server of the venue, like ws://127.0.0.1:8000")
    command.add_argument("--api-key", metavar="KEY", help="better set FINX_API_KEY: others can see the command line")
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    command.add_argument("--port", type=int, default=8080, help="for websockets, events and the page (default 8080)")
    command.add_argument("--tcp-port", type=int, metavar="PORT", help="for lines of JSON (default: no such port)")
    command.add_argument("--keys", metavar="FILE", help="the clients' keys; without it everybody may connect")
    command.add_argument("--hash", action="store_true", help="read a key, print how it stands in that file, and end")
    command.add_argument(
        "--origin", action="append", default=[], metavar="URL", help="a web page that may connect, like https://host"
    )
    command.add_argument("--connections", type=int, default=20_000, metavar="N", help="clients at most (default 20000)")
    command.add_argument("--cert", metavar="FILE", help="the certificate, for TLS")
    command.add_argument("--cert-key", metavar="FILE", help="the certificate's private key")


def serve(options: argparse.Namespace) -> None:
    """Serve until SIGTERM or Ctrl+C."""
    try:
        from finx_sync.gateway import Gateway
        from finx_sync.gateway.keys import hash_of
    except ImportError as error:
        raise MissingExtraError(
            'the gateway needs aiohttp: install it with: pip install "finx-sync[gateway]"'
        ) from error
    if options.hash:
        key = getpass.getpass("key: ") if on_terminal() else sys.stdin.readline().strip()
        print(f'{{"name": "...", "sha256": "{hash_of(key)}"}}')
        return
    gateway = Gateway(
        options.source,
        venue=options.venue,
        host=options.host,
        port=options.port,
        tcp_port=options.tcp_port,
        keys=options.keys,
        origins=options.origin,
        connections=options.connections,
        ssl_context=_tls(options.cert, options.cert_key),
        api_key=options.api_key,
        url=options.url,
    )
    done = Flag()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    with gateway:
        address = "" if gateway.tcp_address is None else f", lines of JSON at {gateway.tcp_address[1]}"
        print(f"gateway at {gateway.url}{address}; Ctrl+C ends it", flush=True)
        done.wait()


def _tls(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    if certificate is None:
        if key is not None:
            raise ConfigError("--cert-key is the key of a certificate: give --cert too")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"the certificate {certificate} cannot be read: {error}") from None
    return context
