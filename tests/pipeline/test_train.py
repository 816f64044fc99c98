from __future__ import annotations

import os

import pandas as pd
import pytest

from btcml.candles import SeriesKey
from btcml.errors import NotReadyError
from btcml.pipeline.evaluate import load_walk, series_folder
from btcml.pipeline.train import prune, train
from btcml.store.models import count_trials, read_champion, read_models

QUICK = ("autoreg",)


def test_a_training_is_judged_saved_and_put_into_service(store, settings, series, market):
    """Files, records, verdict and walk-forward belong to one training; every try is counted."""
    done = train(store, settings, series, models=QUICK, now=market.time, jobs=1)
    assert done.judged
    champion = read_champion(store, series)
    assert (champion.artifact, champion.name) == (done.artifact, done.champion)
    assert (series_folder(settings, series) / done.artifact / "manifest.json").exists()
    assert done.figures["persistence"]["skill"] == 0.0
    assert (done.verdict["champion"] == "persistence") == (done.champion == "persistence")
    assert count_trials(store, series) == 2
    walk = load_walk(settings, series)
    assert (walk["high"] >= walk[["open", "y_hat"]].max(axis=1)).all()
    assert (walk["low"] <= walk[["open", "y_hat"]].min(axis=1)).all()


def test_training_within_the_day_fits_the_champion_anew_and_never_promotes(store, settings, series, market):
    """The second training of a day keeps the verdict; the first of the next day judges again."""
    first = train(store, settings, series, models=QUICK, now=market.time, jobs=1)
    again = train(store, settings, series, models=QUICK, now=market.time + pd.Timedelta("15min"), jobs=1)
    assert not again.judged
    assert again.champion == first.champion
    assert again.verdict == read_champion(store, series).verdict
    later = train(store, settings, series, models=QUICK, now=market.time + pd.Timedelta(days=1), jobs=1)
    assert later.judged
    assert later.verdict["looks"] == 2
    assert {record.role for record in read_models(store, series) if record.artifact == first.artifact} == {"retired"}


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
    """Nothing is trained on nothing."""
    with pytest.raises(NotReadyError, match="backfill"):
        train(store, settings, SeriesKey(market.market, "BTCUSDT", "5m"), now=market.time)
