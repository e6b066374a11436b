"""The simulated market: the tickers and trades of each instrument and each spot pair at any time.

Everything is a pure function of (seed, name, timestamp), so two connections see the same market in the same
millisecond, and any time in the past can be requested. Values are numbers, not text; a venue's codec formats them.

Options are priced by Black-76 with a volatility smile, from the *printed* forward and volatility, so the values of a
message can be recomputed from the message itself. About three options in ten have had no trade in 24 hours: their
statistics are None, as in captured Deribit tickers (28 of 89).

No clock, no I/O; safe from any thread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from finx_sync.errors import InvalidInputError
from finx_sync.pricing import Instrument, OptionSide, OptionValue, black76, implied_volatility
from finx_sync.sandbox.chain import DOCUMENTED_CONTRACT, has_future, instruments, years_to_expiry
from finx_sync.sandbox.prices import DAY_MS, PricePath, unit_noise

__all__ = ["EXCHANGES", "PAIRS", "Market", "SpotTrade", "Values", "spot_price"]

Values = dict[str, float | str | None]
"""A ticker's values by wire name, in the order of the wire; None if there is no data."""

PAIRS: Final = ("BTC:USD", "BTC:USDC", "ETH:USD", "ETH:USDC", "SOL:USD", "SOL:USDC", "USDC:USD")
EXCHANGES: Final = ("BINANCE", "COINBASE", "FTX", "GEMINI", "KRAKEN")
"""The exchanges that the FinX docs name (streams and functions pages), and KRAKEN."""

_OPTION_TICK: Final = 0.0005
_FUTURE_TICK: Final = {"BTC": 0.5, "ETH": 0.05, "SOL": 0.01}
_BASIS_PER_YEAR: Final = 0.0217
"""The forward's premium over spot, as in the docs' contract example: 23227.53 against 23199.76 at 20 days."""
_PRICE_DECIMALS: Final = {"BTC": 2, "ETH": 2, "SOL": 4, "USDC": 6}
_SHARE_UNTRADED: Final = 0.3
_SETTLEMENT_MS: Final = 8 * 3_600_000


@dataclass(frozen=True, slots=True)
class SpotTrade:
    """One trade of a spot pair on one exchange.

    Attributes:
        pair: e.g. ``BTC:USDC``.
        timestamp: milliseconds since 1970.
        exchange: one of `EXCHANGES`.
        price: units of the pair's second currency.
    """

    pair: str
    timestamp: int
    exchange: str
    price: float


def spot_price(path: PricePath, pair: str, timestamp: int, noise: float) -> float:
    """Return a trade's price: the index, moved by up to 0.03 % according to `noise` (0 to 1), in printed digits."""
    base, quote = pair.split(":")
    price = path.price(base, timestamp)
    if quote != "USD":
        price /= path.price(quote, timestamp)
    scatter = 0.0006 if base != "USDC" else 0.00002
    return round(price * (1 + (noise - 0.5) * scatter), _PRICE_DECIMALS[base])


