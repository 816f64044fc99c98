"""Served models on disk: a folder of safe formats that is checked when it is loaded.

``manifest.json`` names every file with its size and SHA-256, the definition of the features, and
golden rows: a tail of candles with the forecasts that the models made of it when they were saved.
No file can run code: LightGBM's text, ONNX graphs, JSON numbers, raw float64. The result of an
experiment is one Parquet file of its forecasts, with the experiment in the file's metadata.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from btcml.candles import COLUMNS, as_candles, infer_interval
from btcml.errors import ArtifactError, BtcmlError
from btcml.files import replaced_file, replaced_folder
from btcml.forecast.experiment import Experiment, Result
from btcml.forecast.features import definition_hash
from btcml.forecast.forecaster import Forecaster, HorizonForecaster, empty_models
from btcml.forecast.metrics import FORECAST_COLUMNS, PERSISTENCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from btcml.forecast.models import Model


FORMAT = 1
"""Version of the folder's layout."""

KIND = "btcml forecaster"
GOLDEN = "golden.f8"
MANIFEST = "manifest.json"
GOLDEN_ROWS = 8
GOLDEN_COLUMNS = tuple(name for name in COLUMNS if name not in {"open_time", "close_time"})
TOLERANCE = 1e-6
"""Greatest difference of a golden forecast, in units of the scale: processors round differently."""

MAX_BYTES = 32_000_000
LIBRARIES = ("numpy", "scikit-learn", "lightgbm", "onnxruntime", "statsmodels")


def save_forecaster(forecaster: Forecaster, folder: Path, golden: pd.DataFrame) -> Path:
    """Write a forecaster atomically: the folder is complete or absent.

    Parameters
    ----------
    forecaster
        What to save.
    folder
        The target; an existing folder is replaced.
    golden
        Candles; the last `Forecaster.tail_length` of them become the golden rows.

    Returns
    -------
    Path
        The folder.
    """
    tail = golden.iloc[-forecaster.tail_length :].reset_index(drop=True)
    files = _model_files("", forecaster.models) | {GOLDEN: _golden_bytes(tail)}
    for horizon, one in forecaster.horizons.items():
        files |= _model_files(_prefix(horizon), one.models)
    manifest = _manifest(forecaster, tail, files)
    with replaced_folder(folder) as new:
        for name, payload in (files | {MANIFEST: manifest}).items():
            (new / name).write_bytes(payload)
    return folder


def _prefix(horizon: int) -> str:
    """What the names of the files of a longer horizon begin with."""
    return f"{horizon}-ahead."


def _model_files(prefix: str, models: Mapping[str, Model]) -> dict[str, bytes]:
    return {
        f"{prefix}{name}.{part}": payload for name, model in models.items() for part, payload in model.dump().items()
    }


def manifest_hash(folder: Path) -> str:
    """SHA-256 of a saved forecaster's manifest, which has the hashes of all its files."""
    return hashlib.sha256(_read_bounded(folder / MANIFEST, MAX_BYTES)).hexdigest()


