"""Train: judge at most once a day, fit everything that is served, save it, put it into service."""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml.candles import SeriesKey, content_hash
from btcml.continuity import suspect_rows
from btcml.forecast.artifacts import save_forecaster
from btcml.forecast.training import SERVED, train_forecaster
from btcml.forecast.verdict import decision_due
from btcml.pipeline.card import save_card
from btcml.pipeline.evaluate import figures, judge, read_window, save_walk, series_folder, verdict_facts
from btcml.store.chain import chain_head
from btcml.store.models import (
    ModelRecord,
    append_trials,
    mark_pruned,
    prunable_artifacts,
    read_champion,
    record_training,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from btcml.forecast.backtest import WalkedAll
    from btcml.forecast.forecaster import Forecaster
    from btcml.settings import Settings
    from btcml.store.engine import Store

__all__ = ["Trained", "prune", "train"]

_HALF_MADE_S = 3600.0
"""Age from which something written aside is of a process that was killed."""


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
        Metrics by model on the held-out span, persistence among them.
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
    validation_start: str | None
    window: tuple[str, str]
    snapshot: str
    bytes: int
    heads: dict[str, str] = field(default_factory=dict)


def train(
    store: Store,
    settings: Settings,
    key: SeriesKey,
    *,
    now: pd.Timestamp,
    days: int = 1095,
    models: Sequence[str] = SERVED,
    jobs: int = 2,
) -> Trained:
    """Train a series and put the result into service.

    The walk-forward that may change the champion is run at most once a day; in between, training
    fits the reigning one anew and never promotes.

    Parameters
    ----------
    days
        Length of the window; what there is, where it is less.
    now
        The market's time.
    models
        Close models to fit and judge.
    jobs
        Processes; no bit depends on their number.

    Raises
    ------
    NotReadyError
        If there are too few candles.
    """
    candles = read_window(store, key, days)
    snapshot = content_hash([("candles", candles)])
    facts, judged_at, walked = _verdict(store, settings, key, candles, now, models, jobs)
    forecaster = train_forecaster(
        candles,
        key.interval,
        models,
        champion=facts["champion"],
        walked=walked,
        suspects=suspect_rows(candles, key.interval),
        metadata={"series": str(key), "snapshot": snapshot, "verdict": facts["reason"]},
        jobs=jobs,
    )
    artifact = f"{now.tz_convert('UTC'):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
    folder = save_forecaster(forecaster, series_folder(settings, key) / artifact, candles)
    trained = _trained(key, artifact, candles, forecaster, facts, snapshot, folder)
    record_training(store, _records(trained, forecaster, now, judged_at))
    prune(store, settings, key)
    done = Trained(**(vars(trained) | {"judged": walked is not None, "heads": chain_head(store, key)}))
    save_card(done, series_folder(settings, key))
    return done


def _verdict(
    store: Store,
    settings: Settings,
    key: SeriesKey,
    candles: pd.DataFrame,
    now: pd.Timestamp,
    models: Sequence[str],
    jobs: int,
) -> tuple[dict[str, Any], pd.Timestamp, WalkedAll | None]:
    """Reigning verdict where it is of this day, else a new one with the forecasts that it judged."""
    reigning = read_champion(store, key)
    last = None if reigning is None else reigning.judged_at
    if reigning is not None and last is not None and not decision_due(last, now):
        return reigning.verdict, last, None
    looks = 1 + (int(reigning.verdict.get("looks", 0)) if reigning is not None else 0)
    name = reigning.name if reigning else "persistence"
    judged = judge(candles, key, looks=looks, reigning=name, models=models, jobs=jobs)
    save_walk(settings, key, judged.walk)
    facts = verdict_facts(judged.verdict)
    tries = [{"model": row["model"], "parameters": "{}", "score": row["ratio"]} for row in facts["table"]]
    append_trials(store, key, content_hash([("candles", candles)]), tries, now)
    return facts, now, judged.raw


def _trained(
    key: SeriesKey,
    artifact: str,
    candles: pd.DataFrame,
    forecaster: Forecaster,
    facts: dict[str, Any],
    snapshot: str,
    folder: Path,
) -> Trained:
    times = candles["open_time"]
    held = forecaster.holdout["open_time"].nunique() if len(forecaster.holdout) else 0
    return Trained(
        key=key,
        artifact=artifact,
        champion=forecaster.champion,
        judged=False,
        verdict=facts,
        figures=figures(forecaster.holdout),
        samples=int(forecaster.metadata["samples"]),
        split_train=len(candles) - held,
        split_total=len(candles),
        validation_start=forecaster.holdout["open_time"].min().isoformat() if held else None,
        window=(times.iloc[0].isoformat(), times.iloc[-1].isoformat()),
        snapshot=snapshot,
        bytes=sum(file.stat().st_size for file in folder.iterdir()),
    )


def _records(trained: Trained, forecaster: Forecaster, now: pd.Timestamp, judged_at: pd.Timestamp) -> list[ModelRecord]:
    """One record a served model, and one for persistence where it is the champion."""
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
        )
        for name in names
    ]


def prune(store: Store, settings: Settings, key: SeriesKey) -> list[str]:
    """Delete the files of trainings that nobody needs: not in service, one a day and the last eight kept.

    What a process that was killed has left half written goes too, when it is an hour old.

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
    """Delete what was written aside and never renamed."""
    for path in folder.glob(".*"):
        with contextlib.suppress(OSError):  # another process was first
            if time.time() - path.stat().st_mtime > _HALF_MADE_S:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
