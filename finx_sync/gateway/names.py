"""How clients name what they want: a tag like ``contract:BTC-PERPETUAL``, or for FinX's feeds the name alone. Pure."""

from __future__ import annotations

from finx_sync.errors import InvalidInputError
from finx_sync.spelling import nearest
from finx_sync.venues.base import Codec

__all__ = ["TagReader"]

LONGEST = 300
FINX_KINDS = frozenset({"contract", "spot"})


class TagReader:
    """Reads names.

    Args:
        codec: of the feed's venue.
    """

    def __init__(self, codec: Codec) -> None:
        self._kinds = frozenset(codec.kinds.values())
        self._states = frozenset(
            kind for message_type, kind in codec.kinds.items() if getattr(message_type, "is_state", False)
        )

    def read(self, name: object) -> str:
        """The tag that a name stands for.

        Raises:
            InvalidInputError: it stands for none.
        """
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST or not name.isprintable():
            raise InvalidInputError("a name is a text like contract:BTC-PERPETUAL")
        kind, colon, rest = name.partition(":")
        if colon and rest and kind in self._kinds:
            return name
        if self._kinds >= FINX_KINDS:
            return f"{'spot' if colon else 'contract'}:{name}"
        if len(self._kinds) == 1:
            return f"{next(iter(self._kinds))}:{name}"
        kinds = sorted(self._kinds)
        raise InvalidInputError(
            f"{name!r} does not say what it is a name of{nearest(kind, kinds)}; begin it with one of "
            f"{', '.join(f'{one}:' for one in kinds)}"
        )

    def is_state(self, tag: str) -> bool:
        """Whether the newest message of a tag says all that the older ones said."""
        return tag.partition(":")[0] in self._states
