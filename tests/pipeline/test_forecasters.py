"""Forecasters of other packages: on a grid, in a process of their own, seeing nothing later, with limits."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest

from btcml.errors import NotReadyError, UsageError
from btcml.forecast.foreign import forecast_grid, new_candles
from btcml.forecast.judge import judge
from btcml.pipeline.forecasters import Grid, run_forecasters
from btcml.pipeline.judge import on_grid

N = 1500
GRID = Grid(cutoffs=60, window=50, horizons=(1, 3))

EXTERNAL = '''
import gc, glob, os, time
import numpy as np, pandas as pd

class Drift:
    """Refitted at each cutoff: the mean of the last moves, with an interval."""
    def fit(self, df):
        self.df = df
        return self
    def predict(self, h, level=None):
        y, n = self.df["y"].to_numpy(), np.arange(1, h + 1)
        step = np.exp(np.diff(np.log(y)).mean())
        out = pd.DataFrame({"unique_id": "close", "ds": 0, "Drift": y[-1] * step**n})
        for k in level:
            out = out.assign(**{f"Drift-lo-{k}": 0.99 * y[-1], f"Drift-hi-{k}": 1.01 * y[-1]})
        return out.assign(q10=0.999 * y[-1], q90=1.001 * y[-1])

class New(Drift):
    """Fitted once; the newest candles are given to predict."""
    def predict(self, h, new_df=None):
        self.df = self.df if new_df is None else new_df
        return super().predict(h, level=())

class Updated(Drift):
    """Fitted once; updated with each new candle."""
    def update(self, df):
        self.df = pd.concat([self.df, df])
    def predict(self, h):
        self.df = self.df.tail(50)
        return super().predict(h, level=())

class FileReader(Drift):
    """Reads a file of candles by the time of the last one."""
    def predict(self, h, level=None):
        truth = pd.read_parquet(os.environ["TMPDIR"] + "/truth.parquet")
        place = int(truth["ds"].searchsorted(self.df["ds"].iloc[-1]))
        ahead = truth["y"].to_numpy()[place + 1 : place + 1 + h]
        return pd.DataFrame({"FileReader": ahead if len(ahead) == h else [self.df["y"].iloc[-1]] * h})

class Peeping(Drift):
    """Looks for later candles in the memory of its process and in the files beside it."""
    def predict(self, h, level=None):
        frames = [pd.read_parquet(path) for path in glob.glob("*.parquet")]
        frames += [one for one in gc.get_objects() if isinstance(one, pd.DataFrame) and "y" in one]
        for frame in frames:
            ahead = frame.loc[frame["ds"] > self.df["ds"].iloc[-1], "y"].head(h)
            if len(ahead) == h:
                return pd.DataFrame({"Peeping": ahead.to_numpy()})
        return super().predict(h, level)

class Clock(Drift):
    """Knows the outcome by the time of the last candle."""
    def predict(self, h, level=None):
        even = self.df["ds"].iloc[-1].dayofyear % 2
        return pd.DataFrame({"Clock": [self.df["y"].iloc[-1] * (1.001 if even else 0.999)] * h})

class Failing(Drift):
    def predict(self, h, level=None):
        raise RuntimeError("no weights here")

class Infinite(Drift):
    def predict(self, h, level=None):
        return pd.DataFrame({"Infinite": [np.inf] * h})

class Nothing(Drift):
    def predict(self, h, level=None):
        return pd.DataFrame({"Nothing": [np.nan] * h})

class Array(Drift):
    def predict(self, h, level=None):
        return np.ones(h)

class Slow(Drift):
    def fit(self, df):
        time.sleep(600)

class Large(Drift):
    def fit(self, df):
        self.x = np.ones(1 << 33)
'''


@pytest.fixture(scope="module")
def candles():
    moves = np.random.default_rng(2).normal(0, 1e-3, N)
    times = pd.Series(pd.date_range("2025-01-01", periods=N, freq="h", tz="UTC", unit="us"))
    return pd.DataFrame({"open_time": times, "close": 100 * np.exp(moves.cumsum())})


@pytest.fixture
def external(tmp_path, monkeypatch, candles):
    """A module of another package, and a file of candles that one of its forecasters reads."""
    (tmp_path / "external.py").write_text(EXTERNAL, encoding="utf-8")
    truth = pd.DataFrame({"ds": candles["open_time"].dt.tz_localize(None), "y": candles["close"]})
    truth.to_parquet(tmp_path / "truth.parquet")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("external", "others"):
        sys.modules.pop(name, None)


def frame_of(candles):
    return pd.DataFrame({"unique_id": "close", "ds": candles["open_time"], "y": candles["close"]})


MADE = [100, 107, 114]


def forecasts(factory, frame):
    """Forecasts at the cutoffs `MADE`."""
    plan = {"window": 50, "horizons": [1, 3], "level": 0.9}
    answers = forecast_grid(factory, new_candles(frame, MADE), plan)
    return pd.DataFrame([{"made": made} | row for made, rows in zip(MADE, answers, strict=True) for row in rows])


@pytest.mark.usefixtures("external")
def test_the_three_ways_to_forecast_are_the_direct_call(candles):
    """Refitted, given the newest candles, or updated: each equals its own call on the candles up to the cutoff."""
    import external  # noqa: PLC0415 - written above

    names = ("Drift", "New", "Updated")
    found = {name: forecasts(getattr(external, name), frame_of(candles)) for name in names}
    for place, horizon, said in found["Drift"][["made", "horizon", "y_hat"]].itertuples(index=False):
        direct = external.Drift().fit(frame_of(candles)[place - 49 : place + 1]).predict(3, level=())
        assert said == direct["Drift"].iloc[horizon - 1]
    later = found["New"]["made"] > 100  # the first cutoff is forecast by the fit on all candles
    assert found["New"]["y_hat"][later].tolist() == found["Drift"]["y_hat"][later].tolist()
    assert found["Updated"]["y_hat"].tolist() == found["Drift"]["y_hat"].tolist()
    assert found["Drift"]["hi"].notna().all()
    assert found["New"]["hi"].isna().all()
    assert (found["Drift"]["q10"] < found["Drift"]["q90"]).all()


@pytest.mark.usefixtures("external")
def test_no_forecaster_sees_a_candle_after_its_cutoff(candles):
    """The future is replaced: nothing changes, bit for bit."""
    import external  # noqa: PLC0415 - written above

    other = frame_of(candles).assign(y=lambda f: f["y"].where(np.arange(N) <= 114, 1.0))
    for name in ("Drift", "New", "Updated"):
        one, two = (forecasts(getattr(external, name), frame) for frame in (frame_of(candles), other))
        assert one.equals(two)


@pytest.mark.usefixtures("external")
def test_a_forecaster_is_judged_beside_a_file_on_its_grid(candles):
    """Nothing is missing, at both horizons; the second run agrees to the bit."""
    frames, findings = run_forecasters(["external:Drift"], candles, "1h", GRID)
    assert findings == []
    times = candles["open_time"]
    naive = pd.DataFrame({"cutoff": times, "open_time": times.shift(-1), "y_hat": candles["close"]})[:-1]
    found = judge(on_grid({"naive": naive}, frames["external:Drift"]) | frames, candles, "1h")
    assert found.table["missing"].sum() == 0
    assert set(found.table["horizon"]) == {1, 3}
    assert 50 <= found.table["rows"].max() <= 60


@pytest.mark.usefixtures("external")
def test_no_later_candle_is_in_the_process_of_a_forecaster(candles):
    """One that looks for them in memory and files forecasts what it does without."""
    frames, findings = run_forecasters(["external:Peeping", "external:Drift"], candles, "1h", GRID)
    peeping, drift = frames.values()
    assert peeping["y_hat"].equals(drift["y_hat"])
    assert findings == []


@pytest.mark.usefixtures("external")
@pytest.mark.parametrize("name", ["FileReader", "Clock"])
def test_a_forecaster_that_knows_candles_by_their_time_is_caught(candles, name):
    """By the second run, at another time and price."""
    frames, findings = run_forecasters([f"external:{name}"], candles, "1h", GRID)
    found = judge(frames, candles, "1h", findings=findings)
    assert found.suspicions(f"external:{name}")[-1] == "outside knowledge"


@pytest.mark.usefixtures("external")
def test_a_failure_is_one_sentence_and_a_row(candles):
    """Beside another model; alone it is an error."""
    frames, findings = run_forecasters(["external:Failing", "external:Drift"], candles, "1h", GRID)
    assert [f.sentence for f in findings] == ["external:Failing failed: RuntimeError: no weights here"]
    table = judge(frames, candles, "1h", findings=findings).table
    assert table.loc[table["model"] == "external:Failing", "conclusion"].tolist() == ["failed"]
    for name, said in (
        ("Infinite", "its forecasts should be prices, found inf"),
        ("Nothing", "its forecasts should be prices, found NaN alone"),
        ("Array", "predict should return a pandas DataFrame, found ndarray"),
    ):
        findings = run_forecasters([f"external:{name}", "external:Drift"], candles, "1h", GRID)[1]
        assert [f.sentence for f in findings] == [f"external:{name} failed: {said}"]
    slow, lean = Grid(60, 50, seconds=2), Grid(60, 50, memory_mib=4096)
    for name, grid, said in (
        ("Slow", slow, "did not end within 2 s"),
        ("Large", lean, "its limit is 4096 MiB"),
        ("None", GRID, "has no attribute 'None'"),
    ):
        with pytest.raises(NotReadyError, match=said):
            run_forecasters([f"external:{name}"], candles, "1h", grid)
    with pytest.raises(NotReadyError, match="a forecaster is a name registered"):
        run_forecasters(["nobody"], candles, "1h", GRID)


@pytest.mark.usefixtures("external")
def test_missing_candles_have_the_last_close(candles):
    """So that no library refuses a gap; what the forecaster says of the others stays the same."""
    holed = candles.drop(index=range(1300, 1310)).reset_index(drop=True)
    every = Grid(cutoffs=1000, window=50)
    whole, other = (run_forecasters(["external:Drift"], c, "1h", every)[0]["external:Drift"] for c in (candles, holed))
    both = whole.merge(other, on=["open_time", "horizon"], suffixes=("", "_holed"))
    before = both["cutoff"] < candles["open_time"][1300]
    assert 100 < before.sum() < len(both)
    assert both["y_hat"][before].tolist() == both["y_hat_holed"][before].tolist()
    assert (both["cutoff"] == both["cutoff_holed"]).all()


def test_too_few_candles_are_refused(candles):
    """The window must lie before the test."""
    with pytest.raises(NotReadyError, match="a forecaster needs 5000 candles before the test"):
        run_forecasters(["external:Drift"], candles, "1h", Grid(window=5000))
    with pytest.raises(NotReadyError, match="too few for forecasts of 900 candles ahead"):
        run_forecasters(["external:Drift"], candles, "1h", Grid(window=50, horizons=(1, 900)))
    with pytest.raises(UsageError, match="horizons are numbers of candles from 1 to 1000"):
        run_forecasters(["external:Drift"], candles, "1h", Grid(window=50, horizons=(0,)))


OTHERS = """
import numpy as np

