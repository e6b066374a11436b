"""Which venues there are. The command line, the sandbox, the doctor and `StreamManager` find them here, and only here.

A venue is an entry point of the group ``finx_sync.venues``: its name, and a `Venue` to import::

    [project.entry-points."finx_sync.venues"]
    kraken = "finx_kraken.venue:VENUE"

The venues that come with this package are entries of the same group (setup.py). Nothing is looked up or imported before
somebody asks for a venue, and only what is asked for: a package that cannot be imported disturbs no other.
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
"""The entry points' group."""

Show = Callable[[Any], None]
"""Shows a message: a `Message`, or a named tuple."""


@dataclass(frozen=True, kw_only=True)
class Venue:
    """What a package says of its venue.

    Attributes:
        name: in lower case; the entry point's name, and the one on the command line and in recordings.
        example: names that it knows, for help and error texts, like "XBTUSD margin".
        environments: the address of each of its environments; None for the embedded sandbox.
        stream: makes a stream, without any I/O; called with `environment=`, `url=`, its credentials and the options
            that every stream takes. Often the stream's class itself.
        subscribe: subscribes a stream to what the names on a command line stand for.
        listen: has a function called with everything that the stream receives.
        credentials: the stream's arguments that are credentials, each with the environment variable that holds it, or
            "" where the stream reads its own; the key first, the secret second.
        sandbox: creates the venue's part of the sandbox; None if there is none. It imports that part only when it is
            called, since the sandbox is an extra.
        service: makes what `StreamManager` needs to speak to this venue; None where a stream class of its own is all.
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
        """Make a stream whose credentials are the sandbox's there, else those of the environment or ``.env``. No I/O.

        Args:
            environment: one of `environments`; None for the usual one.
            url: another address.
            api_key: the key, instead of its environment variable.
            options: what every stream takes.

        Raises:
            ConfigError: no such environment, missing credentials, or an option that cannot be right.
        """
        in_sandbox = environment in (SANDBOX, f"{self.name}-{SANDBOX}")  # where a real key has no business
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
    """The names of all venues that are installed, in order; none of them is imported for this."""
    return sorted(_entries())


@functools.cache
def find(name: str) -> Venue:
    """The venue of a name.

    Raises:
        ConfigError: there is none, or two packages have one, or its package cannot be imported.
    """
    entries = _entries().get(name, [])
    if not entries:
        known = installed()
        if not known:
            raise ConfigError("no venue is installed, not even finx-sync's own: install finx-sync again with pip")
        raise ConfigError(f"there is no venue {name!r}{nearest(name, known)}; there are {', '.join(known)}")
    if len(entries) > 1:
        packages = " and ".join(sorted(_package(entry) for entry in entries))
        raise ConfigError(f"{packages} both have a venue {name!r}: uninstall one of them")
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
            f"the package {_package(entry)} names {entry.value} as its venue {name!r}, but that is {venue!r:.80}; it "
            f"must be a finx_sync.venues.registry.Venue of that name"
        )
    return venue


def service_at(environment: str) -> type[Service]:
    """What `StreamManager` speaks in an environment like "deribit-test": a venue's name, and one of its environments.

    Raises:
        ConfigError: there is no such environment, or its venue has a stream of its own and no service.
    """
    for name in installed():
        if environment == name or environment.startswith(f"{name}-"):
            venue = find(name)
            if venue.service is None:
                raise ConfigError(
                    f"StreamManager does not speak to {name}: make a stream by finx_sync.venues.registry"
                    f".find({name!r}).open(), or by the class that {name} has for it"
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
    """Every venue that can be imported, in order of the names; `on_error` is given why another one cannot."""
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
