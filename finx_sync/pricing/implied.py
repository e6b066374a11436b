"""The volatility behind a European price, to the last digits that the price holds.

The price is first brought to its plainest form: that of the out-of-the-money option, undiscounted, in units of the
root of forward times strike. One number, x = -|log(forward / strike)|, is left beside it, and the deviation
(volatility times root of time) is what is looked for.

The price over the deviation bends once, at sqrt(-2x). Above that Newton's steps on the price go to the solution from
one side; below it the price vanishes like exp(-x²/2s²), but 1/sqrt(-2 log price) is nearly a straight line, so there
the steps are taken on that. (P. Jäckel, "By Implication", 2006, and "Let's Be Rational", 2015, take this view of the
problem.) A bracket stands by for whatever rounding does at the edges.
"""

from __future__ import annotations

from typing import Any, Final

from finx_sync.pricing.maths import ROOT_TWO_PI, Maths

__all__ = ["implied_deviation"]

STEPS: Final = 80
"""Five are usual; prices next to their upper bound take up to forty."""
CLOSE_ENOUGH: Final = 1e-14
REACH: Final = 40.0
"""Beyond the bend by so much, a price cannot be told from its upper bound."""


def implied_deviation(maths: Maths, price: Any, x: Any) -> Any:
    """Return the deviation at which the normalised out-of-the-money option costs `price`.

    Args:
        maths: for numbers or for arrays.
        price: above 0 and below exp(x / 2).
        x: 0 or below.
    """
    bend = maths.sqrt(-2 * x)
    below = price < _normalised(maths, x, bend)
    target = _straightened(maths, price)
    low, high = maths.where(below, 0.0, bend), maths.where(below, bend, bend + REACH)
    guess = maths.where(bend > 1e-9, bend, 1e-9)
    for _ in range(STEPS):
        value = _normalised(maths, x, guess)
        slope = _slope(maths, x, guess)
        low, high = maths.where(value > price, low, guess), maths.where(value > price, guess, high)
        straight = _straightened(maths, value)
        on_line = maths.ratio((target - straight) * value, straight * straight * straight * slope)
        step = guess + maths.where(below, on_line, maths.ratio(price - value, slope))
        # Where the price has vanished there is no slope to follow.
        step = maths.where((value > 0) & (slope > 0), step, -1.0)
        # Not strictly between: at the solution a step of 0 stays on the bracket's edge.
        step = maths.where((step >= low) & (step <= high), step, (low + high) / 2)
        if maths.all(abs(step - guess) <= CLOSE_ENOUGH * step):
            return step
        guess = step
    return guess


def _normalised(maths: Maths, x: Any, deviation: Any) -> Any:
    """The price of the out-of-the-money option."""
    distance = maths.ratio(x, deviation)
    up, down = maths.cdf(distance + deviation / 2), maths.cdf(distance - deviation / 2)
    return maths.exp(x / 2) * up - maths.exp(-x / 2) * down


def _slope(maths: Maths, x: Any, deviation: Any) -> Any:
    """Its derivative by the deviation."""
    distance = maths.ratio(x, deviation)
    return maths.exp(-(distance * distance + deviation * deviation / 4) / 2) / ROOT_TWO_PI


def _straightened(maths: Maths, price: Any) -> Any:
    """What is nearly a straight line of the deviation, where the price is small."""
    depth = -2 * maths.log(maths.where(price > 0, price, 0.0))
    return maths.ratio(1.0, maths.sqrt(maths.where(depth > 0, depth, 0.0)))
