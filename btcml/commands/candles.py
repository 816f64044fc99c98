"""Verbs that bring candles in, and the one that serves them: ingest, backfill, exchange."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from btcml.candles import SeriesKey
from btcml.commands.session import Session, declare_series, open_session, progress, say
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

    since = _time("--since", args.since) if args.since else None
    session = open_session(args)
    key = _key(session, args)
    start, end = _last_days(session, session.run.days)
    return backfill(session.store, session.source, key, (since or start, end), on_page=progress(str(key)))


def _time(option: str, text: str) -> pd.Timestamp:
    try:
        return pd.Timestamp(text, tz="UTC")
    except ValueError as error:
        msg = f"{option} is a UTC time such as 2017-08-17 or 2025-06-30T12:00, found {text!r}"
        raise UsageError(msg) from error


def _declare_exchange(parser: ArgumentParser) -> None:
    parser.add_argument("--source", default="simulated", help="simulated, or a file or folder of candles")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine only)")
    parser.add_argument("--port", type=int, default=8090, help="port to listen at (default 8090)")
    parser.add_argument("--at", help="UTC time of its clock at the start (default: the source's own)")
    parser.add_argument("--speed", type=float, default=1.0, help="seconds of its clock in a second (default 1)")
    parser.add_argument("--faults", type=Path, help="YAML or JSON file of faults to show")
    parser.set_defaults(run=_exchange)


def _exchange(args: Namespace) -> None:
    from btcml.market.exchange import serve_exchange
    from btcml.market.faults import load_faults
    from btcml.market.files import FileMarket
    from btcml.market.replay import ReplayClock
    from btcml.market.simulate import SimulatedMarket
    from btcml.market.source import utc_now

    source = SimulatedMarket() if args.source == "simulated" else FileMarket(args.source)
    clock = None
    if args.at or args.speed != 1:
        clock = ReplayClock(_time("--at", args.at) if args.at else source.now(), utc_now(), args.speed)
    faults = load_faults(args.faults) if args.faults else ()
    name = source.market.removeprefix("file:")
    say(f"replay exchange of {source.market} at http://{args.host}:{args.port}, as market replay:{name}")
    serve_exchange(source, args.host, args.port, clock=clock, faults=faults, name=name)


VERBS: dict[str, tuple[Callable[[ArgumentParser], None], str]] = {
    "ingest": (_declare_ingest, "fetch new, restated and doubtful candles"),
    "backfill": (_declare_backfill, "fetch what is missing of a longer span"),
    "exchange": (_declare_exchange, "serve candles as Binance does, with a clock and faults of its own"),
}
"""What each verb takes, and one line about it."""
