"""Evaluate: run an experiment on stored candles, and count the look."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml.candles import candle_gaps, content_hash
from btcml.continuity import suspect_rows
from btcml.errors import NotReadyError, UsageError
from btcml.forecast.experiment import RANGE_MODELS, Experiment
from btcml.forecast.forecaster import MIN_CANDLES
from btcml.forecast.left_out import leave_one_out
from btcml.forecast.metrics import PERSISTENCE
from btcml.forecast.search import search
from btcml.forecast.verdict import plain
from btcml.market.files import FileMarket
from btcml.pipeline.ingest import backfill
from btcml.store.candles import read_candles, read_last_candles
from btcml.store.models import append_trials, read_champion, read_research, read_trials

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from btcml.candles import SeriesKey
    from btcml.forecast.experiment import Result
    from btcml.forecast.left_out import LeftOut
    from btcml.market import Source
    from btcml.settings import Settings
    from btcml.store.engine import Store


def series_folder(settings: Settings, key: SeriesKey) -> Path:
    """Folder of a series' models."""
    return settings.models / key.market.replace(":", "-") / key.symbol / key.interval


def walk_forward_file(settings: Settings, key: SeriesKey) -> Path:
    """File of the newest result of a series' daily experiment (`btcml.forecast.artifacts.load_result`)."""
    return series_folder(settings, key) / "walk-forward.parquet"


def read_newest(store: Store, key: SeriesKey, days: int) -> pd.DataFrame:
    """Read the newest `days` of candles, or all that are stored."""
    newest = read_last_candles(store, key, 1)
    if newest.empty:
        return newest
    return read_candles(store, key, start=newest["open_time"].iloc[-1] - pd.Timedelta(days=days))


def check_enough(key: SeriesKey, candles: pd.DataFrame, days: int) -> None:
    """Check that the newest `days` of candles are enough to train on.

    Raises
    ------
    NotReadyError
        If they are not.
    """
    if len(candles) < MIN_CANDLES:
        msg = (
            f"training needs {MIN_CANDLES} candles of {key}, found {len(candles)} in the last {days} days: "
            "train on more days, or backfill more first"
        )
        raise NotReadyError(msg)


