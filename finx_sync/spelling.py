"""Refuse names that a caller has misspelt, and suggest the name that was probably meant."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from finx_sync.errors import ConfigError

__all__ = ["did_you_mean", "keyword_names", "keywords_checked", "nearest", "refuse_unknown"]

T = TypeVar("T")


def nearest(name: object, known: Collection[str]) -> str:
    """Return the end of an error text: the name that was probably meant, or "" if none is similar."""
    import difflib  # only when something is misspelt

    near = difflib.get_close_matches(str(name), known, 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def did_you_mean(name: object, known: Collection[str]) -> str:
    """Return the end of an error text: the name that was probably meant, or all known names if none is similar."""
    return nearest(name, known) or f"; choose one of {', '.join(map(repr, known))}"


def refuse_unknown(owner: object, keywords: Collection[str], known: Collection[str]) -> None:
    """Refuse keyword arguments that a constructor does not have.

    Raises:
        ConfigError: a keyword is unknown; the text suggests the most similar name.
    """
    for name in keywords:
        if name not in known:
            raise ConfigError(f"{type(owner).__name__} has no option {name!r}{did_you_mean(name, known)}")


def keyword_names(signature: inspect.Signature) -> list[str]:
    """Return the parameters that may be passed by name, without `self`."""
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [one.name for one in signature.parameters.values() if one.kind in by_name and one.name != "self"]


def keywords_checked(kind: type[T]) -> type[T]:
    """Make a class refuse misspelt keyword arguments; a decorator for constructors without ``**options``."""
    create: Callable[..., None] = kind.__init__
    known = keyword_names(inspect.signature(create))

    @functools.wraps(create)
    def checked(self: Any, *args: Any, **keywords: Any) -> None:
        refuse_unknown(self, keywords, known)
        create(self, *args, **keywords)

    kind.__init__ = checked  # type: ignore[method-assign]
    return kind
