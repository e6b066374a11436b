"""Handle impossible numbers in columns, as `on_error` says.

A column of quotes holds what a venue sent, so one option in thousands may have an impossible number. Each check takes
its own argument before broadcasting, so that the error names the index in the array that the caller passed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from finx_sync.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["TOO_LARGE", "OnError", "Rows", "as_number", "as_text", "check_number", "check_on_error", "sign_of"]

OnError = Literal["raise", "nan", "warn"]
CHOICES: Final = ("raise", "nan", "warn")

FINITE: Final = "must be a finite number"
ABOVE: Final = "must be above 0"
NOT_BELOW: Final = "must not be below 0"
A_SIDE: Final = "must be 'call' or 'put'"
TOO_LARGE: Final = "are too large or too small to be valued"


def check_on_error(on_error: object) -> None:
    """Refuse a choice that does not exist.

    Raises:
        InvalidInputError: it is not one of the three.
    """
    if on_error not in CHOICES:
        raise InvalidInputError(f"on_error is {on_error!r}; it is 'raise', 'nan' or 'warn'")


def as_number(value: Any) -> float | None:
    """Return a single number as a float: Python's, NumPy's, or an array without dimensions; None for anything else."""
    if type(value) is float:
        return value
    if isinstance(value, str) or not hasattr(value, "__float__") or getattr(value, "ndim", None):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def as_text(value: Any) -> str | None:
    """Return a single text as a `str`, even from an array without dimensions; None for anything else."""
    if type(value) is str:
        return value
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    return str(value) if isinstance(value, str) else None


def check_number(name: str, number: float, *, above: bool = False, not_below: bool = False) -> None:
    """Require a number to be finite, and above 0 or not below it.

    Raises:
        InvalidInputError: it is not; the text has the name and the value.
    """
    rule = ""
    if not math.isfinite(number):
        rule = FINITE
    elif above and number <= 0:
        rule = ABOVE
    elif not_below and number < 0:
        rule = NOT_BELOW
    if rule:
        raise InvalidInputError(f"{name} {rule}; it is {number!r}")


def sign_of(option_side: str) -> int:
    """Return 1 for a call and -1 for a put.

    Raises:
        InvalidInputError: it is neither.
    """
    if option_side not in ("call", "put"):
        raise InvalidInputError(f"option_side {A_SIDE}; it is {option_side!r}")
    return 1 if option_side == "call" else -1


class Rows:
    """Columns that are valued together, and which of their rows can be valued.

    Args:
        given: the arguments by name: numbers or arrays.
        option_side: "call" or "put", or an array of these.
        on_error: what happens to an impossible number: "raise", "nan" or "warn".

    Attributes:
        shape: of the result.
        good: the rows without a problem so far, in that shape.

    Raises:
        InvalidInputError: an argument is not a number, or the arrays do not fit together.
    """

    def __init__(self, given: Mapping[str, Any], option_side: Any, on_error: OnError) -> None:
        import numpy as np

        self._own: dict[str, Any] = {name: _numbers(name, value) for name, value in given.items()}
        self._own["option_side"] = np.asarray(option_side)
        self._on_error = on_error
        try:
            whole = np.broadcast_arrays(*self._own.values())
        except ValueError as error:
            raise InvalidInputError(f"the arguments are arrays that do not fit together: {error}") from None
        self.shape: tuple[int, ...] = whole[0].shape
        self._columns = dict(zip(self._own, whole, strict=True))
        self.good: NDArray[np.bool_] = np.ones(self.shape, bool)
        self._message = ""
        self.require("option_side", np.isin(self._own["option_side"], ("call", "put")), A_SIDE)

    def own(self, name: str) -> Any:
        """An argument in its own shape."""
        return self._own[name]

    def column(self, name: str) -> Any:
        """An argument in the shape of the result."""
        return self._columns[name]

    def require_number(
        self, name: str, *, may_be_missing: bool = False, above: bool = False, not_below: bool = False
    ) -> None:
        """Require of an argument that it is finite, and above 0 or not below it; NaN can stand for a missing value."""
        import numpy as np

        own = self._own[name]
        self.require(name, ~np.isinf(own) if may_be_missing else np.isfinite(own), FINITE)
        if above:
            self.require(name, ~(own <= 0), ABOVE)
        if not_below:
            self.require(name, ~(own < 0), NOT_BELOW)

    def require(self, name: str, good: Any, rule: str) -> None:
        """Note where an argument breaks a rule.

        Args:
            name: of the argument.
            good: where it keeps the rule; of the argument's own shape, or of the result's.
            rule: the rest of a sentence about it, like "must be above 0".

        Raises:
            InvalidInputError: it breaks the rule somewhere, and `on_error` is "raise".
        """
        if good.all():
            return
        values = self._own[name] if self._own[name].shape == good.shape else self._columns[name]
        where = _first(~good)
        value = values[where]
        shown = repr(value.item() if hasattr(value, "item") else value)
        self._note(good, f"{name} {rule}; it is {shown}{_index(where)}")

    def require_value(self, good: Any) -> None:
        """Note where the formulas gave no finite number; otherwise as `require`."""
        if not good.all():
            self._note(good, f"the numbers{_index(_first(~good))} {TOO_LARGE}")

    def _note(self, good: Any, message: str) -> None:
        import numpy as np

        if self._on_error == "raise":
            hint = "; on_error='nan' makes such an option NaN and values the others" if self.shape else ""
            raise InvalidInputError(message + hint)
        self._message = self._message or message
        self.good = self.good & np.broadcast_to(good, self.shape)

    def scatter(self, chosen: Any, part: Any) -> Any:
        """Results of the `chosen` rows in the shape of the result, NaN elsewhere; a float where that has no axes."""
        import numpy as np

        whole = np.full(self.shape, np.nan)
        whole[chosen] = part
        return whole if self.shape else float(whole)

    def warning(self) -> str | None:
        """A text with the number of bad rows and the first of them; None without any."""
        bad = self.good.size - int(self.good.sum())
        if not bad:
            return None
        return f"{bad} of {self.good.size} options cannot be valued and are NaN; the first: {self._message}"


def _first(bad: Any) -> tuple[int, ...]:
    import numpy as np

    return tuple(int(number) for number in np.argwhere(bad)[0])


def _index(where: tuple[int, ...]) -> str:
    return f" at index {where[0] if len(where) == 1 else where}" if where else ""


def _numbers(name: str, value: Any) -> Any:
    import numpy as np

    try:
        return np.asarray(value, dtype=float)
    except (ValueError, TypeError) as error:
        if hasattr(value, "to_numpy"):  # a column with pandas' marker for missing values
            try:
                return value.to_numpy(dtype=float, na_value=np.nan)
            except (ValueError, TypeError):
                pass
        raise InvalidInputError(f"{name} holds values that are not numbers: {error}") from None
