"""Statistics of a series before any model, for the first chapters.

A candle frame goes in, a small frame comes out. Returns across a gap are NaN and take no part.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.tools.sm_exceptions import InterpolationWarning
from statsmodels.tsa.stattools import adfuller, kpss

from btcml.candles import interval_delta
from btcml.errors import ReportError
from btcml.forecast.metrics import THIRDS
from btcml.forecast.statistics import NORMAL_95

if TYPE_CHECKING:
    from numpy.typing import NDArray


DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_CHANCE = 0.05


def sampled(rows: int, most: int) -> NDArray[np.int64]:
    """Positions of a random sample of at most `most` rows: always the same, in order.

    Every n-th row would not do: where n is a multiple of three, candles of five minutes would all lie
    in the same minute of the quarter.

    Examples
    --------
    >>> sampled(3, 8), len(sampled(1_000, 8))
    (array([0, 1, 2]), 8)
    """
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(0).choice(rows, most, replace=False))


def returns_bp(candles: pd.DataFrame, interval: str) -> pd.Series:
    """Log returns of the close in basis points; NaN first and across a gap."""
    returns = 1e4 * np.log(candles["close"]).diff()
    whole = candles["open_time"].diff() == interval_delta(interval)
    return returns.where(whole).rename("return_bp")


def daily_candles(candles: pd.DataFrame) -> pd.DataFrame:
    """Open, high, low, close and volume by UTC day; days without a candle are left out."""
    day = candles["open_time"].dt.floor("D").rename("day")
    kinds = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    return candles.groupby(day).agg(kinds).reset_index()


def turning_points(days: pd.DataFrame) -> pd.DataFrame:
    """Highest close, lowest close and largest move from the close of one day to that of the next.

    Parameters
    ----------
    days
        From `daily_candles`.

    Returns
    -------
    DataFrame
        With the rows of the days as index: ``kind`` (highest, lowest or move), ``day``, ``close`` and ``value`` (the
        close, or the move as a fraction of the close before). Of equal ones it is the first. Nothing moves across a
        day without a candle; where all closes are equal, there is no row.
    """
    close = days["close"]
    moves = close.pct_change().where(days["day"].diff() == pd.Timedelta(days=1)).fillna(0.0)
    rows = {"highest": int(close.argmax()), "lowest": int(close.argmin()), "move": int(moves.abs().argmax())}
    table = days.iloc[list(rows.values())][["day", "close"]].assign(kind=list(rows))
    table["value"] = table["close"].where(table["kind"] != "move", moves)
    return table[(table["value"] != 0) & (close.min() < close.max())]


def daily_volatility(candles: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Realized volatility by day and its third.

    Returns
    -------
    DataFrame
        ``day``, ``volatility_bp`` (root of the mean squared return of one candle) and ``third``
        (calm, middle or storm, by thirds of the whole span).
    """
    squares = returns_bp(candles, interval) ** 2
    day = candles["open_time"].dt.floor("D").rename("day")
    volatility = squares.groupby(day).mean().pow(0.5).dropna().rename("volatility_bp").reset_index()
    ranks = volatility["volatility_bp"].rank(method="first", pct=True)
    third = np.select([ranks <= 1 / 3, ranks <= 2 / 3], list(THIRDS[:2]), THIRDS[2])
    return volatility.assign(third=third)


def autocorrelation(values: pd.Series, lags: int) -> pd.DataFrame:
    """Autocorrelation at lags 1 to `lags`, pairs with a missing value left out.

    Returns
    -------
    DataFrame
        ``lag``, ``correlation`` and ``bound`` (what 95 of 100 series without memory of direction
        stay within, allowing for volatility that clusters: 1.96 standard errors of the mean product,
        which 1.96 / sqrt(n) would understate).
    """
    centred = (values - values.mean()).to_numpy()
    variance = np.nanmean(centred**2)
    rows = [(lag, *_lagged(centred, lag, variance)) for lag in range(1, min(lags, len(values) - 1) + 1)]
    return pd.DataFrame(rows, columns=["lag", "correlation", "bound"])


def _lagged(centred: NDArray[np.float64], lag: int, variance: float) -> tuple[float, float]:
    products = centred[lag:] * centred[:-lag]
    pairs = np.isfinite(products).sum()
    error = np.sqrt(np.nanmean(products**2) / pairs)
    return float(np.nanmean(products) / variance), float(NORMAL_95 * error / variance)


def tail_shares(returns: pd.Series) -> pd.DataFrame:
    """How often returns exceed k standard deviations, beside a normal distribution.

    Returns
    -------
    DataFrame
        ``k`` (1 to 8), ``share`` (observed) and ``normal`` (expected).
    """
    sizes = (returns / returns.std()).abs().dropna()
    k = np.arange(1, 9)
    return pd.DataFrame({"k": k, "share": [(sizes > bound).mean() for bound in k], "normal": 2 * stats.norm.sf(k)})


