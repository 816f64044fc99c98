"""Frozen settings and run parameters, created once and passed on as arguments."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from btcml.candles import LONGEST_HORIZON, SeriesKey, check_symbol, interval_delta
from btcml.errors import UsageError
from btcml.system import public_url

Topic = Literal["champion", "coverage", "dead feed", "missed forecast", "forecast"]
TOPICS: tuple[Topic, ...] = get_args(Topic)
"""Topics of alerts."""

_YEARS = range(2000, 2200)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration(text: str) -> timedelta:
    """Length of time from a number and a unit: s, m, h or d.

    Raises
    ------
    UsageError
        If the text is of another form or not positive.

    Examples
    --------
    >>> duration("15m")
    datetime.timedelta(seconds=900)
    """
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if match is None or int(match[1]) == 0:
        msg = f"a duration is a positive number and one of s, m, h, d, such as 15m, found {text!r}"
        raise UsageError(msg)
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def text_for(parse: Callable[[str], object]) -> AfterValidator:
    """Validator that keeps the text and raises what `parse` raises."""
    return AfterValidator(lambda text: (parse(text), text)[1])


_Interval = Annotated[str, text_for(interval_delta)]
_Duration = Annotated[str, text_for(duration)]


def _urls(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        with suppress(ValueError):  # of a port or of brackets
            if re.fullmatch(r"https?://[^\s/]+(/\S*)?", value) and urlsplit(value).port != 0:
                continue
        msg = f"expected an address such as https://api.binance.com, found {public_url(value)!r}"
        raise ValueError(msg)
    return tuple(value.rstrip("/") for value in values)


def _url(value: str) -> str:
    return "".join(_urls((value,) if value else ()))


def _horizons(values: tuple[int, ...]) -> tuple[int, ...]:
    if list(values) != sorted(set(values)) or values[:1] != (1,) or values[-1] > LONGEST_HORIZON:
        found = ",".join(map(str, values)) or "none"
        msg = f"expected numbers of candles from 1 to {LONGEST_HORIZON}, ascending, the first of them 1, found {found}"
        raise ValueError(msg)
    return values


class Settings(BaseSettings):
    """Locations, credentials and schedule, from the environment or ``.env``.

    Examples
    --------
    >>> Settings(database_url=None, btcml_ingest_every="5m").btcml_interval
    '5m'
    """

    model_config = SettingsConfigDict(frozen=True, env_file=".env", extra="ignore", env_ignore_empty=True)

    database_url: SecretStr | None = Field(None, description="PostgreSQL server; unset: the embedded one.")
    btcml_home: Path = Field(Path(".btcml"), description="State folder: embedded database, snapshots, caches.")
    models_dir: Path | None = Field(None, description="Trained models; unset: models in the state folder.")
    api_base_url: str = Field("http://127.0.0.1:8000", description="Where the dashboard finds the API.")
    btcml_api_key: SecretStr | None = Field(
        None, description="Bearer key that changing routes then require; needed to listen beyond loopback."
    )
    btcml_api_public_url: str = Field("", description="The API as browsers reach it, for links; empty: API_BASE_URL.")
    btcml_adminer_url: str = Field("", description="Adminer as browsers reach it, for a link; empty: no link.")
    btcml_dashboard_password: SecretStr | None = Field(
        None, description="Password that the dashboard's buttons then require; needed beyond loopback."
    )
    btcml_binance_urls: Annotated[tuple[str, ...], NoDecode, AfterValidator(_urls)] = Field(
        ("https://data-api.binance.vision", "https://api.binance.com"),
        description="The exchange's hosts, tried in this order.",
    )
    btcml_archive_url: str = Field("https://data.binance.vision", description="The exchange's monthly archive.")
    btcml_symbols: Annotated[tuple[str, ...], NoDecode] = Field(
        ("BTCUSDT",),
        description="Symbols that the scheduler keeps fresh; a model is fitted on all of them.",
    )
    btcml_interval: _Interval = Field("5m", description="Interval where none is given.")
    btcml_cors_origins: Annotated[tuple[str, ...], NoDecode, AfterValidator(_urls)] = Field(
        (), description="Web pages of other origins that may use the API, such as http://localhost:8866."
    )
    report_language: str = Field("en", description="Language of reports where none is given: en or pt-BR.")
    btcml_source: str = Field("auto", description="binance, simulated, auto, or a file or folder of candles.")
    btcml_ingest_every: _Duration = Field("5m", description="Longest pause between ingests; each close is one, too.")
    btcml_train_every: _Duration = Field("15m", description="Pause between trainings.")
    btcml_horizons: Annotated[tuple[int, ...], NoDecode, AfterValidator(_horizons)] = Field(
        (1, 3, 12, 48), description="Candles ahead that are forecast; 1: the next one alone."
    )
    btcml_alerts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Addresses that alerts are sent to: webhooks, or addresses of apprise (the extra alerts)."
    )
    btcml_alert_key: SecretStr | None = Field(None, description="Key that signs the webhooks of alerts.")
    btcml_alert_topics: Annotated[tuple[Topic, ...], NoDecode] = Field(
        TOPICS[:-1], description=f"Topics that alerts are sent about, of {', '.join(TOPICS)}."
    )
    btcml_alert_every: _Duration = Field("1h", description="Shortest pause between two alerts of a topic.")
    btcml_publish_dir: Path | None = Field(
        None,
        description="Where the scheduler publishes the record after each candle (the extra record); unset: nowhere.",
    )
    btcml_tsa_url: Annotated[str, AfterValidator(_url)] = Field(
        "",
        description="Authority that stamps each published checkpoint (RFC 3161; the extra record); empty: none.",
    )
    btcml_app_password: SecretStr | None = Field(
        None, description="Password that btcml db migrate gives the role btcml_app on a server."
    )
    btcml_read_password: SecretStr | None = Field(
        None, description="Password that btcml db migrate gives btcml_read, the role that may only read."
    )

    @field_validator(
        *("btcml_binance_urls", "btcml_symbols", "btcml_horizons", "btcml_cors_origins"),
        *("btcml_alerts", "btcml_alert_topics"),
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @property
    def home(self) -> Path:
        """Absolute path of the state folder."""
        return self.btcml_home.expanduser().absolute()

    @property
    def models(self) -> Path:
        """Absolute path of the folder of trained models."""
        return (self.models_dir or self.home / "models").expanduser().absolute()


def load_settings() -> Settings:
    """Settings of this process, from the environment and ``.env``.

    Raises
    ------
    UsageError
        If a variable has an invalid value; the message names it.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"][:1]).upper()
        msg = f"the setting {name} is wrong: {_message(first)}"
        raise UsageError(msg) from error


