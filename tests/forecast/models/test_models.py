"""Models: registry, determinism, saving without pickle, and the answers that are known."""

from __future__ import annotations

import sys
import zlib
from dataclasses import replace

import numpy as np
import pytest

from btcml.errors import ArtifactError, UsageError
from btcml.forecast.models import MODELS, Model, Sample, make_model
from btcml.forecast.models.boosting import LARGE, Boosting

N = 4000
COLUMNS = ("range_ratio", "range_mean_12", "range_mean_96", "range_ewm_4", "range_ewm_16", "range_ewm_48")
REPLACED = {"system0", "system1"}
SERVED = sorted(set(MODELS) - REPLACED)


def sample(seed: int = 0) -> Sample:
    """An AR(1) path with coefficient -0.3, and features of which the first tells the outcome's mean."""
    rng = np.random.default_rng(seed)
    shocks = rng.normal(size=N + 1)
    path = np.zeros(N + 1)
    for t in range(1, N + 1):
        path[t] = -0.3 * path[t - 1] + shocks[t]
    x = rng.normal(size=(N, 6)).astype("float32")
    x[:, 0] = path[:N]
    return Sample(x, COLUMNS, path, np.arange(N), path[1:])


def fit(name: str, of: Sample) -> Model:
    """Fit a classifier on signs, and every other model on the outcomes."""
    return make_model(name).fit(replace(of, y=(of.y > 0).astype(float)) if name == "direction" else of)


@pytest.mark.parametrize("name", SERVED)
def test_a_model_saved_and_loaded_forecasts_the_same(name):
    """Its files are bytes of a safe format, never a pickle."""
    fitted, rows = fit(name, sample()), sample(1)
    files = fitted.dump()
    assert not any(payload[:2] in {b"\x80\x04", b"\x80\x05"} for payload in files.values())
    again = make_model(name).load(files)
    np.testing.assert_array_equal(again.predict(rows), fitted.predict(rows))
    assert again.dump() == files


@pytest.mark.parametrize("name", SERVED)
def test_two_fits_on_equal_rows_give_equal_bits(name):
    """Seeds are fixed and one thread adds in one order."""
    np.testing.assert_array_equal(fit(name, sample()).predict(sample(1)), fit(name, sample()).predict(sample(1)))


@pytest.mark.parametrize("name", sorted(set(SERVED) - {"persistence", "drift", "direction", "har", "ewma"}))
def test_every_model_that_can_learn_finds_a_linear_signal(name):
    """The outcome's mean is -0.3 times the path: the forecast goes along with it."""
    rows = sample(1)
    assert np.corrcoef(fit(name, sample()).predict(rows), -0.3 * rows.path[:N])[0, 1] > 0.7


def test_the_naive_models_forecast_zero_and_the_mean():
    """Zero, and the mean outcome."""
    assert not make_model("persistence").fit(sample()).predict(sample(1)).any()
    assert make_model("drift").fit(sample()).predict(sample(1)) == pytest.approx(sample().y.mean())


def test_autoregression_and_arma_find_the_ar1_and_its_order_by_aic():
    """AR(1) with coefficient -0.3: the first weight is about that, and forecasts agree."""
    ar, arma = (fit(name, sample()) for name in ("autoreg", "arma"))
    assert ar.weights[0] == pytest.approx(-0.3, abs=0.05)
    assert arma.weights[0] == pytest.approx(-0.3, abs=0.05)
    assert 1 <= ar.summary["order"] <= 12
    rows = sample(1)
    assert np.corrcoef(ar.predict(rows), arma.predict(rows))[0, 1] > 0.99


def test_a_statistical_model_looks_at_the_path_up_to_its_row_only():
    """Later returns do not change a forecast by a bit."""
    rows, fitted = sample(1), fit("arma", sample())
    changed = rows.path.copy()
    changed[2001:] = 99.0
    chosen = np.arange(2001)
    np.testing.assert_array_equal(
        fitted.predict(replace(rows, path=changed).at(chosen)), fitted.predict(rows.at(chosen))
    )


def test_an_autoregression_over_a_horizon_is_repeated_on_its_own_forecasts():
    """The sum of five steps by hand, over the root of five."""
    model = make_model("autoreg")
    model.constant, model.weights = 0.1, np.array([0.5, -0.2])
    rows = replace(sample(), rows=np.array([30]), horizon=5)
    path = list(np.clip(rows.path[:31], -3, 3))
    for _ in range(5):
        path.append(0.1 + 0.5 * path[-1] - 0.2 * path[-2])
    assert model.predict(rows)[0] == pytest.approx(sum(path[31:]) / np.sqrt(5), rel=1e-12)


