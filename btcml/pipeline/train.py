"""Train: judge at most once a day, fit everything that is served, save it with its card, put it into service.

The horizons beyond the next candle are judged and fitted once a week, first by the second training of a series; the
trainings in between keep their models.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import time
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml.candles import SeriesKey, content_hash
from btcml.errors import ArtifactError, NotReadyError
from btcml.files import write_text
from btcml.forecast.artifacts import manifest_hash, save_forecaster, save_result
from btcml.forecast.experiment import MODELS, Experiment
from btcml.forecast.forecaster import MIN_CANDLES, train_forecaster, train_horizons
from btcml.forecast.metrics import PERSISTENCE
from btcml.forecast.models import RANGE, pool_of
from btcml.forecast.verdict import decision_due
from btcml.pipeline.cold_start import Inputs, Judged, judge_cold_start, kept_verdict, read_mature_pool
from btcml.pipeline.evaluate import (
    check_enough,
    evaluate,
    read_newest,
    read_pool,
    series_folder,
    verdict_facts,
    walk_forward_file,
)
from btcml.pipeline.predict import load_served
from btcml.store.candles import read_last_candles
from btcml.store.chain import chain_head
from btcml.store.models import (
    ModelRecord,
    mark_pruned,
    prunable_artifacts,
    read_champion,
    read_models,
    record_training,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from btcml.forecast.forecaster import Forecaster, HorizonForecaster
    from btcml.settings import Settings
    from btcml.store.engine import Store


CARD = "MODEL_CARD.md"
"""Name of the model card, in the folder of a series' models."""

_FIGURES = ("mae_usd", "mae_bp", "skill", "direction", "coverage")

HORIZON_PLAN: dict[str, Any] = {"models": ("lightgbm_mean", "ridge"), "refit": "12 months"}
"""Challengers at the horizons beyond the next candle, and that each is fitted once for the whole test, to save time."""

_HORIZONS_EVERY = pd.Timedelta(days=7)

_HALF_MADE_S = 3600.0
"""Age above which a temporary file is from a killed process."""


@dataclass(frozen=True)
class Trained:
    """What a training did.

    Attributes
    ----------
    artifact
        Name of its files.
    champion
        The served model; ``persistence`` where none has proven skill.
    judged
        Whether a walk-forward was run for it.
    verdict
        Facts of the newest verdict.
    figures
        Metrics by model of the newest experiment, persistence among them.
    horizons
        Facts of the horizons beyond the next candle: verdict, figures, when judged.
    """

    key: SeriesKey
    artifact: str
    champion: str
    judged: bool
    verdict: dict[str, Any]
    figures: dict[str, dict[str, Any]]
    samples: int
    split_train: int
    split_total: int
    validation_start: str
    window: tuple[str, str]
    snapshot: str
    manifest: str
    bytes: int
    heads: dict[str, str] = field(default_factory=dict)
    horizons: dict[int, dict[str, Any]] = field(default_factory=dict)


