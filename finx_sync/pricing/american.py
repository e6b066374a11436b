"""Value many American options at once by their exercise boundary.

The method is that of Andersen, Lake and Offengenden ("High-performance American option pricing", 2016). The boundary
B(t), the price below which a put is exercised with t left to run, solves an integral equation; given it, the price is
the European one plus an integral over what early exercise earns. The square of log B is a smooth function of the root
of t, so a polynomial through a few Chebyshev points holds it, and a fixed-point iteration finds the points.

Calls are puts on the money in terms of the asset: C(S, K, r, q) = P(K, S, q, r). Delta, gamma and theta follow from the
boundary without solving again; vega and rho are central differences of the price.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize.elementwise import find_root
from scipy.special import ndtr

from finx_sync.pricing.european import Derivatives, Terms, european
from finx_sync.pricing.maths import ROOT_TWO_PI, arrays

__all__ = ["american", "american_volatility", "has_two_boundaries"]

Array = NDArray[np.float64]

POINTS: Final = 16
"""Points of the boundary, without the one at expiry."""
ITERATIONS: Final = 16
BOUNDARY_NODES: Final = 64
PRICE_NODES: Final = 96
"""Nodes of the Gauss-Legendre rules along the boundary and for the price."""
CHUNK: Final = 256
"""Options solved together: 2 MB for each intermediate result."""
CERTAIN: Final = 1e-4
"""A deviation (volatility times root of time) below this counts as zero."""
BUMP: Final = 1e-4
"""Step of the volatility (relative) and the rate (absolute) for vega and rho."""
HIGHEST_VOLATILITY: Final = 10.0


def _picked(terms: Terms, which: Any) -> Terms:
    """Some of the options."""
    return Terms(*(getattr(terms, field.name)[which] for field in fields(Terms)))


def _as_puts(terms: Terms) -> Terms:
    """The options as puts: a call is a put on the strike's currency in units of the asset."""
    call = terms.sign > 0
    return Terms(
        spot=np.where(call, terms.strike, terms.spot),
        strike=np.where(call, terms.spot, terms.strike),
        rate=np.where(call, terms.dividend, terms.rate),
        dividend=np.where(call, terms.rate, terms.dividend),
        years=terms.years,
        sign=np.full_like(terms.sign, -1.0),
    )


def has_two_boundaries(terms: Terms) -> NDArray[np.bool_]:
    """Return which options are exercised between two prices (rates far below zero); this method cannot value them."""
    put = _as_puts(terms)
    return np.asarray((put.rate < 0) & (put.dividend < put.rate))


def american(terms: Terms, volatility: Array) -> Derivatives:
    """Value options that can be exercised at any time; as `european`, for one-dimensional arrays."""
    price, put_delta, put_gamma = _values(terms, volatility)
    call = terms.sign > 0
    # C(S, K) = P(K, S), and P is homogeneous in both: its derivative by the strike follows from the one by the spot.
    delta = np.where(call, (price - terms.strike * put_delta) / terms.spot, put_delta)
    gamma = np.where(call, (terms.strike / terms.spot) ** 2 * put_gamma, put_gamma)
    # The Black-Scholes equation gives theta, except where exercise is due: there, time has no effect.
    diffusion = (volatility * terms.spot) ** 2 * gamma / 2
    drift = (terms.rate - terms.dividend) * terms.spot * delta
    exercised = price <= terms.sign * (terms.spot - terms.strike)
    # More time is never worth less; a positive theta can only come from rounding.
    theta = np.where(exercised, 0.0, np.minimum(terms.rate * price - drift - diffusion, 0.0))
    step = BUMP * np.maximum(volatility, BUMP)
    vega = (_prices(terms, volatility + step) - _prices(terms, volatility - step)) / (2 * step)
    higher, lower = terms.rate + BUMP, terms.rate - BUMP
    lower = np.where(has_two_boundaries(replace(terms, rate=lower)), terms.rate, lower)
    change = _prices(replace(terms, rate=higher), volatility) - _prices(replace(terms, rate=lower), volatility)
    return Derivatives(price, delta, gamma, vega, theta, change / (higher - lower))


