"""Nothing at or before t depends on what comes after t, and every planted leak is caught by its name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from btcml.errors import UsageError
from btcml.forecast import walk
from btcml.forecast.calibration import GRID
from btcml.forecast.dataset import Dataset, make_dataset
from btcml.forecast.experiment import Experiment
from btcml.forecast.features import SETS, Prepared, feature_frame, tail_length
from btcml.forecast.models import MEANS, MODELS, make_model
from btcml.forecast.targets import target_frame

from .lookahead import changed, scrambled, simulated

CANDLES = simulated(9)
N = len(CANDLES)
PLAN = Experiment("5m", "2025-03-07", window=None, refit="1 days", purge=12, burn_in="1 days")
FIRST = int(np.searchsorted(CANDLES["open_time"], pd.Timestamp("2025-03-07", tz="UTC")))
FEW = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def forecasts(candles: pd.DataFrame, names: tuple[str, ...] = ("ridge", "autoreg")) -> np.ndarray:
    """Forecasts, bounds and probabilities by target candle, one row each, in order of time."""
    frame = PLAN.replace(models=names).run(candles, jobs=1).forecasts
    wide = frame.pivot_table(index="open_time", columns="model", values=["y_hat", "lo", "hi", "prob_up"], observed=True)
    return wide.reindex(CANDLES["open_time"][FIRST:]).to_numpy()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Few trees: what is proved does not depend on their number."""
    monkeypatch.setattr(walk, "make_model", lambda name: quicker(make_model(name)))


def quicker(model):
    """Return the model with five rounds."""
    for part in (model, getattr(model, "_trees", None)):
        if hasattr(part, "rounds"):
            part.rounds = 5
    return model


@FEW
@given(t=st.integers(1, N - 3))
def test_no_feature_at_or_before_t_changes_when_the_future_is_scrambled(t):
    """All features of all sets, inside the warm-up too, bit for bit."""
    assert not changed(lambda frame: feature_frame(frame, "5m", "all").to_numpy(), CANDLES, t)


@FEW
@given(t=st.integers(1, N - 3))
def test_no_scale_and_no_training_outcome_at_or_before_t_changes(t):
    """The scale of row t, and targets whose outcome is known at t (rows before t)."""
    assert not changed(lambda frame: Prepared(frame, "5m").scale, CANDLES, t)
    assert not changed(lambda frame: target_frame(frame, "5m").to_numpy(), CANDLES, t, past=t)
    assert changed(lambda frame: target_frame(frame, "5m").to_numpy(), CANDLES, t=1000)


@pytest.mark.parametrize("t", [FIRST + 3, FIRST + 300, N - 20])
def test_no_forecast_bound_or_probability_made_at_or_before_t_changes(t):
    """Target candles up to t + 1 are forecast at the close of t; multipliers and calibration too."""
    assert not changed(forecasts, CANDLES, t, past=t + 2 - FIRST)
    assert changed(forecasts, CANDLES, t, past=N - FIRST)


ELSEWHERE = {"persistence", "ewma", "har", "linear", "range_boosting", "direction", "system1"}
SLOW = {"system0", "arma"}
MODELS_OF_MOVES = [
    pytest.param(name, marks=[pytest.mark.soak] if name in SLOW else [])
    for name in sorted(set(MODELS) - ELSEWHERE | set(MEANS))
]


@pytest.mark.parametrize("name", MODELS_OF_MOVES)
def test_no_forecast_of_any_model_made_at_or_before_t_changes(name):
    """Every family, forests and the recipe of system 0 included; system 1's needs a package of the benchmark."""
    t = FIRST + 290

    def forecast(candles):
        return forecasts(candles, (name,))

    assert not changed(forecast, CANDLES, t, past=t + 2 - FIRST)


@FEW
@given(t=st.integers(200, N - 1))
def test_cut_after_t_the_features_are_the_same_to_a_billionth(t):
    """The newest row does not depend on being the newest."""
    whole = feature_frame(CANDLES, "5m", "all")
    cut = feature_frame(CANDLES.iloc[: t + 1], "5m", "all").iloc[-1]
    apart = (cut - whole.iloc[t]).abs() / whole.std()
    assert (cut.isna() == whole.iloc[t].isna()).all()
    assert apart.fillna(0.0).max() <= 1e-9


@settings(FEW, max_examples=8)
@given(start=st.integers(1, N - tail_length("all") - 1))
def test_started_later_the_features_are_the_same_once_the_memory_is_full(start):
    """Memory is cut at a stated length: what came before it does not matter."""
    full = start + tail_length("all")
    whole = feature_frame(CANDLES, "5m", "all").iloc[full:]
    late = feature_frame(CANDLES.iloc[start:], "5m", "all").iloc[full - start :].set_axis(whole.index)
    assert ((late - whole).abs() / whole.std()).fillna(0.0).to_numpy().max() <= 1e-9


