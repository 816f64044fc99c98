from __future__ import annotations

import pandas as pd
import pytest

from btcml.candles import SeriesKey
from btcml.errors import NotFoundError
from btcml.store.models import (
    ModelRecord,
    append_trials,
    mark_pruned,
    prunable_artifacts,
    read_champion,
    read_models,
    read_research,
    read_trials,
    record_training,
    restore_training,
)

KEY = SeriesKey("simulated", "BTCUSDT", "5m")
START = pd.Timestamp("2025-03-01 00:00", tz="UTC")


def training(at, champion="lightgbm_mean", names=("lightgbm_mean", "autoreg")):
    artifact = f"{at:%Y%m%dT%H%M%S}-test"
    fixed = {"artifact": artifact, "key": KEY, "trained_at": at, "snapshot": "0" * 64, "window_start": START}
    fixed |= {"window_end": at, "samples": 10, "metrics": {"mae_usd": 1.0}, "verdict": {"champion": champion}}
    fixed |= {"judged_at": at, "bytes": 5, "kept": True}
    return [ModelRecord(name=name, role="champion" if name == champion else "challenger", **fixed) for name in names]


def test_a_new_training_retires_the_one_before(store):
    """At any time one champion serves."""
    record_training(store, training(START))
    record_training(store, training(START + pd.Timedelta("15min"), champion="autoreg"))
    assert read_champion(store, KEY).name == "autoreg"
    assert [record.role for record in read_models(store, KEY)] == ["champion", "challenger", "retired", "retired"]


def test_before_the_first_training_there_is_no_champion(store):
    """None, not an error: the verb says what to do."""
    assert read_champion(store, KEY) is None


def test_rolling_back_puts_the_training_before_into_service(store):
    """Its champion of then, its challengers beside it."""
    record_training(store, training(START, champion="autoreg"))
    record_training(store, training(START + pd.Timedelta("15min")))
    assert restore_training(store, KEY) == "20250301T000000-test"
    assert read_champion(store, KEY).name == "autoreg"
    with pytest.raises(NotFoundError, match="no kept training"):
        restore_training(store, KEY)


def test_kept_are_the_champion_one_a_day_and_the_last_eight(store):
    """Four days of 96 trainings each leave the last eight and the last of each earlier day."""
    times = [START + pd.Timedelta("15min") * i for i in range(4 * 96)]
    for at in times:
        record_training(store, training(at, champion="persistence", names=("persistence",)))
    kept = {f"{at:%Y%m%dT%H%M%S}-test" for at in [times[95], times[191], times[287], *times[-8:]]}
    gone = prunable_artifacts(store, KEY)
    assert set(gone) == {f"{at:%Y%m%dT%H%M%S}-test" for at in times} - kept
    mark_pruned(store, gone)
    assert {record.artifact for record in read_models(store, KEY)} == kept
    assert prunable_artifacts(store, KEY) == []
    restore_training(store, KEY, f"{times[95]:%Y%m%dT%H%M%S}-test")
    assert f"{times[95]:%Y%m%dT%H%M%S}-test" not in prunable_artifacts(store, KEY)


def test_the_same_trial_on_the_same_snapshot_counts_once(store):
    """The same report made twice counts once."""
    trial = {"model": "ridge", "parameters": '{"alpha": 1}', "score": 0.99}
    append_trials(store, KEY, "a", [trial, trial], START)
    append_trials(store, KEY, "b", [trial], START)
    append_trials(store, KEY, "b", [], START)
    assert read_trials(store, KEY)["settings"].tolist() == ['{"alpha": 1}'] * 2


def test_the_authors_tries_are_data_of_the_repository():
    """Each with its candles and number, for the series of the real market that they were made on."""
    ours = read_research(SeriesKey("binance", "BTCUSDT", "5m"))
    assert ours["tries"].sum() > 265
    assert (ours["start"] < ours["end"]).all()
    assert set(ours["kind"]) == {"search", "verdict"}
    assert len(read_research(SeriesKey("file:mine", "BTCUSDT", "1h"))) > 0
    for key in (SeriesKey("binance", "ETHUSDT", "5m"), SeriesKey("simulated", "BTCUSDT", "5m")):
        assert read_research(key).empty
