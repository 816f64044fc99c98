from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from btcml.candles import SeriesKey
from btcml.errors import NotReadyError
from btcml.forecast.artifacts import load_result, manifest_hash
from btcml.pipeline.evaluate import series_folder, walk_forward_file
from btcml.pipeline.ingest import backfill
from btcml.pipeline.jobs import training_facts
from btcml.pipeline.train import CARD, HORIZON_PLAN, Trained, model_card, prune, train
from btcml.store.models import read_champion, read_models, read_trials

QUICK = ("autoreg",)


def test_a_training_is_judged_saved_and_put_into_service(store, settings, series, market):
    """Files, records, verdict and walk-forward belong to one training; every try is counted."""
    done = train(store, settings, series, models=QUICK, now=market.time, jobs=1)
    assert done.judged
    champion = read_champion(store, series)
    assert (champion.artifact, champion.name) == (done.artifact, done.champion)
    assert champion.manifest == manifest_hash(series_folder(settings, series) / done.artifact)
    assert done.figures["persistence"]["skill"] == 0.0
    assert (done.verdict["champion"] == "persistence") == (done.champion == "persistence")
    edge = training_facts(done)["edge"]
    assert edge["sentence"] == "Whether the edge lasts is not known: a trend needs 6 months, found 2."
    assert (edge["slope_per_year"], [row["month"] for row in edge["months"]]) == (None, ["2025-02", "2025-03"])
    assert len(read_trials(store, series)) == 1
    walk = load_result(walk_forward_file(settings, series)).forecasts
    assert (walk["high"] >= walk[["open", "y_hat"]].max(axis=1)).all()
    assert (walk["low"] <= walk[["open", "y_hat"]].min(axis=1)).all()


def test_training_within_the_day_refits_the_champion_and_never_promotes(store, settings, series, market):
    """The second training of a day keeps the verdict; the first of the next day judges again."""
    first = train(store, settings, series, models=QUICK, now=market.time, jobs=1)
    again = train(store, settings, series, models=QUICK, now=market.time + pd.Timedelta("15min"), jobs=1)
    assert not again.judged
    assert again.champion == first.champion
    assert again.verdict == read_champion(store, series).verdict
    later = train(store, settings, series, models=QUICK, now=market.time + pd.Timedelta(days=1), jobs=1)
    assert later.judged
    assert later.verdict["looks"] == 2
    assert again.figures == first.figures
    assert (again.validation_start, again.verdict["test"]) == (first.validation_start, first.verdict["test"])
    assert {record.role for record in read_models(store, series) if record.artifact == first.artifact} == {"retired"}


def test_longer_horizons_are_judged_once_a_week(store, settings, series, market, monkeypatch):
    """By the second training, as the first one costs what it did; then kept; and no look at the next candle."""
    monkeypatch.setitem(HORIZON_PLAN, "models", ("ridge",))
    settings = settings.model_copy(update={"btcml_horizons": (1, 3, 12)})

    def trained(days):
        return train(store, settings, series, models=QUICK, now=market.time + pd.Timedelta(days=days), jobs=1)

    first, second, kept, judged = trained(0), trained(0.1), trained(0.2), trained(1)
    assert (first.horizons, list(second.horizons)) == ({}, [3, 12])
    assert second.horizons[3]["judged_at"] == (market.time + pd.Timedelta(days=0.1)).isoformat()
    assert kept.horizons == judged.horizons == second.horizons
    assert (judged.judged, judged.verdict["looks"]) == (True, 2)
    assert "| 12 | persistence |" in model_card(kept)
    settings = settings.model_copy(update={"btcml_horizons": (1, 3)})
    assert list(trained(1.1).horizons) == [3]
    again = trained(7.5)
    assert again.judged
    assert again.horizons[3]["judged_at"] == (market.time + pd.Timedelta(days=7.5)).isoformat()
    assert trained(7.6).horizons == again.horizons


