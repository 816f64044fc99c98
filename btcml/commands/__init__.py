"""Verbs of the command line: what each takes, and the call that it makes.

A group of verbs is a module with a table ``VERBS``: name to (declare, one line of help). Imports
stand inside the functions, so that ``btcml --help`` does not load what only one verb needs.
"""

from __future__ import annotations

from btcml.commands import candles, contest, dashboard, database, lab, operations, service, story

__all__ = ["VERBS"]

VERBS = (
    candles.VERBS
    | service.VERBS
    | contest.VERBS
    | dashboard.VERBS
    | story.VERBS
    | lab.VERBS
    | database.VERBS
    | operations.VERBS
)
"""Every verb, in the order of the help page."""
