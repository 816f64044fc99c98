"""Notebooks into reports: run, checked, rendered, described by a manifest and rebuilt to prove it."""
