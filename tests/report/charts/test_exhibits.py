"""Every exhibit, on a good market and on a bad one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from btcml.candles import TIME
from btcml.errors import ReportError
from btcml.forecast.metrics import forecast_frame
from btcml.report.charts import eda, evaluation, features, ingest, training, worth
from btcml.report.claims import Claim
from btcml.report.figure import Chart, svg_text
from btcml.report.scores import score_forecasts
from btcml.report.tables import Table, table_html


def told(item) -> str:
    """What a reader reads, whatever the exhibit is."""
    if isinstance(item, Chart):
        assert svg_text(item).startswith("<svg")
        return str(item.says)
    if isinstance(item, Table):
        assert "nan" not in table_html(item).lower()
        return str(item.says)
    assert isinstance(item, Claim)
    return str(item)


@pytest.fixture(scope="session")
def damaged(snapshot):
    """The same snapshot with a hole, a refused row, a broken rule, a suspect span and a restated candle."""
    candles = snapshot.candles.drop(index=range(100, 140)).reset_index(drop=True)
    time = candles["open_time"]
    gap = {"start": time[99] + pd.Timedelta("15min"), "end": time[100], "missing": 40, "kind": "halt"}
    refused = candles.iloc[[5]].assign(rule="high_is_highest", source="test", seen_at=time.iloc[-1], released_at=pd.NaT)
    rules = snapshot.rules.copy()
    rules.loc[2, "broken"] = 1
    suspect = {"start": time[10], "end": time[20], "rule": "continuity", "rows": 10}
    old = candles.iloc[[7]].assign(close=1.0, source="test", seen_at=time.iloc[-1].as_unit("us"))
    return dataclasses.replace(
        snapshot,
        candles=candles,
        gaps=pd.DataFrame([gap]),
        quarantine=refused,
        rules=rules,
        suspects=pd.DataFrame([suspect]),
        revisions=old.astype({"seen_at": TIME}),
    )


def test_good_data_are_called_good(snapshot):
    """Nothing missing, nothing refused: said in so many words."""
    assert "complete from the first to the last" in told(ingest.headline(snapshot))
    assert told(ingest.calendar(snapshot)) == "Every week is complete."
    assert "no gap" in told(ingest.longest_gaps(snapshot))
    assert told(ingest.rules_checked(snapshot)).startswith("All")
    assert told(ingest.quarantined(snapshot)) == "No row is in quarantine."
    assert "No span looks frozen" in told(ingest.suspect_spans(snapshot))
    assert "No final candle" in told(ingest.revised(snapshot))
    assert "made by a program" in told(ingest.origin(snapshot))


def test_bad_data_are_called_bad(damaged):
    """The sentences follow the data."""
    assert "do not fit" in told(ingest.headline(damaged))
    assert "lack candles" in told(ingest.calendar(damaged))
    assert told(ingest.longest_gaps(damaged)).startswith("1")
    assert "were broken" in told(ingest.rules_checked(damaged))
    assert "broke a rule" in told(ingest.quarantined(damaged))
    assert "do not fit their neighbours" in told(ingest.suspect_spans(damaged))
    assert "old values are kept" in told(ingest.revised(damaged))
    assert [card.label for card in ingest.cards(damaged)] == ["Candles", "Span", "Gaps"]


@pytest.mark.parametrize("which", ["snapshot", "damaged"])
def test_the_market_is_described(which, request):
    """Every exhibit of the second chapter draws, holes or not."""
    candles = request.getfixturevalue(which).candles
    items = [
        eda.headline(candles, "15m"), eda.price_and_volume(candles), eda.newest_candles(candles),
        eda.tails(candles, "15m"), eda.quantiles(candles, "15m"), eda.memory(candles, "15m"),
        eda.volatility_clusters(candles, "15m"), eda.week(candles, "15m"),
        eda.stationarity_tests(candles), eda.flow_and_next_return(candles, "15m"),
    ]  # fmt: skip
    assert all(told(item) for item in items)


def test_no_order_flow_is_said_not_drawn(snapshot):
    """A source that does not know the taker's side gets a sentence."""
    without = snapshot.candles.assign(taker_buy_base=np.nan)
    assert "does not tell" in told(eda.flow_and_next_return(without, "15m"))