def load_forecaster(folder: Path, digest: str | None = None) -> Forecaster:
    """Read a forecaster and check it on its golden rows.

    Parameters
    ----------
    digest
        The `manifest_hash` that was recorded when it was saved.

    Raises
    ------
    ArtifactError
        If a file is missing, changed, too large or foreign, if the folder is of another format or
        feature definition, or if the golden forecasts differ.
    """
    manifest = _read_manifest(folder, digest)
    try:
        forecaster, tail = _forecaster(manifest, _read_files(folder, manifest))
        _check_golden(manifest["golden"]["forecasts"], _golden_forecasts(forecaster, tail), folder)
    except ArtifactError:
        raise
    except (BtcmlError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        msg = f"a saved model must be complete, found a damaged one in {folder.name}: {error}: train again"
        raise ArtifactError(msg) from error
    except Exception as error:  # each library has its own error classes
        msg = f"a saved model's files must be readable, those of {folder.name} are not: {error}: train again"
        raise ArtifactError(msg) from error
    return forecaster


def _manifest(forecaster: Forecaster, tail: pd.DataFrame, files: Mapping[str, bytes]) -> bytes:
    facts = {
        "kind": KIND,
        "format": FORMAT,
        "interval": forecaster.interval,
        "features": list(forecaster.features),
        "definition": _definition(forecaster.features),
        "served": list(forecaster.served),
        "champion": forecaster.champion,
        "factors": dict(forecaster.factors),
        "shape": list(forecaster.shape),
        "interval_state": dict(forecaster.interval_state),
        "quantiles": forecaster.quantiles,
        "edges": forecaster.edges,
        "metadata": dict(forecaster.metadata),
        "libraries": {name: version(name) for name in LIBRARIES},
        "files": {
            name: {"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
            for name, payload in sorted(files.items())
        },
        "golden": {
            "open_time": tail["open_time"].astype("int64").tolist(),
            "forecasts": _golden_forecasts(forecaster, tail),
        },
    }
    if forecaster.horizons:
        facts["horizons"] = [_horizon_facts(one) for one in forecaster.horizons.values()]
    return json.dumps(facts, indent=1, sort_keys=True, allow_nan=False).encode()


def _horizon_facts(one: HorizonForecaster) -> dict[str, Any]:
    facts = {f.name: getattr(one, f.name) for f in fields(one) if f.name != "models"}
    return facts | {"shape": list(one.shape), "facts": dict(one.facts)}


def _definition(features: tuple[str, ...]) -> str:
    """Hash of the definitions of the close and range features."""
    return definition_hash([*features]) + definition_hash("range")


def _golden_bytes(tail: pd.DataFrame) -> bytes:
    return tail[list(GOLDEN_COLUMNS)].to_numpy(dtype="<f8").tobytes()


def _golden_forecasts(forecaster: Forecaster, tail: pd.DataFrame) -> dict[str, list[float]]:
    """Raw forecasts of the last rows by model, and the log moves that would be served."""
    data = forecaster.dataset(tail)
    raw, made = forecaster.raw_forecasts(data, GOLDEN_ROWS), forecaster.predict_all(tail)
    for horizon, rows in forecaster.horizon_forecasts(data, GOLDEN_ROWS).items():
        raw |= {_prefix(horizon) + name: row for name, row in rows.items()}
        ends = np.array([made[horizon].close, made[horizon].high, made[horizon].low])
        raw[f"{_prefix(horizon)}served"] = np.log(ends / made[horizon].last_close)
    moves = [np.log(close / made[1].last_close) for _, close in sorted(made[1].closes.items())]
    return {name: rows.tolist() for name, rows in raw.items()} | {"served": [float(move) for move in moves]}


def _read_manifest(folder: Path, digest: str | None) -> dict[str, Any]:
    payload = _read_bounded(folder / MANIFEST, MAX_BYTES)
    if digest is not None and hashlib.sha256(payload).hexdigest() != digest:
        msg = f"{MANIFEST} of {folder.name} must be the one that was recorded in training, found another: train again"
        raise ArtifactError(msg)
    try:
        manifest = json.loads(payload)
        kind, layout, features = manifest["kind"], manifest["format"], tuple(map(str, manifest["features"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        msg = f"a model folder needs a manifest of btcml, found another file in {folder.name}: train again"
        raise ArtifactError(msg) from error
    if (kind, layout) != (KIND, FORMAT):
        msg = f"a saved model must be of format {FORMAT}, found {kind!r} {layout!r} in {folder.name}: train again"
        raise ArtifactError(msg)
    if manifest.get("definition") != _known_definition(features, folder):
        msg = f"feature definitions must be those of the training, found others than in {folder.name}: train again"
        raise ArtifactError(msg)
    return dict(manifest)


def _known_definition(features: tuple[str, ...], folder: Path) -> str:
    try:
        return _definition(features)
    except BtcmlError as error:
        msg = f"a saved model's features must exist, found {folder.name} with others: {error}: train again"
        raise ArtifactError(msg) from error


def _read_bounded(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            payload = file.read(most + 1)
    except OSError as error:
        msg = f"a saved model needs the file {path.name} in {path.parent.name}, found none: train again"
        raise ArtifactError(msg) from error
    if len(payload) > most:
        msg = f"{path.name} must hold at most {most} bytes, found more: it is not a model of btcml, train again"
        raise ArtifactError(msg)
    return payload


def _read_files(folder: Path, manifest: Mapping[str, Any]) -> dict[str, bytes]:
    files = {}
    for name, fact in manifest["files"].items():
        if Path(name).name != name:
            msg = f"a model's files must be in its folder, found {name!r}: train again"
            raise ArtifactError(msg)
        payload = _read_bounded(folder / name, min(int(fact["bytes"]), MAX_BYTES))
        if hashlib.sha256(payload).hexdigest() != fact["sha256"]:
            msg = f"{name} in {folder.name} must have the bytes that were saved, found others: train again"
            raise ArtifactError(msg)
        files[name] = payload
    return files


def _forecaster(manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> tuple[Forecaster, pd.DataFrame]:
    models = _loaded(files, "", empty_models(tuple(manifest["served"])))
    horizons = [_horizon(facts, files) for facts in manifest.get("horizons", ())]
    high, low = manifest["shape"]
    forecaster = Forecaster(
        interval=manifest["interval"],
        features=tuple(manifest["features"]),
        served=tuple(manifest["served"]),
        champion=manifest["champion"],
        models=models,
        factors=manifest["factors"],
        shape=(float(high), float(low)),
        interval_state=manifest["interval_state"],
        metadata=manifest["metadata"],
        horizons={one.horizon: one for one in horizons},
        quantiles=manifest.get("quantiles", ()),
        edges=manifest.get("edges", ()),
    )
    return forecaster, _golden_tail(manifest, files[GOLDEN])


def _horizon(facts: Mapping[str, Any], files: Mapping[str, bytes]) -> HorizonForecaster:
    high, low = facts["shape"]
    served = () if facts["champion"] == PERSISTENCE else (facts["champion"],)
    models = _loaded(files, _prefix(facts["horizon"]), empty_models(served, facts["horizon"]))
    return HorizonForecaster(**dict(facts) | {"shape": (float(high), float(low))}, models=models)


def _loaded(files: Mapping[str, bytes], prefix: str, empty: Mapping[str, Model]) -> dict[str, Model]:
    loaded = {}
    for name, model in empty.items():
        start = f"{prefix}{name}."
        own = {key.removeprefix(start): content for key, content in files.items() if key.startswith(start)}
        if own:  # a mean has the files of the members it was saved with
            loaded[name] = model.load(own)
    return loaded


def _golden_tail(manifest: Mapping[str, Any], payload: bytes) -> pd.DataFrame:
    numbers = np.frombuffer(payload, dtype="<f8").reshape(-1, len(GOLDEN_COLUMNS))
    frame = pd.DataFrame(numbers, columns=list(GOLDEN_COLUMNS))
    times = pd.to_datetime(np.array(manifest["golden"]["open_time"]), unit="us", utc=True)
    return as_candles(frame.assign(open_time=times), manifest["interval"])


def _check_golden(expected: Mapping[str, list[float]], found: Mapping[str, list[float]], folder: Path) -> None:
    for name, values in found.items():
        difference = float(np.max(np.abs(np.array(values) - np.array(expected.get(name, np.nan)))))
        if not difference <= TOLERANCE:
            where = f"{difference:.2g} in {folder.name}"
            msg = f"{name} must forecast its golden rows to {TOLERANCE}, found {where}: train again"
            raise ArtifactError(msg)


_RESULT = b"btcml.result"
_ROWS_IN_GROUP = 16_384  # what is read for a short span; their statistics say which span and model they hold


def save_result(result: Result, file: Path) -> Path:
    """Write a result without its raw forecasts, atomically."""
    parts = []
    for one in result.family or [result]:
        frames = {"close": one.forecasts, "log_range": one.ranges, "realized_volatility": one.volatility}
        parts += [part.assign(target=name) for name, part in frames.items() if part is not None]
    frame = pd.concat(parts, ignore_index=True)
    table = pa.Table.from_pandas(frame.astype({"model": "str"}), preserve_index=False)
    facts = {"experiment": asdict(result.experiment), "looks": result.looks, "reigning": result.incumbent}
    facts["tries"] = result.tries
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _RESULT: json.dumps(facts).encode()})
    with replaced_file(file) as new:
        pq.write_table(
            table, new, compression="zstd", use_dictionary=["model", "target"], row_group_size=_ROWS_IN_GROUP
        )
    return file


def load_forecasts(file: Path, model: str, span: tuple[pd.Timestamp, pd.Timestamp]) -> pd.DataFrame:
    """Read one model's forecasts of the close with ``start <= open_time < end``, and little else of the file.

    Returns
    -------
    DataFrame
        Rows of a result's ``forecasts``; empty where there is no file.

    Raises
    ------
    ArtifactError
        If the file is damaged.
    """
    if not file.exists():
        return pd.DataFrame(columns=list(FORECAST_COLUMNS))
    try:
        known = pq.read_schema(file).names
        target = [("target", "==", "close")] if "target" in known else []  # 0.1 had no other
        times = [("open_time", ">=", span[0]), ("open_time", "<", span[1])]
        horizon = [("horizon", "==", 1)] if "horizon" in known else []  # files of 0.2.0 before had one horizon
        wanted = [("model", "==", model), *times, *target, *horizon]
        return pq.read_table(file, filters=wanted, use_threads=False).to_pandas()  # a short span is quicker without
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> ArtifactError:
    return ArtifactError(f"{file.name} must hold the result of an experiment, found {error}: delete it and train again")


def load_result(file: Path) -> Result | None:
    """Read a result back, or None where there is none.

    Version 0.1 kept the forecasts of the close alone: such a result has no forecasts of ranges.

    Raises
    ------
    ArtifactError
        If the file is damaged.
    """
    if not file.exists():
        return None
    try:
        table = pq.read_table(file)
        facts: Any = json.loads((table.schema.metadata or {}).get(_RESULT, b"null"))
        frame = table.to_pandas()
        if facts is None:
            return _result_of_0_1(frame)
        given: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in facts["experiment"].items()}
        frame = frame if "horizon" in frame else frame.assign(horizon=np.int16(1))
        return _family(Experiment(**given), frame, facts["looks"], facts["reigning"], facts.get("tries", 0))
    except (pa.ArrowException, OSError, ValueError, KeyError, BtcmlError) as error:
        raise _damaged(file, error) from error


def _family(experiment: Experiment, frame: pd.DataFrame, looks: int, incumbent: str, tries: int) -> Result:
    """Results at the horizons of a saved frame, the first of them with the others as its family."""
    parts = {
        keys: part.drop(columns="target").reset_index(drop=True) for keys, part in frame.groupby(["horizon", "target"])
    }
    family: list[Result] = []
    for horizon in experiment.horizons:
        close, ranges = parts[horizon, "close"], parts[horizon, "log_range"][list(FORECAST_COLUMNS)]
        volatility = parts.get((horizon, "realized_volatility"))
        volatility = None if volatility is None else volatility[list(FORECAST_COLUMNS)]
        current = PERSISTENCE if family else incumbent
        family.append(Result(experiment, close, ranges, looks, current, None, volatility, family, tries))
    return family[0]


def _result_of_0_1(frame: pd.DataFrame) -> Result:
    """Result of a walk-forward of version 0.1, which refitted every six months after a purge of 288 candles."""
    models = tuple(sorted(set(frame["model"]) - {PERSISTENCE}))
    interval = infer_interval(frame.loc[frame["model"] == PERSISTENCE, "open_time"])
    start = frame["open_time"].min().isoformat()
    return Result(Experiment(interval, start, models=models, refit="6 months"), frame, frame.head(0))
