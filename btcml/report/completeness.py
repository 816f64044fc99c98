"""Whether every candle is there, week by week."""

from __future__ import annotations

import pandas as pd

from btcml.candles import interval_delta

__all__ = ["completeness"]


def completeness(candles: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Share of the candles of each week that are there.

    Returns
    -------
    DataFrame
        ``year``, ``week`` (of seven days from the first of January), ``expected``, ``found`` and
        ``share``; only the span of the candles is expected.
    """
    first, last = candles["open_time"].iloc[0], candles["open_time"].iloc[-1]
    expected = pd.Series(pd.date_range(first, last, freq=interval_delta(interval)))
    both = pd.DataFrame({"expected": _weeks(expected), "found": _weeks(candles["open_time"])})
    table = both.fillna(0).astype("int64").rename_axis(["year", "week"]).reset_index()
    return table.assign(share=table["found"] / table["expected"])


def _weeks(times: pd.Series) -> pd.Series:
    week = (times.dt.day_of_year - 1) // 7
    return times.groupby([times.dt.year.rename("year"), week.rename("week")]).size()