def test_features_are_described_and_the_proof_runs(snapshot):
    """Every exhibit of the third chapter draws."""
    table = features.story_features(snapshot.candles, "15m")
    items = [
        features.headline(snapshot.candles, "15m"), features.catalogue(), features.look_ahead(snapshot.candles, "15m"),
        features.distributions(table), features.drift(table), features.correlations(table),
        features.information(table, snapshot.candles, "15m"),
    ]  # fmt: skip
    assert all(told(item) for item in items)


def test_a_feature_that_looks_ahead_fails_the_build(snapshot, monkeypatch):
    """Planted: a feature that uses the next close. The chapter does not come out."""
    honest = features.feature_frame

    def leaking(candles, interval, *names):
        return honest(candles, interval, *names).assign(leak=candles["close"].shift(-1).to_numpy())

    monkeypatch.setattr(features, "feature_frame", leaking)
    with pytest.raises(ReportError, match="does not hold"):
        features.look_ahead(snapshot.candles, "15m")


def forecasts(skill: float) -> pd.DataFrame:
    """Two models on a random walk; one knows a share of the next move."""
    random = np.random.default_rng(11)
    close = 50_000 * np.exp(np.concatenate([[0], random.normal(0, 1e-3, 6000)]).cumsum())
    move = np.log(close[1:] / close[:-1])
    said = skill * move + 1e-5 * random.normal(size=len(move))
    wide = {
        "lo": close[:-1] * np.exp(-1.645e-3),
        "hi": close[:-1] * np.exp(1.645e-3),
        "prob_up": 0.5 + np.sign(said) / 20,
    }
    models = {
        "ridge": {"y_hat": close[:-1] * np.exp(said), **wide},
        "random_forest": {"y_hat": close[:-1] * np.exp(1e-4 * random.normal(size=len(move))), **wide},
    }
    return forecast_frame(close, models, interval="15m")


@pytest.mark.parametrize(("skill", "word", "champion"), [(0.2, "Yes", "ridge"), (0.0, "No", "persistence")])
def test_the_verdict_follows_the_forecasts(skill, word, champion):
    """An oracle's share is found, noise is not, and the sentence agrees with the table."""
    scores = score_forecasts(forecasts(skill), 3)
    assert scores.verdict.champion == champion
    assert told(evaluation.verdict(scores)).startswith(word)
    assert scores.table["model"].iloc[0] == "persistence"
    assert scores.table["skill"].iloc[0] == 0.0
    table = evaluation.against_persistence(scores)
    assert table.strong == ({"ridge": "Ridge regression", "persistence": "Persistence"}[champion],)
    items = [
        table, evaluation.loss_difference(scores), evaluation.by_month(scores), evaluation.by_third(scores),
        evaluation.by_hour(scores), worth.direction(scores), worth.coverage_by_third(scores), worth.fees(scores),
        worth.experts(scores), worth.truth(scores, "binance", "15m"), worth.truth(scores, "simulated", "15m"),
    ]  # fmt: skip
    assert all(told(item) for item in items)
    assert [card.label for card in evaluation.cards(scores)][:2] == ["Champion", "Skill"]


def test_sealed_forecasts_are_scored_where_there_are_any():
    """An empty ledger is said; a full one is compared with no change."""
    assert "No forecast has been sealed" in told(worth.sealed(pd.DataFrame()))
    errors = {"error_bp": [1.0, 2.0, 9.0, np.nan], "persistence_error_bp": [2.0, 3.0, 1.0, np.nan]}
    frame = pd.DataFrame({"role": ["champion", "champion", "challenger", "champion"], **errors})
    assert told(worth.sealed(frame)).startswith("2")
    assert "less than the 2.500" in told(worth.sealed(frame)).replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "no better" in told(worth.sealed(frame.assign(error_bp=5.0)))


def test_every_exhibit_is_exported():
    """A new exhibit stands in its module's list."""
    for module in (ingest, eda, features, training, evaluation, worth):
        assert all(callable(getattr(module, name)) for name in module.__all__)
