"""Verbs that test forecasts: evaluate, judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btcml.commands.record import AUTHORITY
from btcml.commands.session import (
    Session,
    declare_series,
    open_session,
    positive,
    progress,
    require_extra,
    say,
    utc_time,
)

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    import pandas as pd

    from btcml.candles import SeriesKey
    from btcml.forecast.experiment import Experiment
    from btcml.forecast.judge import Judgement
    from btcml.forecast.judge_checks import Finding
    from btcml.forecast.left_out import LeftOut
    from btcml.market import Source


_EXITS = "exit status 0 champion, 3 not proven, 4 worse than no change, 5 suspected of knowing the outcome"


def _declare(parser: ArgumentParser) -> None:
    declare_series(parser)
    first = "first day of the test (default: the newest third, at most a year)"
    parser.add_argument("--test-from", type=utc_time, help=first)
    parser.add_argument("--test-to", type=utc_time, help="day after the last of the test (default: all candles)")
    parser.add_argument("--models", help="comma-separated models (default: those of the published experiment)")
    parser.add_argument("--features", help="set of features, or comma-separated names (default: core)")
    parser.add_argument("--window", help="training window: candles, days or months (default: 48 months)")
    parser.add_argument("--refit", help='pause between refits: candles, days, months or "half" of the test (default)')
    parser.add_argument("--horizons", help="comma-separated candles ahead, such as 1,3,12,48 (default: 1)")
    pool = "comma-separated other symbols: pooled_lightgbm_mean is fitted on them, too, and each is left out once"
    parser.add_argument("--pool", help=pool)
    parser.add_argument("--burn-in", help="span before the test that is forecast but not scored (default: 60 days)")
    parser.add_argument("--jobs", type=positive, default=2, help="processes; no figure depends on their number")
    parser.add_argument("--search", type=positive, metavar="N", help="first try N random settings before the test")
    parser.add_argument("--cluster", help="address of a dask scheduler, such as tcp://127.0.0.1:8786")
    parser.set_defaults(run=_evaluate)


def _evaluate(args: Namespace) -> Any:
    from btcml.pipeline import evaluate as verbs
    from btcml.pipeline.cluster import joblib_backend

    session = open_session(args)
    days = None if args.days is None else session.run.days
    pool = _names(args.pool) or ()
    keys = {symbol: replace(session.key, symbol=symbol) for symbol in dict.fromkeys([session.key.symbol, *pool])}
    frames = {
        symbol: verbs.gather_candles(session.store, session.source, key, days, on_page=progress(str(key)))
        for symbol, key in keys.items()
    }
    candles = frames[session.key.symbol]
    experiment = _experiment(session, candles, args, tuple(keys)[1:])
    say(verbs.series_summary(session.key, candles))
    if args.search is not None:
        tries = verbs.search_before(session.store, session.key, candles, experiment, args.search, jobs=args.jobs)
        say(tries.to_string(index=False))
    with joblib_backend(args.cluster) as backend:
        result = verbs.evaluate(
            session.store, session.key, candles, experiment=experiment, jobs=args.jobs, backend=backend
        )
        left_out = _left_out(session, frames, experiment, args.jobs, backend) if pool else None
    late = verbs.minute_prices(session.store, session.key, result)
    label = experiment.label(candles)
    if args.json:
        return {"plan": label} | result.to_dict(late=late) | ({"left_out": left_out.to_dict()} if left_out else {})
    return f"{label}\n{result}" + (f"\n\n{left_out}" if left_out else "")


def _left_out(
    session: Session, frames: dict[str, pd.DataFrame], experiment: Experiment, jobs: int, backend: str
) -> LeftOut:
    """Test models of other symbols on each symbol of the pool, over the same span."""
    from btcml.forecast.experiment import OTHERS_MODEL
    from btcml.pipeline.evaluate import evaluate_left_out

    plan = experiment.replace(models=(OTHERS_MODEL,), burn_in=None, horizons=(1,), pool=tuple(frames))
    return evaluate_left_out(session.store, session.key, frames, plan, jobs=jobs, backend=backend)


def _experiment(session: Session, candles: pd.DataFrame, args: Namespace, pool: tuple[str, ...]) -> Experiment:
    """The published experiment with the fields that the user named."""
    from btcml.forecast.experiment import Experiment

    named = {
        "test_from": args.test_from and args.test_from.isoformat(),
        "test_to": args.test_to and args.test_to.isoformat(),
        "models": _names(args.models),
        "features": _names(args.features) if args.features and "," in args.features else args.features,
        "window": args.window,
        "refit": args.refit,
        "burn_in": args.burn_in,
    }
    chosen = {name: value for name, value in named.items() if value is not None}
    return Experiment.default(candles, session.key.interval, _horizons(args.horizons), pool).replace(**chosen)


def _horizons(text: str | None) -> tuple[int, ...]:
    from btcml.errors import UsageError

    try:
        return (1,) if text is None else tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        msg = f"--horizons takes numbers of candles with commas between, found {text!r}: write for example 1,3,12,48"
        raise UsageError(msg) from None


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(dict.fromkeys(part.strip() for part in text.split(",")))


def _declare_judge(parser: ArgumentParser) -> None:
    files = "CSV or Parquet files of forecasts, or folders of published records, judged side by side; " + _EXITS
    parser.add_argument("forecasts", type=Path, nargs="*", help=files)
    parser.add_argument("--candles", required=True, metavar="SOURCE", help="file or folder of candles, or a market")
    parser.add_argument("--symbol", help="symbol of the candles (default: the file's own)")
    parser.add_argument("--interval", help="length of a candle, 1m to 1w (default: the file's own)")
    mapped = "a column under another name, such as y_hat=forecast or q5=lower; repeated"
    parser.add_argument("--column", action="append", default=[], metavar="OURS=THEIRS", help=mapped)
    which = "whether cutoff is the open or the close time of the last candle used (default open)"
    parser.add_argument("--cutoff-is", choices=("open", "close"), default="open", help=which)
    parser.add_argument("--horizon", type=positive, help="candles ahead, for files without a column cutoff")
    parser.add_argument(
        "--values", dest="unit", default="price", help="what forecasts are: price, return or log-return (default price)"
    )
    parser.add_argument("--level", type=float, default=0.9, help="coverage that lo to hi should have (default 0.9)")
    parser.add_argument("--model", help="name of the model of files without a column model")
    parser.add_argument("--timezone", help="zone of times without one, such as America/New_York (default: UTC)")
    seen = "verdicts that these candles have seen, with this one (default: counted by the database, where there is one)"
    parser.add_argument("--looks", type=positive, help=seen)
    ours = "comma-separated models of our own, fitted on the candles before, for comparison on the same candles"
    parser.add_argument("--beside", metavar="MODELS", help=ours)
    named = "forecaster with fit(df) and predict(h): module:factory, or a registered name; repeated"
    parser.add_argument("--forecaster", action="append", default=[], metavar="NAME", help=named)
    parser.add_argument("--cutoffs", type=positive, default=2000, help="cutoffs of a forecaster (default 2000)")
    parser.add_argument("--window", type=positive, default=1000, help="candles that it is given (default 1000)")
    parser.add_argument("--horizons", help="comma-separated candles ahead of a forecaster (default: 1)")
    parser.add_argument("--seconds", type=positive, default=3600, help="time limit of a forecaster (default 3600)")
    parser.add_argument(
        "--memory", type=positive, default=8192, help="memory limit of a forecaster, MiB (default 8192)"
    )
    parser.add_argument("--authority", type=Path, help=AUTHORITY)
    parser.add_argument("--page", type=Path, metavar="FOLDER", help="write the judgement as a page, with a badge")
    parser.add_argument("--verify", action="store_true", help="with --page: make it again and compare every byte")
    parser.set_defaults(run=_judge)


def _judge(args: Namespace) -> Any:
    from btcml.candles import SeriesKey
    from btcml.errors import UsageError
    from btcml.pipeline.judge import find_series, gather_judged, on_grid, with_ours

    if args.verify and not args.page:
        msg = "--verify compares a page, found none: give its folder with --page"
        raise UsageError(msg)
    source = _candles_of(args.candles, args.symbol)
    symbol, interval = find_series(source, args.symbol, args.interval)
    frames, caveat = _load(args, interval)
    candles = gather_judged(source, symbol, interval, frames, progress(f"{source.market}/{symbol}/{interval}"))
    made, findings = _forecasters(args, candles, interval, beside=bool(frames))
    if made:
        frames = on_grid(frames, next(iter(made.values()))) | made
    key = SeriesKey(source.market, symbol, interval)
    found = replace(_judged(args, frames, candles, key, findings), caveat=caveat)
    if args.beside:
        found = with_ours(found, candles, _names(args.beside) or ())
    args.status = found.exit_status
    if args.page:
        say(_page(args, found, frames, candles, key))
    return found.to_dict() if args.json else str(found)


def _load(args: Namespace, interval: str) -> tuple[dict[str, pd.DataFrame], str]:
    """Forecasts of files and records, and what is known about when they were made."""
    from btcml.errors import UsageError
    from btcml.forecast.judge import CAVEAT
    from btcml.pipeline.judge import ReadOptions, load_forecasts, load_record

    files = [path for path in args.forecasts if not path.is_dir()]
    records = [path for path in args.forecasts if path.is_dir()]
    if args.unit != "price" and (records or args.forecaster):
        what = "forecasters forecast" if args.forecaster else "published records hold forecasts of"
        msg = f"{what} the close, a price, found --values {args.unit}: judge such files by themselves"
        raise UsageError(msg)
    columns = dict(_pair(text) for text in args.column)
    options = ReadOptions(columns, args.cutoff_is, args.horizon, args.model, args.timezone)
    frames = load_forecasts(files, interval, options)
    caveats = [CAVEAT] if files else []
    for path in records:
        frames[str(path)], proof = load_record(path, args.authority)
        caveats.append(proof)
    if args.forecaster:
        caveats.append("Forecasters were run here, and given no candle after the cutoff.")
    return frames, " ".join(caveats)


def _judged(
    args: Namespace, frames: dict[str, pd.DataFrame], candles: pd.DataFrame, key: SeriesKey, findings: list[Finding]
) -> Judgement:
    """Judgement with the looks that are given, else those of the page to verify, else those that a database counts."""
    from btcml.forecast.judge import judge

    options: dict[str, Any] = {"values": args.unit, "level": args.level, "findings": findings}
    looks = args.looks
    if looks is None and args.page and args.verify:
        require_extra("judge", "report")
        from btcml.report.judgement import looks_of

        looks = looks_of(args.page)
    found = judge(frames, candles, key.interval, looks=looks or 1, **options)
    counted = _count(key, frames, found)
    if looks is None and counted > 1:
        say(f"the p-values allow for {counted} looks: other models were judged on these candles (see --looks)")
        found = judge(frames, candles, key.interval, looks=counted, **options)
    return found


def _count(key: SeriesKey, frames: dict[str, pd.DataFrame], found: Judgement) -> int:
    """Looks at the candles by the database; 1 where there is none."""
    from btcml.errors import StoreError
    from btcml.pipeline.judge import count_tries
    from btcml.settings import load_settings
    from btcml.store.engine import find_store

    try:
        store = find_store(load_settings())
        return count_tries(store, key, frames, found) if store else 1
    except StoreError as error:
        say(f"these models are not counted as tries: {error}")
        return 1


def _forecasters(
    args: Namespace, candles: pd.DataFrame, interval: str, *, beside: bool
) -> tuple[dict[str, pd.DataFrame], list[Finding]]:
    """Forecasts of the forecasters that are named."""
    from btcml.pipeline.forecasters import Grid, run_forecasters

    if not args.forecaster:
        return {}, []
    grid = Grid(args.cutoffs, args.window, _horizons(args.horizons), args.level, args.seconds, args.memory)
    return run_forecasters(args.forecaster, candles, interval, grid, beside=beside)


def _page(
    args: Namespace, found: Judgement, frames: dict[str, pd.DataFrame], candles: pd.DataFrame, key: SeriesKey
) -> str:
    """Write or verify the page of a judgement."""
    require_extra("judge", "report")
    from btcml.report.judgement import PageInputs, hash_inputs, verify_judgement, write_judgement

    looks = found.results[0].looks
    hashes = hash_inputs(frames, candles, values=args.unit, level=args.level, looks=looks)
    inputs = PageInputs(found, key, hashes)
    return str(verify_judgement(inputs, args.page) if args.verify else write_judgement(inputs, args.page))


def _pair(text: str) -> tuple[str, str]:
    from btcml.errors import UsageError

    ours, equals, theirs = text.partition("=")
    if not ours or not equals or not theirs:
        msg = f"--column takes OURS=THEIRS, such as y_hat=forecast, found {text!r}"
        raise UsageError(msg)
    return ours, theirs


def _candles_of(name: str, symbol: str | None) -> Source:
    """The source of candles; a file needs no database."""
    from btcml.market.files import FileMarket
    from btcml.pipeline.sources import make_source
    from btcml.settings import load_settings
    from btcml.store.engine import open_store

    if name not in {"binance", "simulated", "auto"}:
        return FileMarket(Path(name).expanduser(), symbol=symbol)
    settings = load_settings()
    return make_source(settings, name, open_store(settings))


VERBS: dict[str, tuple[Callable[[ArgumentParser], None], str]] = {
    "evaluate": (_declare, "test all models in walk-forward, and show which one would be served"),
    "judge": (_declare_judge, "judge anybody's forecasts, from files, as our own"),
}
"""What each verb takes, and one line about it."""
