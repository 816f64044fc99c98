"""Settings and run parameters are frozen, made at the edge, and reject invalid values by name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from btcml.errors import UsageError
from btcml.settings import duration, load_settings, run_parameters


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """No .env of a developer is read."""
    monkeypatch.chdir(tmp_path)


def test_lists_are_comma_separated(monkeypatch):
    """As they stand in an environment."""
    monkeypatch.setenv("BTCML_SYMBOLS", "BTCUSDT, ETHUSDT")
    monkeypatch.setenv("BTCML_BINANCE_URLS", "http://a:1/,https://b")
    settings = load_settings()
    assert settings.btcml_symbols == ("BTCUSDT", "ETHUSDT")
    assert settings.btcml_binance_urls == ("http://a:1", "https://b")


def test_a_file_of_settings_is_read(tmp_path):
    """The .env of the working folder."""
    (tmp_path / ".env").write_text("BTCML_INTERVAL=1h\nUNRELATED=1\n")
    assert load_settings().btcml_interval == "1h"


def test_an_empty_variable_is_no_variable(monkeypatch):
    """Compose files pass empty values for what is not set."""
    monkeypatch.setenv("DATABASE_URL", "")
    assert load_settings().database_url is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BTCML_INTERVAL", "7m"),
        ("BTCML_INGEST_EVERY", "soon"),
        ("BTCML_BINANCE_URLS", "ftp://x"),
        ("BTCML_TRAIN_EVERY", "0m"),
        ("BTCML_HORIZONS", "1,x"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch, name, value):
    """The sentence names the variable or says what would be right."""
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"{name}|one of 1m|a duration is"):
        load_settings()


@pytest.mark.parametrize("value", ["3,12", "1,12,3", "1,3,3", "0,1", "1,-3", "1,1001", ","])
def test_horizons_ascend_from_the_next_candle(monkeypatch, value):
    """By default four; each other wrong list is one sentence that says what is right."""
    assert load_settings().btcml_horizons == (1, 3, 12, 48)
    monkeypatch.setenv("BTCML_HORIZONS", "1, 6")
    assert load_settings().btcml_horizons == (1, 6)
    monkeypatch.setenv("BTCML_HORIZONS", value)
    with pytest.raises(UsageError, match="BTCML_HORIZONS is wrong: expected numbers of candles from 1 to 1000, ascend"):
        load_settings()


def test_models_are_in_the_state_folder_by_default(monkeypatch, tmp_path):
    """MODELS_DIR is system 0's name for it."""
    assert load_settings().models == tmp_path / ".btcml" / "models"
    monkeypatch.setenv("MODELS_DIR", str(tmp_path / "m"))
    assert load_settings().models == tmp_path / "m"


def test_settings_are_frozen_and_hide_secrets(monkeypatch):
    """They are immutable, and printing them shows no password."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:secret@h/d")
    settings = load_settings()
    assert "secret" not in repr(settings)
    with pytest.raises(ValidationError):
        settings.btcml_interval = "1h"


def test_durations_have_a_unit():
    """A number without a unit is ambiguous."""
    assert duration("90s") == timedelta(seconds=90)
    for text in ("90", "m", "-5m", "0h", "5 m"):
        with pytest.raises(UsageError):
            duration(text)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"intervall": "5m"}, "did you mean interval"),
        ({"colour": "red"}, "known are"),
        ({"days": 0}, "days"),
        ({"days": "x"}, "days"),
        ({"symbol": "BTC/USDT"}, "symbol"),
        ({"end": "tomorrow"}, "UTC time"),
        ({"interval": "2m"}, "one of 1m"),
    ],
)
def test_a_wrong_parameter_of_a_run_is_named(values, says):
    """Unknown, missing and ill-typed parameters, with a suggestion."""
    with pytest.raises(UsageError, match=says):
        run_parameters(**values)


def test_an_end_without_a_zone_is_utc():
    """Law 9: time is UTC."""
    assert run_parameters(end="2025-06-30T12:00").end_time == datetime(2025, 6, 30, 12, tzinfo=UTC)
    assert run_parameters(end="2025-06-30T12:00-03:00").end_time == datetime(2025, 6, 30, 15, tzinfo=UTC)
    assert run_parameters().end_time is None


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("symbol", "btcusdt", "found 'btcusdt': write BTCUSDT"),
        ("symbol", "BTC USDT", "found 'BTC USDT': write BTCUSDT"),
        ("symbol", "_", "write it as the exchange does, such as BTCUSDT"),
        ("end", "tomorrow", "such as 2025-06-30T00:00, found 'tomorrow'"),
        ("days", 0, "greater than or equal to 1, found 0"),
    ],
)
def test_a_wrong_parameter_is_shown_once_with_what_would_be_right(name, value, sentence):
    """No regular expression is shown, and the value is not repeated."""
    with pytest.raises(UsageError) as caught:
        run_parameters(**{name: value})
    assert sentence in str(caught.value)
    assert str(caught.value).count("found") == 1


def test_a_wrong_setting_shows_no_secret_of_an_address(monkeypatch):
    """The user's password and a token stay out of the message."""
    monkeypatch.setenv("BTCML_BINANCE_URLS", "https://api.binance.com,ftp://me:secret@host/x?token=secret")
    with pytest.raises(UsageError, match="BTCML_BINANCE_URLS") as refused:
        load_settings()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://[::1", "http://host:99999", "http://host:port", "http://host:0", "ftp://host"])
def test_an_address_that_no_request_can_use_is_a_mistake(monkeypatch, url):
    """It is found where it is set, not by a traceback of whoever uses it."""
    monkeypatch.setenv("BTCML_TSA_URL", url)
    with pytest.raises(UsageError, match="the setting BTCML_TSA_URL is wrong: expected an address such as"):
        load_settings()


@pytest.mark.parametrize("end", ["0001-01-01T00:00+14:00", "9999-12-31", "1970-01-01"])
def test_an_end_in_no_year_of_an_exchange_is_a_mistake(end):
    """Before it, no time could be computed at all."""
    with pytest.raises(UsageError, match="expected a UTC time such as"):
        run_parameters(end=end)
