"""Thin faces over the verbs: HTTP service, scheduler and dashboard."""
