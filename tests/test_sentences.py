"""Sentences that keep their values."""

from __future__ import annotations

import copy
import json
import pickle

from btcml.sentences import Sentence


def test_a_sentence_is_its_english_text_and_keeps_its_values_in_copies_and_json() -> None:
    """Values with braces are values; a text without parts stays a text."""
    inner = Sentence("{number} of {name}", number=3, name="{x}")
    made = Sentence("found {inner}.", inner=inner)
    assert (made, json.dumps([made])) == ("found 3 of {x}.", '["found 3 of {x}."]')
    stored = Sentence.of(json.loads(json.dumps(made.parts)))
    for same in (stored, copy.deepcopy(made), pickle.loads(pickle.dumps(made))):  # noqa: S301 - our own bytes
        assert isinstance(same, Sentence)
        assert (same, same.parts) == (made, made.parts)
    assert Sentence.of("an old note of {what}") == "an old note of {what}"