def read_pool(store: Store, key: SeriesKey, experiment: Experiment, candles: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Read the candles of an experiment's pool from the first of its own candles on, by symbol."""
    start = candles["open_time"].iloc[0]
    return {symbol: read_candles(store, replace(key, symbol=symbol), start=start) for symbol in experiment.pool}


def gather_candles(
    store: Store,
    source: Source,
    key: SeriesKey,
    days: int | None,
    *,
    default_days: int = 1095,
    on_page: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Fetch what is missing of the newest `days`, and read the candles.

    Parameters
    ----------
    days
        None: everything stored is used, and everything in a file.
    default_days
        What is fetched from any other source where `days` is None.

    Raises
    ------
    NotReadyError
        If there are no candles.
    """
    end = source.now()
    start = end - pd.Timedelta(days=days or default_days)
    if isinstance(source, FileMarket) and days is None:
        start = source.span(key.symbol)[0]
    backfill(store, source, key, (start, end), on_page=on_page)
    candles = read_candles(store, key, None if days is None else start)
    if candles.empty:
        msg = f"{key} has no candles: check symbol and source"
        raise NotReadyError(msg)
    return candles


def series_summary(key: SeriesKey, candles: pd.DataFrame) -> str:
    """The span that is used, and what is missing in it, in one line."""
    times = candles["open_time"]
    gaps = candle_gaps(times, key.interval)
    hole = f", with {gaps['missing'].sum():,} missing in between (give --days for a later start)" if len(gaps) else ""
    return f"{key}: {len(times):,} candles from {times.iloc[0]:%Y-%m-%d} to {times.iloc[-1]:%Y-%m-%d}{hole}"


def evaluate(  # noqa: PLR0913 - the options of a run
    store: Store,
    key: SeriesKey,
    candles: pd.DataFrame,
    *,
    experiment: Experiment | None = None,
    incumbent: Mapping[int, str] | None = None,
    range_models: tuple[str, ...] = RANGE_MODELS,
    jobs: int = 2,
    backend: str = "loky",
) -> Result:
    """Run an experiment on a series, and count it as a look at these candles.

    Parameters
    ----------
    candles
        Candles of the series; those of the experiment's pool are read.
    experiment
        None: the published one.
    incumbent
        Champions by horizon; None: the one in service, of the next candle.
    range_models
        Models of the range and volatility.
    jobs, backend
        Parallel fits, and the name of the joblib backend.
    """
    chosen = experiment or Experiment.default(candles, key.interval)
    trials, research = read_trials(store, key), read_research(key)
    looks, tries = chosen.looks(candles, trials, research), chosen.ledger(candles, trials, research)["tries"].sum()
    champion = read_champion(store, key)
    if incumbent is None:
        incumbent = {} if champion is None else {1: champion.name}
    result = chosen.run(
        candles,
        others=read_pool(store, key, chosen, candles),
        looks=looks,
        tries=int(tries),
        incumbent=incumbent,
        range_models=range_models,
        jobs=jobs,
        backend=backend,
    )
    _count(store, key, candles, chosen, result.verdict.to_dict()["table"])
    return result


def evaluate_left_out(
    store: Store,
    key: SeriesKey,
    frames: Mapping[str, pd.DataFrame],
    experiment: Experiment,
    *,
    incumbent: bool = False,
    jobs: int = 2,
    backend: str = "loky",
) -> LeftOut:
    """Judge a model of other symbols on each of several (`leave_one_out`), and count a look at the candles of each.

    Parameters
    ----------
    key
        Gives market and interval.
    frames
        Candles by symbol.
    """
    keys = {symbol: replace(key, symbol=symbol) for symbol in frames}
    looks = {
        symbol: experiment.looks(frames[symbol], read_trials(store, own), read_research(own))
        for symbol, own in keys.items()
    }
    found = leave_one_out(experiment, frames, looks=looks, incumbent=incumbent, jobs=jobs, backend=backend)
    for row in plain(found.table.to_dict("records")):
        symbol = row["coin"]
        _count(store, keys[symbol], frames[symbol], experiment, [row | {"model": found.model}])
    return found


def verdict_facts(result: Result, candles: pd.DataFrame) -> dict[str, Any]:
    """What is kept of a verdict of the next candle: its rule, its span, persistence, tries, and the age of the edge."""
    months = result.months[["month", "rows", "skill"]].to_dict("records")
    facts = {"test": [time.isoformat() for time in result.experiment.test_span(candles)], "trials": result.trials}
    facts |= {"persistence": result.figures[PERSISTENCE], "edge": asdict(result.edge) | {"months": months}}
    return result.verdict.to_dict() | dict(plain(facts))


def _count(
    store: Store, key: SeriesKey, candles: pd.DataFrame, experiment: Experiment, table: list[dict[str, Any]]
) -> None:
    """Add the models of a verdict to the tries of its series; the same on the same candles counts once."""
    test = [time.isoformat() for time in experiment.test_span(candles)]
    parameters = json.dumps(experiment.differences(candles) | {"test": test}, sort_keys=True, default=str)
    rows = [
        {"model": row["model"], "parameters": parameters, "score": row["ratio"]}
        for row in table
        if row["model"] != PERSISTENCE
    ]
    append_trials(store, key, content_hash([("candles", candles)]), rows, candles["close_time"].iloc[-1])


def minute_prices(store: Store, key: SeriesKey, result: Result) -> pd.Series | None:
    """Prices one minute into each test candle, where the market's one-minute candles are stored."""
    times = result.forecasts["open_time"]
    minutes = read_candles(store, replace(key, interval="1m"), start=times.min(), end=times.max() + key.delta)
    return None if minutes.empty or key.interval == "1m" else minutes.set_index("open_time")["close"]


def search_before(
    store: Store, key: SeriesKey, candles: pd.DataFrame, experiment: Experiment, n: int, *, jobs: int = 2
) -> pd.DataFrame:
    """Try `n` random settings on the candles before an experiment's test, and count every try.

    Returns
    -------
    DataFrame
        ``model, parameters`` (JSON), ``score`` (MAE over persistence's); best first.

    Raises
    ------
    UsageError
        If `n` is below 1.
    NotReadyError
        If there are no candles before the test.
    """
    if n < 1:
        msg = f"a search needs at least one try, found {n}"
        raise UsageError(msg)
    test_from = experiment.plan.first_test
    before = candles[candles["open_time"] < test_from].reset_index(drop=True)
    if before.empty:
        msg = f"no candles of {key} before {test_from:%Y-%m-%d}: backfill more, or test later"
        raise NotReadyError(msg)
    tries = search(
        before, key.interval, n, features=experiment.features, suspects=suspect_rows(before, key.interval), jobs=jobs
    )
    rows = [{"model": "lightgbm", "parameters": json.dumps(t.params, sort_keys=True), "score": t.ratio} for t in tries]
    append_trials(store, key, f"search before {test_from:%Y-%m-%d}", rows, before["close_time"].iloc[-1])
    return pd.DataFrame(rows)
