from __future__ import annotations

import dataclasses
import hashlib
import json

import pandas as pd
import pytest
from sqlalchemy import text

from btcml.candles import SeriesKey
from btcml.errors import ArtifactError, NotFoundError, NotReadyError
from btcml.forecast.artifacts import load_forecaster, manifest_hash
from btcml.pipeline.doctor import examine
from btcml.pipeline.evaluate import series_folder
from btcml.pipeline.ingest import ingest
from btcml.pipeline.predict import LEVELS, Seal, load_served, predict, predict_newest, seal
from btcml.store.candles import read_candles
from btcml.store.chain import verify_chain
from btcml.store.forecasts import live_scores, read_scored

FIVE = pd.Timedelta("5min")


def test_without_candles_or_training_there_is_no_forecast(store, settings, series, market):
    """The sentence says what to do."""
    with pytest.raises(NotReadyError, match="POST /train"):
        predict(store, settings, series)
    with pytest.raises(NotReadyError, match="POST /train"):
        predict(store, settings, SeriesKey(market.market, "ETHUSDT", "5m"))


def test_stale_candles_are_refused(store, settings, trained, market):
    """A forecast of a candle that is over is no forecast."""
    assert predict(store, settings, trained).prediction.open_time == pd.Timestamp("2025-03-01 12:00", tz="UTC")
    market.turn(market.time + 1.3 * FIVE)
    with pytest.raises(NotReadyError, match="POST /ingest/run"):
        predict(store, settings, trained)


def test_a_forecast_is_consistent_and_names_its_model(store, settings, trained):
    """High above, low below, probabilities between 0 and 1, persistence beside it."""
    made = predict(store, settings, trained).prediction
    assert made.low <= min(made.open, made.close) <= max(made.open, made.close) <= made.high
    assert made.lo < made.last_close < made.hi
    assert 0 <= made.prob_up <= 1
    assert set(made.closes) == {"persistence", "autoreg"}


def test_sealed_forecasts_equal_the_offline_ones_to_the_last_cent(store, settings, trained, market):
    """After eight live candles the same models on the stored candles give the same prices to 1e-6 USD."""
    for _ in range(8):
        assert seal(store, settings, trained)["late"] == 0
        market.turn(market.time + FIVE)
        ingest(store, market, trained)
    sealed = read_scored(store, trained, role="champion")
    assert len(sealed) == 8
    assert sealed["error_bp"].notna().all()
    assert verify_chain(store, trained) is None
    candles = read_candles(store, trained)
    for row in sealed.to_dict("records"):
        forecaster = load_forecaster(series_folder(settings, trained) / row["artifact"])
        made = forecaster.predict(candles[candles["open_time"] < row["open_time"]])
        for name in ("open", "high", "low", "close", "amp", "lo", "hi"):
            assert getattr(made, name) == pytest.approx(row[name], abs=1e-6, rel=0)


def test_sealing_twice_changes_nothing(store, settings, trained):
    """The first forecast of a candle is the forecast."""
    assert seal(store, settings, trained)["sealed"] == 2
    assert seal(store, settings, trained)["sealed"] == 0
    assert predict(store, settings, trained).seal.sealed


def test_what_a_newer_training_forecasts_is_not_called_sealed(store, settings, trained):
    """The candle's sealed forecast is another one: this one was never sealed."""
    seal(store, settings, trained)
    served = load_served(store, settings, trained)
    newer = dataclasses.replace(served, record=dataclasses.replace(served.record, artifact="20250301T120002-newer"))
    assert predict_newest(store, trained, newer).seal == Seal(sealed=False, status="other")


@pytest.mark.parametrize("change", [{"champion": "autoreg"}, {"metadata": {"series": "replay:still/ETHUSDT/5m"}}])
def test_a_folder_of_another_training_is_refused(store, settings, trained, change):
    """Whole, and with its golden rows, but not what the database has in service."""
    manifest = series_folder(settings, trained) / predict(store, settings, trained).record.artifact / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))
    with pytest.raises(ArtifactError, match=r"must be of replay:still/BTCUSDT/5m with persistence in service, found"):
        predict(store, settings, trained)


def test_an_edited_model_with_a_rewritten_manifest_is_refused(store, settings, owner, trained):
    """Whole in itself, but the database has the hash of the manifest that the training wrote; doctor says so too."""
    folder = series_folder(settings, trained) / predict(store, settings, trained).record.artifact
    with owner.begin() as connection:
        connection.execute(text("UPDATE models SET manifest = :hash"), {"hash": manifest_hash(folder)})
    predict(store, settings, trained)
    leaf, manifest = next(folder.glob("*.json.z"), folder / "golden.f8"), folder / "manifest.json"
    facts = json.loads(manifest.read_text())
    facts["factors"] = {name: 1.01 * factor for name, factor in facts["factors"].items()}
    facts["files"][leaf.name] |= {"sha256": hashlib.sha256(leaf.read_bytes()).hexdigest()}
    manifest.write_text(json.dumps(facts))
    with pytest.raises(ArtifactError, match=r"manifest.json of .* must be the one that was recorded in training"):
        predict(store, settings, trained)
    changed = settings.model_copy(update={"btcml_source": "simulated"})
    (finding,) = [found for found in examine(changed) if found.name == f"model {trained}"]
    assert (finding.status, "recorded in training" in finding.found) == ("bad", True)


