"""Saved models: whole or not there, safe formats only, self-checked when they load."""

from __future__ import annotations

import hashlib
import json
import pickle
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from btcml.errors import ArtifactError
from btcml.forecast.artifacts import load_forecaster, save_forecaster
from btcml.forecast.experiment import Experiment
from btcml.forecast.forecaster import train_forecaster
from btcml.forecast.models import FORMER_MEANS, MEANS


@pytest.fixture(scope="module")
def forecaster(candles):
    """A small forecaster of all kinds of model."""
    experiment = Experiment("5m", "2025-01-15", models=("lightgbm_l1", "random_forest", "autoreg"))
    metadata = {"snapshot": "f" * 64}
    return train_forecaster(candles, experiment, champion="lightgbm_l1", jobs=1, metadata=metadata)


@pytest.fixture
def saved(forecaster, candles, tmp_path):
    """The forecaster in a folder."""
    return save_forecaster(forecaster, tmp_path / "model", candles)


class Trap:
    """A pickle that would leave a file behind if it were loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_loaded_models_predict_the_same_to_the_last_bit(forecaster, saved, candles):
    """Everything but the hold-out frame survives."""
    loaded = load_forecaster(saved)
    tail = candles.iloc[-forecaster.tail_length :]
    assert loaded.predict(tail) == forecaster.predict(tail)
    assert loaded.metadata == dict(forecaster.metadata)
    assert loaded.metadata["snapshot"] == "f" * 64


def test_models_that_were_saved_without_quantiles_of_the_next_candle_load(forecaster, saved, candles):
    """Those of 0.2.0 before: the forecast is the same, its distribution is not known."""
    manifest = json.loads((saved / "manifest.json").read_text())
    older = {name: fact for name, fact in manifest.items() if name not in {"quantiles", "edges"}}
    (saved / "manifest.json").write_text(json.dumps(older))
    tail = candles.iloc[-forecaster.tail_length :]
    assert load_forecaster(saved).predict(tail) == replace(forecaster.predict(tail), distribution=None)


def test_the_folder_is_small_has_no_pickle_and_nothing_aside(saved):
    """At most 10 MB, formats that run no code, and no temporary folder left."""
    assert sum(path.stat().st_size for path in saved.iterdir()) < 10_000_000
    assert {path.suffix for path in saved.iterdir()} == {".json", ".z", ".onnx", ".f8"}
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_saving_again_replaces_the_folder(forecaster, saved, candles):
    """Equal models give equal bytes."""
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    save_forecaster(forecaster, saved, candles)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_a_mean_that_an_earlier_version_saved_goes_on_with_its_members(candles, tmp_path, monkeypatch):
    """An upgrade that gives a mean other members serves the old models until the next training, bit for bit."""
    monkeypatch.setitem(MEANS, "lightgbm_mean", FORMER_MEANS["lightgbm_mean"])
    experiment = Experiment("5m", "2025-01-15", models=("lightgbm_mean",))
    old = train_forecaster(candles, experiment, champion="lightgbm_mean", jobs=1)
    folder, before = save_forecaster(old, tmp_path / "model", candles), old.predict(candles).close
    monkeypatch.undo()
    assert load_forecaster(folder).predict(candles).close == before


@pytest.mark.parametrize("victim", ["lightgbm_l1.model.txt.z", "random_forest.model.onnx", "golden.f8"])
def test_a_truncated_or_changed_file_is_refused(saved, victim):
    """Its SHA-256 is in the manifest."""
    payload = (saved / victim).read_bytes()
    for damaged in (payload[:-7], payload[:100] + b"\x00" + payload[101:], b""):
        (saved / victim).write_bytes(damaged)
        with pytest.raises(ArtifactError, match="must have the bytes that were saved"):
            load_forecaster(saved)


def test_a_missing_file_or_folder_is_refused(saved):
    """With the file's name and the cure."""
    (saved / "autoreg.lags.json").unlink()
    with pytest.raises(ArtifactError, match=r"needs the file autoreg.lags.json .* train again"):
        load_forecaster(saved)
    with pytest.raises(ArtifactError, match=r"needs the file manifest.json"):
        load_forecaster(saved.parent / "nowhere")


@pytest.mark.parametrize("victim", ["manifest.json", "lightgbm_l1.model.txt.z"])
def test_a_pickle_is_refused_and_not_executed(saved, victim, tmp_path):
    """In the place of the manifest, or of a model with a forged manifest."""
    trap = pickle.dumps(Trap(tmp_path / "executed"))
    (saved / victim).write_bytes(trap)
    forge(saved, victim)
    with pytest.raises(ArtifactError):
        load_forecaster(saved)
    assert not (tmp_path / "executed").exists()


def forge(folder, name):
    """Update the digest of a file in its manifest, as an attacker would."""
    if name == "manifest.json":
        return
    manifest = json.loads((folder / "manifest.json").read_bytes())
    payload = (folder / name).read_bytes()
    manifest["files"][name] = {"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_zip_bomb_in_the_place_of_a_model_is_refused(saved):
    """Unpacking stops at a bound."""
    (saved / "lightgbm_l1.model.txt.z").write_bytes(zlib.compress(b"0" * 80_000_000, 9))
    forge(saved, "lightgbm_l1.model.txt.z")
    with pytest.raises(ArtifactError, match="unpacks to at most"):
        load_forecaster(saved)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": 0}, "must be of format 1"),
        ({"kind": "other"}, "must be of format 1"),
        ({"definition": "0"}, "feature definitions must be those"),
        ({"features": ["nothing"]}, "features must exist"),
        ({"served": ["oracle"]}, "damaged"),
        ({"champion": "oracle"}, "damaged"),
        ({"factors": None}, "damaged"),
        ({"shape": [1]}, "damaged"),
        ({"files": {"../../etc/passwd": {"bytes": 1, "sha256": ""}}}, "must be in its folder"),
    ],
)
def test_an_old_or_foreign_manifest_is_refused_with_the_cure(saved, change, sentence):
    """Every refusal is one sentence that says what to do."""
    path = saved / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change))
    with pytest.raises(ArtifactError, match=sentence) as caught:
        load_forecaster(saved)
    assert "train again" in str(caught.value)


def test_models_that_forecast_otherwise_than_they_did_are_refused(saved):
    """The self-check on the golden rows: another library, another answer."""
    path = saved / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["golden"]["forecasts"]["autoreg"][0] += 1e-3
    path.write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="autoreg must forecast its golden rows"):
        load_forecaster(saved)


def test_a_crash_while_writing_leaves_the_last_good_folder(forecaster, saved, candles, monkeypatch):
    """Files are written to a temporary folder, which is then renamed."""
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    monkeypatch.setattr("btcml.files._sync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_forecaster(forecaster, saved, candles)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert [path.name for path in saved.parent.iterdir() if path.is_dir()] == ["model"]
