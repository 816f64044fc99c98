"""A series too young for a verdict of its own, beside two older ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest

from btcml.candles import SeriesKey, as_candles
from btcml.errors import NotReadyError
from btcml.pipeline.evaluate import series_folder
from btcml.pipeline.ingest import backfill
from btcml.pipeline.jobs import training_facts
from btcml.pipeline.predict import load_served, predict_newest
from btcml.pipeline.train import CARD, train
from btcml.serve.routes import model_info
from btcml.serve.schemas import LeftOutProof
from btcml.store.candles import upsert_candles
from btcml.store.models import read_champion, read_trials
from btcml.store.snapshots import read_snapshot

MODEL = "others_ridge"


@dataclass(frozen=True)
class Answering:
    """What the route needs of a service."""

    store: object
    settings: object

    def served(self, key):
        return load_served(self.store, self.settings, key)


OLD = ("ETHUSDT", "SOLUSDT")


@pytest.fixture
def key(store, market, settings, monkeypatch):  # noqa: ARG001 - an empty database
    """A series of two days of 15m candles; a coin with 42 days is old here, so that tests are short."""
    monkeypatch.setattr("btcml.pipeline.cold_start.OTHERS_MODEL", MODEL)
    monkeypatch.setattr("btcml.pipeline.cold_start.is_cold_start", lambda frame: len(frame) < 4_000)
    found = SeriesKey(market.market, "BTCUSDT", "15m")
    backfill(store, market, found, (market.time - pd.Timedelta(days=2), market.time))
    return found


@pytest.fixture
def pooled(settings):
    return settings.model_copy(update={"btcml_symbols": ("BTCUSDT", *OLD)})


@pytest.fixture
def mature(store, market, key):
    """Two coins with a past that is predictable."""
    for symbol in OLD:
        span = (market.time - pd.Timedelta(days=121), market.time)
        backfill(store, market, replace(key, symbol=symbol), span)


def _walk(store, key, market, symbol, seed):
    """Store independent returns as the past of a coin."""
    rng, n = np.random.default_rng(seed), 96 * 60
    close = 100 * np.exp(rng.normal(0, 0.003, n + 1).cumsum())
    ends = np.maximum(close[:-1], close[1:]) * 1.001, np.minimum(close[:-1], close[1:]) / 1.001
    times = pd.date_range(end=market.time.floor("15min") - pd.Timedelta("15min"), periods=n, freq="15min")
    prices = {"open": close[:-1], "high": ends[0], "low": ends[1], "close": close[1:], "volume": rng.uniform(1, 2, n)}
    frame = as_candles(pd.DataFrame({"open_time": times.as_unit("us")} | prices), "15m")
    upsert_candles(store, replace(key, symbol=symbol), frame, source="test", at=market.time)


@pytest.mark.usefixtures("mature")
def test_a_young_series_is_served_by_models_that_are_proven_on_coins_left_out(store, pooled, key, market):
    """Two days of candles: move, interval and probability are there; facts, card and answer say why; looks count."""
    done = train(store, pooled, key, now=market.time, jobs=1)
    assert (done.champion, done.judged) == (MODEL, True)
    proof = done.verdict["left_out"]
    assert (proof["pool"], proof["proven"], proof["served"]) == ([*OLD], True, True)
    assert [row["coin"] for row in proof["table"]] == [*OLD]
    assert "BTCUSDT has 192 candles of 2 days, and nothing is proven on them alone." in done.verdict["reason"]
    assert "is proven on coins left out: ETHUSDT, SOLUSDT" in done.verdict["reason"]
    made = predict_newest(store, key, load_served(store, pooled, key)).prediction
    assert made.model == MODEL
    assert made.close != made.last_close
    assert made.lo < made.last_close < made.hi
    assert 0 < made.prob_up < 1
    card = (series_folder(pooled, key) / CARD).read_text(encoding="utf-8")
    assert "| ETHUSDT |" in card
    assert f"forecast by models fitted on {done.samples:,} candles of ETHUSDT, SOLUSDT." in card
    assert ".." not in card
    assert training_facts(done)["left_out"][0]["coin"] == "ETHUSDT"
    assert LeftOutProof.model_validate(model_info(Answering(store, pooled), key)["left_out"]).proven
    assert [set(read_trials(store, replace(key, symbol=symbol))["model"]) for symbol in OLD] == [{MODEL}, {MODEL}]
    assert read_trials(store, key).empty
    assert read_snapshot(store, key, market.time - pd.Timedelta(days=2), market.time).left_out == proof


@pytest.mark.usefixtures("mature")
def test_the_proof_is_run_once_a_day_and_repeated_looks_count_by_new_evidence(store, pooled, key, market):
    """In between the models are fitted anew on the same proof; the interval goes on."""
    first = train(store, pooled, key, now=market.time, jobs=1)
    again = train(store, pooled, key, now=market.time + pd.Timedelta("15min"), jobs=1)
    assert (again.judged, again.champion, again.verdict) == (False, MODEL, first.verdict)
    assert again.figures == first.figures
    assert len(read_trials(store, replace(key, symbol="ETHUSDT"))) == 1
    market.turn(market.time + pd.Timedelta(days=1))
    for symbol in ("BTCUSDT", *OLD):
        backfill(store, market, replace(key, symbol=symbol), (market.time - pd.Timedelta(days=1), market.time))
    later = train(store, pooled, key, now=market.time, jobs=1)
    assert (later.judged, later.champion) == (True, MODEL)
    assert [row["looks"] for row in later.verdict["left_out"]["table"]] == [2, 2]
    assert read_champion(store, key).judged_at == market.time


def test_a_pool_of_random_walks_serves_persistence_with_the_reason(store, pooled, key, market):
    """The range and its interval are still those of the others."""
    for seed, symbol in enumerate(OLD):
        _walk(store, key, market, symbol, seed)
    done = train(store, pooled, key, now=market.time, jobs=1)
    assert (done.champion, done.verdict["skill"]) == ("persistence", 0.0)
    assert done.verdict["reason"].startswith("persistence is champion: BTCUSDT has 192 candles")
    assert "is not proven on coins left out: without its own candles" in done.verdict["reason"]
    made = predict_newest(store, key, load_served(store, pooled, key)).prediction
    assert made.close == made.last_close
    assert made.lo < made.last_close < made.hi
    again = train(store, pooled, key, now=market.time + pd.Timedelta("15min"), jobs=1)
    assert (again.judged, again.champion) == (False, "persistence")


@pytest.mark.usefixtures("mature")
def test_a_series_with_a_verdict_of_its_own_keeps_it_where_something_is_proven(store, pooled, key, market, monkeypatch):
    """Own candles come first; where they prove nothing, the older coins serve unless own candles speak against it."""
    span = (market.time - pd.Timedelta(days=25), market.time)
    backfill(store, market, key, span)
    done = train(store, pooled, key, now=market.time, models=("autoreg",), jobs=1)
    own = next(row for row in done.verdict["left_out"]["table"])
    assert own["coin"] == "ETHUSDT"
    assert done.champion == MODEL
    assert f"On them {MODEL} has 0.9" in done.verdict["reason"]
    monkeypatch.setattr("btcml.pipeline.cold_start._own_ratio", lambda result: 1.002)  # noqa: ARG005
    refused = train(store, pooled, key, now=market.time + pd.Timedelta(days=1), models=("autoreg",), jobs=1)
    assert refused.champion == "persistence"
    assert "On them others_ridge has 1.0020 of the error of no change" in refused.verdict["reason"]
    assert set(refused.figures) == {"persistence", "autoreg"}


@pytest.mark.usefixtures("mature")
def test_what_a_young_series_lacks_is_said_in_a_sentence(store, pooled, key, market, settings):
    """Fewer than two older symbols, no candles, and fewer than the features need."""
    with pytest.raises(NotReadyError, match=r"training needs 2000 candles of .*, found 192 in the last 1095 days"):
        train(store, settings, key, now=market.time)
    few = replace(key, symbol="BNBUSDT")
    with pytest.raises(NotReadyError, match=r"training needs 2000 candles of .*BNBUSDT.*, found 0 in the last"):
        train(store, pooled, few, now=market.time)
    backfill(store, market, few, (market.time - pd.Timedelta(hours=10), market.time))
    with pytest.raises(NotReadyError, match=r"need 104 candles of .* without a gap, found 40: ingest more"):
        train(store, pooled, few, now=market.time)
