"""Walk-forward folds: train on the past, forecast the span after it, repeat."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from btcml.candles import interval_delta
from btcml.errors import NotReadyError, UsageError

_DAY = pd.Timedelta(days=1)
_CENTURY = 36_525 * _DAY
_YEARS = range(1970, 2200)


@dataclass(frozen=True)
class Fold:
    """One fold: models fitted on ``[train_start, cutoff]``, used for ``[test_start, test_end)``.

    All four are open times of target candles, timezone-aware UTC.
    """

    train_start: pd.Timestamp
    cutoff: pd.Timestamp
    test_start: pd.Timestamp
    test_end: pd.Timestamp

    def __str__(self) -> str:
        times = [f"{time:%Y-%m-%d %H:%M}" for time in (self.train_start, self.cutoff, self.test_start, self.test_end)]
        return "train {} to {}, test {} to {}".format(*times)


@dataclass(frozen=True)
class WalkForward:
    """A walk-forward plan.

    Parameters
    ----------
    test_from, test_to
        First target candle that is forecast, and the end (exclusive); an absent end is the end
        of the candles.
    window
        Training window: a number of candles, ``"N days"`` or ``"N months"`` (rolling), or None
        for everything before (expanding).
    refit
        How long a model is used: candles, days or months; ``"half"`` is half of the test in whole
        days, so that models are fitted twice.
    purge
        Candles left out between the last training outcome and the first candle that is forecast. That
        candle's forecast is made `horizon` candles earlier, so the horizon is enough, and less is
        rejected. More costs nothing: models do not age within weeks.
    burn_in
        Span before the test that is forecast too, by a model of its own, so that multipliers,
        calibration and intervals have earlier out-of-sample forecasts to learn from; it is left
        out where candles are too few, and None does without.
    horizon
        Candles ahead, of the longest forecast.

    Raises
    ------
    UsageError
        If a time or span cannot be read, or the purge is shorter than the horizon.

    Examples
    --------
    >>> open_time = pd.Series(pd.date_range("2024-01-01", "2024-03-31 23:00", freq="h", tz="UTC"))
    >>> plan = WalkForward("2024-03-01", window="1 months", refit="10 days", purge=24, burn_in=None)
    >>> for fold in plan.folds(open_time, "1h"):
    ...     print(fold)
    train 2024-02-01 00:00 to 2024-02-28 23:00, test 2024-03-01 00:00 to 2024-03-11 00:00
    train 2024-02-11 00:00 to 2024-03-09 23:00, test 2024-03-11 00:00 to 2024-03-21 00:00
    train 2024-02-21 00:00 to 2024-03-19 23:00, test 2024-03-21 00:00 to 2024-03-31 00:00
    train 2024-02-29 00:00 to 2024-03-29 23:00, test 2024-03-31 00:00 to 2024-04-01 00:00
    """

    test_from: str | datetime
    test_to: str | datetime | None = None
    window: int | str | None = "48 months"
    refit: int | str = "6 months"
    purge: int = 288
    burn_in: int | str | None = "6 months"
    horizon: int = 1

    def __post_init__(self) -> None:
        if self.purge < self.horizon:
            msg = f"the purge must be at least the horizon ({self.horizon}), found {self.purge}: outcomes would overlap"
            raise UsageError(msg)
        _ = self.first_test, self.last_test
        for span in (self.window, self.burn_in, None if self.refit == "half" else self.refit):
            if span is not None:
                span_offset(span, pd.Timedelta(1))

    @property
    def first_test(self) -> pd.Timestamp:
        """First target candle that counts."""
        return _utc(self.test_from)

    @property
    def last_test(self) -> pd.Timestamp | None:
        """End of the test (exclusive); None: the end of the candles."""
        return None if self.test_to is None else _utc(self.test_to)

    def folds(self, open_time: pd.Series, interval: str) -> list[Fold]:
        """Folds over a series of candles, in order of time, forecasting each candle once.

        Those that end at or before `first_test` are the burn-in.

        Raises
        ------
        NotReadyError
            If no candle lies before the first test, or none in the test.
        """
        delta = interval_delta(interval)
        first, end = open_time.iloc[0], open_time.iloc[-1] + delta
        stop = end if self.last_test is None else min(end, self.last_test)
        folds = self._burn_in(first, delta)
        start = self.first_test
        refit = self._refit(stop - start, delta)
        while start < stop:
            test_end = min(start + refit, stop)
            folds.append(self._fold(first, start, test_end, delta))
            start = test_end
        if not folds or folds[-1].test_end <= self.first_test:
            msg = f"the test must begin before the candles end, found {start} and {stop}: test earlier"
            raise NotReadyError(msg)
        return folds

    def _refit(self, test: pd.Timedelta, delta: pd.Timedelta) -> pd.DateOffset | pd.Timedelta:
        if self.refit == "half":
            return math.ceil(test / 2 / _DAY) * _DAY
        return span_offset(self.refit, delta)

    def _burn_in(self, first: pd.Timestamp, delta: pd.Timedelta) -> list[Fold]:
        if self.burn_in is None:
            return []
        start = self.first_test - span_offset(self.burn_in, delta)
        if start - first < 2 * (self.first_test - start) + self.purge * delta:
            return []
        return [self._fold(first, start, self.first_test, delta)]

    def _fold(self, first: pd.Timestamp, start: pd.Timestamp, end: pd.Timestamp, delta: pd.Timedelta) -> Fold:
        cutoff = start - (self.purge + 1) * delta
        begin = first if self.window is None else max(first, start - span_offset(self.window, delta))
        if cutoff <= begin:
            msg = f"training needs candles before {start}, found them from {first}: test later or ingest more"
            raise NotReadyError(msg)
        return Fold(begin, cutoff, start, end)


def _utc(time: str | datetime) -> pd.Timestamp:
    try:
        stamp = pd.Timestamp(datetime.fromisoformat(time) if isinstance(time, str) else time)
        known = stamp.year in _YEARS  # false for NaT, too
    except ValueError:
        known = False
    if not known:
        msg = f"a test begins and ends at a UTC time such as 2025-01-01, found {time!r}: write it so"
        raise UsageError(msg)
    return stamp.tz_localize("UTC") if stamp.tz is None else stamp.tz_convert("UTC")


def span_offset(span: int | str, delta: pd.Timedelta) -> pd.DateOffset | pd.Timedelta:
    """Length of a span: a number of candles of length `delta`, or ``"N days"`` or ``"N months"``.

    Raises
    ------
    UsageError
        If it cannot be read.
    """
    match = re.fullmatch(r"(\d{1,9})(?: (day|month)s?)?", str(span))
    count, unit = (int(match[1]), match[2] or "") if match else (0, "")
    if not 1 <= count <= _CENTURY // {"day": _DAY, "month": 31 * _DAY}.get(unit, delta):
        msg = (
            'a span is a number of candles, "N days" or "N months", of at most a century, '
            f'found {span!r}: write for example "6 months"'
        )
        raise UsageError(msg)
    if not unit:
        return count * delta
    return pd.DateOffset(days=count) if unit == "day" else pd.DateOffset(months=count)