@pytest.mark.parametrize("name", ["ridge", "lad", "linear"])
def test_linear_forecasts_of_a_row_alone_are_the_same_to_a_trillionth(name):
    """The order of summation does not depend on the number of rows."""
    data = make_dataset(CANDLES, "5m")
    fitted = make_model(name).fit(data.sample.at(data.training_rows(CANDLES["open_time"][0], PLAN.plan.first_test)))
    rows = np.flatnonzero(data.ready)[-200:]
    alone = [fitted.predict(data.sample.at(rows[i : i + 1]))[0] for i in range(200)]
    np.testing.assert_allclose(alone, fitted.predict(data.sample.at(rows)), rtol=0, atol=1e-12)


# ---------------------------------------------------------------- planted leaks in features


def _centred(close):
    return close.rolling(11, center=True, min_periods=1).mean()


FEATURE_LEAKS = {
    "shift -1": lambda close: close.shift(-1),
    "centred window": _centred,
    "global z-score": lambda close: (close - close.mean()) / close.std(),
    "back-fill": lambda close: close.rolling(50).mean().bfill(),
    "target in features": lambda close: np.log(close).diff().shift(-1),
    "interpolation over a gap": lambda close: close.where(np.arange(len(close)) % 7 > 0).interpolate(),
    "global quantile": lambda close: close.rank(pct=True),
}


@pytest.mark.parametrize("leak", FEATURE_LEAKS)
def test_a_planted_leak_in_a_feature_is_caught(leak):
    """Each mechanism by name, at some t of a handful; the back-fill only inside the warm-up."""
    times = [20, 500, 1001, N - 5]
    caught = [t for t in times if changed(lambda frame: FEATURE_LEAKS[leak](frame["close"]).to_numpy(), CANDLES, t)]
    assert caught == ([20] if leak == "back-fill" else caught)
    assert caught


# ---------------------------------------------------------------- planted leaks in the walk


def scaler_fit_on_all(monkeypatch):
    """Standardise with the mean and deviation of every row, the test's too."""
    original = walk._fit_predict

    def leaking(name, parts, sample, test, ready):
        spread = sample.x[ready].std(axis=0) + 1e-9
        for one in {id(one): one for one in (sample, *(own for own, _ in parts))}.values():
            object.__setattr__(one, "x", one.x / spread)
        return original(name, parts, sample, test, ready)

    monkeypatch.setattr(walk, "_fit_predict", leaking)


def purge_with_overlap(monkeypatch):
    """Fit on outcomes after the first forecast, as purge 0 with a label of many candles would."""
    original = Dataset.training_rows
    later = pd.Timedelta(hours=3)
    monkeypatch.setattr(Dataset, "training_rows", lambda self, start, cutoff: original(self, start, cutoff + later))


def early_stopping_on_the_test(monkeypatch):
    """Choose how far to go by the error on the rows that are forecast."""
    original = walk._fit_predict

    def leaking(name, parts, sample, test, ready):
        found, y = original(name, parts, sample, test, ready), sample.y[test]
        return min((found * share for share in (0.2, 0.6, 1.0)), key=lambda f: np.nansum(np.abs(y - f)))

    monkeypatch.setattr(walk, "_fit_predict", leaking)


def multiplier_from_the_whole_test(monkeypatch):
    """One factor, the best over all out-of-sample forecasts."""

    def leaking(losses, day, prior, caution=1.0, made=None):  # noqa: ARG001
        return np.full(len(day), GRID[np.argmin(losses.sum(axis=0))] + 1e-9 * losses.sum() + 0 * prior * caution)

    monkeypatch.setattr(walk, "trailing_factor", leaking)


def interval_from_all_outcomes(monkeypatch):
    """One quantile of all scores."""

    class Leaking:
        @classmethod
        def of_candles(cls, length, level):  # noqa: ARG003
            leaking = cls()
            leaking.level = level
            return leaking

        def run(self, y, scale, _volatility):
            half = np.nanquantile(np.abs(y / scale), self.level) * scale
            return pd.DataFrame({"lo": -half, "hi": half})

    monkeypatch.setattr(walk, "AdaptiveInterval", Leaking)


WALK_LEAKS = [
    scaler_fit_on_all,
    purge_with_overlap,
    early_stopping_on_the_test,
    multiplier_from_the_whole_test,
    interval_from_all_outcomes,
]


@pytest.mark.parametrize("leak", WALK_LEAKS, ids=lambda leak: leak.__name__.replace("_", " "))
def test_a_planted_leak_in_the_walk_is_caught(leak, monkeypatch):
    """The property of the forecasts fails for each mechanism, by name."""
    leak(monkeypatch)
    t = FIRST + 10
    assert changed(forecasts, CANDLES, t, past=t + 2 - FIRST)


def test_a_purge_of_zero_is_refused_before_anything_is_fitted():
    """The plan itself rejects it."""
    with pytest.raises(UsageError, match="outcomes would overlap"):
        PLAN.replace(purge=0)


def test_the_scramble_keeps_the_past_and_the_shape_and_changes_the_future():
    """The scrambling itself."""
    other = scrambled(CANDLES, 700)
    assert other.shape == CANDLES.shape
    pd.testing.assert_frame_equal(other.iloc[:701], CANDLES.iloc[:701])
    assert not other["close"].iloc[701:].equals(CANDLES["close"].iloc[701:])
    assert len(SETS["all"]) > 70
