"""Scores of a forecast frame, cut the ways the last chapter tells of them.

A forecast frame has ``cutoff, open_time, model, y, y_hat, lo, hi, prob_up, base``; errors are absolute log
errors in basis points, and skill is one less the ratio to persistence's mean error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from btcml.forecast.inference.comparison import diebold_mariano, holm
from btcml.forecast.inference.direction import pesaran_timmermann, wilson_interval
from btcml.forecast.inference.skill import skill_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "PERSISTENCE",
    "calibration",
    "champion",
    "coverage",
    "errors_bp",
    "fee_curve",
    "skill_by",
    "skill_table",
    "thirds",
]

PERSISTENCE = "persistence"
_CHANCE = 0.05


def errors_bp(frame: pd.DataFrame) -> pd.DataFrame:
    """Absolute log errors in basis points: one row a candle, one column a model."""
    error = 1e4 * np.abs(np.log(frame["y_hat"] / frame["y"]))
    table = frame.assign(error=error).pivot(index="open_time", columns="model", values="error")
    return table.rename(columns=str)[sorted(table.columns.astype(str))]


def _moves(frame: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Outcome and forecast of the return, in basis points."""
    return (
        1e4 * np.log(frame["y"] / frame["base"]).to_numpy(),
        1e4 * np.log(frame["y_hat"] / frame["base"]).to_numpy(),
    )


def skill_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Every model beside persistence, persistence first.

    Returns
    -------
    DataFrame
        ``model, mae_usd, mae_bp, skill, skill_low, skill_high, p`` (one-sided Diebold-Mariano),
        ``p_holm`` (the same, for as many models), ``right`` (share of right signs), ``p_signs``
        and ``wda`` (right signs weighted by the size of the move); NaN for persistence where it
        has no forecast of a move.
    """
    errors = errors_bp(frame)
    rows = [_score(errors, frame[frame["model"] == name], name) for name in _ordered(errors)]
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table["p"].iloc[1:]).reindex(table.index)
    return table


def _ordered(errors: pd.DataFrame) -> list[str]:
    """Persistence, then the models from the smallest error on."""
    best = errors.mean().sort_values(kind="stable").index
    return [PERSISTENCE, *(name for name in best if name != PERSISTENCE)]


def _score(errors: pd.DataFrame, part: pd.DataFrame, name: str) -> dict[str, float | str]:
    ours, theirs = errors[name].to_numpy(), errors[PERSISTENCE].to_numpy()
    row: dict[str, float | str] = {"model": name, "mae_usd": float((part["y_hat"] - part["y"]).abs().mean())}
    row |= {"mae_bp": float(ours.mean()), "skill": float(1 - ours.mean() / theirs.mean())}
    if name == PERSISTENCE:
        return row
    low, high = skill_interval(ours, theirs)
    move, said = _moves(part)
    signs = pesaran_timmermann(move, said)
    size = np.abs(move)
    right = np.sign(move) == np.sign(said)
    return row | {
        "skill_low": low,
        "skill_high": high,
        "p": diebold_mariano(ours, theirs).p_better,
        "right": signs.hits,
        "p_signs": signs.p,
        "wda": float(size[right].sum() / size.sum()),
    }


def champion(table: pd.DataFrame) -> str:
    """The best model that beats persistence at five per cent for as many models as were tried, else persistence."""
    worthy = table[(table["p_holm"] < _CHANCE) & (table["skill"] > 0)]
    return str(worthy.loc[worthy["skill"].idxmax(), "model"]) if len(worthy) else PERSISTENCE


def thirds(frame: pd.DataFrame) -> pd.Series:
    """Calm, usual or stormy by open time: thirds of the trailing day's mean move, known beforehand."""
    part = frame[frame["model"] == PERSISTENCE].set_index("open_time")
    move = 1e4 * np.log(part["y"] / part["base"]).abs()
    trailing = move.rolling("1D").mean().shift(1).bfill()
    ranks = trailing.rank(method="first", pct=True)
    names = np.select([ranks <= 1 / 3, ranks <= 2 / 3], ["calm", "usual"], "stormy")
    return pd.Series(names, index=part.index, name="third")


def skill_by(errors: pd.DataFrame, model: str, group: pd.Series) -> pd.DataFrame:
    """Skill of a model in each group of candles.

    Parameters
    ----------
    errors
        From `errors_bp`.
    group
        A label for each open time.

    Returns
    -------
    DataFrame
        ``group, candles, skill, low, high`` (95 % interval by blocks).
    """
    rows = []
    for label, part in errors.groupby(group.reindex(errors.index).to_numpy(), sort=True):
        ours, theirs = part[model].to_numpy(), part[PERSISTENCE].to_numpy()
        low, high = skill_interval(ours, theirs, reps=300)
        rows.append((label, len(part), float(1 - ours.mean() / theirs.mean()), low, high))
    return pd.DataFrame(rows, columns=["group", "candles", "skill", "low", "high"])


def calibration(part: pd.DataFrame, bins: int = 10) -> pd.DataFrame:
    """Said and seen probability of a rise, in equally filled bins of one model's forecasts.

    Returns
    -------
    DataFrame
        ``said, seen, low, high, candles``; empty where no probability is given.
    """
    known = part[part["prob_up"].notna() & (part["y"] != part["base"])]
    names = ["said", "seen", "low", "high", "candles"]
    if known.empty:
        return pd.DataFrame(columns=names)
    up = (known["y"] > known["base"]).astype("int64")
    place = np.minimum((known["prob_up"].rank(method="first", pct=True) * bins).astype("int64"), bins - 1)
    rows = []
    for _, inside in known.groupby(place.to_numpy()):
        hits = int(up[inside.index].sum())
        rows.append((inside["prob_up"].mean(), hits / len(inside), *wilson_interval(hits, len(inside)), len(inside)))
    return pd.DataFrame(rows, columns=names)


def coverage(part: pd.DataFrame, third: pd.Series) -> pd.DataFrame:
    """How often the interval held the outcome, overall and by third.

    Returns
    -------
    DataFrame
        ``group, held, low, high, width_bp, candles``; empty where there are no intervals.
    """
    known = part[part["lo"].notna() & part["hi"].notna()]
    label = third.reindex(known["open_time"]).to_numpy()
    rows = []
    for name in ("all", "calm", "usual", "stormy"):
        inside = known if name == "all" else known[label == name]
        if len(inside):
            hits = int(inside["y"].between(inside["lo"], inside["hi"]).sum())
            width = float(1e4 * np.log(inside["hi"] / inside["lo"]).mean())
            rows.append((name, hits / len(inside), *wilson_interval(hits, len(inside)), width, len(inside)))
    return pd.DataFrame(rows, columns=["group", "held", "low", "high", "width_bp", "candles"])


def fee_curve(part: pd.DataFrame) -> pd.DataFrame:
    """Mean gain of a trade held for one candle, by how strong the forecast must be.

    Returns
    -------
    DataFrame
        ``share`` (strongest share of forecasts traded), ``trades`` and ``gross_bp``, which is also
        the fee for entering and leaving at which nothing is left.
    """
    move, said = _moves(part)
    strength = pd.Series(np.abs(said)).rank(method="first", pct=True).to_numpy()
    rows = []
    for share in (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01):
        taken = (strength > 1 - share) & (said != 0)
        if taken.any():
            rows.append((share, int(taken.sum()), float((np.sign(said) * move)[taken].mean())))
    return pd.DataFrame(rows, columns=["share", "trades", "gross_bp"])
