"""Verbs of the service: train, predict, api, schedule, dashboard, up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from btcml.commands.session import Session, Verbs, declare_series, open_session, open_settings, require_extra, say
from btcml.settings import load_settings

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


_DAYS = 1095


def _declare_train(parser: ArgumentParser) -> None:
    declare_series(parser, days=_DAYS)
    parser.set_defaults(run=lambda args: _job(open_session(args), "train", days=args.days))


def _job(session: Session, kind: str, **parameters: Any) -> Any:
    """Run a job of the log in this process, and return its result."""
    from btcml.pipeline.jobs import JobContext, JobError, run_job
    from btcml.store.jobs import append_job

    context = JobContext(session.settings, session.store, session.source)
    number = append_job(session.store, kind, session.key, asked_by="cli", parameters=parameters)
    job = run_job(context, number or 0)
    if job.status != "ok":
        raise JobError(job)
    return job.result


def _declare_predict(parser: ArgumentParser) -> None:
    declare_series(parser)
    parser.add_argument("--horizon", type=int, default=1, help="candles ahead, one of BTCML_HORIZONS")
    parser.add_argument("--cost-bp", type=float, help="also say whether a round trip at this cost, in bp, pays")
    parser.set_defaults(run=_predict)


def _predict(args: Namespace) -> Any:
    from btcml.pipeline.predict import predict

    session = open_session(args)
    forecast = predict(session.store, session.settings, session.key).at(args.horizon)
    decisions = {} if args.cost_bp is None else {"decisions": forecast.decisions(args.cost_bp)}
    return forecast.to_dict() | decisions


def _declare_address(parser: ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (beyond loopback: BTCML_API_KEY)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on")


def _declare_api(parser: ArgumentParser) -> None:
    _declare_address(parser)
    parser.add_argument("--root-path", default="", help="path below which a proxy serves the API, such as /api")
    parser.set_defaults(run=_api)


def _api(args: Namespace) -> None:
    require_extra("api", "serve")
    from btcml.serve.api import serve_api

    serve_api(load_settings(), args.host, args.port, root_path=_root_path(args.root_path))


def _root_path(given: str) -> str:
    """A path that starts with a slash and ends without; empty: none."""
    path = given.strip("/")
    return f"/{path}" if path else ""


def _declare_schedule(parser: ArgumentParser) -> None:
    parser.add_argument("--days", type=int, default=_DAYS, help="days of candles to fetch and to train on")
    parser.set_defaults(run=_schedule)


def _schedule(args: Namespace) -> None:
    from btcml.pipeline.schedule import run_schedule

    run_schedule(load_settings(), args.days)


def _declare_dashboard(parser: ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8866, help="port to listen on (default 8866)")
    parser.add_argument("--warm", type=int, default=2, help="kernels kept ready for visitors (default 2)")
    parser.add_argument("--visitors", type=int, default=24, help="maximum number of visitors (default 24)")
    parser.add_argument("--visitors-per-address", type=int, default=12, help="maximum from one address (default 12)")
    parser.add_argument("--root-path", default="", help="path below which a proxy serves the page, such as /btcml")
    parser.add_argument("--sleep", type=int, default=600, help="seconds that a hidden tab keeps its kernel")
    parser.add_argument("--no-api", action="store_true", help="never start an API, only use the one that answers")
    parser.add_argument("--reports", type=Path, default=Path("reports/build"), help="where reports are built")
    parser.set_defaults(run=_dashboard)


def _dashboard(args: Namespace) -> None:
    require_extra("dashboard", "dashboard")
    from btcml.serve.dashboard_server import DashboardOptions, buttons_locked
    from btcml.serve.up import run_dashboard

    settings = load_settings()
    locked = buttons_locked(settings, args.host)
    limits = {"most": args.visitors, "most_per_address": args.visitors_per_address, "sleep_s": args.sleep}
    place = {"root_path": _root_path(args.root_path), "reports": args.reports}
    options = DashboardOptions(args.host, args.port, locked, args.warm, **limits, **place)
    run_dashboard(settings, options, own_api=not args.no_api, say=say)


def _declare_up(parser: ArgumentParser) -> None:
    _declare_address(parser)
    parser.add_argument("--symbol", help="the exchange's symbol (default: BTCML_SYMBOLS)")
    parser.add_argument("--interval", help="length of a candle, 1m to 1w (default: BTCML_INTERVAL)")
    parser.add_argument("--source", help="binance, simulated, auto, or a file or folder (default: BTCML_SOURCE)")
    parser.add_argument("--days", type=int, default=_DAYS, help="days of candles to fetch and to train on")
    parser.add_argument("--dashboard-port", type=int, default=8866, help="port of the dashboard")
    parser.add_argument("--no-dashboard", action="store_true", help="API and scheduler only")
    parser.set_defaults(run=_up)


def _up(args: Namespace) -> None:
    require_extra("up", "serve" if args.no_dashboard else "dashboard")
    from btcml.serve.up import run_up

    port = None if args.no_dashboard else args.dashboard_port
    run_up(open_settings(args), args.host, args.port, args.days, port)


VERBS: Verbs = {
    "train": (_declare_train, "fit all models, judge at most once a day which of them is served"),
    "predict": (_declare_predict, "forecast the next candle now"),
    "api": (_declare_api, "serve forecasts over HTTP"),
    "schedule": (_declare_schedule, "ingest, forecast and train when they are due"),
    "up": (_declare_up, "run API, scheduler and dashboard together"),
    "dashboard": (_declare_dashboard, "serve the dashboard, and start the API if none answers"),
}
"""What each verb takes, and one line about it."""
