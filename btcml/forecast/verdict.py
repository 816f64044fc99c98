"""The verdict: which model is served, by a rule that was fixed before any result was seen.

1. Judged are absolute errors in bp on the candles that all models forecast in walk-forward.
2. A challenger *beats persistence* if its MAE is below persistence's over the whole test and over
   the last six months, and the one-sided Diebold-Mariano p over the whole test, after Holm over
   all challengers and times the looks at the data, is below alpha = 0.01.
3. Champion is the lowest MAE among those; if there is none, persistence.
4. A reigning champion that still beats persistence is replaced only by a challenger that beats
   persistence *and* beats the champion by Diebold-Mariano, Holm and looks again counted.
5. A verdict falls at most once a day. Training in between refits the champion, never promotes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from btcml.errors import UsageError
from btcml.forecast.inference import Comparison, diebold_mariano, holm
from btcml.forecast.metrics import PERSISTENCE, loss_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Verdict", "decision_due", "verdict"]

_FEWEST = 200
_RECENT_MONTHS = 6
_DAY = pd.Timedelta(days=1)
_TINY = 0.001


@dataclass(frozen=True)
class Verdict:
    """Outcome of `verdict`.

    Attributes
    ----------
    champion
        The model to serve.
    reason
        One sentence that says why.
    table
        One row a model, persistence first, then by ratio: ``model``, ``ratio`` (MAE over
        persistence's), ``z`` and ``p`` (Diebold-Mariano, one-sided), ``p_holm`` (Holm and looks
        counted), ``recent_ratio`` (last six months), ``beats`` (rule 2) and ``p_champion`` (Holm p
        against the reigning champion; 1 where there is none to replace).
    looks
        Looks at the data that were counted, this one included.
    alpha
        Level of the tests.
    rows
        Candles judged.
    """

    champion: str
    reason: str
    table: pd.DataFrame = field(compare=False, repr=False)
    looks: int
    alpha: float
    rows: int


def verdict(forecasts: pd.DataFrame, *, looks: int = 1, alpha: float = 0.01, reigning: str = PERSISTENCE) -> Verdict:
    """Judge walk-forward forecasts by the rule of this module.

    Parameters
    ----------
    forecasts
        Forecast frame of the close, persistence among its models.
    looks
        How many verdicts these data have seen, this one included.
    alpha
        Level of the tests.
    reigning
        The champion so far. One that is no longer among the models is replaced like persistence.

    Returns
    -------
    Verdict
        Persistence where nothing beats it, and where fewer than 200 candles can be judged.

    Raises
    ------
    UsageError
        If persistence is missing, `looks` is below 1 or a model forecasts one candle twice.

    Examples
    --------
    >>> import numpy as np
    >>> from btcml.forecast.metrics import forecast_frame
    >>> close = 100 * np.exp(np.random.default_rng(0).normal(0, 0.01, 1001).cumsum())
    >>> verdict(forecast_frame(close, {"wild": {"y_hat": close[:-1] * 1.01}})).champion
    'persistence'
    """
    losses = loss_table(forecasts)
    if PERSISTENCE not in losses:
        found = ", ".join(map(str, losses)) or "none"
        msg = f"the model {PERSISTENCE} must be among the forecasts, found {found}"
        raise UsageError(msg)
    if len(losses) < _FEWEST:
        reason = f"{PERSISTENCE} is champion: a verdict needs {_FEWEST} candles, found {len(losses)}."
        return Verdict(PERSISTENCE, reason, _table(losses, looks, alpha).head(0), looks, alpha, len(losses))
    table = _table(losses, looks, alpha)
    rules = table.set_index("model")["beats"]
    reigns = reigning if rules.get(reigning, default=False) else PERSISTENCE
    table["p_champion"] = _against(losses, reigns, looks).reindex(table["model"]).fillna(1.0).to_numpy()
    worthy = table["beats"] & ((table["p_champion"] < alpha) if reigns != PERSISTENCE else True)
    # The table is in the order of MAE, so the first that is worthy is the best.
    champion = str(table["model"][worthy].iloc[0]) if worthy.any() else reigns
    reason = _reason(table, champion, reigns, looks, losses.index)
    return Verdict(champion, reason, table, looks, alpha, len(losses))


def decision_due(last: pd.Timestamp | None, now: pd.Timestamp) -> bool:
    """Whether a new verdict may fall: a day or more after the last one.

    Examples
    --------
    >>> noon = pd.Timestamp("2025-01-01 12:00", tz="UTC")
    >>> decision_due(None, noon), decision_due(noon, noon + pd.Timedelta("23h"))
    (True, False)
    """
    return last is None or now - last >= _DAY


def _table(losses: pd.DataFrame, looks: int, alpha: float) -> pd.DataFrame:
    recent = losses[_is_recent(losses.index)]
    tests = _compare(losses, PERSISTENCE)
    challengers = tests["p"].drop(PERSISTENCE)
    table = tests.assign(
        ratio=losses.mean() / losses[PERSISTENCE].mean(),
        p_holm=holm(challengers, looks),
        recent_ratio=recent.mean() / recent[PERSISTENCE].mean(),
    ).fillna({"p_holm": 1.0})
    table["beats"] = (table["ratio"] < 1) & (table["recent_ratio"] < 1) & (table["p_holm"] < alpha)
    table["reference"] = table.index != PERSISTENCE
    table = table.rename_axis("model").reset_index().sort_values(["reference", "ratio"], ignore_index=True)
    return table[["model", "ratio", "z", "p", "p_holm", "recent_ratio", "beats"]]


def _is_recent(times: pd.Index) -> NDArray[np.bool_]:
    """Which candles lie in the last six months: all of them where the test is shorter."""
    if times.empty:
        return np.zeros(0, dtype=bool)
    return np.asarray(times > times.max() - pd.DateOffset(months=_RECENT_MONTHS))


def _compare(losses: pd.DataFrame, benchmark: str) -> pd.DataFrame:
    none = Comparison(0.0, 1.0, 1.0, 0, 0)
    results = {name: diebold_mariano(losses[name], losses[benchmark]) if len(losses) > 1 else none for name in losses}
    return pd.DataFrame(
        {
            "z": {name: result.statistic for name, result in results.items()},
            "p": {name: result.p_better for name, result in results.items()},
        }
    )


def _against(losses: pd.DataFrame, champion: str, looks: int) -> pd.Series:
    if champion == PERSISTENCE:
        return pd.Series(dtype=float)
    return holm(_compare(losses, champion)["p"].drop([PERSISTENCE, champion]), looks)


def _reason(table: pd.DataFrame, champion: str, reigns: str, looks: int, times: pd.Index) -> str:
    challengers = table.iloc[1:]
    if challengers.empty:
        return f"{PERSISTENCE} is champion: there is no challenger."
    named = champion if champion != PERSISTENCE else challengers["model"].iloc[0]
    row = challengers[challengers["model"] == named].iloc[0].to_dict()
    count = f"{len(challengers)} challenger{'s' * (len(challengers) > 1)}"
    looked = f"{looks} look{'s' * (looks > 1)}"
    recently = f"and {row['recent_ratio']:.4f} in the last {_RECENT_MONTHS} months"
    if _is_recent(times).all():
        recently = f"in a test of {_days(times)}, shorter than the {_RECENT_MONTHS} months of the rule"
    figures = (
        f"{row['ratio']:.4f} of the error of no change over {len(times):,} candles (z {row['z']:.1f}, "
        f"{_p(row['p_holm'])} after Holm over {count} and {looked}) {recently}"
    )
    if champion == PERSISTENCE:
        return f"{PERSISTENCE} is champion: no challenger beats it; the best, {named}, has {figures}."
    if reigns == champion:
        return f"{champion} stays champion: no challenger beats it; it has {figures}."
    against = "" if reigns == PERSISTENCE else f", and beats {reigns}"
    return f"{champion} is champion: it has {figures}{against}."


def _days(times: pd.Index) -> str:
    days = max(1, round((times.max() - times.min()) / _DAY))
    return f"{days} day{'s' * (days > 1)}"


def _p(value: float) -> str:
    return f"p < {_TINY}" if value < _TINY else f"p {value:.3f}"
