from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from btcml.candles import as_candles, interval_delta
from btcml.errors import UsageError
from btcml.report.experiment import check_length, check_request


def candles(days: int, step: str = "1h", interval: str = "1h") -> pd.DataFrame:
    times = pd.date_range("2024-01-01", periods=int(pd.Timedelta(days=days) / pd.Timedelta(step)), freq=step, tz="UTC")
    values = np.full(len(times), 100.0)
    frame = {"open_time": times, "open": values, "high": values, "low": values, "close": values, "volume": values}
    return as_candles(pd.DataFrame(frame), interval)


def check(frame: pd.DataFrame, interval: str) -> None:
    """Check the candles that were found."""
    times = frame["open_time"]
    check_length(times.iloc[0], times.iloc[-1] + interval_delta(interval), interval)


@pytest.mark.parametrize(("frame", "interval"), [(candles(19), "1h"), (candles(150, "24h", "1d"), "1d")])
def test_too_little_past_is_told_in_one_sentence(frame, interval):
    """What is needed, what was found, what to do."""
    with pytest.raises(UsageError, match="give more DAYS or a shorter INTERVAL"):
        check(frame, interval)


@pytest.mark.parametrize("days", range(18, 32))
def test_what_is_asked_for_is_judged_as_what_is_found(days):
    """An hour's candles over twenty days leave too few for a verdict; both ends of the build say so."""
    end, refused = pd.Timestamp("2024-01-01", tz="UTC"), []
    for refuse, args in ((check, (candles(days), "1h")), (check_request, (days, "1h", end, end))):
        try:
            refuse(*args)
        except UsageError as error:
            refused.append(str(error))
    assert len(refused) == (2 if days < 25 else 0)
    assert len(set(refused)) <= 1


def test_twenty_days_asked_for_are_twenty_days_found():
    """The last candle's own length counts: from its opening alone a day would be missing."""
    twenty = candles(20, "5min", "5m")
    check(twenty, "5m")
    with pytest.raises(UsageError, match="found 19 days"):
        check(twenty.iloc[:-1], "5m")


@pytest.mark.parametrize(
    ("days", "interval", "end", "sentence"),
    [
        (3, "5m", "2025-01-01", "needs 20 days and 200 candles in their last third .*, found 3 days and 288 candles"),
        (90, "1d", "2025-01-01", "found 90 days and 30 candles: give more DAYS or a shorter INTERVAL"),
        (20, "1h", "2025-01-01", "found 20 days and 168 candles"),
        (4000, "1w", "2025-01-01", "found 4000 days and 5. candles"),
        (30, "5m", "2030-01-01", "END may not be after 2025-07-01 00:00 UTC, where the source ends, found 2030"),
    ],
)
def test_a_report_that_cannot_come_out_is_refused_beforehand(days, interval, end, sentence):
    """Nothing is fetched or run for it, and the cure is one that works."""
    now = pd.Timestamp("2025-07-01", tz="UTC")
    check_request(20, "5m", now, now)
    with pytest.raises(UsageError, match=sentence):
        check_request(days, interval, pd.Timestamp(end, tz="UTC"), now)