class Market:
    """Tickers and trades of the simulated market.

    Args:
        seed: equal seeds give equal markets.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.path: Final = PricePath(seed)
        self._settlement = lru_cache(maxsize=4096)(self._compute_settlement)

    def instrument(self, name: str, timestamp: int) -> Instrument:
        """Return a listed instrument.

        Raises:
            InvalidInputError: no instrument of that name is listed at `timestamp`.
        """
        found = instruments(timestamp).get(name)
        if found is None:
            raise InvalidInputError(f"unknown contract {name!r}; call listDeribitContracts for the list of contracts")
        return found

    def names(self, timestamp: int) -> list[str]:
        """Return the names of all instruments listed at `timestamp`, milliseconds since 1970."""
        return list(instruments(timestamp))

    def ticker(self, name: str, timestamp: int) -> Values:
        """Return an instrument's ticker at `timestamp`, milliseconds since 1970.

        Raises:
            InvalidInputError: no instrument of that name is listed at `timestamp`.
        """
        instrument = self.instrument(name, timestamp)
        if instrument.kind == "option":
            return self._option_ticker(instrument, timestamp)
        return self._future_ticker(instrument, timestamp)

    def trade(self, pair: str, timestamp: int) -> SpotTrade:
        """Return the trade of a pair at `timestamp`, milliseconds since 1970.

        Raises:
            InvalidInputError: the pair is not one of `PAIRS`.
        """
        check_pair(pair)
        exchange = EXCHANGES[int(self._noise("exchange", pair, timestamp) * len(EXCHANGES))]
        price = spot_price(self.path, pair, timestamp, self._noise("trade", pair, timestamp))
        return SpotTrade(pair, timestamp, exchange, price)

    # options

    def _option_ticker(self, instrument: Instrument, timestamp: int) -> Values:
        name, base = instrument.name, instrument.base
        index = round(self.path.price(base, timestamp), 2)
        years = years_to_expiry(instrument, timestamp)
        forward = round(index * (1 + _BASIS_PER_YEAR * years), 2)
        iv = self._smile(instrument, forward, years, timestamp)
        value = _option_value(instrument, forward, years, iv)
        mark = round(value.mark_price, 4)
        bid, ask = self._option_quotes(name, mark, timestamp)
        day = timestamp // DAY_MS
        return {
            "redis_key": name,
            "underlying_price": forward,
            "underlying_index": ("" if has_future(instrument) else "SYN.") + name.rsplit("-", 2)[0],
            "timestamp": timestamp,
            "state": "open",
            "settlement_price": self._settlement(name, (timestamp - _SETTLEMENT_MS) // DAY_MS),
            "open_interest": self._amount("open", name, day, 2000, base),
            "min_price": _down(max(mark - 0.035, 0.0001), 0.0001),
            "max_price": _down(mark + 0.042, 0.0001),
            "mark_price": mark,
            "mark_iv": iv,
            "last_price": None,
            "interest_rate": 0.0,
            "instrument_name": name,
            "index_price": index,
            "estimated_delivery_price": index,
            "bid_iv": _quoted_iv(instrument, bid, forward, years),
            "best_bid_price": bid,
            "best_bid_amount": self._amount("bid", name, timestamp, 40, base) if bid else 0.0,
            "best_ask_price": ask,
            "best_ask_amount": self._amount("ask", name, timestamp, 40, base),
            "ask_iv": _quoted_iv(instrument, ask, forward, years),
            "vega": round(value.vega, 5),
            "theta": round(value.theta, 5),
            "rho": round(value.rho, 5),
            "gamma": round(value.gamma, 5),
            "delta": round(value.delta, 5),
            **dict.fromkeys(("volume", "price_change", "low", "high")),
            **self._option_trades(name, base, mark, timestamp),
        }

    def _smile(self, instrument: Instrument, forward: float, years: float, timestamp: int) -> float:
        """Return the mark volatility in percent: higher for low strikes and far strikes, and slightly moving."""
        strike, _ = _terms(instrument)
        distance = math.log(strike / forward) / math.sqrt(max(years, 1 / 365))
        level = 68.0 if instrument.base == "BTC" else 84.0
        restless = self.path.price(instrument.base, timestamp - 3_600_000) / self.path.price(instrument.base, timestamp)
        return round(min(max((level - 9 * distance + 14 * distance**2) * restless, 15.0), 250.0), 2)

    def _option_quotes(self, name: str, mark: float, timestamp: int) -> tuple[float, float]:
        half_spread = (0.5 + 2.5 * self._noise("spread", name, timestamp // 1000)) * _OPTION_TICK
        half_spread += 0.01 * mark
        bid = max(_down(mark - half_spread, _OPTION_TICK), 0.0)
        ask = _down(mark + half_spread, _OPTION_TICK)
        return bid, max(ask, bid + _OPTION_TICK)

    def _option_trades(self, name: str, base: str, mark: float, timestamp: int) -> Values:
        activity = 1.0 if name == DOCUMENTED_CONTRACT else self._noise("traded", name, timestamp // DAY_MS)
        if activity < _SHARE_UNTRADED / 2:
            return {}
        # One trade every 20 seconds, at a price near the mark, rounded to the tick.
        last = self._traded_price(name, mark, timestamp // 20_000)
        if activity < _SHARE_UNTRADED:
            return {"last_price": last}
        prices = [self._traded_price(name, mark, ("day", timestamp // DAY_MS, n)) for n in range(3)]
        low, high = min(*prices, last), max(*prices, last)
        return {
            "last_price": last,
            "volume": self._amount("volume", name, timestamp // 20_000, 60, base),
            "price_change": round(100 * (last / prices[0] - 1), 4),
            "low": low,
            "high": high,
        }

    def _traded_price(self, name: str, mark: float, when: object) -> float:
        offset = 1 + 0.06 * (self._noise("last", name, when) - 0.5)
        return max(_down(mark * offset, _OPTION_TICK), _OPTION_TICK)

    def _compute_settlement(self, name: str, trading_day: int) -> float:
        """Return the mark price at the last 08:00 UTC, with the eight digits printed on the wire."""
        settled = trading_day * DAY_MS + _SETTLEMENT_MS
        instrument = instruments(settled).get(name)
        if instrument is None or instrument.kind != "option":
            return 0.0
        years = years_to_expiry(instrument, settled)
        forward = self.path.price(instrument.base, settled) * (1 + _BASIS_PER_YEAR * years)
        iv = self._smile(instrument, forward, years, settled)
        return round(_option_value(instrument, forward, years, iv).mark_price, 8)

    # futures and perpetuals

    def _future_ticker(self, instrument: Instrument, timestamp: int) -> Values:
        """Return a ticker in Deribit's order, without the keys that a future does not have."""
        name, base = instrument.name, instrument.base
        tick = _FUTURE_TICK[base]
        index = round(self.path.price(base, timestamp), 2)
        mark = round(index * (1 + _BASIS_PER_YEAR * years_to_expiry(instrument, timestamp)), 2)
        bid = _down(mark - tick * (0.5 + 3 * self._noise("spread", name, timestamp // 1000)), tick)
        volume = self._amount("volume", name, timestamp // 20_000, 5000, base)
        day_low, day_high = 1 - 0.02 * self._noise("low", name), 1 + 0.02 * self._noise("high", name)
        funding: Values = {
            "interest_value": round(0.01 * self._noise("interest", name, timestamp // DAY_MS), 8),
            "funding_8h": round(1e-5 * self._noise("funding8", name, timestamp // 3_600_000), 8),
            "current_funding": round(1e-6 * self._noise("funding", name, timestamp // 60_000), 8),
        }
        if instrument.kind == "future":
            funding = {}
        return {
            "redis_key": name,
            "timestamp": timestamp,
            "state": "open",
            "settlement_price": round(self.path.price(base, timestamp // DAY_MS * DAY_MS), 2),
            "open_interest": float(int(1e8 * self._noise("open", name, timestamp // DAY_MS))) * 10,
            "min_price": _down(mark * 0.985, tick),
            "max_price": _down(mark * 1.015, tick),
            "mark_price": mark,
            "last_price": _down(mark, tick),
            "instrument_name": name,
            "index_price": index,
            "estimated_delivery_price": index,
            "best_bid_price": bid,
            "best_bid_amount": float(int(1e4 * self._noise("bid", name, timestamp))) * 10,
            "best_ask_price": _down(bid + tick, tick),
            "best_ask_amount": float(int(1e4 * self._noise("ask", name, timestamp))) * 10,
            **funding,
            "volume_usd": round(volume * mark, 1),
            "volume_notional": round(volume * mark, 1),
            "volume": volume,
            "price_change": round(4 * (self._noise("change", name, timestamp // 60_000) - 0.5), 4),
            "low": _down(mark * day_low, tick),
            "high": _down(mark * day_high, tick),
        }

    def _amount(self, what: str, name: str, when: int, limit: int, base: str) -> float:
        """Return an amount in lots: tenths of a coin for BTC, whole coins for the others."""
        lot = 0.1 if base == "BTC" else 1.0
        return round((1 + int(limit * self._noise(what, name, when))) * lot, 1)

    def _noise(self, *parts: object) -> float:
        return unit_noise(self._seed, *parts)


def check_pair(pair: str) -> str:
    """Return `pair` if it is one of `PAIRS`, else raise InvalidInputError."""
    if pair not in PAIRS:
        raise InvalidInputError(f"unknown pair {pair!r}; choose one of {', '.join(PAIRS)}")
    return pair


def _option_value(instrument: Instrument, forward: float, years: float, iv: float) -> OptionValue[float]:
    strike, option_side = _terms(instrument)
    return black76(forward, strike, years, iv, option_side)


def _quoted_iv(instrument: Instrument, price: float, forward: float, years: float) -> float:
    """Return a quote's implied volatility in percent; 0 if the price implies none."""
    strike, option_side = _terms(instrument)
    try:
        iv = implied_volatility(price, forward, strike, years, option_side)
    except InvalidInputError:
        return 0.0
    return round(iv, 2)


def _terms(instrument: Instrument) -> tuple[float, OptionSide]:
    """Return an option's strike and side."""
    if instrument.strike is None or instrument.option_side is None:
        raise InvalidInputError(f"{instrument.name} is not an option; pass the name of an option")
    return instrument.strike, instrument.option_side


def _down(price: float, tick: float) -> float:
    """Round down to a multiple of the tick, without floating-point error in the printed digits."""
    return round(math.floor(price / tick + 1e-9) * tick, 6)
