"""Verbs about the database: btcml db ACTION."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from btcml.candles import SeriesKey
from btcml.commands import models
from btcml.errors import ContractError, NotFoundError, UsageError
from btcml.settings import load_settings

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    import pandas as pd

    from btcml.store.engine import Store

__all__ = ["VERBS"]


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
    from btcml.store.candles import check_contract

    results = check_contract(_store())
    broken = results[results["broken"] > 0]
    if len(broken):
        first = broken.iloc[0]
        msg = f"{first['broken']} stored candles break the rule {first['rule']}: run btcml ingest --audit --days 5000"
        raise ContractError(msg)
    return _rows(results, args, "")


def _migrate(_: Namespace) -> Any:
    from btcml.store.engine import APP_ROLE, READ_ROLE, head_revision, migrate, owner_url, set_password

    settings = load_settings()
    url = owner_url(settings)
    migrate(url)
    passwords = {APP_ROLE: settings.btcml_app_password, READ_ROLE: settings.btcml_read_password}
    given = {role: secret.get_secret_value() for role, secret in passwords.items() if secret is not None}
    for role, password in given.items():
        set_password(url, role, password)
    return {"schema": head_revision(), "passwords": list(given)}


def _export(args: Namespace) -> Any:
    from btcml.store.candles import export_candles, read_series_keys

    if args.file.suffix not in {".parquet", ".csv"}:
        msg = f"candles are exported to a .parquet or .csv file, found {args.file.name!r}"
        raise UsageError(msg)
    store = _store()
    key = SeriesKey(*args.series.split("/")) if args.series.count("/") == 2 else None  # noqa: PLR2004 - market/symbol/interval
    keys = read_series_keys(store)
    if key not in keys:
        known = ", ".join(map(str, keys)) or "none"
        msg = f"expected a series MARKET/SYMBOL/INTERVAL that has candles ({known}), found {args.series!r}"
        raise NotFoundError(msg)
    return {"file": str(args.file), "candles": export_candles(store, key, args.file)}


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
    parser.add_argument("--replace", action="store_true", help="drop what the database holds")


def _import(args: Namespace) -> Any:
    from btcml.market import utc_now
    from btcml.pipeline.legacy import import_legacy

    settings = load_settings()
    key = SeriesKey(args.market, args.symbol, args.interval or settings.btcml_interval)
    return import_legacy(_store(), args.source, key, at=utc_now())


def _import_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "source", help="a folder of CSV dumps, one dump, or a postgresql:// address of the old database"
    )
    parser.add_argument(
        "--market", default="file:imported", help="binance to merge with what Binance gave (default file:imported)"
    )
    parser.add_argument("--symbol", default="BTCUSDT", help="symbol of rows that name none (default BTCUSDT)")
    parser.add_argument("--interval", help="interval of rows that name none (default: BTCML_INTERVAL)")


ACTIONS: dict[str, tuple[Callable[[Namespace], Any], Callable[[ArgumentParser], None], str]] = {
    "series": (_series, _nothing, "list the series, their spans and holes"),
    "snapshots": (_snapshots, _nothing, "list the snapshots"),
    "quarantine": (_quarantine, _nothing, "list the rows that broke the contract, and when a good one came"),
    "suspects": (_suspects, _nothing, "list the spans that look unfinished, and with it what training leaves out"),
    "check": (_check, _nothing, "run the data contract over everything"),
    "migrate": (_migrate, _nothing, "bring the schema up to date as the owner, and set the roles' passwords"),
    "backup": (_backup, _backup_arguments, "write everything into one file, and prove that it restores"),
    "restore": (_restore, _restore_arguments, "put a backup in place of what the database holds"),
    "import": (_import, _import_arguments, "read the tables of ML Crypto or bitcoin-ml"),
    "export": (_export, _export_arguments, "write a series to a file"),
} | models.ACTIONS
"""What each action does, what it takes, and one line about it."""


def _declare(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True, parser_class=type(parser))
    for name, (run, arguments, summary) in ACTIONS.items():
        action = actions.add_parser(name, help=summary, description=summary)
        action.add_argument("--json", action="store_true", help="print one JSON object on standard output")
        arguments(action)
        action.set_defaults(run=run)


VERBS: dict[str, tuple[Callable[[ArgumentParser], None], str]] = {"db": (_declare, "look after the database")}
"""What each verb takes, and one line about it."""
