"""What of an error can go to another process, and what goes in the place of the rest.

Process pools pickle whatever a worker raises, and hang or break where that fails. An error of ours carries things that
may not survive it: a user's handler, a message, a foreign exception. Nothing is ever unpickled here that was not
pickled a line before, on the same thread.
"""

from __future__ import annotations

import pickle
import types
from typing import Any, Final

from finx_sync.redaction import redact

__all__ = ["causes_of", "link_causes", "portable"]

MAX_CAUSES: Final = 32
"""Exceptions of one chain that are kept."""
MAX_TEXT: Final = 200
"""Characters of the text that stands for what cannot be pickled."""

_PLAIN: Final = (str, int, float, bool, bytes, type(None))
_BY_NAME: Final = (type, types.FunctionType, types.BuiltinFunctionType)
"""What pickle stores by its name alone. Other callables would take the object along that they belong to."""


def portable(value: Any) -> Any:
    """The value itself where it survives pickling; else a text that describes it."""
    if type(value) in _PLAIN:
        return value
    if callable(value) and not isinstance(value, _BY_NAME):
        return _described(value)
    try:
        pickle.loads(pickle.dumps(value))  # noqa: S301  # pickled here
    except Exception:  # noqa: BLE001  # whatever the object's own code raises
        return _described(value)
    return value


def causes_of(error: BaseException, ours: type[BaseException]) -> list[BaseException]:
    """The chain of causes, as far as pickle does not follow it by itself, each replaced where it does not survive.

    Args:
        error: whose.
        ours: the errors that carry their own causes; the chain ends with the first of them.
    """
    chain: list[BaseException] = []
    seen, cause = {id(error)}, error.__cause__
    while cause is not None and len(chain) < MAX_CAUSES:
        if isinstance(cause, ours):
            return [*chain, cause]
        if id(cause) in seen:
            break
        seen.add(id(cause))
        kept = portable(cause)
        chain.append(kept if kept is cause else RuntimeError(kept))
        cause = cause.__cause__
    return chain


def link_causes(error: BaseException, chain: list[BaseException]) -> None:
    """The counterpart of `causes_of`."""
    for cause in chain:
        error.__cause__ = cause
        error = cause


def _described(value: object) -> str:
    try:
        text = f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else repr(value)
    except Exception:  # noqa: BLE001  # whatever the object's own code raises
        text = f"<{type(value).__name__}>"
    return redact(text[: 4 * MAX_TEXT])[:MAX_TEXT]