@pytest.mark.parametrize("wrong", [[1], [None], [[1]], [{}], None, {"a": 1}])
def test_a_manifest_with_strange_features_is_refused(store, settings, trained, wrong):
    """JSON that btcml has not written."""
    manifest = series_folder(settings, trained) / predict(store, settings, trained).record.artifact / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"features": wrong}))
    with pytest.raises(ArtifactError, match="train again"):
        predict(store, settings, trained)


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04cos\nsystem\n(S'touch /tmp/owned'\ntR.", b"PK\x03\x04" + bytes(200)]
)
def test_a_truncated_pickled_or_zipped_model_file_is_refused(store, settings, trained, content):
    """No content of the folder is executed; the message says to train again."""
    folder = series_folder(settings, trained) / predict(store, settings, trained).record.artifact
    for file in folder.iterdir():
        if file.name != "manifest.json":
            file.write_bytes(content)
    with pytest.raises(ArtifactError, match="train again"):
        predict(store, settings, trained)


def test_a_foreign_or_bombing_manifest_is_refused(store, settings, trained):
    """Another program's JSON, and a zip bomb."""
    folder = series_folder(settings, trained) / predict(store, settings, trained).record.artifact
    for foreign in ('{"kind": "other"}', "[" * 200_000):
        (folder / "manifest.json").write_text(foreign)
        with pytest.raises(ArtifactError, match="train again"):
            predict(store, settings, trained)
    with (folder / "manifest.json").open("wb") as file:
        file.truncate(5_000_000_000)
    with pytest.raises(ArtifactError, match="at most"):
        predict(store, settings, trained)


def test_every_horizon_is_sealed_after_each_close_and_equals_the_offline_forecast(
    store, settings, trained_ahead, market
):
    """The next candle's rows first; each scored by its own candle; scores of the next candle know of no other."""
    for _ in range(4):
        assert seal(store, settings, trained_ahead) | {"close": 0} == {
            "open_time": market.time.floor("5min").isoformat(),
            "close": 0,
            "model": "persistence",
            "sealed": 4,
            "late": 0,
        }
        market.turn(market.time + FIVE)
        ingest(store, market, trained_ahead)
    assert verify_chain(store, trained_ahead) is None
    sealed = {horizon: read_scored(store, trained_ahead, role="champion", horizon=horizon) for horizon in (1, 3, 12)}
    assert [int(part["error_bp"].notna().sum()) for part in sealed.values()] == [4, 2, 0]
    assert live_scores(store, trained_ahead)["rows"] == 4
    candles = read_candles(store, trained_ahead)
    for horizon, part in sealed.items():
        assert len(part) == 4
        for row in part.to_dict("records"):
            forecaster = load_forecaster(series_folder(settings, trained_ahead) / row["artifact"])
            known = candles["open_time"] <= row["open_time"] - horizon * FIVE
            made = forecaster.predict_all(candles[known])[horizon]
            for name in ("open", "high", "low", "close", "amp", "lo", "hi", "prob_up"):
                assert getattr(made, name) == pytest.approx(row[name], abs=1e-6, rel=0)
    levels = store.fetch("SELECT DISTINCT horizon, levels FROM forecasts WHERE role = 'champion' ORDER BY 1")
    assert [tuple(row) for row in levels] == [(1, None), (3, [*LEVELS]), (12, [*LEVELS])]


def test_a_forecast_knows_the_other_horizons_and_names_them(store, settings, trained_ahead):
    """Those that no training has fitted are a sentence."""
    seal(store, settings, trained_ahead)
    forecast = predict(store, settings, trained_ahead)
    far = forecast.at(12)
    assert (far.prediction.horizon, far.seal.sealed) == (12, True)
    assert far.to_dict()["horizons"] == forecast.to_dict()["horizons"]
    assert [row["horizon"] for row in forecast.to_dict()["horizons"]] == [1, 3, 12]
    assert far.to_dict()["quantiles"] == sorted(far.to_dict()["quantiles"])
    assert far.to_dict()["verdict"].startswith("persistence is champion 12 candles ahead")
    with pytest.raises(NotFoundError, match="forecasts 1, 3, 12 candles ahead, found 7"):
        forecast.at(7)
