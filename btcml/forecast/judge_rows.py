"""Rows of files of forecasts as one frame of prices with their candles; rows that cannot be scored are findings."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from btcml.candles import LONGEST_HORIZON, interval_floors
from btcml.errors import UsageError
from btcml.forecast.foreign import QUANTILE
from btcml.forecast.judge_checks import Finding, count_findings
from btcml.forecast.metrics import PERSISTENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from btcml.forecast.features import Prepared

    Array = NDArray[np.float64]


VALUES: dict[str, Callable[[Array, Array], Array]] = {
    "price": lambda _, value: value,
    "return": lambda base, value: base * (1 + value),
    "log-return": lambda base, value: base * np.exp(value),
}
"""What a forecast may be: from the last close and the value given to a price."""

_REQUIRED = ("cutoff", "open_time", "y_hat")
_OPTIONAL = ("lo", "hi", "prob_up")
_KEYS = ["model", "horizon", "at"]
_FACTOR = math.log(2)
_MANY = 20
_LONGEST = 100
_PER_CENT = 0.01


def scorable_rows(
    frames: Mapping[str, pd.DataFrame], prepared: Prepared, interval: str, values: str
) -> tuple[pd.DataFrame, list[Finding]]:
    """Rows that can be scored, one for each model, horizon and candle, and findings about the others.

    Parameters
    ----------
    frames, interval, values
        As `btcml.forecast.judge.judge` takes them.
    prepared
        The candles.

    Returns
    -------
    tuple
        ``file, row, model, horizon``; positions of the candles ``made`` (cutoff) and ``at`` (target); ``base, y`` and,
        as prices, ``y_hat``; ``lo, hi, prob_up`` and quantiles where a file has them.

    Raises
    ------
    UsageError
        If a column is missing, a time is on no candle, values cannot be what they are said to be, or nothing is left.
    """
    rows, findings = _scorable(_placed(_joined(frames), prepared, interval), prepared)
    rows = _priced(rows, prepared, values)
    unique, repeated = _unique(rows)
    return unique, [*findings, *repeated, *_versions(unique)]


def quantile_levels(columns: Iterable[object]) -> dict[str, float]:
    """Names of the quantile columns, ascending, and their levels between 0 and 1.

    Examples
    --------
    >>> quantile_levels(["y_hat", "q97.5", "q5"])
    {'q5': 0.05, 'q97.5': 0.975}
    """
    found = {str(name): QUANTILE.fullmatch(str(name)) for name in columns}
    levels = {name: float(match[1]) / 100 for name, match in found.items() if match}
    return dict(sorted(levels.items(), key=lambda item: item[1]))


def _joined(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Rows of all files with the known columns; a model without a name has that of its file."""
    parts = [_part(file, frame) for file, frame in frames.items()]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*_REQUIRED, "model"], dtype="str")
    if (rows["model"].isna() | (rows["model"].str.strip() == "")).any():
        msg = "the column model should name a model in each row, found rows without a name: name them, or leave it out"
        raise UsageError(msg)
    odd = [name for name in rows["model"].unique() if not name.isprintable() or len(name) > _LONGEST]
    if odd:
        msg = f"a model has a name of at most {_LONGEST} printable characters, found {odd[0][:_LONGEST]!r}: name it so"
        raise UsageError(msg)
    rows = rows[rows["y_hat"].notna()]
    if rows.empty:
        msg = "forecasts to judge were expected, found none: give a file with rows, or a forecaster"
        raise UsageError(msg)
    _check_levels(rows)
    return rows.assign(model=rows["model"].mask(rows["model"] == PERSISTENCE, f"{PERSISTENCE} of " + rows["file"]))


