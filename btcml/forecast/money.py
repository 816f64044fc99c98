"""Trading results: gross and net gains of trading the forecasts, with realistic entries.

A position of one unit is held while the rule gives the same sign, so holding costs nothing; results are simple
returns summed, not compounded. A cost of c bp a round trip takes c / 2 at each change by one unit. Forecasts are
skill, not advice.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from btcml.errors import UsageError
from btcml.forecast.distribution import stakes
from btcml.forecast.metrics import horizon_of
from btcml.forecast.statistics import deflated_sharpe, sharpe_ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


RULES = ("sign", "top")
"""Trade every forecast by its sign, or only those larger than nine in ten of the last 1,000."""

COSTS_BP: tuple[float, ...] = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0)
"""Costs of a round trip."""

_BP = 1e4
_WINDOW = 1000
_FIRST = 100
_TOP = 0.9
_DAYS = 365


def positions(forecasts: pd.DataFrame, rule: str = "sign", *, threshold_bp: float = 0.0) -> pd.Series:
    """Stake on each target candle: 1, -1 or 0.

    Parameters
    ----------
    forecasts
        Forecast frame of one model, sorted by ``open_time``.
    rule
        One of `RULES`. ``top`` compares the size of a forecast with the 0.9 quantile of the 1,000
        before it (100 at least), so it needs nothing after the row.
    threshold_bp
        Size of the forecast move, in bp of the base, below which nothing is staked.

    Returns
    -------
    Series
        On the index of `forecasts`; 0 where there is no forecast or, for ``top``, no history.

    Raises
    ------
    UsageError
        If there is no such rule.
    """
    if rule not in RULES:
        msg = f"the rule must be one of {', '.join(RULES)}, found {rule!r}"
        raise UsageError(msg)
    said = forecasts["y_hat"] / forecasts["base"] - 1
    stake = pd.Series(np.sign(said), said.index).where(_BP * said.abs() >= threshold_bp, 0.0).fillna(0.0)
    if rule == "sign":
        return stake
    size = said.abs()
    bar = size.rolling(_WINDOW, min_periods=_FIRST).quantile(_TOP).shift(1)
    return stake.where(size > bar, 0.0)


def money(
    forecasts: pd.DataFrame,
    *,
    late: pd.Series | None = None,
    costs_bp: Sequence[float] = COSTS_BP,
    trials: int = 1,
) -> pd.DataFrame:
    """Results of every model by rule, entry and cost.

    Parameters
    ----------
    forecasts
        Forecast frame of the close.
    late
        Price one minute after the open of the target candle, indexed by its ``open_time``. A
        candle whose late price is not known is not traded late. Without it "late" means one whole
        candle late.
    costs_bp
        Costs of a round trip in bp.
    trials
        Number of models and settings tried, for the deflated Sharpe ratio.

    Returns
    -------
    DataFrame
        Columns ``model``, ``rule``, ``entry`` (``at once``, ``a minute late`` or ``a candle
        late``), ``cost_bp``, ``trips`` (round trips), ``turnover`` (round trips a day),
        ``gross_bp`` and ``net_bp`` (a round trip), ``total`` (net, in units of the stake),
        ``break_even_bp`` (the cost at which the net result is 0; NaN where the gross result is a loss),
        ``drawdown`` (deepest fall of the net sum, in units of the stake), ``sharpe`` (annual, of
        daily net results) and ``deflated`` (probability that it is skill after `trials`). NaN
        where nothing is traded.

    Raises
    ------
    UsageError
        If no trial is counted.
    """
    rows = []
    for model, part in forecasts.dropna(subset=["y", "y_hat", "base"]).groupby("model", sort=False):
        frame = part.sort_values("open_time", ignore_index=True)
        for rule in RULES:
            stake = positions(frame, rule)
            for entry, gross, sides in _entries(frame, stake, late):
                rows += [
                    {"model": model, "rule": rule, "entry": entry, "cost_bp": float(cost)}
                    | _result(frame, gross, sides, cost, trials)
                    for cost in costs_bp
                ]
    return pd.DataFrame(rows)


def decisions(forecasts: pd.DataFrame, costs_bp: Sequence[float] = COSTS_BP, *, trials: int = 1) -> pd.DataFrame:
    """Results of the rule of `btcml.forecast.distribution.decide`, by cost: trade where the forecast move pays it.

    Beyond the next candle every h-th forecast is used, so that no trade overlaps the one before.

    Parameters
    ----------
    forecasts
        Forecast frame of the close of one model, sorted by ``open_time``.
    costs_bp, trials
        As in `money`.

    Returns
    -------
    DataFrame
        ``cost_bp``, ``silent`` (share of the forecasts without a trade), then ``trips`` and the other results of
        `money`, entered at once.

    Examples
    --------
    >>> from btcml.forecast.metrics import forecast_frame
    >>> frame = forecast_frame([100, 101, 99.99], {"oracle": {"y_hat": [101, 100.9]}})
    >>> table = decisions(frame[frame["model"] == "oracle"], [2.0, 20.0])
    >>> table[["cost_bp", "silent", "trips", "gross_bp"]].round(2).to_numpy().tolist()
    [[2.0, 0.0, 2.0, 100.0], [20.0, 0.5, 1.0, 100.0]]
    """
    known = forecasts.dropna(subset=["y", "y_hat", "base"])
    frame = known.iloc[:: horizon_of(known)].reset_index(drop=True)
    rows = []
    for cost in costs_bp if len(frame) else ():
        stake = pd.Series(stakes(_BP * np.log(frame["y_hat"] / frame["base"]), cost), frame.index)
        _, gross, sides = _entries(frame, stake, None)[0]
        facts = {"cost_bp": float(cost), "silent": float((stake == 0).mean())}
        rows.append(facts | _result(frame, gross, sides, cost, trials))
    return pd.DataFrame(rows)


def money_curve(forecasts: pd.DataFrame, cost_bp: float, *, threshold_bp: float = 0.0) -> pd.DataFrame:
    """Sums over time of trading one model by the sign of its forecast, entered at once.

    Parameters
    ----------
    forecasts
        Forecast frame of the close of one model, sorted by ``open_time``.
    cost_bp
        Cost of a round trip in bp, as in `money`.
    threshold_bp
        As in `positions`.

    Returns
    -------
    DataFrame
        On the rows of `forecasts` whose outcome, forecast and base are known: ``open_time``, ``sides``
        (units traded at the candle; two are a round trip) and, cumulated and in bp of the stake,
        ``gross_bp``, ``net_bp`` and ``hold_bp`` (long all the time, without cost). The last ``net_bp`` is
        the ``total`` of `money`.

    Examples
    --------
    >>> from btcml.forecast.metrics import forecast_frame
    >>> frame = forecast_frame([100, 101, 99.99], {"oracle": {"y_hat": [101, 99]}})
    >>> oracle = frame[frame["model"] == "oracle"]
    >>> money_curve(oracle, 2.0)[["sides", "gross_bp", "net_bp", "hold_bp"]].round(6).to_numpy().tolist()
    [[1.0, 100.0, 99.0, 100.0], [3.0, 200.0, 196.0, 0.0]]
    """
    frame = forecasts.dropna(subset=["y", "y_hat", "base"]).reset_index(drop=True)
    _, gross, sides = _entries(frame, positions(frame, threshold_bp=threshold_bp), None)[0]
    hold = (frame["y"] / frame["base"] - 1).to_numpy()
    moves = {"gross_bp": gross, "net_bp": gross - sides / 2 * cost_bp / _BP, "hold_bp": hold}
    sums = {name: _BP * np.cumsum(values) for name, values in moves.items()}
    return pd.DataFrame({"open_time": frame["open_time"], "sides": sides} | sums)


def _entries(frame: pd.DataFrame, stake: pd.Series, late: pd.Series | None) -> list[tuple[str, Floats, Floats]]:
    """Name, gross result and sides traded of each candle, for both ways to enter."""
    y, base = frame["y"].to_numpy(), frame["base"].to_numpy()
    joined = _joined(frame)
    now = stake.to_numpy()
    at_once = ("at once", now * (y / base - 1), _sides(now, joined))
    if late is None:
        after = np.where(joined, _previous(now), 0.0)
        return [at_once, ("a candle late", after * (y / base - 1), _sides(after, joined))]
    price = frame["open_time"].map(late).to_numpy(dtype=float)
    reached = np.where(np.isnan(price), base, price)
    then = np.where(np.isnan(price), 0.0, now)
    before = np.where(joined, _previous(then), 0.0)
    gross = before * (reached / base - 1) + then * (y / base - reached / base)
    return [at_once, ("a minute late", gross, _sides(then, joined))]


def _joined(frame: pd.DataFrame) -> NDArray[np.bool_]:
    step = frame["open_time"].diff()
    return np.asarray(step == step.min(), dtype=bool)


def _previous(stake: Floats) -> Floats:
    return np.concatenate([[0.0], stake[:-1]])


def _sides(stake: Floats, joined: NDArray[np.bool_]) -> Floats:
    # At a gap, and at the end, a position is closed on the last candle before it.
    held = np.where(joined, _previous(stake), 0.0)
    closes = np.append(~joined[1:], True)
    return np.abs(stake - held) + np.where(closes, np.abs(stake), 0.0)


def _result(frame: pd.DataFrame, gross: Floats, sides: Floats, cost_bp: float, trials: int) -> dict[str, float]:
    trips = float(sides.sum()) / 2
    net = gross - sides / 2 * cost_bp / _BP
    daily = pd.Series(net).groupby(frame["open_time"].dt.floor("D")).sum().to_numpy()
    wealth = np.concatenate([[0.0], np.cumsum(net)])
    trip = _BP / trips if trips else math.nan
    return {
        "trips": trips,
        "turnover": trips / len(daily),
        "gross_bp": float(gross.sum()) * trip,
        "net_bp": float(net.sum()) * trip,
        "total": float(net.sum()),
        "break_even_bp": float(gross.sum()) * trip if gross.sum() > 0 else math.nan,
        "drawdown": float((np.maximum.accumulate(wealth) - wealth).max()),
        "sharpe": sharpe_ratio(daily) * math.sqrt(_DAYS),
        "deflated": deflated_sharpe(daily, trials),
    }
