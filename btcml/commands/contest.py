"""The verb evaluate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btcml.commands.session import Session, declare_series, open_session, positive, progress, say, utc_time

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    import pandas as pd

    from btcml.forecast.experiment import Experiment


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
    candles = verbs.gather_candles(session.store, session.source, session.key, days, on_page=progress(str(session.key)))
    experiment = _experiment(session, candles, args)
    say(verbs.series_summary(session.key, candles))
    if args.search is not None:
        tries = verbs.search_before(session.store, session.key, candles, experiment, args.search, jobs=args.jobs)
        say(tries.to_string(index=False))
    with joblib_backend(args.cluster) as backend:
        result = verbs.evaluate(
            session.store, session.key, candles, experiment=experiment, jobs=args.jobs, backend=backend
        )
    late = verbs.minute_prices(session.store, session.key, result)
    label = experiment.label(candles)
    return {"plan": label} | result.to_dict(late=late) if args.json else f"{label}\n{result}"


def _experiment(session: Session, candles: pd.DataFrame, args: Namespace) -> Experiment:
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
    return Experiment.default(candles, session.key.interval, _horizons(args.horizons)).replace(**chosen)


def _horizons(text: str | None) -> tuple[int, ...]:
    from btcml.errors import UsageError

    try:
        return (1,) if text is None else tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        msg = f"--horizons takes numbers of candles with commas between, found {text!r}: write for example 1,3,12,48"
        raise UsageError(msg) from None


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(dict.fromkeys(part.strip() for part in text.split(",")))


VERBS: dict[str, tuple[Callable[[ArgumentParser], None], str]] = {
    "evaluate": (_declare, "test all models in walk-forward, and show which one would be served"),
}
"""What each verb takes, and one line about it."""
