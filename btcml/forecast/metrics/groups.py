"""Ways to cut a forecast frame: by year, month, hour of the day, volatility third and age of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GROUPS", "THIRDS", "volatility_third"]

THIRDS = ("calm", "middle", "storm")
"""Names of the volatility thirds, ascending."""

_SPAN = 96


def volatility_third(forecasts: pd.DataFrame) -> pd.Series:
    """Third of the span to which a row belongs by the volatility known before its candle.

    Volatility is the EWMA(96) of squared log changes of ``base`` (frames of log ranges, whose
    base may be negative: the EWMA(96) of ``base`` itself); the thirds hold equally many rows.

    Parameters
    ----------
    forecasts
        Frame of one model, sorted by ``open_time``.

    Returns
    -------
    Series
        ``calm``, ``middle`` or ``storm`` on the index of `forecasts`; an ordered category.
    """
    base = forecasts["base"].astype(float)
    if (base > 0).all():
        base = pd.Series(np.log(base.to_numpy()), base.index).diff().fillna(0.0) ** 2
    rank = base.ewm(span=_SPAN).mean().rank(method="first").to_numpy()
    codes = ((rank - 1) * len(THIRDS) // max(len(rank), 1)).astype(np.int8)
    return pd.Series(pd.Categorical.from_codes(codes, pd.Index(THIRDS), ordered=True), forecasts.index)


def _year(forecasts: pd.DataFrame) -> pd.Series:
    return pd.Series(forecasts["open_time"].dt.year.astype(str))


def _month(forecasts: pd.DataFrame) -> pd.Series:
    # Formatted once a month, not once a row.
    months = forecasts["open_time"].dt.tz_localize(None).astype("datetime64[s]").to_numpy().astype("datetime64[M]")
    codes, names = pd.factorize(months)
    return pd.Series(np.array([str(name)[:7] for name in names], dtype=object)[codes], forecasts.index)


def _hour(forecasts: pd.DataFrame) -> pd.Series:
    return pd.Series(forecasts["open_time"].dt.hour)


def _age(forecasts: pd.DataFrame) -> pd.Series:
    return (forecasts["open_time"] - forecasts["cutoff"]).dt.days // 30


GROUPS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "year": _year,
    "month": _month,
    "hour": _hour,
    "third": volatility_third,
    "age": _age,
}
"""By name: one label for each row of one model's frame; times are those of the target candle, UTC; the age
is in whole months of 30 days since the last outcome that the model was fitted on."""
