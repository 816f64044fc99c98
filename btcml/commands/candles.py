"""Verbs that bring candles in, and the one that serves them: ingest, backfill, exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml.candles import SeriesKey
from btcml.commands.session import Session, declare_series, open_session, progress
from btcml.errors import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

__all__ = ["VERBS"]


def _declare_ingest(parser: ArgumentParser) -> None:
    declare_series(parser)
    parser.add_argument("--market", help="store under this market, where it is not the source's own")
    parser.add_argument("--audit", action="store_true", help="read the span of --days again, to find restated candles")
    parser.set_defaults(run=_ingest)


def _ingest(args: Namespace) -> Any:
    from btcml.pipeline.ingest import backfill, ingest

    session = open_session(args)
    key = _key(session, args)
    if args.days is None and not args.audit:
        return ingest(session.store, session.source, key, on_page=progress(str(key)))
    span = _last_days(session, session.run.days)
    return backfill(session.store, session.source, key, span, audit=args.audit, on_page=progress(str(key)))


def _key(session: Session, args: Namespace) -> SeriesKey:
    return session.run.key(args.market) if args.market else session.key


def _last_days(session: Session, days: int) -> tuple[pd.Timestamp, pd.Timestamp]:
    end = session.source.now()
    return end - pd.Timedelta(days=days), end


def _declare_backfill(parser: ArgumentParser) -> None:
    declare_series(parser, days=90)
    parser.add_argument("--since", help="first day, such as 2017-08-17, instead of --days")
    parser.add_argument("--market", help="store under this market, where it is not the source's own")
    parser.set_defaults(run=_backfill)


def _backfill(args: Namespace) -> Any:
    from btcml.pipeline.ingest import backfill

    since = _day(args.since) if args.since else None
    session = open_session(args)
    key = _key(session, args)
    start, end = _last_days(session, session.run.days)
    return backfill(session.store, session.source, key, (since or start, end), on_page=progress(str(key)))


def _day(text: str) -> pd.Timestamp:
    try:
        return pd.Timestamp(text, tz="UTC")
    except ValueError as error:
        msg = f"--since is a day such as 2017-08-17, found {text!r}"
        raise UsageError(msg) from error


VERBS: dict[str, tuple[Callable[[ArgumentParser], None], str]] = {
    "ingest": (_declare_ingest, "fetch new, restated and doubtful candles"),
    "backfill": (_declare_backfill, "fetch what is missing of a longer span"),
}
"""What each verb takes, and one line about it."""
