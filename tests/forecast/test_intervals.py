"""Adaptive conformal intervals keep their coverage, look at nothing ahead and survive a restart."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from btcml.errors import UsageError
from btcml.forecast.intervals import AdaptiveInterval

N = 6000


def garch_returns(seed: int, n: int = N) -> tuple[np.ndarray, np.ndarray]:
    """Returns and true scales of a GARCH(1,1) with normal shocks."""
    shocks = np.random.default_rng(seed).normal(size=n)
    y, scale = np.empty(n), np.empty(n)
    variance = 1e-6
    for t in range(n):
        scale[t] = np.sqrt(variance)
        y[t] = scale[t] * shocks[t]
        variance = 1e-8 + 0.1 * y[t] ** 2 + 0.89 * variance
    return y, scale


def covered(y: np.ndarray, bounds: pd.DataFrame) -> pd.Series:
    """Whether each outcome fell inside, where there was an interval."""
    inside = bounds["lo"].le(y) & bounds["hi"].ge(y)
    return inside[bounds["lo"].notna()]


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("side", ["both", "lower", "upper"])
def test_any_level_and_side_is_covered_within_one_percent(level: float, side: str) -> None:
    """Realised coverage on a GARCH(1,1) is the nominal level ± 0.01."""
    y, scale = garch_returns(1, 20_000)
    bounds = AdaptiveInterval(level=level, side=side).run(y, scale)
    assert abs(covered(y, bounds).mean() - level) < 0.01


def test_each_third_of_the_scale_is_covered_though_the_scale_forecast_is_bent() -> None:
    """A scale forecast with a wrong exponent is put right in each of its thirds."""
    y, scale = garch_returns(2, 60_000)
    bent = scale**2
    inside = covered(y, AdaptiveInterval().run(y, bent))
    third = pd.qcut(bent[inside.index], 3, labels=False)
    assert inside.groupby(third).mean().sub(0.9).abs().max() < 0.015


def test_each_third_of_the_known_volatility_is_covered_though_the_scale_forecast_misses_it() -> None:
    """A scale that errs with the volatility known before is put right in its thirds; by the scale alone it is not."""
    rng = np.random.default_rng(13)
    volatility = np.exp(np.sin(np.arange(60_000) / 30) / 2)
    scale = np.exp(rng.normal(size=60_000) / 2)
    y = rng.normal(size=60_000) * scale * volatility
    off = {}
    for name, known in (("both", volatility), ("scale", scale)):
        inside = covered(y, AdaptiveInterval(gain=0).run(y, scale, known))
        third = pd.qcut(volatility[inside.index], 3, labels=False)
        off[name] = inside.groupby(third).mean().sub(0.9).abs().max()
    assert off["both"] < 0.015
    assert off["scale"] > 0.03


def test_a_state_without_offsets_serves_as_before() -> None:
    """Models of an earlier version go on: their quantile is that of the scale's class."""
    y, scale = garch_returns(6)
    live = AdaptiveInterval()
    live.run(y, scale)
    old = {key: value for key, value in live.state().items() if key not in ("offsets", "volatility_edges")}
    old["quantiles"] = [
        part + offset for part, offset in zip(live.state()["quantiles"], live.state()["offsets"], strict=True)
    ]
    assert AdaptiveInterval.from_state(old).bounds(0.002, 0.001) == pytest.approx(live.bounds(0.002))


def test_a_single_class_fails_where_thirds_succeed() -> None:
    """The check above can fail: without classes the bent scale loses a third by far more."""
    y, scale = garch_returns(2, 60_000)
    bent = scale**2
    inside = covered(y, AdaptiveInterval(bins=1, gain=0).run(y, bent))
    third = pd.qcut(bent[inside.index], 3, labels=False)
    assert inside.groupby(third).mean().sub(0.9).abs().max() > 0.03


def test_intervals_widen_in_volatility_that_the_scale_forecast_misses() -> None:
    """When volatility triples unforeseen, a day (288 candles) is covered better than without learning."""
    rng = np.random.default_rng(3)
    y = rng.normal(0, 0.001, 4000)
    y[3000:3288] *= 3
    adaptive = AdaptiveInterval().run(y, np.full(4000, 0.001))
    frozen = AdaptiveInterval(gamma=1e-9, gain=0).run(y, np.full(4000, 0.001))
    storm = slice(3000, 3288)
    assert covered(y[storm], adaptive[storm]).mean() > covered(y[storm], frozen[storm]).mean() + 0.1


def test_scrambling_the_future_changes_no_bit_before_it() -> None:
    """Row t is the same whatever happens at and after t."""
    y, scale = garch_returns(4)
    whole = AdaptiveInterval().run(y, scale)
    for t in (1, 250, 500, 501, 3000, N - 1):
        changed = y.copy()
        changed[t:] = np.random.default_rng(t).permutation(changed[t:]) * 7
        pd.testing.assert_frame_equal(
            AdaptiveInterval().run(changed, scale)[: t + 1],
            whole[: t + 1],
            check_exact=True,
        )