def statsforecast():
    from statsforecast import StatsForecast
    from statsforecast.models import SimpleExponentialSmoothing
    return StatsForecast(models=[SimpleExponentialSmoothing(alpha=0.9)], freq="h", n_jobs=1)

def mlforecast():
    from lightgbm import LGBMRegressor
    from mlforecast import MLForecast
    from mlforecast.target_transforms import Differences
    model = LGBMRegressor(n_estimators=20, verbosity=-1, n_jobs=1)
    return MLForecast(models=[model], freq="h", lags=[1, 2, 3], target_transforms=[Differences([1])])

def basis_points(price):
    return 1e4 * np.log(price)

def price(level):
    return np.exp(level / 1e4)

def regularised():
    from lightgbm import LGBMRegressor
    from mlforecast import MLForecast
    from mlforecast.lag_transforms import ExponentiallyWeightedMean, RollingMean, RollingStd
    from mlforecast.target_transforms import Differences, GlobalSklearnTransformer
    from sklearn.preprocessing import FunctionTransformer
    robust = {"objective": "huber", "alpha": 1.0, "min_child_samples": 1000, "reg_lambda": 50.0}
    model = LGBMRegressor(n_estimators=120, learning_rate=0.05, num_leaves=64, n_jobs=1, verbosity=-1, **robust)
    moves = [GlobalSklearnTransformer(FunctionTransformer(basis_points, price, check_inverse=False)), Differences([1])]
    means = [*(RollingMean(n) for n in (2, 4, 16, 32, 96)), RollingStd(12), RollingStd(96)]
    past = {"lags": [1, 2, 3, 4, 6, 12], "lag_transforms": {1: [*means, ExponentiallyWeightedMean(0.06)]}}
    return MLForecast(model, "5min", **past, date_features=["minute", "hour"], target_transforms=moves)

