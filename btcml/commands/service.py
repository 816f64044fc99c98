"""Verbs of the service: train, predict, api, schedule, up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btcml.commands.session import Session, declare_series, open_session
from btcml.settings import load_settings

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

__all__ = ["VERBS"]

_DAYS = 1095


def _declare_train(parser: ArgumentParser) -> None:
    declare_series(parser, days=_DAYS)
    parser.set_defaults(run=_train)


def _train(args: Namespace) -> Any:
    return _job(open_session(args), "train", days=args.days)


def _job(session: Session, kind: str, **parameters: Any) -> Any:
    """Do a job of the log here, and answer its result."""
    from btcml.serve.work import Bench, JobError, perform
    from btcml.store.jobs import append_job

    bench = Bench(session.settings, session.store, session.source)
    number = append_job(session.store, kind, session.key, asked_by="cli", parameters=parameters)
    job = perform(bench, number or 0)
    if job.status != "ok":
        raise JobError(job)
    return job.result


def _declare_predict(parser: ArgumentParser) -> None:
    declare_series(parser)
    parser.set_defaults(run=_predict)


def _predict(args: Namespace) -> Any:
    from btcml.pipeline.predict import predict
    from btcml.serve.state import prediction_facts

    session = open_session(args)
    return prediction_facts(predict(session.store, session.settings, session.key))


def _declare_api(parser: ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (beyond loopback: BTCML_API_KEY)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on")
    parser.set_defaults(run=_api)


def _api(args: Namespace) -> None:
    from btcml.serve.api import serve_api

    serve_api(load_settings(), args.host, args.port)


def _declare_schedule(parser: ArgumentParser) -> None:
    parser.add_argument("--days", type=int, default=_DAYS, help="days of candles to have and to train on")
    parser.set_defaults(run=_schedule)


def _schedule(args: Namespace) -> None:
    from btcml.serve.schedule import run_schedule

    run_schedule(load_settings(), args.days)


def _declare_up(parser: ArgumentParser) -> None:
    _declare_api(parser)
    parser.add_argument("--days", type=int, default=_DAYS, help="days of candles to have and to train on")
    parser.add_argument("--dashboard-port", type=int, default=8866, help="port of the dashboard")
    parser.add_argument("--no-dashboard", action="store_true", help="API and scheduler only")
    parser.set_defaults(run=_up)


def _up(args: Namespace) -> None:
    from btcml.serve.up import run_up

    port = None if args.no_dashboard else args.dashboard_port
    run_up(load_settings(), args.host, args.port, args.days, port)


VERBS: dict[str, tuple[Callable[[ArgumentParser], None], str]] = {
    "train": (_declare_train, "fit all models, judge at most once a day who serves"),
    "predict": (_declare_predict, "forecast the next candle now"),
    "api": (_declare_api, "serve forecasts over HTTP"),
    "schedule": (_declare_schedule, "ingest, forecast and train when they are due"),
    "up": (_declare_up, "run API, scheduler and dashboard together"),
}
"""What each verb takes, and one line about it."""