def test_an_interval_that_learns_its_own_row_first_is_caught() -> None:
    """The planted leak: scores shifted by one candle change a row when its own outcome changes."""
    y, scale = garch_returns(4)
    y[3000] = 0
    changed = y.copy()
    changed[3000] = 1
    leaky, leaky_changed = (AdaptiveInterval().run(np.roll(values, -1), scale) for values in (y, changed))
    assert (leaky_changed != leaky)[3000:3001].any(axis=None)


@pytest.mark.parametrize("cut", [0, 100, 499, 500, 2000])
def test_a_state_saved_as_json_goes_on_to_the_last_bit(cut: int) -> None:
    """Run, save, load, run equals one run, inside the warm-up too."""
    y, scale = garch_returns(5)
    whole = AdaptiveInterval().run(y, scale)
    first = AdaptiveInterval()
    head = first.run(y[:cut], scale[:cut])
    second = AdaptiveInterval.from_state(json.loads(json.dumps(first.state(), allow_nan=False)))
    tail = second.run(y[cut:], scale[cut:])
    pd.testing.assert_frame_equal(pd.concat([head, tail], ignore_index=True), whole, check_exact=True)


def test_bounds_are_the_next_row_of_a_run() -> None:
    """The interval that is served is the interval that was evaluated."""
    y, scale = garch_returns(6)
    whole = AdaptiveInterval().run(y, scale)
    live = AdaptiveInterval()
    live.run(y[:-1], scale[:-1])
    assert live.bounds(float(scale[-1])) == (whole["lo"].iloc[-1], whole["hi"].iloc[-1])


def test_unknown_outcomes_teach_nothing_and_unknown_scales_have_no_interval() -> None:
    """A NaN outcome leaves the state alone; a NaN scale gives NaN bounds."""
    y, scale = garch_returns(7)
    interval = AdaptiveInterval()
    interval.run(y, scale)
    before = interval.state()
    unknown = interval.run([np.nan, 0.0], [0.001, np.nan])
    assert interval.state() == before
    assert unknown["lo"].isna().tolist() == [False, True]
    assert all(np.isnan(interval.bounds(np.nan)))


def test_before_the_warm_up_is_over_there_is_no_interval() -> None:
    """The first interval stands on the row after `warmup` known outcomes."""
    y, scale = garch_returns(8)
    interval = AdaptiveInterval(warmup=50)
    assert all(np.isnan(interval.bounds(0.001)))
    assert interval.run(y, scale)["lo"].first_valid_index() == 50
    assert interval.ready


def test_a_market_without_a_move_is_still_learned_from() -> None:
    """A warm-up of zeros does not freeze the interval at width zero."""
    y = np.concatenate([np.zeros(500), np.random.default_rng(9).normal(size=20_000)])
    inside = covered(y, AdaptiveInterval().run(y, np.ones(len(y))))
    assert inside[-5000:].mean() == pytest.approx(0.9, abs=0.015)


@pytest.mark.parametrize(("minutes", "memory"), [(1, 96), (5, 96), (15, 32), (60, 8), (1440, 1)])
def test_the_memory_is_eight_hours_and_at_most_96_candles(minutes: int, memory: int) -> None:
    """Each error adds the same to the quantile whatever the length of a candle is, and 5m has the defaults."""
    interval = AdaptiveInterval.of_candles(pd.Timedelta(minutes=minutes), level=0.8)
    assert (interval.level, interval.memory) == (0.8, memory)
    assert interval.gain / interval.memory == pytest.approx(AdaptiveInterval().gain / AdaptiveInterval().memory)


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"level": 1.0}, "level"),
        ({"gamma": 0.0}, "gamma"),
        ({"bins": 0}, "bins"),
        ({"warmup": 3}, "warmup"),
        ({"side": "left"}, "side"),
        ({"memory": 0}, "memory"),
        ({"gain": -1.0}, "gain"),
    ],
)
def test_a_parameter_out_of_range_is_refused_by_name(parameters: dict[str, object], word: str) -> None:
    """The sentence begins with the parameter and ends with what was found."""
    with pytest.raises(UsageError, match=f"^{word} .*found"):
        AdaptiveInterval(**parameters)  # type: ignore[arg-type]


def test_bad_arrays_and_states_are_refused() -> None:
    """Lengths that differ, a zero scale and a state with a hole each have their sentence."""
    with pytest.raises(UsageError, match="one length"):
        AdaptiveInterval().run([0.1], [1.0, 2.0])
    with pytest.raises(UsageError, match=r"positive or NaN, found 0\.0"):
        AdaptiveInterval().run([0.1], [0.0])
    with pytest.raises(UsageError, match="volatility must be positive"):
        AdaptiveInterval().run([0.1], [1.0], [-1.0])
    with pytest.raises(UsageError, match="edges, quantiles"):
        AdaptiveInterval.from_state(
            {k: v for k, v in AdaptiveInterval().state().items() if k not in ("edges", "quantiles")}
        )
