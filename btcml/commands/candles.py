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

    from btcml.market import OnPage

__all__ = ["VERBS"]

_BACKFILL_DAYS = 90
_FIRST_YEAR, _LAST_YEAR = 2000, 2199


def _declare_ingest(parser: ArgumentParser) -> None:
    declare_series(parser, several=True)
    _declare_span(parser)
    parser.add_argument("--audit", action="store_true", help="read the whole span again, to find restated candles")
    parser.set_defaults(run=_ingest)


def _declare_span(parser: ArgumentParser) -> None:
    parser.add_argument("--since", help="first UTC day, such as 2017-08-17, instead of --days")
    parser.add_argument("--until", help="end of the span, a UTC time (default: now)")
    parser.add_argument("--market", help="store under this market, where it is not the source's own")


def _ingest(args: Namespace) -> Any:
    from btcml.pipeline.ingest import ingest

    if args.audit or any(value is not None for value in (args.days, args.since, args.until)):
        return _filled(args, audit=args.audit)
    return _each(args, lambda session, key, show: ingest(session.store, session.source, key, on_page=show))


def _filled(args: Namespace, *, days: int | None = None, audit: bool = False) -> Any:
    """Fetch the span that the options name, else so many days: what is missing of it, or all."""
    from btcml.pipeline.ingest import backfill

    since = _time("--since", args.since) if args.since else None
    if since is not None and args.days is not None:
        say(f"--since says where the span begins: --days {args.days} is left aside")
    until = _time("--until", args.until) if args.until else None

    def _work(session: Session, key: SeriesKey, show: OnPage) -> Any:
        end = until or session.source.now()
        span = (since or end - pd.Timedelta(days=args.days or days or session.run.days), end)
        if span[0] >= span[1]:
            msg = f"the span from {span[0]:%Y-%m-%d %H:%M} to {span[1]:%Y-%m-%d %H:%M} is empty: give an earlier start"
            raise UsageError(msg)
        return backfill(session.store, session.source, key, span, audit=audit, on_page=show)

    return _each(args, _work)


def _each(args: Namespace, work: Callable[[Session, SeriesKey, OnPage], Any]) -> Any:
    """Do the same for one symbol, or for each of several, one after the other within the exchange's limits."""
    symbols = list(dict.fromkeys(args.symbol.split(",")))
    args.symbol = symbols[0]
    session = open_session(args)
    keys = [SeriesKey(args.market or session.source.market, symbol, session.run.interval) for symbol in symbols]
    done = [work(session, key, progress(str(key))) for key in keys]
    return done[0] if len(done) == 1 else {"series": done}


def _declare_backfill(parser: ArgumentParser) -> None:
    declare_series(parser, several=True)
    _declare_span(parser)
    parser.set_defaults(run=lambda args: _filled(args, days=_BACKFILL_DAYS))


def _time(option: str, text: str) -> pd.Timestamp:
    try:
        time = pd.Timestamp(text, tz="UTC")
        if _FIRST_YEAR <= time.year <= _LAST_YEAR:  # false for NaT, too
            return time
    except ValueError:
        pass
    msg = f"{option} is a UTC time such as 2017-08-17 or 2025-06-30T12:00, found {text!r}"
    raise UsageError(msg)


def _declare_exchange(parser: ArgumentParser) -> None:
    parser.add_argument("--source", default="simulated", help="simulated, or a file or folder of candles")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine only)")
    parser.add_argument("--port", type=int, default=8090, help="port to listen at (default 8090)")
    parser.add_argument("--at", help="UTC time of its clock at the start (default: the source's own)")
    parser.add_argument("--speed", type=float, default=1.0, help="seconds of its clock in a second (default 1)")
    parser.add_argument("--faults", type=Path, help="YAML or JSON file of faults to show")
    parser.set_defaults(run=_exchange)


def _exchange(args: Namespace) -> None:
    from btcml.market import utc_now
    from btcml.market.files import FileMarket
    from btcml.market.simulate import SimulatedMarket
    from btcml.testing.exchange import ReplayClock, serve_exchange
    from btcml.testing.faults import load_faults

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
