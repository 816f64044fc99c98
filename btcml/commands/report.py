"""Verbs of the report and its notebooks: report, verify, lab."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from btcml.commands.session import Verbs, declare_series, open_session, progress, require_extra, say
from btcml.settings import load_settings

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from btcml.pipeline.story import Plan


def _declare_report(parser: ArgumentParser) -> None:
    declare_series(parser)
    parser.add_argument("--end", help="UTC time at which the report ends (default: the source's own)")
    parser.add_argument("--language", help="en or pt-BR (default: REPORT_LANGUAGE, else en)")
    parser.add_argument("--out", type=Path, default=Path("reports/build"), help="where reports are built")
    parser.add_argument("--plan", type=Path, help="only decide market and end, and write them to this file")
    parser.add_argument(
        "--from-plan", type=Path, help="build the report of a file written by --plan, from its snapshot"
    )
    parser.add_argument(
        "--snapshot", action="store_true", help="with --from-plan: only fetch candles and take the snapshot"
    )
    parser.set_defaults(run=_report)


def _report(args: Namespace) -> Any:
    require_extra("report", "report")
    from btcml.pipeline.story import build_story, plan_story, save_plan

    if args.from_plan:
        return _planned(args)
    session = open_session(args)
    plan = plan_story(session.source, session.run, args.language or session.settings.report_language)
    if args.plan:
        return {"plan": str(save_plan(plan, args.plan, args.out)), "market": plan.market, "end": plan.end}
    _note(plan)
    given = (session.settings, session.store, session.source, plan, args.out)
    return _built(plan, args.out, build_story(*given, progress=say, on_page=progress(str(plan.key))))


def _planned(args: Namespace) -> dict[str, str]:
    """Build the pages of a plan from its snapshot, which is taken first where it is missing or asked for."""
    from btcml.pipeline.sources import make_source
    from btcml.pipeline.story import has_snapshot, load_plan, take_snapshot
    from btcml.report.build import build_report
    from btcml.store.engine import open_store

    plan = load_plan(args.from_plan)
    if args.snapshot or not has_snapshot(plan, args.out):
        _note(plan)
        settings = load_settings()
        store = open_store(settings)
        source = make_source(settings, plan.source, store, symbol=plan.symbol)
        bundle = take_snapshot(settings, store, source, plan, args.out, on_page=progress(str(plan.key)))
        if args.snapshot:
            return {"snapshot": str(bundle), "market": plan.market, "end": plan.end}
    return _built(plan, args.out, build_report(args.out / plan.path, language=plan.language, progress=say))


def _note(plan: Plan) -> None:
    if plan.market != "binance":
        say(f"NOTE: these are not live Binance candles: the market is {plan.market}")


def _built(plan: Plan, out: Path, index: Path) -> dict[str, str]:
    from btcml.report.pages import build_gallery

    build_gallery(out)
    return {"report": str(index), "market": plan.market, "end": plan.end}


def _declare_verify(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a report's run folder")
    parser.set_defaults(run=_verify)


def _verify(args: Namespace) -> Any:
    require_extra("verify", "report")
    from btcml.report.manifest import verify_report

    found = verify_report(args.folder).require_identical()
    return found if args.json else str(found)


def _declare_lab(parser: ArgumentParser) -> None:
    declare_series(parser)
    parser.add_argument("--end", help="UTC time at which the candles end (default: the source's own)")
    parser.add_argument("--out", type=Path, default=Path("lab"), help="folder of the notebooks (default lab)")
    parser.add_argument("--prepare", action="store_true", help="only write notebooks and snapshot")
    parser.set_defaults(run=_lab)


def _lab(args: Namespace) -> Any:
    require_extra("lab", "lab")
    from btcml.pipeline.lab import open_lab, prepare_lab
    from btcml.pipeline.story import plan_story

    session = open_session(args)
    plan = plan_story(session.source, session.run)
    show = progress(str(plan.key))
    folder = prepare_lab(session.settings, session.store, session.source, plan, args.out, on_page=show)
    say(f"the notebooks in {folder} are about {plan.key}, {plan.days} days to {plan.end}: run them in order")
    if args.prepare:
        return {"notebooks": str(folder), "snapshot": str((folder / "snapshot").resolve())}
    return open_lab(folder)


VERBS: Verbs = {
    "report": (_declare_report, "build the report as HTML pages"),
    "verify": (_declare_verify, "build a report again and compare every byte"),
    "lab": (_declare_lab, "open the notebooks in JupyterLab, ready to run"),
}
"""What each verb takes, and one line about it."""
