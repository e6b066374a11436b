"""Translates websocket-client's options of `run_forever` into a `Target` to dial."""

from __future__ import annotations

import os
import ssl
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

from finx_sync.errors import ConfigError
from finx_sync.redaction import redact
from finx_sync.transport.dial import Target
from finx_sync.transport.proxy import ProxyAddress, read_proxy

__all__ = ["proxy_for", "target_for", "target_of"]


def proxy_for(
    url: str,
    *,
    host: str | None,
    port: int | str | None,
    no_proxy: list[str] | None,
    auth: tuple[str, str] | None,
    kind: str | None,
) -> ProxyAddress | None:
    """The proxy for `url`: the one named, else the environment's; None for none.

    Raises:
        ConfigError: the port is missing, or the environment's proxy is not a proxy URL.
    """
    if not host:
        return _environment_proxy(url)
    if no_proxy and proxy_bypass_environment(urlsplit(url).hostname or "", {"no": ",".join(no_proxy)}):
        return None
    if not port:
        raise ConfigError("http_proxy_port must be given with http_proxy_host")
    login = f"{quote(auth[0], safe='')}:{quote(auth[1] or '', safe='')}@" if auth and auth[0] else ""
    shown = f"[{host}]" if ":" in host else host
    return read_proxy(f"{kind or 'http'}://{login}{shown}:{port}")


def target_for(url: str, proxy: str | None, context: ssl.SSLContext | None) -> Target:
    """The target to dial for `url`.

    Args:
        url: ``wss://host``.
        proxy: the proxy's URL; None for the environment's, "" for none.
        context: for wss; None verifies against the system's certificates.

    Raises:
        ConfigError: `url` is not a websocket URL, or `proxy` is not a proxy URL.
    """
    address = _environment_proxy(url) if proxy is None else read_proxy(proxy) if proxy else None
    return target_of(url, {} if context is None else {"context": context}, address, ())


def target_of(
    url: str, sslopt: dict[str, Any], proxy: ProxyAddress | None, options: tuple[tuple[Any, ...], ...]
) -> Target:
    """The target to dial for `url` and `sslopt`.

    Raises:
        ConfigError: `url` is not a websocket URL, or `sslopt` has a context that is not an `ssl.SSLContext`.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("ws", "wss") or not parts.hostname or port == -1:
        raise ConfigError(f"{redact(url)!r} is not a websocket URL; such a URL looks like wss://host/path")
    secure = parts.scheme == "wss"
    return Target(
        host=parts.hostname,
        port=port or (443 if secure else 80),
        tls=_tls_context(sslopt) if secure else None,
        server_hostname=sslopt.get("server_hostname"),
        proxy=proxy,
        socket_options=options,
    )


def _tls_context(sslopt: dict[str, Any]) -> ssl.SSLContext:
    """The TLS context for websocket-client's `sslopt`; everything is verified unless it says otherwise."""
    context = sslopt.get("context")
    if context is not None:
        if not isinstance(context, ssl.SSLContext):
            raise ConfigError("sslopt['context'] must be an ssl.SSLContext")
        return context
    bundle = os.environ.get("WEBSOCKET_CLIENT_CA_BUNDLE")
    cafile = sslopt.get("ca_certs") or (bundle if bundle and os.path.isfile(bundle) else None)
    capath = sslopt.get("ca_cert_path") or (bundle if bundle and os.path.isdir(bundle) else None)
    context = ssl.create_default_context(cafile=cafile, capath=capath)
    if sslopt.get("cert_reqs", ssl.CERT_REQUIRED) == ssl.CERT_NONE:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.check_hostname = sslopt.get("check_hostname", True)
        context.verify_mode = sslopt.get("cert_reqs", ssl.CERT_REQUIRED)
    if sslopt.get("certfile"):
        context.load_cert_chain(sslopt["certfile"], sslopt.get("keyfile"), sslopt.get("password"))
    if "ciphers" in sslopt:
        context.set_ciphers(sslopt["ciphers"])
    return context


def _environment_proxy(url: str) -> ProxyAddress | None:
    """The proxy that the environment asks for (``https_proxy``, ``http_proxy``, ``all_proxy``, ``no_proxy``)."""
    parts = urlsplit(url)
    proxies = getproxies_environment()
    proxy = proxies.get("https" if parts.scheme == "wss" else "http") or proxies.get("all")
    if not proxy or proxy_bypass_environment(parts.netloc.rpartition("@")[2]):
        return None
    return read_proxy(proxy)
