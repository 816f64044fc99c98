"""A simulated market: one deterministic path of minutes whose predictability is known.

The model, with minutes t, days d and standard normal noise::

    log close[t] = W[t] + g[t]                    price = permanent part + transient part
    W[t] - W[t-1] = s[t] e[t]                     permanent: fat tails through a random s
    g[t] = -m[t] sqrt(K) x[t]                     transient: reversed by the order flow
    x[t] = phi x[t-1] + sqrt(1 - phi^2) n[t]      order flow, half-life `FLOW_HALF_LIFE` minutes
    taker_buy_base[t] / volume[t] = 0.5 + 0.1 x[t]

``m`` is the slow volatility: two autoregressions of the day (half-lives 45 and 3 days), a quiet
weekend and an intraday rhythm. ``s`` is ``m`` times a fast volatility (half-life 3 hours) and a
noise of the minute, so that volatility clusters and tails are fat. ``W`` reverts to a level of the
symbol at `LEVEL_REVERSION` a day: prices stay in a plausible range for decades.

**Predictability.** Order flow leads the next return: where buyers dominate, ``g`` is low and will
rise. Over n minutes the expected return is ``(1 - phi^n) m sqrt(K) x[t]``, hence `true_r2`.

**Any range, the same candles.** The days' volatilities and levels are a few thousand numbers drawn
at once; the minutes of a day are drawn from a counter-based generator with the key (seed, symbol)
and the counter (stream, day), and tied to the day's two levels as a Brownian bridge, which has
exactly the distribution of an unconstrained path. So a page costs the days that it touches, whenever
it is. Every other interval is `resample_candles` of the minutes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.signal import lfilter
from scipy.special import log_ndtr

from btcml.candles import as_candles, empty_candles, final_candles, interval_delta, interval_floor, resample_candles
from btcml.errors import UsageError
from btcml.market import Clock, OnPage, utc_now

Array = npt.NDArray[np.float64]

ORIGIN = pd.Timestamp("2017-08-17", tz="UTC").as_unit("us")
"""First minute of the path."""

DEFAULT_END = pd.Timestamp("2025-07-01", tz="UTC").as_unit("us")
"""End of a report on this market when no END is given: fixed, so that its bytes are."""

SYMBOLS: dict[str, float] = {"BTCUSDT": 50_000.0, "ETHUSDT": 2_500.0, "BNBUSDT": 400.0, "SOLUSDT": 120.0}
"""The symbols of this market, each with the price level that it reverts to."""

FLOW_HALF_LIFE = 20.0
"""Minutes after which half of an order-flow imbalance is gone."""

LEVEL_REVERSION = 1 / 730
"""Share of the distance from its level (in logs) that the price returns in a day."""

_DAY = 1440
_LAST_DAY = 30_000
_PHI = 0.5 ** (1 / FLOW_HALF_LIFE)
_K = 2.6
_MINUTE_VOLATILITY = 4.5e-4
_SHARE = 0.1
_USD_A_MINUTE = 600_000.0
_LAGS = 16
_ZERO, _FLOW, _PATH = range(3)
# Log volatility over the minutes of a day: low at night, high when New York opens.
_ANGLE = 2 * np.pi * (np.arange(_DAY) / _DAY - 14.5 / 24)
_SEASON = 0.30 * np.cos(_ANGLE) + 0.12 * np.cos(2 * _ANGLE)


def true_r2(interval: str) -> float:
    """R² of the ideal forecast of the next log return, from the flow of each minute.

    With n minutes in a candle, the expected return has variance ``(1 - phi^n)² K`` and the return
    ``n + 2 (1 - phi^n) K`` (in units of a minute's permanent variance); the slow return to the
    symbol's level adds ``(1 - exp(-n LEVEL_REVERSION / 1440)) / 2``, a millionth at 5m. The ideal
    forecast's MAE is ``sqrt(1 - R²)`` times persistence's.

    Examples
    --------
    >>> round(true_r2("5m"), 4), round(true_r2("1h"), 4)
    (0.0113, 0.0309)
    """
    n = interval_delta(interval) // pd.Timedelta("1m")
    back = 1 - _PHI**n
    return float(back**2 * _K / (n + 2 * back * _K) + _level_r2(n))


def attainable_r2(interval: str) -> float:
    """R² of the best forecast from candles of this interval: the flow is known by its means only.

    The best linear forecast of the flow at the close from its means over the last 16 candles, in
    closed form from the autocovariance ``phi^k``; equal to `true_r2` at 1m, and less the longer
    the candle. A model that reaches it has found nearly all predictability (past prices add a
    little about the flow inside long candles).

    Examples
    --------
    >>> attainable_r2("5m") / true_r2("5m") > 0.9
    True
    """
    n = interval_delta(interval) // pd.Timedelta("1m")
    lags = np.arange(_LAGS)
    reach = (1 - _PHI**n) / (1 - _PHI) / n
    k = np.arange(1, n)
    own = (1 + 2 * np.sum((1 - k / n) * _PHI**k)) / n
    apart = _PHI ** ((lags - 1.0) * n + 1) * reach**2
    autocovariance = np.where(lags == 0, own, apart)
    covariance = autocovariance[np.abs(lags[:, None] - lags[None, :])]
    with_close = reach * _PHI ** (lags * n)
    known = with_close @ np.linalg.solve(covariance, with_close)
    return float((true_r2(interval) - _level_r2(n)) * min(known, 1.0) + _level_r2(n))


def _level_r2(n: int) -> float:
    return float(-np.expm1(-n * LEVEL_REVERSION / _DAY) / 2)


@dataclass(frozen=True)
class SimulatedMarket:
    """The simulated market.

    Parameters
    ----------
    seed
        Chooses the path, together with the symbol. All seeds are the market ``simulated``: do not
        keep two in one database.
    clock
        The market's time; nothing that closes after it is fetched.

    Examples
    --------
    >>> import pandas as pd
    >>> start = pd.Timestamp("2025-01-01", tz="UTC")
    >>> SimulatedMarket().fetch_candles("BTCUSDT", "5m", start, start + pd.Timedelta("1h")).shape
    (12, 11)
    """

    seed: int = 0
    clock: Clock = utc_now

    @property
    def market(self) -> str:
        """Name of the market: ``simulated``."""
        return "simulated"

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that exist here."""
        return tuple(SYMBOLS)

    def now(self) -> pd.Timestamp:
        """Return the time of the clock."""
        return self.clock()

    def default_end(self, symbol: str) -> pd.Timestamp:  # noqa: ARG002 - the same for every symbol
        """Return `DEFAULT_END`."""
        return DEFAULT_END

    def extent(self, symbol: str, interval: str) -> tuple[pd.Timestamp, pd.Timestamp] | None:  # noqa: ARG002 - the same for all
        """Return `ORIGIN` and the market's present."""
        return ORIGIN, self.now()

    def fetch_candles(
        self, symbol: str, interval: str, start: pd.Timestamp, end: pd.Timestamp, on_page: OnPage | None = None
    ) -> pd.DataFrame:
        """Fetch final candles whose open time is in [start, end); there are none before `ORIGIN`.

        Raises
        ------
        UsageError
            If the symbol or the interval does not exist.
        """
        delta = interval_delta(interval)
        if symbol not in SYMBOLS:
            msg = f"the simulated market has the symbols {', '.join(SYMBOLS)}, found {symbol!r}"
            raise UsageError(msg)
        first = interval_floor(max(start, ORIGIN) + delta - pd.Timedelta("1us"), interval)
        last = interval_floor(min(end + delta - pd.Timedelta("1us"), self.now()), interval)
        if first >= last:
            return empty_candles()
        minutes = _minutes(self.seed, symbol, first, last)
        candles = minutes if interval == "1m" else resample_candles(minutes, interval)
        result = final_candles(candles, self.now())
        if on_page is not None:
            on_page(len(result), len(result))
        return result


def _normal(seed: int, symbol: str, stream: int, day: int, shape: tuple[int, ...]) -> Array:
    digest = hashlib.blake2b(f"{seed}/{symbol}".encode(), digest_size=16).digest()
    key = np.frombuffer(digest, dtype="<u8").astype(np.uint64)
    counter = np.array([0, 0, stream, day + 2], dtype=np.uint64)  # two days run in before the first
    return np.random.Generator(np.random.Philox(key=key, counter=counter)).standard_normal(shape)


def _autoregression(noise: Array, half_life: float) -> Array:
    """Stationary AR(1) of variance one along the last axis, started at zero."""
    phi = 0.5 ** (1 / half_life)
    return np.asarray(lfilter([np.sqrt(1 - phi**2)], [1.0, -phi], noise, axis=-1), dtype=np.float64)


@lru_cache(maxsize=16)
def _days(seed: int, symbol: str) -> tuple[Array, Array, Array]:
    """Return log volatility and log level at each midnight, and the variance of each day."""
    slow, quick, step = _normal(seed, symbol, _ZERO, 0, (3, _LAST_DAY + 1))
    weekday = (np.arange(_LAST_DAY + 1) + ORIGIN.weekday()) % 7
    weekend = np.where(weekday >= 5, -0.30, 0.0)  # noqa: PLR2004 - Saturday is day 5
    volatility = 0.35 * _autoregression(slow, 45) + 0.28 * _autoregression(quick, 3) + weekend
    scale = _DAY * _MINUTE_VOLATILITY**2 * np.mean(np.exp(2 * _SEASON))
    variance = scale * np.exp(volatility[:-1] + volatility[1:])
    shocks = np.concatenate([[0.0], np.sqrt(variance) * step[1:]])
    level = lfilter([1.0], [1.0, LEVEL_REVERSION - 1], shocks) + np.log(SYMBOLS[symbol])
    return volatility, np.asarray(level, dtype=np.float64), variance


def _minutes(seed: int, symbol: str, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """One-minute candles with open time in [start, end), on the grid."""
    day = pd.Timedelta(days=1)
    first, last = (start - ORIGIN) // day, -((ORIGIN - end) // day)
    days = _simulate_days(seed, symbol, first, last)
    midnight = ORIGIN + first * day
    lo, hi = (int((t - midnight) // pd.Timedelta("1m")) for t in (start, end))
    frame = pd.DataFrame({name: values.ravel()[lo:hi] for name, values in days.items()})
    frame["open_time"] = pd.date_range(start, periods=hi - lo, freq="1min", unit="us")
    return as_candles(frame, "1m")


def _simulate_days(seed: int, symbol: str, first: int, last: int) -> dict[str, Array]:
    """Columns of the days [first, last), each of shape (days, 1440)."""
    volatility, level, variance = _days(seed, symbol)
    rows = np.arange(first - 1, last)  # the day before gives the first open
    x, quick = _flow(seed, symbol, rows)
    share = np.arange(1, _DAY + 1) / _DAY
    at, after = volatility[np.maximum(rows, 0), None], volatility[rows + 1, None]
    slow = np.exp(at * (1 - share) + after * share + _SEASON) * _MINUTE_VOLATILITY
    noise = np.stack([_normal(seed, symbol, _PATH, d, (6, _DAY)) for d in range(first - 1, last)])
    sigma = slow * np.exp(0.35 * quick + 0.30 * noise[:, 0])
    weight = sigma**2 / np.sum(sigma**2, axis=1, keepdims=True)
    sigma = np.sqrt(weight * variance[np.maximum(rows, 0), None])
    path = np.cumsum(sigma * noise[:, 1], axis=1)
    span = level[rows + 1] - level[np.maximum(rows, 0)]
    path += np.cumsum(weight, axis=1) * (span[:, None] - path[:, -1:])
    price = level[np.maximum(rows, 0), None] + path - slow * np.sqrt(_K) * x
    return _columns(price, sigma, x[1:], noise[1:, 2:], SYMBOLS[symbol])


def _flow(seed: int, symbol: str, rows: npt.NDArray[np.int64]) -> tuple[Array, Array]:
    """Order flow and fast log volatility of some days, each run in from the day before it."""
    drawn = np.stack([_normal(seed, symbol, _FLOW, d, (2, _DAY)) for d in range(rows[0] - 1, rows[-1] + 1)])
    joined = np.concatenate([drawn[:-1], drawn[1:]], axis=2)
    flow, quick = _autoregression(joined[:, 0], FLOW_HALF_LIFE), _autoregression(joined[:, 1], 180)
    return flow[:, _DAY:], quick[:, _DAY:]


def _columns(price: Array, sigma: Array, x: Array, noise: Array, level: float) -> dict[str, Array]:
    """Prices in ticks, and the volume that goes with them."""
    before = np.concatenate([price[:-1, -1:], price[1:, :-1]], axis=1)
    move, spread = price[1:] - before, sigma[1:]
    up, down = (-2 * log_ndtr(noise[:, i]) * spread**2 for i in (0, 1))
    opened, close = np.round(np.exp(before), 2), np.round(np.exp(price[1:]), 2)
    high = np.round(np.exp(before + (move + np.sqrt(move**2 + up)) / 2), 2)
    low = np.round(np.exp(before + (move - np.sqrt(move**2 + down)) / 2), 2)
    burst = np.exp(1.1 * np.log(spread / _MINUTE_VOLATILITY) + 0.45 * noise[:, 2])
    volume = np.round(_USD_A_MINUTE / level * burst * (0.7 + 0.3 * np.abs(move) / spread), 5)
    bought = np.round(volume * np.clip(0.5 + _SHARE * x, 0.02, 0.98), 5)
    mean = (opened + high + low + close) / 4
    return {
        "open": opened,
        "high": np.maximum(high, np.maximum(opened, close)),
        "low": np.minimum(low, np.minimum(opened, close)),
        "close": close,
        "volume": volume,
        "quote_volume": np.round(volume * mean, 5),
        "trades": np.ceil(600 * np.sqrt(burst) * np.exp(0.2 * noise[:, 3])),
        "taker_buy_base": bought,
        "taker_buy_quote": np.round(bought * mean, 5),
    }
