"""The verb of the contest: evaluate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml.candles import candle_gaps
from btcml.commands.session import Session, declare_series, open_session, progress, say
from btcml.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

__all__ = ["VERBS"]


def _declare(parser: ArgumentParser) -> None:
    declare_series(parser)
    parser.add_argument("--test-from", default="", help="first day of the test (default: the newest third)")
    parser.add_argument("--test-to", help="day after the last of the test (default: all candles)")
    parser.add_argument("--models", help="comma-separated models (default: those of the story, strong settings)")
    parser.add_argument("--window", default="48 months", help="training window: candles, days or months")
    parser.add_argument("--refit", default="6 months", help="pause between refits: candles, days or months")
    parser.add_argument("--jobs", type=int, default=2, help="processes; no figure depends on their number")
    parser.add_argument("--search", type=int, metavar="N", help="first try N random settings before the test")
    parser.add_argument("--cluster", help="address of a dask scheduler, such as tcp://127.0.0.1:8786")
    parser.set_defaults(run=_evaluate)


def _evaluate(args: Namespace) -> Any:
    from btcml.forecast.splits import WalkForward
    from btcml.pipeline.contest import CONTESTANTS, contest, search_before

    session = open_session(args)
    start, times = _gather(session, args)
    first, last = times.iloc[0], times.iloc[-1]
    test_from = args.test_from or f"{last - (last - first) / 3:%Y-%m-%d}"
    plan = WalkForward(
        test_from, args.test_to, window=_length(args.window), refit=_length(args.refit), purge=_day(session)
    )
    say(_span(session, times))
    if args.search is not None:
        tries = search_before(session.store, session.key, test_from, args.search, jobs=args.jobs, start=start)
        say(tries.to_string(index=False))
    models = tuple(args.models.split(",")) if args.models else CONTESTANTS
    with _backend(args.cluster) as backend:
        found = contest(session.store, session.key, plan, models=models, jobs=args.jobs, backend=backend, start=start)
    return found.to_dict() if args.json else str(found)


def _gather(session: Session, args: Namespace) -> tuple[pd.Timestamp | None, pd.Series]:
    """Fetch what is missing of the span; return its start, if the user named one, and its open times.

    Without --days all that is stored takes part, and of a file all that it holds.
    """
    from btcml.market.files import FileMarket
    from btcml.pipeline.ingest import backfill
    from btcml.store.candles import read_candles

    source, end = session.source, session.source.now()
    start = end - pd.Timedelta(days=session.run.days)
    if isinstance(source, FileMarket) and args.days is None:
        start = source.span(session.run.symbol)[0]
    backfill(session.store, source, session.key, (start, end), on_page=progress(str(session.key)))
    named = None if args.days is None else start
    times = read_candles(session.store, session.key, named)["open_time"]
    if times.empty:
        msg = f"{session.key} has no candles: check symbol and source"
        raise UsageError(msg)
    return named, times


def _span(session: Session, times: pd.Series) -> str:
    """What takes part, and what is missing within it."""
    gaps = candle_gaps(times, session.key.interval)
    hole = f", with {gaps['missing'].sum():,} missing in between (give --days for a later start)" if len(gaps) else ""
    return f"{session.key}: {len(times):,} candles from {times.iloc[0]:%Y-%m-%d} to {times.iloc[-1]:%Y-%m-%d}{hole}"


def _length(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _day(session: Session) -> int:
    """Purge of a day, in candles."""
    return max(1, round(pd.Timedelta(days=1) / session.key.delta))


def _backend(cluster: str | None) -> Any:
    """Name of joblib's backend, for as long as the contest lasts."""
    from btcml.pipeline.cluster import joblib_backend

    return joblib_backend(cluster)


VERBS: dict[str, tuple[Callable[[ArgumentParser], None], str]] = {
    "evaluate": (_declare, "let every model forecast the past, and judge who would be served"),
}
"""What each verb takes, and one line about it."""