def train(
    store: Store,
    settings: Settings,
    key: SeriesKey,
    *,
    now: pd.Timestamp,
    days: int = 1095,
    models: tuple[str, ...] = MODELS,
    jobs: int = 2,
) -> Trained:
    """Train a series and put the result into service.

    The experiment that may change the champion is run at most once a day; in between, training refits the
    incumbent and never promotes, and the figures are those of the newest experiment. A training after the first one
    also judges and fits the longer horizons of the settings where that is a week ago.

    Parameters
    ----------
    days
        Length of the window; less where fewer are stored.
    now
        The market's time.
    models
        Challengers to fit and judge.
    jobs
        Processes; the result does not depend on their number.

    Raises
    ------
    NotReadyError
        If there are too few candles.
    """
    candles = read_newest(store, key, days)
    pool = read_mature_pool(store, settings, key, candles, days)
    if not pool:
        check_enough(key, candles, days)
    inputs = Inputs(store, settings, key, candles, pool, now, jobs)
    found = _judge(inputs, models)
    snapshot, facts, judged = content_hash([("candles", candles)]), found.facts, found.result is not None
    forecaster = _fit(inputs, found, snapshot)
    found = replace(found, result=None)  # its raw forecasts are large
    horizons = _horizons(store, settings, key, candles, now, jobs)
    forecaster = replace(forecaster, horizons={h: horizons[h] for h in settings.btcml_horizons if h in horizons})
    folder = save_forecaster(forecaster, series_folder(settings, key) / _new_name(now), candles)
    times, tested = candles["open_time"], pd.Timestamp(facts["test"][0])
    trained = Trained(
        key=key,
        artifact=folder.name,
        champion=forecaster.champion,
        judged=judged,
        verdict=facts,
        figures=found.figures,
        samples=int(forecaster.metadata["samples"]),
        split_train=int((times < tested).sum()),
        split_total=len(candles),
        validation_start=facts["test"][0],
        window=(times.iloc[0].isoformat(), times.iloc[-1].isoformat()),
        snapshot=snapshot,
        manifest=manifest_hash(folder),
        bytes=sum(file.stat().st_size for file in folder.iterdir()),
        heads=chain_head(store, key),
        horizons={horizon: dict(one.facts) for horizon, one in forecaster.horizons.items()},
    )
    record_training(store, _records(trained, forecaster, now, found.at))
    _tidy(store, settings, trained)
    return trained


def _fit(of: Inputs, found: Judged, snapshot: str) -> Forecaster:
    """Fit what is served of the next candle."""
    metadata: dict[str, Any] = {"series": str(of.key), "snapshot": snapshot, "verdict": found.facts["reason"]}
    if found.start:
        metadata["start"] = found.start._asdict()
    return train_forecaster(
        of.candles,
        found.experiment,
        champion=found.facts["champion"],
        raw=None if found.result is None else found.result.raw,
        others=found.others,
        start=found.start,
        metadata=metadata,
        jobs=of.jobs,
    )


def _new_name(now: pd.Timestamp) -> str:
    """Name of the files of a training at a time."""
    return f"{now.tz_convert('UTC'):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"


def _tidy(store: Store, settings: Settings, trained: Trained) -> None:
    """Delete files that are no longer needed, and write the model card."""
    prune(store, settings, trained.key)
    write_text(series_folder(settings, trained.key) / CARD, model_card(trained))


def _experiment(
    store: Store, settings: Settings, key: SeriesKey, candles: pd.DataFrame, models: tuple[str, ...]
) -> Experiment:
    """The published experiment with these models, pooled ones among them where the settings name other symbols."""
    keys = [replace(key, symbol=symbol) for symbol in settings.btcml_symbols if symbol != key.symbol]
    pool = tuple(one.symbol for one in keys if len(read_last_candles(store, one, MIN_CANDLES)) == MIN_CANDLES)
    standard = Experiment.default(candles, key.interval, pool=pool)
    pooled = [name for name in standard.models if pool_of(name) and name.removeprefix(pool_of(name)) in models]
    return standard.replace(models=(*models, *pooled))


def _between_verdicts(experiment: Experiment, champion: str) -> Experiment:
    """The experiment without pooled models, which have many times the rows, unless one is champion."""
    kept = tuple(name for name in experiment.models if not pool_of(name) or name == champion)
    return experiment.replace(models=kept, pool=experiment.pool if pool_of(champion) else ())


def _judge(of: Inputs, models: tuple[str, ...]) -> Judged:
    """Newest verdict on a series; where its own proves nothing and there are older symbols, one on their models."""
    if not of.pool:
        return _own_verdict(of, models)
    if kept := kept_verdict(of):
        return kept
    try:
        own = _own_verdict(of, models) if len(of.candles) >= MIN_CANDLES else None
    except NotReadyError:  # fewer than three days of short candles, or hardly one whose features are known
        own = None
    if own and (own.result is None or own.facts["champion"] != PERSISTENCE):
        return own
    return judge_cold_start(of, own)


