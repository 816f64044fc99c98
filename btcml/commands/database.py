"""Verbs about what is stored: btcml db ACTION, and doctor."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btcml.commands.session import Verbs, say
from btcml.settings import load_settings

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    import pandas as pd

    from btcml.store.engine import Store


def _store() -> Store:
    from btcml.store.engine import open_store

    return open_store(load_settings())


def _rows(frame: pd.DataFrame, args: Namespace, none: str) -> Any:
    """A table for people, records for programs."""
    if args.json:
        return {"rows": frame.to_dict("records")}
    return frame.to_string(index=False) if len(frame) else none


def _series(args: Namespace) -> Any:
    from btcml.store.candles import list_series

    return _rows(list_series(_store()), args, "no candles yet: btcml ingest")


def _snapshots(args: Namespace) -> Any:
    from btcml.store.snapshots import list_snapshots

    return _rows(list_snapshots(_store()), args, "no snapshots yet: btcml report")


def _quarantine(args: Namespace) -> Any:
    from btcml.store.candles import list_quarantine

    return _rows(list_quarantine(_store()), args, "no row has broken the contract")


def _suspects(args: Namespace) -> Any:
    from btcml.store.candles import list_suspects

    return _rows(list_suspects(_store()), args, "no suspect span in any series")


def _check(args: Namespace) -> Any:
    from btcml.pipeline.database import require_contract

    return _rows(require_contract(_store()), args, "")


def _migrate(_: Namespace) -> Any:
    from btcml.pipeline.database import migrate_database

    return migrate_database(load_settings())


def _export(args: Namespace) -> Any:
    from btcml.pipeline.database import export_series

    return {"file": str(args.file), "candles": export_series(_store(), args.series, args.file)}


def _export_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("series", help="MARKET/SYMBOL/INTERVAL, as btcml db series lists them")
    parser.add_argument("file", type=Path, help="a .parquet or .csv file")


def _nothing(_: ArgumentParser) -> None:
    pass


def _backup(args: Namespace) -> Any:
    from btcml.store.backup import backup_database
    from btcml.store.engine import owner_url

    _store().close()  # brings the schema up to date
    settings = load_settings()
    return backup_database(owner_url(settings), settings.models, args.file)


def _backup_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="the backup, such as btcml.backup")


def _restore(args: Namespace) -> Any:
    from btcml.store.backup import restore_database
    from btcml.store.engine import owner_url

    settings = load_settings()
    return restore_database(owner_url(settings), settings.models, args.file, replace=args.replace)


def _restore_arguments(parser: ArgumentParser) -> None:
    _backup_arguments(parser)
    parser.add_argument("--replace", action="store_true", help="delete the present content of the database")


def _import(args: Namespace) -> Any:
    from btcml.candles import SeriesKey
    from btcml.market import utc_now
    from btcml.pipeline.legacy import import_legacy

    key = SeriesKey(args.market, args.symbol, args.interval or load_settings().btcml_interval)
    return import_legacy(_store(), args.source, key, at=utc_now())


def _import_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("source", help="a folder of CSV dumps, one dump, or the postgresql:// address of the database")
    parser.add_argument("--market", default="file:imported", help="market of the candles; binance merges them")
    parser.add_argument("--symbol", default="BTCUSDT", help="symbol of rows that name none (default BTCUSDT)")
    parser.add_argument("--interval", help="interval of rows that name none (default: BTCML_INTERVAL)")


def _models(args: Namespace) -> Any:
    from btcml.pipeline.database import list_models, prune_models, roll_back

    if args.roll_back:
        return {"in service": roll_back(_store(), args.series, args.to)}
    if args.prune:
        return {"deleted": prune_models(_store(), load_settings(), args.series)}
    return _rows(list_models(_store(), args.series), args, "no models yet: btcml train")


def _models_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("series", nargs="?", help="MARKET/SYMBOL/INTERVAL (default: all)")
    parser.add_argument("--prune", action="store_true", help="delete the files of trainings that are no longer needed")
    parser.add_argument("--roll-back", action="store_true", help="put the previous training into service again")
    parser.add_argument("--to", help="with --roll-back: put this training into service")


def _verify(args: Namespace) -> Any:
    from btcml.pipeline.database import verify_chains

    return verify_chains(_store(), args.series, args.head) or "no forecasts yet: btcml schedule"


def _verify_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("series", nargs="?", help="MARKET/SYMBOL/INTERVAL (default: all)")
    parser.add_argument("--head", help="SEQ:HASH noted earlier: the chain must still contain it")


ACTIONS: dict[str, tuple[Callable[[Namespace], Any], Callable[[ArgumentParser], None], str]] = {
    "series": (_series, _nothing, "list the series, their spans and gaps"),
    "snapshots": (_snapshots, _nothing, "list the snapshots"),
    "quarantine": (_quarantine, _nothing, "list the rows that broke the contract, and when a valid one replaced them"),
    "suspects": (_suspects, _nothing, "list the spans that look unfinished, which training leaves out"),
    "check": (_check, _nothing, "check all stored candles against the data contract"),
    "migrate": (_migrate, _nothing, "bring the schema up to date as the owner, and set the roles' passwords"),
    "backup": (_backup, _backup_arguments, "write everything into one file, and test that it restores"),
    "restore": (_restore, _restore_arguments, "replace the content of the database by a backup"),
    "import": (_import, _import_arguments, "read the tables of ML Crypto or bitcoin-ml"),
    "export": (_export, _export_arguments, "write a series to a file"),
    "models": (_models, _models_arguments, "list, prune or roll back models"),
    "verify-forecasts": (_verify, _verify_arguments, "recompute the chains of sealed forecasts"),
}
"""What each action does, what it takes, and one line about it."""


def _declare_db(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True, parser_class=type(parser))
    for name, (run, arguments, summary) in ACTIONS.items():
        action = actions.add_parser(name, help=summary, description=summary)
        action.add_argument("--json", action="store_true", help="print one JSON object on standard output")
        arguments(action)
        action.set_defaults(run=run)


def _declare_doctor(parser: ArgumentParser) -> None:
    parser.add_argument("--scheduler", action="store_true", help="only check that the scheduler works (health checks)")
    parser.set_defaults(run=_doctor)


def _doctor(args: Namespace) -> Any:
    """The page or one JSON object on standard output, whatever was found; exit status 1 where something is bad."""
    from btcml.pipeline.doctor import examine, examine_scheduler, render, summarize

    settings = load_settings()
    findings = [examine_scheduler(settings)] if args.scheduler else examine(settings)
    facts, page = summarize(findings), render(findings)
    if not facts["bad"]:
        return facts if args.json else page
    sys.stdout.write((json.dumps(facts) if args.json else page) + "\n")
    first = next(finding for finding in findings if finding.status == "bad")
    say(f"btcml: {facts['bad']} of {len(findings)} findings are bad; the first, {first.name}: {first.cure}")
    raise SystemExit(1)


VERBS: Verbs = {
    "db": (_declare_db, "maintain the database"),
    "doctor": (_declare_doctor, "check data, models, forecasts and services, and say what to do"),
}
"""What each verb takes, and one line about it."""
