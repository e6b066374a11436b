"""Make errors safe to pickle: replace what pickle cannot carry to another process.

Process pools pickle whatever a worker raises, and hang or break if that fails. This library's errors carry objects that
may not be picklable: a user's handler, a message, a foreign exception. The only data ever unpickled here was pickled
in the same expression.
"""

from __future__ import annotations

import pickle
import types
from typing import Any, Final

from finx_sync.redaction import redact

__all__ = ["causes_of", "link_causes", "portable"]

MAX_CAUSES: Final = 32
"""The number of exceptions of one chain that are kept."""
MAX_TEXT: Final = 200
"""Characters of the text that replaces an object that cannot be pickled."""

_PLAIN: Final = (str, int, float, bool, bytes, type(None))
_BY_NAME: Final = (type, types.FunctionType, types.BuiltinFunctionType)
"""Objects that pickle stores by name. Other callables, such as bound methods, would include the object they belong
to."""


def portable(value: Any) -> Any:
    """Return the value if it can be pickled, and otherwise a text that describes it."""
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
    """Return the chain of causes, which pickle would lose; one that cannot be pickled is replaced by its description.

    Args:
        error: the error whose causes are returned.
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
    """Set the causes that `causes_of` returned."""
    for cause in chain:
        error.__cause__ = cause
        error = cause


def _described(value: object) -> str:
    try:
        text = f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else repr(value)
    except Exception:  # noqa: BLE001  # whatever the object's own code raises
        text = f"<{type(value).__name__}>"
    return redact(text[: 4 * MAX_TEXT])[:MAX_TEXT]