def weekly_rhythm(candles: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Volume and size of returns by weekday and hour (UTC), each over its own mean.

    Returns
    -------
    DataFrame
        ``weekday`` (name), ``hour``, ``volume`` and ``volatility`` (one is the average hour).
    """
    time = candles["open_time"]
    frame = pd.DataFrame(
        {"place": time.dt.day_of_week, "hour": time.dt.hour, "volume": candles["volume"],
         "volatility": returns_bp(candles, interval).abs()}
    )  # fmt: skip
    table = frame.groupby(["place", "hour"])[["volume", "volatility"]].mean()
    table = (table / table.mean()).reset_index()
    return table.assign(weekday=[DAYS[place] for place in table["place"]])[["weekday", "hour", "volume", "volatility"]]


def order_flow_deciles(candles: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Mean next return by decile of this candle's order flow.

    Order flow is the taker's buys minus sells over the volume, from -1 to 1.

    Returns
    -------
    DataFrame
        ``decile`` (1 to 10), ``flow``, ``next_return_bp``, ``error_bp`` (1.96 standard errors) and
        ``rows``; empty where the source does not know the taker's side.
    """
    flow = 2 * candles["taker_buy_base"] / candles["volume"].where(candles["volume"] > 0) - 1
    frame = pd.DataFrame({"flow": flow, "after": returns_bp(candles, interval).shift(-1)}).dropna()
    if frame.empty:
        return pd.DataFrame(columns=["decile", "flow", "next_return_bp", "error_bp", "rows"])
    decile = (frame["flow"].rank(method="first", pct=True) * 10).apply(np.ceil).astype("int64").rename("decile")
    after = frame["after"].groupby(decile).agg(next_return_bp="mean", error_bp="sem", rows="size")
    flow = frame["flow"].groupby(decile).mean()
    return pd.concat([flow, after.assign(error_bp=NORMAL_95 * after["error_bp"])], axis="columns").reset_index()


def completeness(candles: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Share of the candles of each week that are there.

    Returns
    -------
    DataFrame
        ``year``, ``week`` (of seven days, the first from the first of January), ``expected``, ``found`` and
        ``share``; only the span of the candles is expected.
    """
    first, last = candles["open_time"].iloc[0], candles["open_time"].iloc[-1]
    expected = pd.Series(pd.date_range(first, last, freq=interval_delta(interval)))
    both = pd.DataFrame({"expected": _weeks(expected), "found": _weeks(candles["open_time"])})
    table = both.fillna(0).astype("int64").rename_axis(["year", "week"]).reset_index()
    return table.assign(share=table["found"] / table["expected"])


def _weeks(times: pd.Series) -> pd.Series:
    week = (times.dt.day_of_year - 1) // 7 + 1
    return times.groupby([times.dt.year.rename("year"), week.rename("week")]).size()


def stationarity(candles: pd.DataFrame, most: int = 20_000) -> pd.DataFrame:
    """Unit-root (ADF) and stationarity (KPSS) tests of the log close and of its returns.

    Parameters
    ----------
    most
        Candles at most, evenly thinned beyond, for the tests' power grows with the span, not the rows.

    Returns
    -------
    DataFrame
        ``series``, ``test``, ``statistic``, ``p`` (KPSS tables end at 0.01 and 0.1) and
        ``stationary`` (result of the test at five per cent).
    """
    step = max(1, len(candles) // most)
    level = np.log(candles["close"].iloc[::step])
    series = {"log price": level, "log return": level.diff().dropna()}
    rows = [row for name, values in series.items() for row in _unit_roots(name, values)]
    return pd.DataFrame(rows, columns=["series", "test", "statistic", "p", "stationary"])


def _unit_roots(name: str, values: pd.Series) -> list[tuple[str, str, float, float, bool]]:
    if len(values) < 50 or (values == values.iloc[0]).all():  # noqa: PLR2004 - fewer say nothing
        msg = f"the stationarity tests need 50 moving values of the {name}, found {len(values)}: ask for more days"
        raise ReportError(msg)
    adf = adfuller(values, maxlag=12, autolag=None, result_object=False)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", InterpolationWarning
        )  # the p-value is at the end of its table, as the page notes
        level = kpss(values, nlags="auto", result_object=False)
    return [
        (name, "ADF", float(adf[0]), float(adf[1]), bool(adf[1] < _CHANCE)),
        (name, "KPSS", float(level[0]), float(level[1]), bool(level[1] >= _CHANCE)),
    ]
