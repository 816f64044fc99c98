"""The judge: our own scores and verdict for anybody's forecasts, and each way to cheat by its name."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import scoringrules
from scipy.stats import norm

from btcml.errors import UsageError
from btcml.forecast.distribution import LEVELS
from btcml.forecast.judge import CAVEAT, judge
from btcml.forecast.judge_checks import CHECKS
from btcml.forecast.metrics import evaluate, forecast_frame
from btcml.forecast.verdict import verdict

N, SIZE, MEMORY = 4000, 1e-3, -0.2
START = pd.Timestamp("2025-01-01", tz="UTC")


def candles_of(moves):
    """Candles of 5 minutes with these log returns; the first close is 100."""
    times = pd.Series(pd.date_range(START, periods=len(moves) + 1, freq="5min", unit="us"))
    return pd.DataFrame({"open_time": times, "close": 100 * np.exp(np.append(0.0, np.cumsum(moves)))})


def random_walk(seed=0, n=N):
    return candles_of(np.random.default_rng(seed).normal(0, SIZE, n))


def reverting():
    """Candles whose returns are in part the reverse of the return before."""
    shocks, moves = np.random.default_rng(3).normal(0, SIZE, N), np.zeros(N)
    for t, shock in enumerate(shocks):
        moves[t] = MEMORY * moves[t - 1] + shock
    return candles_of(moves)


WALK, SKILLED = random_walk(), reverting()


def close(candles=WALK):
    return candles["close"].to_numpy()


def moves(candles=WALK, horizon=1):
    """Log return over the horizon from each candle."""
    log = np.log(close(candles))
    return log[horizon:] - log[:-horizon]


def file(said, candles=WALK, horizon=1, first=0):
    """Forecasts of these log returns, from the candle at `first` on."""
    made = np.arange(first, first + len(said))
    times = candles["open_time"]
    columns = {"cutoff": times[made].to_numpy(), "open_time": times[made + horizon].to_numpy()}
    columns = {name: pd.to_datetime(values, utc=True) for name, values in columns.items()}
    return pd.DataFrame(columns | {"y_hat": close(candles)[made] * np.exp(said)})


def judged(said, candles=WALK, **options):
    """Judgement of one file."""
    frame = said if isinstance(said, pd.DataFrame) else file(said, candles)
    return judge({"mine": frame}, candles, "5m", **options)


def noise(size=0.1, seed=9, n=N):
    return size * SIZE * np.random.default_rng(seed).normal(size=n)


def reversal():
    """What is known of the next return of `SKILLED`."""
    return MEMORY * np.append(0.0, moves(SKILLED)[:-1])


def checks(found):
    return {finding.check for finding in found.findings}


# ---- the verdict ----


@pytest.mark.parametrize("values", ["price", "return", "log-return"])
def test_persistence_has_skill_exactly_0_and_is_never_champion(values):
    """In every unit; the name is no matter, and nothing is suspected."""
    frame = file(np.zeros(N)).assign(model="persistence")
    if values != "price":
        frame["y_hat"] = 0.0
    found = judge({"mine": frame}, WALK, "5m", values=values)
    assert found.leader["model"] == "persistence of mine"
    assert (found.leader["skill"], found.leader["conclusion"], found.exit_status) == (0.0, "not proven", 3)
    assert found.findings == ()
    assert found.results[0].verdict.table["ratio"].tolist() == [1.0, 1.0]


def test_an_oracle_is_champion_and_suspected():
    """By skill, correlation and error."""
    found = judged(moves())
    assert (found.leader["conclusion"], found.exit_status) == ("champion", 5)
    assert found.suspicions("mine") == ["look-ahead", "later close"]
    assert found.line == "mine: champion, suspected (look-ahead, later close)"


def test_a_model_with_skill_is_champion_and_not_suspected():
    """Its correlation is that of the market's memory, 0.2."""
    found = judged(reversal(), SKILLED)
    assert (found.line, found.exit_status, found.findings) == ("mine: champion", 0, ())
    assert 0.01 < found.leader["skill"] < 0.03


def test_a_model_that_is_surely_worse_is_told_so():
    """A random forecast as large as the moves; a small one is not proven to be worse or better."""
    assert (judged(noise(1.0)).leader["conclusion"], judged(noise(1.0)).exit_status) == ("worse than no change", 4)
    assert judged(noise(0.01)).leader["conclusion"] == "not proven"