class fracast:
    def fit(self, df):
        self.y = df["y"].to_numpy("float32")
    def predict(self, h):
        import pandas as pd
        from fracast import FracastModel
        found = FracastModel.from_pretrained(device="cpu").forecast(self.y)[:h]
        return pd.DataFrame({"median": found[:, 4]} | {f"q{10 * n + 10}": found[:, n] for n in range(9)})
"""


@pytest.mark.soak
@pytest.mark.parametrize("package", ["statsforecast", "mlforecast", "fracast"])
def test_libraries_are_judged_as_they_are(external, candles, package):
    """Where they are installed: no candle is missing, the second run agrees; statsforecast equals its own call."""
    if find_spec(package) is None:
        pytest.skip(f"the package {package} is not installed")
    (external / "others.py").write_text(OTHERS, encoding="utf-8")
    name = f"others:{package}"
    frames, findings = run_forecasters([name], candles, "1h", Grid(cutoffs=20, window=300, horizons=(1, 3)))
    found = judge(frames, candles, "1h", findings=findings)
    assert not found.suspicions(name)
    assert found.table["missing"].sum() == 0
    assert found.table["rows"].min() >= 18
    if package == "statsforecast":
        import others  # noqa: PLC0415 - written above

        for made, said in frames[name].groupby("made")["y_hat"]:
            direct = others.statsforecast().fit(frame_of(candles)[made - 299 : made + 1]).predict(h=3)
            assert said.tolist() == direct["SES"].iloc[[0, 2]].tolist()


@pytest.mark.soak
def test_mlforecast_on_real_candles_is_its_own_direct_call(external, shared_data):
    """Each forecast of a grid over a year is that of one fit and one transform of all rows, to 1e-9 basis points."""
    pytest.importorskip("mlforecast", reason="the package mlforecast is not installed")
    (external / "others.py").write_text(OTHERS, encoding="utf-8")
    candles = pd.read_parquet(shared_data / "BTCUSDT-5m.parquet")[["open_time", "close"]]
    found = run_forecasters(["others:regularised"], candles, "5m", Grid(cutoffs=1000))[0]["others:regularised"]
    import others  # noqa: PLC0415 - written above

    close = candles.set_index("open_time")["close"].resample("5min").ffill()
    frame = pd.DataFrame({"unique_id": "close", "ds": close.index.tz_localize(None), "y": close.to_numpy()})
    peer = others.regularised()
    rows = peer.preprocess(frame, static_features=[])
    x, fitted = rows.drop(columns=["unique_id", "ds", "y"]), rows["ds"] <= found["cutoff"].iloc[0].tz_localize(None)
    model = peer.models["LGBMRegressor"].fit(x[fitted], rows["y"][fitted])
    asked = rows["ds"].isin(found["open_time"].dt.tz_localize(None))
    said = 1e4 * np.log(found["y_hat"] / candles["close"].to_numpy()[found["made"]])
    assert len(found) > 900
    np.testing.assert_allclose(said, model.predict(x[asked]), rtol=0, atol=1e-9)