def _own_verdict(of: Inputs, models: tuple[str, ...]) -> Judged:
    """Newest verdict by the candles of the series itself, which falls now where it is due."""
    store, key, candles, now = of.store, of.key, of.candles, of.now
    experiment = _experiment(store, of.settings, key, candles, models)
    incumbent = read_champion(store, key)
    if incumbent is not None and incumbent.judged_at is not None and "test" in incumbent.verdict:
        known = {row.name: row.metrics for row in read_models(store, key) if row.artifact == incumbent.artifact}
        facts, own = incumbent.verdict, {name for name in experiment.models if not pool_of(name)}
        able = own <= {*known} and facts["champion"] in {PERSISTENCE, *experiment.models}
        if able and not decision_due(incumbent.judged_at, now):
            experiment = _between_verdicts(experiment, facts["champion"])
            figures, others = {PERSISTENCE: facts["persistence"]} | known, read_pool(store, key, experiment, candles)
            return Judged(facts, figures, incumbent.judged_at, experiment, others=others)
    result = evaluate(store, key, candles, experiment=experiment, jobs=of.jobs)
    save_result(result, walk_forward_file(of.settings, key))
    return Judged(verdict_facts(result, candles), result.figures, now, experiment, result)


def _horizons(
    store: Store, settings: Settings, key: SeriesKey, candles: pd.DataFrame, now: pd.Timestamp, jobs: int
) -> dict[int, HorizonForecaster]:
    """Models of the longer horizons: those in service, or new ones where they are a week old; none at first."""
    wanted, known = settings.btcml_horizons[1:], _served_horizons(store, settings, key)
    if known is None or len(candles) < MIN_CANDLES:
        return {}
    fresh = {h for h, one in known.items() if now - pd.Timestamp(one.facts["judged_at"]) < _HORIZONS_EVERY}
    if fresh.issuperset(wanted):
        return known
    incumbent = {horizon: one.champion for horizon, one in known.items()}
    try:
        experiment = Experiment.default(candles, key.interval, wanted).replace(**HORIZON_PLAN)
        result = evaluate(
            store, key, candles, experiment=experiment, incumbent=incumbent, range_models=(RANGE,), jobs=jobs
        )
    except NotReadyError:  # candles for the next one, but not for the longest
        return known
    facts = {"judged_at": now.isoformat(), "test": [time.isoformat() for time in experiment.test_span(candles)]}
    return train_horizons(result.family, jobs=jobs, facts=facts)


def _served_horizons(store: Store, settings: Settings, key: SeriesKey) -> dict[int, HorizonForecaster] | None:
    """Models of the longer horizons in service, none where they cannot be loaded; None before the first training."""
    try:
        return dict(load_served(store, settings, key).forecaster.horizons)
    except NotReadyError:
        return None
    except ArtifactError:
        return {}


def _records(trained: Trained, forecaster: Forecaster, now: pd.Timestamp, judged_at: pd.Timestamp) -> list[ModelRecord]:
    """One record per served model, and one for persistence where it is the champion."""
    names = dict.fromkeys([trained.champion, *forecaster.served])
    first, last = (pd.Timestamp(time) for time in trained.window)
    return [
        ModelRecord(
            artifact=trained.artifact,
            name=name,
            key=trained.key,
            role="champion" if name == trained.champion else "challenger",
            trained_at=now,
            snapshot=trained.snapshot,
            window_start=first,
            window_end=last,
            samples=trained.samples,
            metrics=trained.figures.get(name, {}),
            verdict=trained.verdict | {"champion": trained.champion},
            judged_at=judged_at,
            bytes=trained.bytes,
            kept=True,
            manifest=trained.manifest,
        )
        for name in names
    ]


def prune(store: Store, settings: Settings, key: SeriesKey) -> list[str]:
    """Delete the files of trainings that are no longer needed: not in service, one a day and the last eight kept.

    Temporary files of killed processes are deleted too, when they are an hour old.

    Returns
    -------
    list of str
        Names of the trainings whose files went.
    """
    names = prunable_artifacts(store, key)
    mark_pruned(store, names)
    for name in names:
        shutil.rmtree(series_folder(settings, key) / name, ignore_errors=True)
    _clear(series_folder(settings, key))
    return names