def american_volatility(price: Array, terms: Terms, highest: Array) -> Array:
    """Return the volatility at which the options cost `price`; NaN where no volatility, or more than one, does.

    Args:
        price: of each option.
        terms: the options.
        highest: an upper bound of each volatility; NaN where none is known.
    """
    terms = replace(terms, years=np.maximum(terms.years, 1e-12))
    lowest = CERTAIN / np.sqrt(terms.years)
    top = np.where(np.isnan(highest), HIGHEST_VOLATILITY, highest * (1 + 1e-6) + lowest)
    # A price at or below that of zero volatility says nothing about the volatility.
    sought = price > _prices(terms, np.zeros_like(lowest)) * (1 + 1e-12)

    def miss(volatility: Array, at: Array) -> Array:
        which = at.astype(int)
        return np.asarray(_prices(_picked(terms, which), volatility) - price[which])

    found = find_root(miss, (lowest, top), args=(np.arange(len(price), dtype=float),), tolerances={"xrtol": 1e-13})
    return np.asarray(np.where(sought & found.success, found.x, np.nan))


def _prices(terms: Terms, volatility: Array) -> Array:
    return _values(terms, volatility)[0]


def _values(terms: Terms, volatility: Array) -> tuple[Array, Array, Array]:
    """Return price, and delta and gamma of the put, of options of every kind."""
    put = _as_puts(terms)
    result = np.empty((3, len(put.spot)))
    certain = volatility * np.sqrt(put.years) < CERTAIN
    # Without interest on the strike, early exercise gains nothing.
    at_end = ~certain & (put.rate <= 0) & (put.dividend >= put.rate)
    solved = ~certain & ~at_end
    result[:, certain] = _certain(_picked(put, certain))
    result[:, at_end] = _european(_picked(put, at_end), put.years[at_end], volatility[at_end])
    whole, its_volatility = _picked(put, solved), volatility[solved]
    pieces = [slice(begin, begin + CHUNK) for begin in range(0, len(whole.spot), CHUNK)]
    if pieces:
        result[:, solved] = np.concatenate(
            [_solved(_picked(whole, one), its_volatility[one]) for one in pieces], axis=1
        )
    return result[0], result[1], result[2]


def _european(put: Terms, years: Array, volatility: Array) -> Array:
    value = european(arrays(), replace(put, years=years), volatility)
    return np.stack([value.price, value.delta, value.gamma])


def _certain(put: Terms) -> Array:
    """Without volatility: the best of exercise now, at the end, or when interest and yield cancel."""
    with np.errstate(divide="ignore", invalid="ignore"):
        turn = np.log(put.dividend * put.spot / (put.rate * put.strike)) / (put.dividend - put.rate)
    turn = np.clip(np.nan_to_num(turn, nan=0.0, posinf=0.0, neginf=0.0), 0.0, put.years)
    choices = np.stack([_european(put, when, np.zeros_like(turn)) for when in (np.zeros_like(turn), turn, put.years)])
    best = choices[:, 0].argmax(axis=0)
    return np.asarray(np.take_along_axis(choices, best[None, None, :], axis=0)[0])


@dataclass(frozen=True, slots=True)
class _Grid:
    """What all options share, in fractions of the time to expiry; the first axis is the boundary's points.

    Attributes:
        roots: of the time left at each point.
        elapsed: times from each point to the nodes of its integral.
        weights: of these nodes.
        interpolation: from values at the points to values at the nodes.
    """

    roots: Array
    elapsed: Array
    weights: Array
    interpolation: Array


@lru_cache(maxsize=2)
def _grid(nodes: int, only_last: bool) -> _Grid:
    chebyshev = (1 - np.cos(np.pi * np.arange(POINTS + 1) / POINTS)) / 2
    roots = chebyshev[-1:] if only_last else chebyshev[1:]
    y, weights = np.polynomial.legendre.leggauss(nodes)
    # This substitution smooths the root at the near end of the integral.
    fraction = (1 + y) ** 2 / 4
    left = roots[:, None] * np.sqrt(1 - fraction)
    squares = roots[:, None] ** 2
    # At expiry the value is 0, so that point needs no column.
    return _Grid(roots, squares * fraction, squares * weights * (1 + y) / 2, _barycentric(chebyshev, left)[..., 1:])


def _barycentric(points: Array, at: Array) -> Array:
    """Return the matrix that interpolates through Chebyshev points of the second kind."""
    signs = (-1.0) ** np.arange(len(points))
    signs[[0, -1]] /= 2
    terms = signs / (at[..., None] - points)  # Gauss-Legendre nodes are never Chebyshev points
    return np.asarray(terms / terms.sum(axis=-1, keepdims=True))


