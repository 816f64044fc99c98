"""Looks by new evidence: error rates of a verdict a day, by simulation of the rule (decision 13)."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from btcml.forecast.metrics import PERSISTENCE, forecast_frame
from btcml.forecast.verdict import count_looks, verdict

TEST, RECENT, DAYS = 365, 182, 1000
CHALLENGERS, ALPHA, SHARED = 4, 0.01, 0.7
START = pd.Timestamp("2025-01-01", tz="UTC")


@cache
def looks_of(days: int) -> list[int]:
    """Looks of each of so many daily verdicts over a test of a year."""
    spans = [(START + pd.Timedelta(days=n), START + pd.Timedelta(days=n + TEST)) for n in range(days + 1)]
    return [count_looks(spans[: n + 1]) for n in range(days + 1)]


def served(z_true: float, paths: int, seed: int) -> np.ndarray:
    """Whether any model is champion on each day, shape (paths, days + 1), if the best one's true z is `z_true`.

    A day's mean loss differences are normal; those of the challengers are correlated (`SHARED`).
    """
    rng = np.random.default_rng(seed)
    shape = (paths, TEST + DAYS, CHALLENGERS)
    noise = np.sqrt(SHARED) * rng.normal(size=(*shape[:2], 1)) + np.sqrt(1 - SHARED) * rng.normal(size=shape)
    noise[:, :, 0] += z_true / np.sqrt(TEST)
    total = np.concatenate([np.zeros((paths, 1, CHALLENGERS)), noise.cumsum(axis=1)], axis=1)
    z = (total[:, TEST:] - total[:, :-TEST]) / np.sqrt(TEST)
    good = (z < 0) & (total[:, TEST:] < total[:, TEST - RECENT : -RECENT])
    return decide(z, good)


def holm_of(z: np.ndarray) -> np.ndarray:
    """Holm's p along the last axis."""
    p = stats.norm.cdf(z)
    ordered = np.maximum.accumulate(np.sort(p, axis=-1) * np.arange(CHALLENGERS, 0, -1), axis=-1)
    return np.take_along_axis(ordered, p.argsort(axis=-1).argsort(axis=-1), axis=-1)


def decide(z: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Rules 2 to 4 of the verdict, day by day; whether any model is champion."""
    p, paths = holm_of(z), np.arange(len(z))
    incumbent = np.full(len(z), -1)
    out = np.zeros(z.shape[:2], dtype=bool)
    for day, looks in enumerate(looks_of(z.shape[1] - 1)):
        stays = (incumbent >= 0) & good[paths, day, incumbent] & (p[paths, day, incumbent] < ALPHA)
        enters = good[:, day] & (p[:, day] * looks < ALPHA)
        best = np.where(enters, z[:, day], np.inf).argmin(axis=1)
        incumbent = np.where(stays, incumbent, np.where(enters.any(axis=1), best, -1))
        out[:, day] = incumbent >= 0
    return out


def test_a_verdict_a_day_counts_less_than_half_a_look():
    """150 looks a year of new days, and never more than there were verdicts."""
    looks = looks_of(DAYS)
    assert looks[0] == 1
    assert looks[1] == 2
    assert looks[365] == 151
    assert looks[1000] == 412
    assert (np.diff(looks) >= 0).all()


@pytest.mark.soak
def test_random_walks_get_a_champion_as_rarely_as_the_level_says():
    """In at most one of a hundred series, within 1,000 daily verdicts; skill of z -4.3 and -6 keeps being served."""
    none = np.concatenate([served(0.0, 1000, seed) for seed in range(30)])
    false = none.any(axis=1).mean()
    print(f"false champion in 1,000 verdicts {false:.4f}, share of days {none.mean():.5f}")  # noqa: T201
    assert false <= ALPHA + 2 * np.sqrt(ALPHA / len(none))
    for z_true, least in ((-4.3, 0.78), (-6.0, 0.98)):
        found = np.concatenate([served(z_true, 1000, 100 + seed) for seed in range(3)])
        power = {day: round(float(found[:, day].mean()), 3) for day in (0, 365, 1000)}
        print(f"true z {z_true}: served on day {power}, on {found.mean():.3f} of all days")  # noqa: T201
        assert found[:, 1000].mean() >= least


@pytest.mark.soak
def test_the_simulated_rule_is_the_rule_of_the_verdict():
    """Champion or none, on each of 40 days of one path with skill, as `verdict` decides on the frames."""
    rng = np.random.default_rng(5)
    close = 100 * np.exp(np.concatenate([[0], rng.normal(0, 0.01, TEST + 40).cumsum()]))
    moves = np.diff(np.log(close))
    shares = (0.2, 0.1, -0.1, -0.2)
    noise = rng.normal(0, 0.002, (CHALLENGERS, len(moves)))
    models = {f"m{i}": {"y_hat": close[:-1] * np.exp(share * moves + noise[i])} for i, share in enumerate(shares)}
    frame = forecast_frame(close, models, interval="1d")
    looks, incumbent, champions = looks_of(40), PERSISTENCE, []
    days = frame["open_time"].drop_duplicates().sort_values().tolist()
    for day in range(41):
        part = frame[frame["open_time"].between(days[day], days[day + TEST - 1])]
        found = verdict(part, looks=looks[day], incumbent=incumbent)
        table = found.table.set_index("model")
        own = table.drop(PERSISTENCE)
        able = own[(own["ratio"] < 1) & (own["recent_ratio"] < 1) & ~(own["trend"] <= 0)]
        enters = able[able["p_once"] * looks[day] < ALPHA]
        kept = incumbent in able.index and able.loc[incumbent, "p_once"] < ALPHA
        if not kept:
            assert found.champion == (enters["ratio"].idxmin() if len(enters) else PERSISTENCE)
        incumbent = found.champion
        champions.append(incumbent)
    assert champions[-1] == "m0"