def test_scores_and_verdict_are_those_of_our_own_models():
    """The same frame, the same functions, every digit."""
    said = {"good": reversal(), "bad": -reversal()}
    frames = {name: file(moved, SKILLED) for name, moved in said.items()}
    found = judge(frames, SKILLED, "5m", looks=3)
    ours = forecast_frame(close(SKILLED), {n: {"y_hat": frame["y_hat"]} for n, frame in frames.items()})
    own = verdict(ours, looks=3)
    assert found.results[0].verdict.to_dict() == own.to_dict()
    scores = evaluate(ours, ["ratio", "skill", "direction"]).set_index("model")
    table = found.table.set_index("model")
    assert table[["ratio", "skill", "direction"]].equals(scores.loc[table.index, ["ratio", "skill", "direction"]])
    assert own.champion == "good"
    assert table["conclusion"].to_dict() == {"persistence": "", "good": "champion", "bad": "worse than no change"}


def test_files_are_tries_and_horizons_are_tests():
    """Ten files make p ten times as large, a second horizon twice."""
    small = reversal() / 2 + noise()
    frames = {f"m{i}": file(small + 1e-9 * i, SKILLED) for i in range(10)}
    alone, many = judged(small, SKILLED), judge(frames, SKILLED, "5m")
    assert many.table["p_holm"].min() == pytest.approx(min(1.0, 10 * alone.leader["p_holm"]), rel=0.1)
    both = pd.concat([file(small, SKILLED), file(noise(n=N - 1), SKILLED, 2)])
    assert judged(both, SKILLED).table["horizon"].unique().tolist() == [1, 2]
    first = judged(both, SKILLED).results[0].verdict.table["p_once"][1]
    assert first == pytest.approx(2 * alone.results[0].verdict.table["p_once"][1])


def champions(seeds):
    return sum(
        judged(noise(0.01, 1000 + s, 1500), random_walk(s, 1500)).leader["conclusion"] == "champion" for s in seeds
    )


def test_random_forecasts_on_random_walks_are_not_champions():
    """None of twenty."""
    assert champions(range(20)) == 0


@pytest.mark.soak
def test_random_forecasts_are_champion_as_rarely_as_the_level_says():
    """Of 200 at most two, the level of 1 %: no more than expected, where chance alone allows six (binomial, 99.5 %)."""
    assert champions(range(200)) <= 2


# ---- cheats ----


def centred(width):
    """Log distance of a centred mean of `width` closes from the close in its middle."""
    half = width // 2
    return (pd.Series(np.log(close())).rolling(width, center=True).mean() - np.log(close())).to_numpy()[
        half : -half - 1
    ]


def test_one_candle_of_look_ahead_is_caught():
    """The next close; and the next of twelve, where skill and correlation with the target are below the bounds."""
    assert "look-ahead" in judged(0.1 * moves() + noise()).suspicions("mine")
    found = judged(file(moves()[: N - 11], horizon=12))
    assert found.leader["skill"] < 0.1
    assert found.suspicions("mine") == ["look-ahead"]
    assert "the return from 0 to 1 candles after the cutoff" in found.findings[0].sentence