def _limit(put: Terms) -> Array:
    """The boundary at expiry."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(put.strike * np.where(put.dividend > put.rate, put.rate / put.dividend, 1.0))


def _first_boundary(put: Terms, volatility: Array, limit: Array, grid: _Grid) -> Array:
    """Bjerksund and Stensland's boundary, from the limit at expiry to that of a perpetual option."""
    carry = put.rate - put.dividend
    lean = 0.5 - carry / volatility**2
    power = lean - np.sqrt(lean**2 + 2 * put.rate / volatility**2)
    endless = put.strike * power / (power - 1)
    years = put.years[:, None] * grid.roots**2
    speed = carry[:, None] * years - 2 * volatility[:, None] * np.sqrt(years)
    fall = (limit - endless)[:, None]
    return np.asarray(limit[:, None] - fall * -np.expm1(np.minimum(speed * limit[:, None] / fall, 0.0)))


def _along(boundary: Array, limit: Array, grid: _Grid) -> Array:
    """The boundary at all nodes of the integrals."""
    square = np.tensordot(np.log(boundary / limit[:, None]) ** 2, grid.interpolation, axes=(1, 2))
    return np.asarray(limit[:, None, None] * np.exp(-np.sqrt(np.maximum(square, 0.0))))


def _boundary(put: Terms, volatility: Array, limit: Array) -> Array:
    """Solve for the boundary at the points: the fixed-point system "A" of the article."""
    grid = _grid(BOUNDARY_NODES, False)
    rate, dividend, sigma = (part[:, None] for part in (put.rate, put.dividend, volatility))
    years = put.years[:, None] * grid.roots**2
    elapsed, weights = (put.years[:, None, None] * part for part in (grid.elapsed, grid.weights))
    interest = weights * rate[..., None] * np.exp(-rate[..., None] * elapsed)
    yields = weights * dividend[..., None] * np.exp(-dividend[..., None] * elapsed)
    spread, whole_spread = sigma[..., None] * np.sqrt(elapsed), sigma * np.sqrt(years)
    drift, whole_drift = (rate - dividend)[..., None] * elapsed, (rate - dividend) * years
    at = _first_boundary(put, volatility, limit, grid)
    for _ in range(ITERATIONS):
        d2 = (np.log(at[..., None] / _along(at, limit, grid)) + drift) / spread - spread / 2
        whole_d2 = (np.log(at / put.strike[:, None]) + whole_drift) / whole_spread - whole_spread / 2
        cash = np.exp(-rate * years) * ndtr(whole_d2) + (interest * ndtr(d2)).sum(axis=-1)
        asset = np.exp(-dividend * years) * ndtr(whole_d2 + whole_spread) + (yields * ndtr(d2 + spread)).sum(axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            following = put.strike[:, None] * cash / asset
        # Far from the money both can underflow to 0; the point then stays where it is.
        following = np.where(np.isfinite(following), following, at)
        at = np.clip(following, 1e-8 * limit[:, None], (1 - 1e-15) * limit[:, None])
    return at


def _solved(put: Terms, volatility: Array) -> Array:
    """Return price, delta and gamma of puts that can be worth exercising early."""
    limit = _limit(put)
    boundary = _boundary(put, volatility, limit)
    grid = _grid(PRICE_NODES, True)
    spot, rate, dividend = (part[:, None] for part in (put.spot, put.rate, put.dividend))
    elapsed, weights = put.years[:, None] * grid.elapsed[0], put.years[:, None] * grid.weights[0]
    spread = volatility[:, None] * np.sqrt(elapsed)
    d1 = (np.log(spot / _along(boundary, limit, grid)[:, 0]) + (rate - dividend) * elapsed) / spread + spread / 2
    d2 = d1 - spread
    cash = weights * rate * put.strike[:, None] * np.exp(-rate * elapsed)
    asset = weights * dividend * np.exp(-dividend * elapsed)
    by_d1, by_d2 = (np.exp(-d * d / 2) / ROOT_TWO_PI / (spot * spread) for d in (d1, d2))
    price = cash * ndtr(-d2) - asset * spot * ndtr(-d1)
    delta = -cash * by_d2 - asset * ndtr(-d1) + asset * spot * by_d1
    gamma = cash * by_d2 * (1 + d2 / spread) / spot + asset * by_d1 * (1 - d1 / spread)
    value = _european(put, put.years, volatility) + np.stack([part.sum(axis=-1) for part in (price, delta, gamma)])
    at_once = np.stack([put.strike - put.spot, np.full_like(put.spot, -1.0), np.zeros_like(put.spot)])
    return np.where((put.spot <= boundary[:, -1]) | (value[0] <= at_once[0]), at_once, value)
