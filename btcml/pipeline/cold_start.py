"""A series too young for a verdict of its own: models of the older symbols serve it, once proven on coins left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml.errors import ArtifactError, NotReadyError
from btcml.forecast.artifacts import GOLDEN_ROWS, save_result
from btcml.forecast.dataset import make_dataset
from btcml.forecast.experiment import OTHERS_MODEL, Experiment, Result
from btcml.forecast.features import SETS, features_of
from btcml.forecast.forecaster import Learned
from btcml.forecast.left_out import LEAST_COINS, LeftOut, cold_start_experiment, is_cold_start, left_out_experiment
from btcml.forecast.metrics import PERSISTENCE
from btcml.forecast.verdict import decision_due
from btcml.pipeline.evaluate import evaluate_left_out, read_newest, verdict_facts, walk_forward_file
from btcml.pipeline.predict import load_served
from btcml.rounding import decimals_apart
from btcml.store.models import read_champion, read_models

if TYPE_CHECKING:
    from collections.abc import Mapping

    from btcml.candles import SeriesKey
    from btcml.settings import Settings
    from btcml.store.engine import Store

    Frames = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Inputs:
    """What a training begins with: its series with its candles, those of older symbols, and the market's time."""

    store: Store
    settings: Settings
    key: SeriesKey
    candles: pd.DataFrame
    pool: Frames
    now: pd.Timestamp
    jobs: int


@dataclass(frozen=True)
class Judged:
    """Newest verdict on a series, and what its models are fitted with.

    Attributes
    ----------
    facts, figures, at
        Of the verdict, metrics by model, and when it fell.
    experiment
        Gives the models to fit.
    result
        Where the verdict fell just now.
    others, start
        Candles of other symbols, and what coins left out have taught, where models are fitted on those alone.
    """

    facts: dict[str, Any]
    figures: dict[str, dict[str, Any]]
    at: pd.Timestamp
    experiment: Experiment
    result: Result | None = None
    others: Frames | None = None
    start: Learned | None = None


def read_mature_pool(store: Store, settings: Settings, key: SeriesKey, candles: pd.DataFrame, days: int) -> Frames:
    """Read the other symbols of the settings with enough candles for a young series; none where it is not, or empty."""
    if candles.empty or not is_cold_start(candles):
        return {}
    symbols = [symbol for symbol in settings.btcml_symbols if symbol != key.symbol]
    frames = {symbol: read_newest(store, replace(key, symbol=symbol), days) for symbol in symbols}
    mature = {symbol: frame for symbol, frame in frames.items() if not is_cold_start(frame)}
    return mature if len(mature) >= LEAST_COINS else {}


def kept_verdict(of: Inputs) -> Judged | None:
    """Verdict of today by which models of other symbols are in service; None where there is none."""
    record = read_champion(of.store, of.key)
    facts = record.verdict if record else {}
    proof = facts.get("left_out", {"served": False})
    if not record or not proof["served"] or not set(proof["pool"]) <= set(of.pool):
        return None
    if decision_due(record.judged_at, of.now):
        return None
    try:
        start = load_served(of.store, of.settings, of.key).forecaster.metadata["start"]
    except (ArtifactError, KeyError):
        return None
    others = {symbol: of.pool[symbol] for symbol in proof["pool"]}
    experiment = cold_start_experiment(of.candles, of.key.interval, tuple(others), OTHERS_MODEL)
    known = {row.name: row.metrics for row in read_models(of.store, of.key) if row.artifact == record.artifact}
    figures, at = {PERSISTENCE: facts["persistence"]} | known, record.judged_at or of.now
    return Judged(facts, figures, at, experiment, None, others, Learned(**start))


def judge_cold_start(of: Inputs, own: Judged | None) -> Judged:
    """Judge whether models of the older symbols serve a young series, and count a look at the candles of each.

    They do where they are proven on coins left out, unless their error on its own candles is not below that of no
    change. That look at its own candles can only keep a model out, so it counts as none.

    Parameters
    ----------
    own
        Verdict of its own, in which nothing is proven; None where its candles are too few for one. Then range,
        interval and probability are those of the older symbols in any case.

    Raises
    ------
    NotReadyError
        If its candles are too few to forecast from.
    """
    _check_warm(of.key, of.candles)
    champion = read_champion(of.store, of.key)
    plan = left_out_experiment(of.pool, of.key.interval, OTHERS_MODEL)
    serves = champion is not None and champion.name == OTHERS_MODEL
    proof = evaluate_left_out(of.store, of.key, of.pool, plan, incumbent=serves, jobs=of.jobs)
    kept = proof.to_dict() | {"pool": [*of.pool]}
    if own and not proof.proven:
        reason = f"{own.facts['reason']} {proof.reason}"
        return replace(own, facts=own.facts | {"reason": reason, "left_out": kept | {"served": False}})
    experiment = cold_start_experiment(of.candles, of.key.interval, tuple(of.pool), OTHERS_MODEL)
    result = experiment.run(of.candles, others=of.pool, jobs=of.jobs)
    served, ratio, words = _conclusion(of, result, proof)
    if own and not served:
        return replace(own, facts=own.facts | {"reason": words, "left_out": kept | {"served": False}})
    save_result(result, walk_forward_file(of.settings, of.key))
    facts = verdict_facts(result, of.candles) | {"champion": OTHERS_MODEL if served else PERSISTENCE, "reason": words}
    facts |= {"skill": (None if ratio is None else 1 - ratio) if served else 0.0, "left_out": kept | {"served": True}}
    return Judged(facts, result.figures, of.now, experiment, result, of.pool, proof.start)


def _conclusion(of: Inputs, result: Result, proof: LeftOut) -> tuple[bool, float | None, str]:
    """Whether the model serves, its own error over that of no change where own candles are enough to tell, and why."""
    ratio, times = _own_ratio(result), of.candles["open_time"]
    served = proof.proven and (ratio is None or ratio < 1)
    days = max(1, round((times.iloc[-1] - times.iloc[0]) / pd.Timedelta(days=1)))
    span = f"{days} day" + "s" * (days > 1)
    own = f"{of.key.symbol} has {len(times):,} candles of {span}, and nothing is proven on them alone."
    if ratio is not None:
        own += f" On them {OTHERS_MODEL} has {ratio:.{decimals_apart(ratio, 1.0, 4)}f} of the error of no change."
    return served, ratio, f"{OTHERS_MODEL if served else PERSISTENCE} is champion: {own} {proof.reason}"


def _own_ratio(result: Result) -> float | None:
    table = result.verdict.table
    return next(iter(table.loc[table["model"] == OTHERS_MODEL, "ratio"]), None)


def _check_warm(key: SeriesKey, candles: pd.DataFrame) -> None:
    names = tuple(dict.fromkeys([*SETS["core"], *SETS["range"]]))
    data = make_dataset(candles, key.interval, names)
    if not data.ready[-GOLDEN_ROWS:].all() or len(candles) < GOLDEN_ROWS:
        need = max(item.warmup for item in features_of(names)) + GOLDEN_ROWS
        msg = (
            f"models of other symbols need {need} candles of {key} without a gap, found {data.prepared.age[-1] + 1}: "
            "ingest more"
        )
        raise NotReadyError(msg)
