"""Which models stand for which roles, and which are means of others."""

from __future__ import annotations

__all__ = ["DIRECTION", "MEANS", "RANGE", "members_of"]

MEANS: dict[str, tuple[str, ...]] = {"lightgbm_mean": ("lightgbm_huber", "lightgbm_l1")}
"""Models that are the mean of others, which are fitted once for both."""

DIRECTION = "direction"
"""The classifier that gives prob_up."""

RANGE = "range_boosting"
"""The range model that scales the intervals."""


def members_of(name: str) -> tuple[str, ...]:
    """Models to fit for a name; persistence needs none.

    Examples
    --------
    >>> members_of("lightgbm_mean")
    ('lightgbm_huber', 'lightgbm_l1')
    """
    return () if name == "persistence" else MEANS.get(name, (name,))