@pytest.mark.parametrize("width", [5, 21, 51])
def test_a_centred_window_is_caught(width):
    """Also a wide one, which knows little of the very next candle."""
    assert "centred window" in judged(file(centred(width), first=width // 2)).suspicions("mine")


def test_a_trailing_window_is_not_taken_for_a_centred_one():
    """Slow forecasts correlate with long later returns by chance."""
    log = pd.Series(np.log(close()))
    for span in (2, 8, 96, 500):
        assert judged((log.ewm(span=span).mean() - log).to_numpy()[:-1]).findings == ()


def test_few_random_forecasts_are_not_suspected():
    """What chance makes of a hundred rows is above the bounds; that alone is no finding."""
    found = [judged(file(noise(seed=seed, n=100), first=40 * seed)).findings for seed in range(20, 50)]
    assert found == [()] * 30


def test_the_later_close_and_noise_is_caught():
    """Noise of up to half the median move."""
    half = np.median(np.abs(moves())) / 2
    said = moves() + np.random.default_rng(4).uniform(-half, half, N)
    assert {"look-ahead", "later close"} <= set(judged(said).suspicions("mine"))


def test_repainting_is_caught_and_does_not_pay():
    """A later row of the same cutoff is better: of both that with the larger error counts."""
    honest = file(noise())
    better = file(moves() / 2)[N // 2 :]
    found = judged(pd.concat([honest, better]))
    assert found.suspicions("mine") == ["repainted"]
    assert found.findings[0].rows == N // 2
    assert found.leader["ratio"] >= judged(noise()).leader["ratio"]


def test_two_versions_of_one_file_are_repainted():
    """Under one name, or under two where most forecasts are the same."""
    old, new = file(noise()), file(np.where(np.arange(N) < N - 500, noise(), moves() / 20))
    assert judge({"a": old.assign(model="m"), "b": new.assign(model="m")}, WALK, "5m").suspicions("m") == ["repainted"]
    found = judge({"a": old, "b": new}, WALK, "5m")
    assert found.suspicions("a") == found.suspicions("b") == ["repainted"]
    assert judge({"a": old, "b": file(noise(seed=8))}, WALK, "5m").findings == ()


def test_selective_rows_are_caught():
    """Where each tenth wrong forecast is left out; what is left out honestly does no harm."""
    said = noise(0.4)
    wrong = said * moves() < 0
    dropped = wrong & (np.random.default_rng(1).random(N) < 0.5)
    found = judged(file(said)[~dropped])
    assert found.leader["conclusion"] == "champion"
    assert found.suspicions("mine") == ["selective rows"]
    honest = judged(file(reversal(), SKILLED)[np.random.default_rng(1).random(N) > 0.01], SKILLED)
    assert checks(honest) == {"missing rows"}
    assert honest.line == "mine: champion"


def test_infinite_quantiles_are_not_scored():
    """They are named, and the score is that of the other rows."""
    frame = file(noise()).assign(**quantiles([0.05, 0.5, 0.95]))
    for far in (np.inf, 0.0, -1.0):
        found = judged(frame.assign(q95=frame["q95"].where(np.arange(N) % 2 == 0, far)))
        assert [(finding.check, finding.rows) for finding in found.findings] == [("infinite interval", N // 2)]
        assert found.leader["crps_bp"] == pytest.approx(judged(frame[::2]).leader["crps_bp"])


def test_an_interval_of_infinite_width_is_no_coverage():
    """It is named, and coverage is that of the other intervals."""
    frame = file(noise()).assign(lo=close()[:-1] * 0.999, hi=close()[:-1] * 1.001)
    honest = judged(frame).leader["coverage"]
    for lo, hi in ((0.0, np.inf), (-1.0, 1e9), (1e-6, 1e12), (90.0, np.inf)):
        wide = judged(frame.assign(lo=lo, hi=hi))
        assert checks(wide) == {"infinite interval"}
        assert np.isnan(wide.leader["coverage"])
    some = frame.assign(hi=frame["hi"].where(np.arange(N) % 2 == 0, np.inf))
    assert judged(some).leader["coverage"] == pytest.approx(honest, abs=0.02)
    assert checks(judged(frame.rename(columns={"lo": "hi", "hi": "lo"}))) == {"crossed interval"}


# ---- rows ----


def test_missing_rows_count_as_no_change():
    """The error is that of the forecasts given and of persistence, over all candles from the first to the last."""
    said = noise(0.5)
    kept = np.arange(N) % 7 != 3
    found = judged(file(said)[kept])
    error = np.where(kept, np.abs(moves() - said), np.abs(moves()))
    assert found.leader["ratio"] == pytest.approx(error.sum() / np.abs(moves()).sum(), rel=1e-9)
    assert (found.leader["rows"], found.leader["missing"]) == (N, int((~kept).sum()))
    assert "571 of 4,000 candles: they count as no change" in found.findings[0].sentence


def test_forecasts_of_every_twelfth_candle_are_judged_on_those():
    """A regular grid leaves nothing out; one that is not regular does."""
    frame = file(noise(n=N - 11), horizon=12)
    found = judged(frame[::12])
    assert (found.leader["missing"], found.leader["rows"]) == (0, len(frame[::12]))
    assert judged(frame.iloc[[0, *range(12, N - 11, 12), 13]]).leader["missing"] > N - 1000


def test_bad_rows_are_named_and_do_not_count():
    """A cutoff that is not before the target, a candle that is missing or still to come, the same row again."""
    frame = file(noise())
    late = frame.assign(cutoff=frame["cutoff"].where(np.arange(N) != 5, frame["open_time"]))
    found = judged(late)
    assert checks(found) == {"cutoff", "missing rows"}
    assert found.suspicions("mine") == ["cutoff"]
    again = judged(pd.concat([frame, frame[:3]]))
    assert [(f.check, f.rows) for f in again.findings] == [("duplicates", 3)]
    assert again.leader["ratio"] == judged(frame).leader["ratio"]
    holed = judge({"mine": frame}, WALK.drop(index=[100, 101]).reset_index(drop=True), "5m")
    assert [(f.check, f.rows) for f in holed.findings] == [("no candle", 3)]
    assert holed.leader["missing"] == 0


def test_every_finding_is_one_of_the_checks_that_are_documented():
    """And in JSON: without NaN, with the sentence that no check replaces."""
    found = judged(file(moves())[1:])
    facts = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert checks(found) <= set(CHECKS)
    assert facts["caveat"] == CAVEAT
    assert CAVEAT in str(found)
    assert facts["models"][1]["conclusion"] == "champion"
    assert facts["horizons"][0]["verdict"]["champion"] == "mine"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cutoff": lambda f: f["open_time"]}, "no cutoff is before the candle that is forecast"),
        ({"cutoff": lambda f: f["cutoff"] + pd.Timedelta("299.999s")}, "mine, row 1: cutoff 2025-01-01 00:04:59.999"),
        ({"cutoff": lambda f: f["cutoff"].dt.tz_localize(None)}, "timezone-aware"),
        ({"y_hat": lambda f: f["y_hat"] * 0 + 0.001}, "read as a price is not near the last close"),
        ({"y_hat": lambda f: -f["y_hat"]}, "read as a price is not near the last close"),
        ({"prob_up": lambda f: f["y_hat"]}, "prob_up is a probability"),
        ({"q0.5": lambda f: f["y_hat"]}, "quantiles are named in per cent"),
        ({"cutoff": lambda f: f["cutoff"] - pd.Timedelta(days=900)}, "a horizon is at most 1000 candles"),
        ({"y_hat": lambda f: f["y_hat"] * np.nan}, "forecasts to judge were expected"),
        ({"model": [None] + ["a"] * (N - 1)}, "found rows without a name"),
        ({"model": ""}, "found rows without a name"),
        ({"model": "a\x1b[31m"}, "a model has a name of at most 100 printable characters"),
        ({"model": "m" * 101}, "a model has a name of at most 100 printable characters"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(change, said):
    """Nothing is guessed."""
    with pytest.raises(UsageError, match=said):
        judged(file(noise()).assign(**change))


def test_other_refusals():
    """No rows, no column, an unknown unit, candles of another time."""
    frame = file(noise())
    for frames in ({}, {"mine": frame[:0]}):
        with pytest.raises(UsageError, match="forecasts to judge were expected"):
            judge(frames, WALK, "5m")
    with pytest.raises(UsageError, match=r"missing: y_hat.*--column y_hat=NAME"):
        judged(frame.drop(columns="y_hat"))
    with pytest.raises(UsageError, match="values are one of price, return, log-return"):
        judged(frame, values="per cent")
    with pytest.raises(UsageError, match="no forecast is of a candle"):
        judged(frame.assign(**{name: frame[name] + pd.Timedelta(days=90) for name in ("cutoff", "open_time")}))


# ---- distributions ----


def quantiles(levels, scale=SIZE, candles=WALK):
    """Columns of normal quantiles around no change."""
    return {f"q{100 * p:g}": close(candles)[:-1] * np.exp(scale * norm.ppf(p)) for p in levels}


@pytest.mark.parametrize("levels", [LEVELS, np.array([0.1, 0.5, 0.9]), np.array([0.05, 0.95])])
def test_quantiles_are_scored_by_crps_and_pit(levels):
    """Against the formula for normal distributions; a true one has a uniform PIT and nominal coverage."""
    found = judged(file(noise()).assign(**quantiles(levels)))
    scores = found.to_dict()["horizons"][0]["distribution"]
    known = found.results[0].of_leader["crps_reference_bp"].notna().to_numpy()
    expected = 1e4 * scoringrules.crps_normal(moves(), 0.0, SIZE)[known].mean()
    assert scores["crps_bp"] == pytest.approx(expected, rel=0.02)
    assert scores["coverage_90"] == pytest.approx(0.9, abs=0.02)
    assert scores["pit_p"] > 0.01
    assert found.leader["coverage"] == pytest.approx(0.9, abs=0.02)
    assert found.leader["crps_skill"] == pytest.approx(0.0, abs=0.05)
    wrong = judged(file(noise()).assign(**quantiles(levels, 3 * SIZE))).leader
    assert wrong["pit_p"] < 1e-6
    assert wrong["crps_skill"] < -0.3


def test_an_interval_has_the_level_that_is_named():
    """The worst day and Winkler's score depend on it; the columns lo and hi win over quantiles."""
    narrow = file(noise()).assign(lo=close()[:-1] * np.exp(-0.6745 * SIZE), hi=close()[:-1] * np.exp(0.6745 * SIZE))
    found = judged(narrow.assign(**quantiles([0.05, 0.95])), level=0.5)
    assert found.leader["coverage"] == pytest.approx(0.5, abs=0.03)
    assert found.results[0].experiment.level == 0.5
    assert found.results[0].forecasts["level"].unique().tolist() == [0.5]
