"""The registry of venues. The command line, the sandbox, the doctor and `StreamManager` find venues only through it.

A venue is an entry point of the group ``finx_sync.venues`` that gives its name and a `Venue` to import::

    [project.entry-points."finx_sync.venues"]
    kraken = "finx_kraken.venue:VENUE"

The venues that come with this package are entries of the same group (setup.py). A venue is looked up and imported only
when it is requested, so a package that cannot be imported does not affect the others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from finx_sync.config import SANDBOX, SANDBOX_KEY, SANDBOX_SECRET, KeySource, read_settings
from finx_sync.errors import ConfigError
from finx_sync.spelling import nearest

if TYPE_CHECKING:
    from finx_sync.sandbox.host import SandboxHost, SandboxVenue
    from finx_sync.stream import Stream
    from finx_sync.venues.finx.service import Service

__all__ = ["GROUP", "Show", "Venue", "find", "installed", "load_all", "service_at"]

GROUP: Final = "finx_sync.venues"
"""The group of the entry points."""

Show = Callable[[Any], None]
"""A function that shows a message: a `Message`, or a named tuple."""


@dataclass(frozen=True, kw_only=True)
class Venue:
    """The description of a venue by its package.

    Attributes:
        name: the venue's name in lower case: that of the entry point, on the command line and in recordings.
        example: some of its subscription names, for help and error texts, like "XBTUSD margin".
        environments: the address of each of its environments; None for the embedded sandbox.
        stream: creates a stream, without I/O; called with `environment=`, `url=`, the credentials and the options that
            every stream takes. Often this is the stream's class.
        subscribe: subscribes a stream to the names given on a command line.
        listen: registers a function that is called with everything the stream receives.
        credentials: maps the stream's arguments that are credentials to the environment variables that hold them, or
            to "" if the stream reads the variable itself; the key comes first, the secret second.
        sandbox: creates the venue's part of the sandbox; None if there is none. It must import that part only when it
            is called, because the sandbox is an extra.
        service: the class that connects `StreamManager` to this venue; None if the venue only has its own stream class.
    """

    name: str
    example: str
    environments: Mapping[str, str | None]
    stream: Callable[..., Stream]
    subscribe: Callable[[Any, Sequence[str]], object]
    listen: Callable[[Any, Show], object]
    credentials: Mapping[str, str] = field(default_factory=dict)
    sandbox: Callable[[SandboxHost], SandboxVenue] | None = None
    service: type[Service] | None = None

    def open(
        self,
        *,
        environment: str | None = None,
        url: str | None = None,
        api_key: KeySource | None = None,
        **options: Any,
    ) -> Stream:
        """Create a stream, without I/O. Its credentials come from environment variables or ``.env``.

        In the sandbox, it uses the sandbox's credentials instead.

        Args:
            environment: one of `environments`; None for the default one.
            url: an address to connect to instead.
            api_key: the key, instead of its environment variable.
            options: the options that every stream takes.

        Raises:
            ConfigError: the environment is unknown, credentials are missing, or an option is invalid.
        """
        in_sandbox = environment in (SANDBOX, f"{self.name}-{SANDBOX}")  # a real key must not be sent there
        found: dict[str, KeySource | None] = dict(
            zip(self.credentials, (SANDBOX_KEY, SANDBOX_SECRET), strict=False)
            if in_sandbox
            else zip(self.credentials, read_settings(*self.credentials.values()), strict=True)
        )
        if api_key is not None and found:
            found[next(iter(found))] = api_key
        given = {name: value for name, value in found.items() if value is not None}
        return self.stream(environment=environment, url=url, **given, **options)


@functools.cache
def _entries() -> dict[str, list[metadata.EntryPoint]]:
    found: dict[str, list[metadata.EntryPoint]] = {}
    for entry in metadata.entry_points(group=GROUP):
        found.setdefault(entry.name, []).append(entry)
    return found


def installed() -> list[str]:
    """Return the names of all installed venues, sorted, without importing any of them."""
    return sorted(_entries())


@functools.cache
def find(name: str) -> Venue:
    """Import and return the venue with a name.

    Raises:
        ConfigError: there is no such venue, two packages provide it, or its package cannot be imported.
    """
    entries = _entries().get(name, [])
    if not entries:
        known = installed()
        if not known:
            raise ConfigError("no venue is installed, not even finx-sync's own: install finx-sync again with pip")
        raise ConfigError(f"there is no venue {name!r}{nearest(name, known)}; choose one of {', '.join(known)}")
    if len(entries) > 1:
        packages = " and ".join(sorted(_package(entry) for entry in entries))
        raise ConfigError(f"{packages} both provide a venue {name!r}: uninstall one of them")
    (entry,) = entries
    try:
        venue = entry.load()
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"the venue {name!r} cannot be imported ({why}); it comes with the package {_package(entry)}: "
            "update it, or uninstall it"
        ) from error
    if not isinstance(venue, Venue) or venue.name != name:
        raise ConfigError(
            f"the package {_package(entry)} registers {entry.value} as its venue {name!r}, but that is {venue!r:.80}; "
            f"it must be a finx_sync.venues.registry.Venue of that name"
        )
    return venue


def service_at(environment: str) -> type[Service]:
    """Return the service of an environment like "deribit-test": a venue's name and one of its environments.

    Raises:
        ConfigError: there is no such environment, or its venue has no service but a stream class of its own.
    """
    for name in installed():
        if environment == name or environment.startswith(f"{name}-"):
            venue = find(name)
            if venue.service is None:
                raise ConfigError(
                    f"StreamManager cannot connect to {name}: create a stream with finx_sync.venues.registry"
                    f".find({name!r}).open(), or with the stream class of {name}"
                )
            return venue.service
    known = [
        place if venue.name == "finx" else name if place == "production" else f"{name}-{place}"
        for venue in load_all(lambda error: None)
        if venue.service is not None
        for name in [venue.name]
        for place in venue.environments
    ]
    raise ConfigError(
        f"there is no environment {environment!r}{nearest(environment, known)}; choose one of "
        f"{', '.join(map(repr, known))}, or give url="
    )


def load_all(on_error: Callable[[ConfigError], object]) -> Iterator[Venue]:
    """Yield every venue that can be imported, sorted by name; pass the errors of the others to `on_error`."""
    for name in installed():
        try:
            venue = find(name)
        except ConfigError as error:
            on_error(error)
        else:
            yield venue


def _package(entry: metadata.EntryPoint) -> str:
    dist = entry.dist
    return dist.name if dist is not None else entry.value.partition(":")[0]
