"""The implied volatility of a European price, as exact as the price's own digits allow.

The price is first normalised: to that of the out-of-the-money option, undiscounted, in units of the root of forward
times strike. One other number remains, x = -|log(forward / strike)|, and the unknown is the deviation (volatility times
root of time).

The price as a function of the deviation has one inflection point, at sqrt(-2x). Above it, Newton's method on the price
converges from one side; below it, the price vanishes like exp(-x²/2s²), but 1/sqrt(-2 log price) is nearly a straight
line, so there Newton's method uses that. (The approach follows P. Jäckel, "By Implication", 2006, and "Let's Be
Rational", 2015.) A bracket guards against rounding at the edges.
"""

from __future__ import annotations

from typing import Any, Final

from finx_sync.pricing.maths import ROOT_TWO_PI, Maths

__all__ = ["implied_deviation"]

STEPS: Final = 80
"""Five are typical; prices close to their upper bound take up to forty."""
CLOSE_ENOUGH: Final = 1e-14
REACH: Final = 40.0
"""This far above the inflection point, a price cannot be distinguished from its upper bound."""


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
        # Where the price has underflowed to 0 there is no slope.
        step = maths.where((value > 0) & (slope > 0), step, -1.0)
        # The edges are allowed: at the solution, a step of 0 stays on the bracket's edge.
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
    """The derivative of `_normalised` by the deviation."""
    distance = maths.ratio(x, deviation)
    return maths.exp(-(distance * distance + deviation * deviation / 4) / 2) / ROOT_TWO_PI


def _straightened(maths: Maths, price: Any) -> Any:
    """A function of the price that is nearly linear in the deviation where the price is small."""
    depth = -2 * maths.log(maths.where(price > 0, price, 0.0))
    return maths.ratio(1.0, maths.sqrt(maths.where(depth > 0, depth, 0.0)))
