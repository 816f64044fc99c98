"""Verbs of operations: doctor."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from btcml.settings import load_settings

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

__all__ = ["VERBS"]


def _declare_doctor(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--scheduler", action="store_true", help="only tell whether the scheduler works (for health checks)"
    )
    parser.set_defaults(run=_doctor)


def _doctor(args: Namespace) -> Any:
    """The page or one JSON object on standard output, whatever was found; exit status 1 where something is bad."""
    from btcml.commands.session import say
    from btcml.pipeline.doctor import examine, examine_scheduler, render

    settings = load_settings()
    findings = [examine_scheduler(settings)] if args.scheduler else examine(settings)
    bad = [finding for finding in findings if finding.status == "bad"]
    warnings = sum(finding.status == "warn" for finding in findings)
    facts: dict[str, Any] = {"status": "bad" if bad else "ok", "bad": len(bad), "warnings": warnings}
    facts["findings"] = [vars(finding) for finding in findings]
    if not bad:
        return facts if args.json else render(findings)
    sys.stdout.write((json.dumps(facts) if args.json else render(findings)) + "\n")
    say(f"btcml: {len(bad)} of {len(findings)} findings are bad; the first, {bad[0].name}: {bad[0].cure}")
    raise SystemExit(1)


VERBS: dict[str, tuple[Callable[[ArgumentParser], None], str]] = {
    "doctor": (_declare_doctor, "look at everything that can be wrong, and say what to do"),
}
"""What each verb takes, and one line about it."""
