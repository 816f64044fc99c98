"""The model card: what a training made, how good it is, and what it must not be used for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from btcml.files import write_text

if TYPE_CHECKING:
    from pathlib import Path

    from btcml.pipeline.train import Trained

__all__ = ["CARD", "model_card", "save_card"]

CARD = "MODEL_CARD.md"
"""Name of the file, in the folder of a series' models."""

_FIGURES = ("mae_usd", "mae_bp", "skill", "direction", "coverage")


def model_card(trained: Trained) -> str:
    """Model card of a training, as Markdown.

    Parameters
    ----------
    trained
        What the training did.
    """
    parts = (
        f"# Model card: {trained.key}, {trained.artifact}",
        "Written by the training itself; the next one writes it anew.",
        f"## What is served\n\n{_served(trained)}",
        f"## Data\n\n{_data(trained)}",
        f"## How good it is\n\n{_skill(trained)}",
        f"## Limits\n\n{_LIMITS}",
        f"## Not for\n\n{_MISUSE}",
    )
    return "\n\n".join(parts) + "\n"


_LIMITS = """* The skill is a fraction of a percent of the error, and smaller than the cost of a trade on any exchange.
* It was measured on one symbol, interval and span; it has shrunk from year to year.
* The recipe was chosen on real BTCUSDT candles of 2021 to 2025: expect unseen months to be a little worse.
* Forecasts after a gap in the candles wait until the features are warm again.
* The 90 % interval is right on average; on the worst days it covers less."""

_MISUSE = """* Trading on it: what is left after costs is nothing.
* Symbols, intervals or markets other than the one above.
* Horizons beyond the next candle."""


def _served(trained: Trained) -> str:
    reason = trained.verdict.get("reason", "no verdict yet")
    return f"`{trained.champion}` serves the close: {reason}. Judged {'now' if trained.judged else 'earlier today'}."


def _data(trained: Trained) -> str:
    first, last = trained.window
    return (
        f"{trained.split_total:,} final candles from {first} to {last}, of which {trained.samples:,} were fitted on. "
        f"Content hash of the candles: `{trained.snapshot}`. Suspect spans were left out of the fit."
    )


def _skill(trained: Trained) -> str:
    """Table of the held-out span, persistence first."""
    names = sorted(trained.figures, key=lambda name: (name != "persistence", name))
    head = "| model | " + " | ".join(_FIGURES) + " |\n|---|" + "---|" * len(_FIGURES)
    rows = [
        f"| {name} | " + " | ".join(_shown(trained.figures[name].get(f)) for f in _FIGURES) + " |" for name in names
    ]
    table = "\n".join([head, *rows]) if rows else "There are too few candles to hold any out."
    return f"On the held-out end of the window, each beside persistence, which is “next close = this close”:\n\n{table}"


def _shown(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, (int, float)) and math.isfinite(value) else "-"


def save_card(trained: Trained, folder: Path) -> Path:
    """Write the card of a training into the folder of its series."""
    return write_text(folder / CARD, model_card(trained))
