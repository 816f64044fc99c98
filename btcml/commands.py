"""Verbs of the command line: what each takes, and the call that it makes."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btcml.errors import UsageError
from btcml.settings import RunParameters, Settings, load_settings, run_parameters

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from btcml.market.source import Source
    from btcml.store.engine import Store

__all__ = ["VERBS"]


def _series(parser: ArgumentParser, days: int | None = None) -> None:
    parser.add_argument("--symbol", default="BTCUSDT", help="the exchange's symbol (default BTCUSDT)")
    parser.add_argument("--interval", help="length of a candle, 1m to 1w (default: BTCML_INTERVAL)")
    parser.add_argument("--source", help="binance, simulated, auto, or a file or folder (default: BTCML_SOURCE)")
    parser.add_argument("--days", type=int, default=days, help="span of candles, in days")


def _run(args: Namespace, settings: Settings, **values: Any) -> RunParameters:
    given = {name: getattr(args, name, None) for name in ("symbol", "days", "end")}
    given |= {"interval": args.interval or settings.btcml_interval, "source": args.source or settings.btcml_source}
    return run_parameters(**{name: value for name, value in (given | values).items() if value is not None})


def _open(args: Namespace, **values: Any) -> tuple[Settings, Store, Source, RunParameters]:
    from btcml.pipeline.sources import make_source
    from btcml.store.engine import open_store

    settings = load_settings()
    run = _run(args, settings, **values)
    store = open_store(settings)
    source = make_source(settings, run.source, store)
    if run.source == "auto":
        say(f"source auto: {source.market}" + (" (Binance did not answer)" if source.market == "simulated" else ""))
    return settings, store, source, run


def say(line: str) -> None:
    """Write a line of progress to standard error."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def progress(label: str) -> Callable[[int, int], None]:
    """Progress of a fetch: a bar with rate and time left on a terminal, plain lines in a log."""
    from tqdm import tqdm

    if sys.stderr.isatty():
        bar = tqdm(desc=label, unit=" candles", leave=False)

        def show(done: int, expected: int) -> None:
            bar.total, bar.n = expected, done
            bar.refresh()

        return show
    last = [0.0]

    def log(done: int, expected: int) -> None:
        if time.monotonic() - last[0] > _LOG_EVERY_S or done >= expected:
            last[0] = time.monotonic()
            say(f"{label}: {done:,} of {expected:,} candles")

    return log


_LOG_EVERY_S = 5.0


def _declare_ingest(parser: ArgumentParser) -> None:
    _series(parser)
    parser.add_argument("--market", help="store under this market, where it is not the source's own")
    parser.add_argument("--audit", action="store_true", help="read the span of --days again, to find restated candles")
    parser.set_defaults(run=_ingest)


def _ingest(args: Namespace) -> Any:
    from btcml.pipeline.ingest import backfill, ingest

    _, store, source, run = _open(args)
    label = f"{run.symbol} {run.interval}"
    if args.days is None:
        return ingest(store, source, run.symbol, run.interval, market=args.market, on_page=progress(label))
    end = source.now()
    span = (end - _days(run.days), end)
    return backfill(
        store, source, run.symbol, run.interval, span, market=args.market, audit=args.audit, on_page=progress(label)
    )


def _days(days: int) -> Any:
    import pandas as pd

    return pd.Timedelta(days=days)


def _declare_backfill(parser: ArgumentParser) -> None:
    _series(parser, days=90)
    parser.add_argument("--since", help="first day, such as 2017-08-17, instead of --days")
    parser.add_argument("--market", help="store under this market, where it is not the source's own")
    parser.set_defaults(run=_backfill)


def _backfill(args: Namespace) -> Any:
    import pandas as pd

    from btcml.pipeline.ingest import backfill

    _, store, source, run = _open(args)
    end = source.now()
    start = end - _days(run.days)
    if args.since:
        try:
            start = pd.Timestamp(args.since, tz="UTC")
        except ValueError as error:
            msg = f"--since is a day such as 2017-08-17, found {args.since!r}"
            raise UsageError(msg) from error
    label = f"{run.symbol} {run.interval}"
    return backfill(
        store, source, run.symbol, run.interval, (start, end), market=args.market, on_page=progress(label)
    )


VERBS: dict[str, tuple[Callable[[ArgumentParser], None], str]] = {
    "ingest": (_declare_ingest, "fetch new, restated and doubtful candles"),
    "backfill": (_declare_backfill, "fetch what is missing of a longer span"),
}
"""What each verb takes and one line about it."""