def test_least_absolute_deviations_resist_what_moves_least_squares():
    """A tenth of the outcomes thrown far off moves ridge without a clip, not LAD."""
    of = sample()
    wild = of.y.copy()
    wild[::10] += 30.0
    apart = {
        name: np.abs(fit(name, replace(of, y=wild)).predict(of) - fit(name, of).predict(of)).mean()
        for name in ("lad", "linear")
    }
    assert apart["lad"] < 0.2 * apart["linear"]


@pytest.mark.parametrize("name", SERVED)
def test_a_forecast_does_not_depend_on_the_rows_beside_it(name):
    """One row alone, to the last bit or to 1e-12 for the linear ones."""
    rows, fitted = sample(1), fit(name, sample())
    alone = fitted.predict(rows.at(np.array([700])))
    np.testing.assert_allclose(alone, fitted.predict(rows)[700:701], rtol=0, atol=1e-12)


def test_any_scikit_learn_regressor_is_a_model_by_its_dotted_name():
    """Saved through ONNX as the forests are."""
    fitted = fit("sklearn.linear_model.BayesianRidge", sample())
    again = make_model("sklearn.linear_model.BayesianRidge").load(fitted.dump())
    np.testing.assert_array_equal(again.predict(sample(1)), fitted.predict(sample(1)))


@pytest.mark.parametrize(
    "name", ["oracle", "sklearn.nothing.Here", "sklearn.linear_model.nothing", "sklearn.utils.Bunch"]
)
def test_what_is_no_model_is_refused(name):
    """The message lists the names that exist."""
    with pytest.raises(UsageError, match="model"):
        make_model(name)


def test_a_model_text_that_unpacks_beyond_the_limit_is_refused():
    """A zip bomb in the place of LightGBM's text."""
    with pytest.raises(ArtifactError, match="unpacks to at most"):
        make_model("lightgbm_l1").load({"model.txt.z": zlib.compress(b"0" * 60_000_000, 9)})


def test_a_longer_horizon_has_fewer_trees():
    """As many as at one candle over the cube root of the horizon, and at least one."""
    trees = [
        Boosting(num_iterations=rounds, objective="l1").fit(replace(sample(), horizon=h))._booster.num_trees()
        for rounds, h in ((27, 1), (27, 27), (1, 48))
    ]
    assert trees == [27, 9, 1]


def test_few_rows_give_small_trees():
    """4,000 rows pay for the fewest leaves, or for 20 where a leaf costs 200."""
    for rows_per_leaf, leaves in ((3_000, 8), (200, 20)):
        model = Boosting(num_iterations=5, rows_per_leaf=rows_per_leaf, objective="l1").fit(sample())
        text = zlib.decompress(model.dump()["model.txt.z"]).decode()
        assert max(int(line.split("=")[1]) for line in text.splitlines() if line.startswith("num_leaves=")) == leaves


def test_many_rows_are_fitted_in_few_large_steps(monkeypatch):
    """From `LARGE_ROWS` on; the settings of a model of its own hold over those of all."""
    assert fitted_trees(Boosting(objective="l1")) == 100
    monkeypatch.setattr("btcml.forecast.models.boosting.LARGE_ROWS", N)
    assert fitted_trees(Boosting(objective="l1")) == LARGE["num_iterations"]
    assert fitted_trees(Boosting(large={"num_iterations": 7}, objective="l1")) == 7


def fitted_trees(model):
    """Trees of a model that is fitted on the sample."""
    return model.fit(sample())._booster.num_trees()


def test_system_0_s_recipe_works_on_levels_and_is_never_saved():
    """It forecasts, but is not served."""
    of = sample()
    levels = np.column_stack([100 + np.arange(N), np.full(N, -6.0)]).astype("float32")
    levels_only = replace(of, x=levels, names=("close_lag_0", "log_scale"))
    fitted = make_model("system0").fit(levels_only)
    assert np.isfinite(fitted.predict(levels_only)).all()
    with pytest.raises(UsageError, match="is only compared"):
        fitted.dump()


def test_system_1_s_model_names_its_package_where_xgboost_is_missing(monkeypatch):
    """The package is in the benchmark's extras only."""
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(UsageError, match="needs the package xgboost-cpu"):
        make_model("system1").fit(sample())