def test_a_training_learns_from_the_other_symbols_of_the_settings(store, settings, series, market, monkeypatch):
    """A pooled challenger in each verdict; between verdicts it is fitted as champion alone; without candles, none."""
    monkeypatch.setattr("btcml.forecast.experiment.POOL_MODEL", "pooled_ridge")
    settings = settings.model_copy(update={"btcml_symbols": ("BTCUSDT", "ETHUSDT", "SOLUSDT")})

    def trained(days):
        return train(store, settings, series, models=("ridge",), now=market.time + pd.Timedelta(days=days), jobs=1)

    assert set(trained(0).figures) == {"persistence", "ridge"}
    other = replace(series, symbol="ETHUSDT")
    backfill(store, market, other, (market.time - pd.Timedelta(days=9), market.time))
    judged, kept = trained(1), trained(1.1)
    assert set(judged.figures) == {"persistence", "ridge", "pooled_ridge"}
    assert load_result(walk_forward_file(settings, series)).experiment.pool == ("ETHUSDT",)
    assert "pooled_ridge" in {row["model"] for row in kept.verdict["table"]}
    fitted = {row.name for row in read_models(store, series) if row.artifact == kept.artifact}
    assert "pooled_ridge" not in fitted - {kept.champion}
    assert judged.verdict["looks"] == 2


def test_what_a_killed_training_left_half_written_goes_with_the_next(store, settings, trained):
    """Only what was written aside, and only when it is old: a training that is being saved stays."""
    folder = series_folder(settings, trained)
    old, young = folder / ".old-aside", folder / ".young-aside"
    for path in (old, young):
        path.mkdir()
        (path / "half.onnx").write_bytes(b"x")
    (folder / ".walk-x").write_bytes(b"x")
    for path in (old, folder / ".walk-x"):
        os.utime(path, (0, 0))
    prune(store, settings, trained)
    assert [path.name for path in folder.glob(".*")] == [young.name]


def test_too_few_candles_are_refused_with_what_to_do(store, settings, market):
    """Nothing is trained on too few candles."""
    with pytest.raises(NotReadyError, match="backfill"):
        train(store, settings, SeriesKey(market.market, "BTCUSDT", "5m"), now=market.time)


TRAINED = Trained(
    key=SeriesKey("simulated", "BTCUSDT", "5m"),
    artifact="20250630T000000-abcdef01",
    champion="persistence",
    judged=True,
    verdict={"reason": "no model beats persistence"},
    figures={
        "huber": {"mae_usd": 80.5, "mae_bp": float("nan"), "skill": 0.004},
        "persistence": {"mae_usd": 81.0, "skill": 0.0},
    },
    samples=900,
    split_train=900,
    split_total=1000,
    validation_start="2025-05-01T00:00:00+00:00",
    window=("2025-01-01T00:00:00+00:00", "2025-06-30T00:00:00+00:00"),
    snapshot="ab" * 32,
    manifest="cd" * 32,
    bytes=10,
)


def test_a_card_has_persistence_first_and_the_reason_of_its_champion():
    """Data by hash, figures beside "no change", limits and misuse."""
    card = model_card(TRAINED)
    assert card.index("| persistence |") < card.index("| huber | 80.5 | - | 0.004 |")
    assert "no model beats persistence" in card
    assert TRAINED.snapshot in card
    assert "## Not for" in card


def test_a_card_has_the_figures_of_unseen_months_beside_those_of_the_chosen_span():
    """They are those of the README, by interval."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (5m|15m|1h) \| (0\.\d{4}) ", readme, re.MULTILINE)
    assert len(rows) == 6
    (chosen, unseen), card = (dict(rows[:3]), dict(rows[3:])), model_card(TRAINED)
    assert all(f"{interval} {chosen[interval]} and {unseen[interval]}" in card for interval in ("5m", "15m", "1h"))


def test_the_card_of_the_newest_training_lies_in_the_folder_of_its_series(store, settings, series, market):
    """Whole, in the place of the one before."""
    done = train(store, settings, series, models=QUICK, now=market.time, jobs=1)
    assert (series_folder(settings, series) / CARD).read_text(encoding="utf-8") == model_card(done)
