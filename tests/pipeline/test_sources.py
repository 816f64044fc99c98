from __future__ import annotations

import pytest

from btcml.errors import SourceError
from btcml.pipeline import sources
from btcml.pipeline.sources import make_source, shared_source
from btcml.store.market_choice import read_choice


@pytest.fixture
def auto(settings):
    return settings.model_copy(update={"btcml_source": "auto"})


@pytest.fixture
def network(monkeypatch):
    """Whether Binance answers: set by the test."""
    answers = {"reachable": True}
    monkeypatch.setattr(sources.BinanceMarket, "reachable", lambda _: answers["reachable"])
    monkeypatch.setattr(sources.BinanceMarket, "market", "binance")
    return answers


def test_processes_with_the_source_auto_use_the_market_that_the_first_has_found(auto, store, network):
    """Also where the network comes back in between: an API and a scheduler never disagree."""
    network["reachable"] = False
    assert shared_source(auto, store).market == "simulated"
    network["reachable"] = True
    assert shared_source(auto, store).market == "simulated"
    assert read_choice(store) == "simulated"


def test_the_scheduler_looks_again_when_it_starts_and_the_others_follow(auto, store, network):
    """An installation that once began without a network is not simulated for ever."""
    network["reachable"] = False
    shared_source(auto, store)
    network["reachable"] = True
    assert shared_source(auto, store, anew=True).market == "binance"
    network["reachable"] = False
    assert shared_source(auto, store).market == "binance"


def test_a_source_that_is_named_is_not_shared(settings, store):
    """Each process follows its own settings."""
    assert shared_source(settings, store).market == "simulated"
    assert read_choice(store) is None


def test_a_source_that_does_not_exist_is_one_sentence(settings, store):
    """What was expected, and what was found."""
    with pytest.raises(SourceError, match="expected binance, simulated, auto or a file or folder"):
        make_source(settings, "nowhere.csv", store)