def _part(file: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Known columns of one file, with ``model, file, row``."""
    absent = [name for name in _REQUIRED if name not in frame]
    if absent:
        msg = (
            f"{file}: forecasts need the columns {', '.join(_REQUIRED)}, missing: {', '.join(absent)}, found: "
            f"{', '.join(map(str, frame.columns))}: name them with --column {absent[0]}=NAME"
        )
        raise UsageError(msg)
    kept = [*_REQUIRED, *(name for name in _OPTIONAL if name in frame), *quantile_levels(frame)]
    model = frame["model"].astype("str").where(frame["model"].notna()) if "model" in frame else file
    return frame[kept].copy().assign(model=model, file=file, row=np.arange(1, len(frame) + 1))


def _check_levels(rows: pd.DataFrame) -> None:
    levels = quantile_levels(rows)
    found = sorted(set(levels.values()))
    if levels and (not 0 < found[0] <= found[-1] < 1 or found[-1] <= _PER_CENT or len(found) < len(levels)):
        msg = f"quantiles are named in per cent, such as q5, q50 and q95, found {', '.join(levels)}: name each so, once"
        raise UsageError(msg)
    if "prob_up" in rows and not rows["prob_up"].dropna().between(0, 1).all():
        msg = "prob_up is a probability between 0 and 1, found other values: give shares, not per cent"
        raise UsageError(msg)


def _placed(rows: pd.DataFrame, prepared: Prepared, interval: str) -> pd.DataFrame:
    """Rows with the positions of cutoff (``made``) and target (``at``), -1 where there is no such candle."""
    ticks = [_ticks(rows, name, interval) for name in ("cutoff", "open_time")]
    candles = pd.Index(prepared.ticks)
    made, at = (candles.get_indexer(pd.Index(times)) for times in ticks)
    return rows.assign(horizon=(ticks[1] - ticks[0]) // prepared.step_us, made=made, at=at)


def _ticks(rows: pd.DataFrame, name: str, interval: str) -> NDArray[np.int64]:
    """Microseconds of a column of open times."""
    times = rows[name]
    if not isinstance(times.dtype, pd.DatetimeTZDtype) or times.isna().any():
        msg = f"{name} must hold timezone-aware times without gaps, found {times.dtype}: parse them first"
        raise UsageError(msg)
    times = times.dt.tz_convert("UTC").dt.as_unit("us")
    odd = (times != interval_floors(times, interval)).to_numpy()
    if odd.any():
        row = rows[odd].iloc[0]
        msg = (
            f"{row['file']}, row {row['row']}: {name} {times[odd].iloc[0]} is no open time of a {interval} candle: "
            "for close times give --cutoff-is close, for another interval --interval"
        )
        raise UsageError(msg)
    return times.astype("int64").to_numpy()


def _scorable(rows: pd.DataFrame, prepared: Prepared) -> tuple[pd.DataFrame, list[Finding]]:
    """Rows with a forecast from before its candle, whose candles are there; and findings about the others."""
    late = rows["horizon"] < 1
    if late.all():
        msg = (
            "no cutoff is before the candle that is forecast: it is the open time of the last candle used; "
            "for close times give --cutoff-is close"
        )
        raise UsageError(msg)
    far = rows[rows["horizon"] > LONGEST_HORIZON]
    if len(far):
        found = f"{far['file'].iloc[0]}, row {far['row'].iloc[0]}: {far['horizon'].iloc[0]:,}"
        msg = f"a horizon is at most {LONGEST_HORIZON} candles, found in {found}: leave longer ones out"
        raise UsageError(msg)
    there = (rows["made"] >= 0) & (rows["at"] - rows["made"] == rows["horizon"])
    if not (there & ~late).any():
        candles = pd.to_datetime(prepared.ticks[[0, -1]], unit="us")
        spans = [f"{span.min():%Y-%m-%d %H:%M} to {span.max():%Y-%m-%d %H:%M}" for span in (candles, rows["open_time"])]
        msg = (
            f"no forecast is of a candle: the candles are from {spans[0]}, the forecasts from {spans[1]}: give the "
            "candles of that time"
        )
        raise UsageError(msg)
    words = "used the candle forecast, or a later one, and do not count"
    findings = count_findings(rows[late], "cutoff", words, suspected=True)
    findings += count_findings(rows[~late & ~there], "no candle", "cannot be scored: a candle is missing")
    return rows[~late & there], findings


def _priced(rows: pd.DataFrame, prepared: Prepared, values: str) -> pd.DataFrame:
    """Rows with ``base`` and ``y``, and all forecasts as prices."""
    if values not in VALUES:
        msg = f"values are one of {', '.join(VALUES)}, found {values!r}"
        raise UsageError(msg)
    base, y = prepared.close[rows["made"]], prepared.close[rows["at"]]
    names = [name for name in ("y_hat", "lo", "hi", *quantile_levels(rows)) if name in rows]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        prices = {name: VALUES[values](base, rows[name].to_numpy(dtype=float)) for name in names}
        move = np.abs(np.log(prices["y_hat"] / base))
    far = ~(move < 10 * _FACTOR)  # also where a price is negative or infinite
    if far.any() or np.median(move) > _FACTOR:
        bad = int(np.argmax(far))
        row = rows.iloc[bad]
        msg = (
            f"{row['file']}, row {row['row']}: y_hat {row['y_hat']:g} read as a {values} is not near the last close, "
            f"{base[bad]:g}: say what the values are with --values {', '.join(VALUES)}, or leave such rows out"
        )
        raise UsageError(msg)
    return rows.assign(base=base, y=y, **prices)


def _unique(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    """One row for each model, horizon and candle: of different ones that with the largest error."""
    repeated = rows[rows.duplicated(_KEYS, keep=False)]
    differs = repeated.groupby(_KEYS)["y_hat"].transform("nunique") > 1
    equal, changed = (part.drop_duplicates(_KEYS) for part in (repeated[~differs], repeated[differs]))
    findings = count_findings(equal, "duplicates", "are there more than once, and count once")
    words = "have other versions with the same cutoff: the one with the largest error counts"
    findings += count_findings(changed, "repainted", words, suspected=True)
    error = np.abs(np.log(rows["y_hat"].to_numpy() / rows["y"].to_numpy()))
    worst = rows.iloc[np.argsort(-error, kind="stable")].drop_duplicates(_KEYS)
    return worst.sort_values(_KEYS, ignore_index=True), findings


def _versions(rows: pd.DataFrame) -> list[Finding]:
    """Pairs of models of different files that are equal in most forecasts of a move, and differ in others."""
    of_file = rows.drop_duplicates("model").set_index("model")["file"]
    moving = rows[rows["y_hat"] != rows["base"]]
    if not 1 < len(of_file) <= _MANY:
        return []
    table = moving.pivot_table(index=["horizon", "at"], columns="model", values="y_hat")
    findings = []
    for one, two in itertools.combinations(table.columns.astype(str), 2):
        both = table[[one, two]].dropna()
        equal = int((both[one] == both[two]).sum())
        if of_file[one] != of_file[two] and len(both) > equal > len(both) / 2:
            share, of = f"{equal:,} of {len(both):,} forecasts", (0, len(both) - equal)
            words = f"{one} and {two} are equal in {share}: they are versions of one model."
            findings += [Finding("repainted", name, *of, suspected=True, sentence=words) for name in (one, two)]
    return findings