def _check_end(text: str) -> None:
    year = None
    with suppress(ValueError):
        year = datetime.fromisoformat(text or "2000-01-01").year
    if year not in _YEARS:
        msg = f"expected a UTC time such as 2025-06-30T00:00, found {text!r}"
        raise ValueError(msg)


class RunParameters(BaseModel):
    """Parameters of one run; each of them changes the result.

    Examples
    --------
    >>> RunParameters(interval="15m", days=30).key("simulated").interval
    '15m'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    symbol: Annotated[str, AfterValidator(check_symbol)] = Field("BTCUSDT", description="the exchange's symbol")
    interval: _Interval = Field("5m", description="length of a candle")
    days: int = Field(1095, ge=1, le=20_000, description="span of candles before the end, in days")
    end: Annotated[str, text_for(_check_end)] = Field("", description="UTC time; empty: the source's own")
    source: str = Field("auto", min_length=1, description="binance, simulated, auto, or a path")

    def key(self, market: str) -> SeriesKey:
        """Key of the series of this run in a market."""
        return SeriesKey(market, self.symbol, self.interval)

    @property
    def end_time(self) -> datetime | None:
        """End as a timezone-aware time, or None where the source decides."""
        if not self.end:
            return None
        time = datetime.fromisoformat(self.end)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def run_parameters(**values: Any) -> RunParameters:
    """Validate the parameters of a run.

    Raises
    ------
    UsageError
        Naming the first parameter that is unknown, missing or ill-typed, with a suggestion.
    """
    try:
        return RunParameters(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(name, RunParameters.model_fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(RunParameters.model_fields)}"
            msg = f"unknown parameter {name}: {hint}"
        else:
            meaning = RunParameters.model_fields[name].description
            msg = f"the parameter {name} ({meaning}) is wrong: {_message(first)}"
        raise UsageError(msg) from error


def _message(found: Any) -> str:
    """Pydantic's message, with the value once."""
    message = re.sub(r"^(Value error|Assertion failed), ", "", found["msg"])
    return message if ", found " in message else f"{message}, found {public_url(repr(found['input']))}"
