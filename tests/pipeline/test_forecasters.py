"""Forecasters of other packages: on a grid, in a process of their own, seeing nothing later, with limits."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest

from btcml.errors import NotReadyError, UsageError
from btcml.forecast.foreign import forecast_grid
from btcml.forecast.judge import judge
from btcml.forecast.models import make_model
from btcml.pipeline.forecasters import Grid, run_forecasters
from btcml.pipeline.judge import on_grid

N = 1500
GRID = Grid(cutoffs=60, window=50, horizons=(1, 3))

EXTERNAL = '''
import os, time
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

class Failing(Drift):
    def predict(self, h, level=None):
        raise RuntimeError("no weights here")

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


def plan_of(**changes):
    return {"made": [100, 107, 114], "window": 50, "horizons": [1, 3], "level": 0.9} | changes


@pytest.mark.usefixtures("external")
def test_the_three_ways_to_forecast_are_the_direct_call(candles):
    """Refitted, given the newest candles, or updated: each equals its own call on the candles up to the cutoff."""
    import external  # noqa: PLC0415 - written above

    found = {
        name: forecast_grid(getattr(external, name), frame_of(candles), plan_of())
        for name in ("Drift", "New", "Updated")
    }
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
        one, two = (forecast_grid(getattr(external, name), frame, plan_of()) for frame in (frame_of(candles), other))
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
def test_a_forecaster_that_reads_the_candles_elsewhere_is_caught(candles):
    """By the second run, at another time and price."""
    frames, findings = run_forecasters(["external:FileReader"], candles, "1h", GRID)
    found = judge(frames, candles, "1h", findings=findings)
    assert found.suspicions("external:FileReader")[-1] == "outside knowledge"


@pytest.mark.usefixtures("external")
def test_a_failure_is_one_sentence_and_a_row(candles):
    """Beside another model; alone it is an error."""
    frames, findings = run_forecasters(["external:Failing", "external:Drift"], candles, "1h", GRID)
    assert [f.sentence for f in findings] == ["external:Failing failed: RuntimeError: no weights here"]
    table = judge(frames, candles, "1h", findings=findings).table
    assert table.loc[table["model"] == "external:Failing", "conclusion"].tolist() == ["failed"]
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


@pytest.fixture
def registered(tmp_path, monkeypatch):
    """A package that registers a model and a forecaster, as an installed one does."""
    (tmp_path / "theirs.py").write_text(
        "from btcml.forecast.models.statistical import Drift\nclass Forecaster:\n    pass\n", encoding="utf-8"
    )
    facts = tmp_path / "theirs-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n", encoding="utf-8")
    points = "[btcml.models]\ntheir_drift = theirs:Drift\ntheir_forecaster = theirs:Forecaster\n"
    (facts / "entry_points.txt").write_text(points, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("theirs", None)


@pytest.mark.usefixtures("registered")
def test_another_package_registers_models_by_name():
    """Three lines of its pyproject; a forecaster is none of ours, and is pointed to the judge."""
    assert type(make_model("their_drift")).__name__ == "Drift"
    with pytest.raises(UsageError, match="found Forecaster: judge it by btcml judge"):
        make_model("their_forecaster")
    with pytest.raises(UsageError, match="their_drift, their_forecaster"):
        make_model("nobody")


OTHERS = """
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
