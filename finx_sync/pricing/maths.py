"""The functions that the formulas use: once from the standard library, once from NumPy and SciPy.

Each formula is written once for numbers and arrays, so the two cannot drift apart.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Final, Protocol

from finx_sync.errors import MissingExtraError

__all__ = ["ARRAY_NEED", "NUMBERS", "Maths", "arrays"]

ROOT_TWO_PI: Final = math.sqrt(2 * math.pi)
ARRAY_NEED: Final = 'NumPy and SciPy, which are not installed: pip install "finx-sync[greeks]"'


class Maths(Protocol):
    """Functions of numbers, or element by element of arrays. None of them raises or warns."""

    def exp(self, x: Any, /) -> Any:
        """The exponential."""

    def sqrt(self, x: Any, /) -> Any:
        """The square root of a number that is not negative."""

    def log(self, x: Any, /) -> Any:
        """The natural logarithm; minus infinity at 0."""

    def cdf(self, x: Any, /) -> Any:
        """The normal distribution, with full relative precision in its lower tail."""

    def ratio(self, above: Any, below: Any, /) -> Any:
        """`above / below`, and 0 where `below` is 0."""

    def where(self, condition: Any, yes: Any, no: Any, /) -> Any:
        """`yes` where the condition holds, else `no`."""

    def all(self, condition: Any, /) -> bool:
        """Whether the condition holds everywhere."""


class _Numbers:
    """The standard library's."""

    sqrt = staticmethod(math.sqrt)

    @staticmethod
    def exp(x: float) -> float:
        return math.exp(x) if x < 700 else math.inf

    @staticmethod
    def log(x: float) -> float:
        return math.log(x) if x > 0 else -math.inf

    @staticmethod
    def cdf(x: float) -> float:
        # erfc keeps its relative precision far out in the tail, where 1 + erf cancels.
        return 0.5 * math.erfc(-x / math.sqrt(2))

    @staticmethod
    def ratio(above: float, below: float) -> float:
        return above / below if below else 0.0

    @staticmethod
    def where(condition: bool, yes: float, no: float) -> float:
        return yes if condition else no

    @staticmethod
    def all(condition: bool) -> bool:
        return condition


NUMBERS: Final[Maths] = _Numbers()


@lru_cache(maxsize=1)
def arrays() -> Maths:
    """NumPy's.

    Raises:
        MissingExtraError: NumPy or SciPy is not installed.
    """
    try:
        import numpy as np
        from scipy.special import ndtr
    except ImportError as error:
        raise MissingExtraError(f"arrays and American options need {ARRAY_NEED}") from error

    class Arrays:
        exp = staticmethod(np.exp)
        sqrt = staticmethod(np.sqrt)
        cdf = staticmethod(ndtr)
        where = staticmethod(np.where)

        @staticmethod
        def log(x: Any) -> Any:
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.log(x)

        @staticmethod
        def ratio(above: Any, below: Any) -> Any:
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                return np.where(below != 0, above / below, 0.0)

        @staticmethod
        def all(condition: Any) -> bool:
            return bool(np.all(condition))

    return Arrays()
