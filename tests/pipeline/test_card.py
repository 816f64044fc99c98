"""The model card says what a training made, and what it is not for."""

from __future__ import annotations

from btcml.candles import SeriesKey
from btcml.pipeline.card import CARD, model_card, save_card
from btcml.pipeline.train import Trained

TRAINED = Trained(
    key=SeriesKey("simulated", "BTCUSDT", "5m"),
    artifact="20250630T000000-abcdef01",
    champion="persistence",
    judged=True,
    verdict={"reason": "no model beats persistence"},
    figures={
        "huber": {"mae_usd": 80.5, "mae_bp": float("nan"), "skill": 0.004},
        "persistence": {"mae_usd": 81.0, "skill": 0.0},
    },
    samples=900,
    split_train=900,
    split_total=1000,
    validation_start=None,
    window=("2025-01-01T00:00:00+00:00", "2025-06-30T00:00:00+00:00"),
    snapshot="ab" * 32,
    bytes=10,
)


def test_a_card_has_persistence_first_and_the_reason_of_its_champion():
    """Data by hash, figures beside "no change", limits and misuse."""
    card = model_card(TRAINED)
    assert card.index("| persistence |") < card.index("| huber | 80.5 | - | 0.004 |")
    assert "no model beats persistence" in card
    assert TRAINED.snapshot in card
    assert "## Not for" in card


def test_a_card_is_a_file_in_the_folder_of_its_series(tmp_path):
    """The newest training's, whole."""
    (tmp_path / CARD).write_text("old", encoding="utf-8")
    assert save_card(TRAINED, tmp_path).read_text(encoding="utf-8") == model_card(TRAINED)
