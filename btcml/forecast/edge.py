"""Age of the edge: the trend of the skill over the months of a test, and whether it says that the edge lasts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from btcml.forecast.metrics import horizon_of, loss_of
from btcml.forecast.statistics import newey_west_lags
from btcml.rounding import decimals_apart

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


LEAST_MONTHS = 6
"""Calendar months without which there is no trend."""

_DAY, _YEAR = pd.Timedelta(days=1), pd.Timedelta(days=365.25)


@dataclass(frozen=True)
class EdgeAge:
    """Outcome of `edge_age`; figures are NaN where there is no trend.

    Attributes
    ----------
    slope_per_year
        Change of the skill, a share of the error of no change, in a year.
    low, high
        Its 95 % interval.
    now
        Skill at the end of the trend.
    lasts
        Whether the trend is above 0 a year after its end, at the lower end of its 95 % interval.
    sentence
        One sentence that says so.
    """

    slope_per_year: float
    low: float
    high: float
    now: float
    lasts: bool
    sentence: str


def edge_age(forecasts: pd.DataFrame) -> EdgeAge:
    """Trend of the skill of a model over time.

    Least squares on the skill of each day, weighted by the error of no change: without a slope it is the skill of
    the whole span. Newey and West's covariance with Student's t; days, since an interval from a dozen months is too
    narrow.

    Parameters
    ----------
    forecasts
        Forecast frame of one model, sorted by ``open_time``.

    Examples
    --------
    >>> from btcml.forecast.metrics import forecast_frame
    >>> frame = forecast_frame([100, 101, 99], {"oracle": {"y_hat": [101, 99]}})
    >>> edge_age(frame[frame["model"] == "oracle"]).sentence
    'Whether the edge lasts is not known: a trend needs 6 months, found 1.'
    """
    days = _daily(forecasts)
    months = days["open_time"].dt.strftime("%Y-%m").nunique()
    if months < LEAST_MONTHS:
        words = f"Whether the edge lasts is not known: a trend needs {LEAST_MONTHS} months, found {months}."
        return EdgeAge(math.nan, math.nan, math.nan, math.nan, lasts=False, sentence=words)
    overlap = math.ceil((horizon_of(forecasts) - 1) * forecasts["open_time"].diff().min() / _DAY)
    years = ((days["open_time"] - days["open_time"].iloc[-1]) / _YEAR).to_numpy(dtype=float)
    weight = days["persistence"].to_numpy()
    lags = max(newey_west_lags(len(days)), 2 * overlap)
    slope, low, high, now, low_ahead = _trend(years, 1 - days["model"].to_numpy() / weight, weight, lags)
    skill = 1 - float(days["model"].sum() / weight.sum())
    lasts = skill > 0 and low_ahead > 0
    return EdgeAge(slope, low, high, now, lasts, _sentence(months, skill, (slope, low, high), lasts=lasts))


def _daily(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Sums of the errors of the model and of persistence, by day; days on which no price moved are left out."""
    errors = {"model": loss_of(forecasts), "persistence": loss_of(forecasts, column="base")}
    known = pd.DataFrame(errors | {"open_time": forecasts["open_time"].dt.floor("D")}).dropna()
    sums = known.groupby("open_time", as_index=False).sum()
    return sums[sums["persistence"] > 0]


def _trend(years: Floats, skill: Floats, weight: Floats, lags: int) -> tuple[float, float, float, float, float]:
    """Slope, its interval, the trend at year 0 and the lower end of its interval at year 1."""
    import statsmodels.api as sm  # noqa: PLC0415 - a service that only forecasts does not load it

    model = sm.WLS(skill, sm.add_constant(years - 1), weights=weight)
    fit = model.fit(cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": True}, use_t=True)
    (low_ahead, _), (low, high) = fit.conf_int()
    ahead, slope = fit.params
    return float(slope), float(low), float(high), float(ahead - slope), float(low_ahead)


def _sentence(months: int, skill: float, slope: tuple[float, float, float], *, lasts: bool) -> str:
    if skill <= 0:
        return f"There is no edge: the skill of {months} months is {100 * skill:.2f} % of the error of no change."
    change, low, high = (f"{100 * value:+.{decimals_apart(100 * value, 0.0, 2)}f} %" for value in slope)
    head = "The edge shrinks" if slope[2] < 0 else "The edge lasts" if lasts else "It is not shown that the edge lasts"
    but = " but lasts" * (lasts and slope[2] < 0)
    end = "stays above 0 for a year" if lasts else "does not stay above 0 for a year"
    return (
        f"{head}{but}: over {months} months the skill changed by {change} of the error of no change a year "
        f"(95 % interval {low} to {high}), and at the lower end of its interval the trend {end}."
    )
