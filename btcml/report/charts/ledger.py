"""Exhibits of the last chapter, fourth part: the sealed forecasts so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from btcml.forecast.statistics import diebold_mariano
from btcml.report import claims as say
from btcml.report.experiment import title_of
from btcml.report.tables import Columns, Table

if TYPE_CHECKING:
    from btcml.report.claims import Claim

__all__ = ["sealed"]

_ERRORS = ["error_bp", "persistence_error_bp"]
_FEW, _LEVEL = 100, 0.05


def sealed(forecasts: pd.DataFrame) -> Table | Claim:
    """Forecasts that were stored before their candles closed, by role and model, beside no change."""
    known = forecasts.dropna(subset=_ERRORS) if set(_ERRORS) <= set(forecasts) else forecasts.head(0)
    if known.empty:
        return say.claim(
            "No forecast has been sealed in this span yet: everything above was forecast in the walk-forward. Sealed "
            "forecasts come from the running service."
        )
    rows = [_row(str(role), str(model), part) for (role, model), part in known.groupby(["role", "model"], sort=True)]
    names = ["role", "model", "rows", "mae_bp", "base_bp", "skill", "p", "coverage"]
    columns: Columns = {
        "model": ("Model", str),
        "role": ("Role", str),
        "rows": ("Forecasts", say.count),
        "mae_bp": ("Error, bp", _fine),
        "base_bp": ("“No change”, bp", _fine),
        "skill": ("Skill", lambda value: say.percent(value, 2, sign=True)),
        "p": ("p-value", say.probability),
        "coverage": ("Closes inside the interval", say.percent),
    }
    return Table("sealed", pd.DataFrame(rows, columns=names), _says(known), columns)


def _row(role: str, model: str, part: pd.DataFrame) -> tuple[str, str, int, float, float, float, float, float]:
    ours, theirs = (part[name].astype(float) for name in _ERRORS)
    base = float(theirs.mean())
    skill = 1 - float(ours.mean()) / base if base > 0 else 0.0
    p = diebold_mariano(ours, theirs).p_better if len(part) > 1 else 1.0
    inside = part["real_close"].between(part["lo"], part["hi"])[part["lo"].notna()]
    return role, title_of(model), len(part), float(ours.mean()), base, skill, p, float(inside.mean())


def _says(known: pd.DataFrame) -> Claim:
    """How the champion's sealed forecasts did, no more surely than their number allows."""
    served = known[known["role"] == "champion"]
    if served.empty:
        return say.claim("Sealed so far are forecasts of challengers alone.")
    ours, theirs = (served[name].astype(float) for name in _ERRORS)
    better = float(ours.mean()) < float(theirs.mean())
    p = diebold_mariano(ours, theirs).p_better if len(served) > 1 else 1.0
    sure = "." if len(served) >= _FEW and p < _LEVEL else "; they are too few, or too close, to say more."
    return say.claim(
        "{rows} of the champion {were} sealed before the outcome was known; they missed by {ours} on average, less "
        "than the {theirs} of “no change”" + sure,
        holds=better,
        otherwise="{rows} of the champion {were} sealed before the outcome was known; they missed by {ours} on "
        "average, no better than the {theirs} of “no change”.",
        rows=say.count(len(served), "forecast"),
        were=say.verb(len(served), "was", "were"),
        ours=say.bp(ours.mean(), 3),
        theirs=say.bp(theirs.mean(), 3),
    )


def _fine(value: float) -> say.Quantity:
    return say.number(value, 3)
