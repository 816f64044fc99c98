"""Verbs about candles: ingest, backfill, and exchange, which serves them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from btcml.commands.session import Session, Verbs, declare_series, open_session, progress, say, utc_time

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from btcml.candles import SeriesKey
    from btcml.market import OnPage


_BACKFILL_DAYS = 90


def _declare_span(parser: ArgumentParser, default: str) -> None:
    declare_series(parser, several=True, default=f" (default: {default}; all of a file)")
    parser.add_argument("--since", type=utc_time, help="first UTC day, such as 2017-08-17, instead of --days")
    parser.add_argument("--until", type=utc_time, help="end of the span, a UTC time (default: now)")
    parser.add_argument("--market", help="store a file's candles under this market, such as binance")
    parser.add_argument(
        "--as-of", type=utc_time, help="UTC time at which a file was written: later closes are not final"
    )
    parser.add_argument("--timezone", help="zone of a file's local times, such as America/New_York (default: UTC)")


def _declare_ingest(parser: ArgumentParser) -> None:
    _declare_span(parser, f"what is new, at first {_BACKFILL_DAYS}")
    parser.add_argument("--audit", action="store_true", help="read the whole span again, to find restated candles")
    parser.set_defaults(run=_ingest)


def _ingest(args: Namespace) -> Any:
    from btcml.pipeline.ingest import ingest

    if args.audit or any(value is not None for value in (args.days, args.since, args.until)):
        return _backfill(args, audit=args.audit)
    return _for_each_symbol(args, lambda session, key, show: ingest(session.store, session.source, key, on_page=show))


def _declare_backfill(parser: ArgumentParser) -> None:
    _declare_span(parser, f"{_BACKFILL_DAYS}")
    parser.set_defaults(run=lambda args: _backfill(args, days=_BACKFILL_DAYS))


def _backfill(args: Namespace, *, days: int | None = None, audit: bool = False) -> Any:
    """Fetch the span that the options name, or the usual one: what is missing of it, or all."""
    from btcml.pipeline.ingest import backfill, make_span

    if args.since is not None and args.days is not None:
        say(f"--since sets the start of the span: --days {args.days} is ignored")

    def _work(session: Session, key: SeriesKey, show: OnPage) -> Any:
        usual = days or session.run.days
        span = make_span(session.source, key.symbol, args.since, args.until, args.days, usual)
        return backfill(session.store, session.source, key, span, audit=audit, on_page=show)

    return _for_each_symbol(args, _work)


def _for_each_symbol(args: Namespace, work: Callable[[Session, SeriesKey, OnPage], Any]) -> Any:
    """Run for one symbol, or for several one after the other within the exchange's limits."""
    from btcml.candles import SeriesKey

    symbols = list(dict.fromkeys(args.symbol.split(","))) if args.symbol else []
    args.symbol = ",".join(symbols[:1]) or None
    session = open_session(args)
    keys = [
        SeriesKey(args.market or session.source.market, symbol, session.run.interval)
        for symbol in symbols or [session.run.symbol]
    ]
    done = [work(session, key, progress(str(key))) for key in keys]
    return done[0] if len(done) == 1 else {"series": done}


def _declare_exchange(parser: ArgumentParser) -> None:
    parser.add_argument("--source", default="simulated", help="simulated, or a file or folder of candles")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8090, help="port to listen on (default 8090)")
    parser.add_argument("--at", type=utc_time, help="UTC time of its clock at the start (default: the source's own)")
    parser.add_argument("--speed", type=float, default=1.0, help="speed of its clock (default 1: real time)")
    parser.add_argument("--name", help="name of its market, replay:NAME (default: the source's)")
    parser.add_argument("--faults", type=Path, help="YAML or JSON file of faults to inject")
    parser.set_defaults(run=_exchange)


def _exchange(args: Namespace) -> None:
    from btcml.market import utc_now
    from btcml.market.files import FileMarket
    from btcml.market.simulate import SimulatedMarket
    from btcml.testing import Exchange, ReplayClock, load_faults, serve_exchange

    source = SimulatedMarket() if args.source == "simulated" else FileMarket(args.source)
    own = args.at is None and args.speed == 1
    clock = None if own else ReplayClock(args.at or source.now(), utc_now(), args.speed)
    faults = load_faults(args.faults) if args.faults else ()
    exchange = Exchange(source, clock, faults, name=args.name or source.market.removeprefix("file:"))
    say(f"replay exchange of {source.market} at http://{args.host}:{args.port}, as market {exchange.market}")
    serve_exchange(exchange, args.host, args.port)


VERBS: Verbs = {
    "ingest": (_declare_ingest, "fetch new, restated and doubtful candles"),
    "backfill": (_declare_backfill, "fetch missing candles of a longer span"),
    "exchange": (_declare_exchange, "serve candles as Binance's API does, with faults on demand"),
}
"""What each verb takes, and one line about it."""
