"""Verbs of the published record: publish, audit, witness."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btcml.commands.session import Verbs
from btcml.record import kept_note, stamp_count
from btcml.settings import load_settings

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def _declare_publish(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="where the records are written, each as MARKET/SYMBOL/INTERVAL")
    parser.set_defaults(run=_publish)


def _publish(args: Namespace) -> Any:
    from btcml.market import utc_now
    from btcml.pipeline.publish import publish_all
    from btcml.store.engine import open_store

    settings = load_settings()
    published = publish_all(open_store(settings), settings.home, args.folder, utc_now(), settings.btcml_tsa_url)
    return {"records": published}


def _declare_audit(parser: ArgumentParser) -> None:
    parser.add_argument("record", help="the folder or URL of the record of one series")
    parser.add_argument("--since", type=kept_note, nargs="+", default=[], help="checkpoints that were kept earlier")
    parser.add_argument("--source", help="compare the outcomes with candles of binance, or of a file or folder")
    parser.add_argument(
        "--stamps", type=stamp_count, default=0, help="check the newest N time stamps of each log (default all)"
    )
    parser.add_argument("--authority", type=Path, help=AUTHORITY)
    parser.set_defaults(run=_audit)


AUTHORITY = "root certificates of the time-stamp authority (PEM; default: those that this machine trusts)"
"""Help of `--authority`."""


_NO_OUTCOME = "it has none yet: audit it again when its first candle is final"


def _audit(args: Namespace) -> Any:
    """What was found; exit status 1 where something is wrong, or was not compared."""
    from btcml.errors import NotReadyError
    from btcml.pipeline.audit import audit_record, open_record, require_consistent
    from btcml.pipeline.sources import make_source
    from btcml.pipeline.stamps import stamp_checker
    from btcml.store.engine import open_store

    read, settings = open_record(args.record), load_settings()
    source = make_source(settings, args.source, open_store(settings)) if args.source else None
    check = stamp_checker(read, args.authority) if find_spec("rfc3161_client") else None
    found = require_consistent(audit_record(read, args.since, source, check, args.stamps))
    if source and not found.compared:
        cure = f"{source.market} has none of their candles: give another --source" if found.outcomes else _NO_OUTCOME
        msg = f"no outcome was compared, although the record itself is consistent: {cure}"
        raise NotReadyError(msg)
    provided = {"provided": "the time stamps hold"} if found.checked < found.stamps else {}
    return {
        "found": "consistent", "rows": found.sizes, "signed": found.signed,
        "in_time": {"proven": found.proven, "of": len(found.forecasts), "claimed": found.claimed} | provided,
        "stamps": {"number": found.stamps, "checked": found.checked},
        **({"compared": {"source": source.market, "outcomes": found.compared}} if source else {}),
        "scores": found.scores,
    }  # fmt: skip


def _declare_witness(parser: ArgumentParser) -> None:
    parser.add_argument("record", help="the folder or URL of the record of one series")
    parser.add_argument("--name", default="btcml-witness", help="name of this witness (default btcml-witness)")
    parser.add_argument("--authority", type=Path, help=AUTHORITY)
    parser.set_defaults(run=_witness)


def _witness(args: Namespace) -> Any:
    from btcml.market import utc_now
    from btcml.pipeline.audit import open_record, witness_record

    return witness_record(open_record(args.record), load_settings().home, args.name, utc_now(), args.authority)


VERBS: Verbs = {
    "publish": (_declare_publish, "write sealed forecasts and outcomes into a folder that outsiders can check"),
    "audit": (_declare_audit, "check a published record, and its outcomes against another source"),
    "witness": (_declare_witness, "keep and cosign the checkpoints of a published record, and report a fork"),
}
"""What each verb takes, and one line about it."""
