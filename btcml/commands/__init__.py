"""Verbs of the command line: the options of each, and its call.

A group of verbs is a module with a table ``VERBS``: name to (declare, one line of help). Imports are inside the
functions, so that ``btcml --help`` does not load what only one verb needs.
"""

from __future__ import annotations

from btcml.commands import candles, contest, database, record, report, service

__all__ = ["VERBS"]

VERBS = candles.VERBS | service.VERBS | contest.VERBS | report.VERBS | record.VERBS | database.VERBS
"""Every verb, in the order of the help page."""