def _clear(folder: Path) -> None:
    """Delete temporary files that were never renamed."""
    for path in folder.glob(".*"):
        with contextlib.suppress(OSError):  # another process was first
            if time.time() - path.stat().st_mtime > _HALF_MADE_S:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def model_card(trained: Trained) -> str:
    """Model card of a training, as Markdown.

    Parameters
    ----------
    trained
        The training.
    """
    parts = (
        f"# Model card: {trained.key}, {trained.artifact}",
        "Written by the training; the next one replaces it.",
        f"## What is served\n\n{_served(trained)}",
        f"## Data\n\n{_data(trained)}",
        f"## How good it is\n\n{_skill(trained)}",
        *([f"## Coins left out\n\n{_left_out(trained)}"] if "left_out" in trained.verdict else []),
        *([f"## Further ahead\n\n{_further(trained)}"] if trained.horizons else []),
        f"## Limits\n\n{_LIMITS}",
        f"## Not for\n\n{_MISUSE}",
    )
    return "\n\n".join(parts) + "\n"


_LIMITS = """* The skill is a fraction of a percent of the error, and smaller than the cost of a trade on any exchange.
* It was measured on one symbol, interval and span; it has shrunk from year to year.
* The recipe was chosen on real BTCUSDT candles of 2021 to June 2025. Its error over that of “no change”, from 2023 to
  then and, by an earlier recipe, in later months, which no choice had seen: 5m 0.9943 and 0.9979,
  15m 0.9902 and 0.9962, 1h 0.9888 and 0.9958.
* Forecasts after a gap in the candles wait until the features are warm again.
* The 90 % interval is right on average; on the worst days it covers less."""

_MISUSE = """* Trading on it: what is left after costs is nothing.
* Symbols, intervals, markets or horizons other than those above."""


def _served(trained: Trained) -> str:
    reason = trained.verdict.get("reason", "no verdict yet.")
    return f"`{trained.champion}` serves the close: {reason} Judged {'now' if trained.judged else 'earlier today'}."


def _data(trained: Trained) -> str:
    first, last = trained.window
    proof = trained.verdict.get("left_out", {"served": False})
    fitted = f"of which {trained.samples:,} were fitted on"
    if proof["served"]:
        fitted = f"forecast by models fitted on {trained.samples:,} candles of {', '.join(proof['pool'])}"
    return (
        f"{trained.split_total:,} final candles from {first} to {last}, {fitted}. "
        f"Content hash of the candles: `{trained.snapshot}`. Suspect spans were left out of the fit."
    )


def _skill(trained: Trained) -> str:
    """Table of the newest experiment, persistence first."""
    names = sorted(trained.figures, key=lambda name: (name != PERSISTENCE, name))
    rows = [(name, *(_shown(trained.figures[name].get(figure)) for figure in _FIGURES)) for name in names]
    lead = (
        f"Forecast in walk-forward from {trained.validation_start} on, beside persistence (“next close = this close”):"
    )
    return f"{lead}\n\n{_table(('model', *_FIGURES), rows)}"


def _left_out(trained: Trained) -> str:
    """Table of the coins on which models of other coins were tested."""
    names = ("rows", "ratio", "z", "p_holm", "recent_ratio", "proven")
    rows = [(row["coin"], *(_shown(row[name]) for name in names)) for row in trained.verdict["left_out"]["table"]]
    lead = (
        "The series is too young for a verdict of its own. Models of other coins serve it once each of these is "
        "forecast better than no change by models that never saw it:"
    )
    return f"{lead}\n\n{_table(('coin', *names), rows)}"


def _further(trained: Trained) -> str:
    """Table of the horizons beyond the next candle."""
    names = ("skill", "dm_z", "dm_p", "crps_skill", "coverage_50", "coverage_90", "range_r2")
    rows = [
        (str(horizon), facts["champion"], *(_shown((facts["figures"] | facts).get(name)) for name in names))
        for horizon, facts in trained.horizons.items()
    ]
    lead = "Judged once a week, each horizon by itself; the distribution is that of the model with the smallest error:"
    return f"{lead}\n\n{_table(('candles ahead', 'champion', *names), rows)}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.5g}" if isinstance(value, (int, float)) and math.isfinite(value) else "-"
