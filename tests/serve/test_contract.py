"""The service against its own description: every route, every parameter, no surprise."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import hypothesis
import pandas as pd
import pytest
import requests
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from btcml.candles import SeriesKey
from btcml.errors import UsageError
from btcml.market import utc_now
from btcml.market.simulate import SimulatedMarket
from btcml.serve.api import create_app
from btcml.settings import Settings
from btcml.store.engine import open_store
from btcml.testing.exchange import ReplayClock

from ..processes import WAIT_S  # noqa: TID252 - of all tests
from ..replayed import trained_replay  # noqa: TID252 - where drills begin
from .conftest import Listening, Running

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
)
SLOW = ("/train", "/init/backfill")
"""Routes that work for seconds."""


CASES = int(os.environ.get("FUZZ_CASES", "60"))
NOON = pd.Timestamp("2025-03-01 12:00:02", tz="UTC")


class YoungListing:
    """A market whose symbols were listed nine days ago: whatever is requested, there is little to fetch and to fit."""

    symbols = ("BTCUSDT", "ETHUSDT")
    begin, end = NOON - pd.Timedelta(days=9), NOON + pd.Timedelta(days=1)
    path = SimulatedMarket(clock=lambda: YoungListing.end)

    def now(self):
        return NOON

    def span(self, symbol):
        if symbol not in self.symbols:
            msg = f"no symbol {symbol}"
            raise UsageError(msg)
        return self.begin, self.end

    def fetch_candles(self, symbol, interval, start, end, on_page=None):
        return self.path.fetch_candles(symbol, interval, max(start, self.begin), end, on_page)


@pytest.fixture(scope="session")
def young_service(tmp_path_factory):
    """A service on the replay exchange over such a market, trained once: its long routes work for seconds only."""
    settings = Settings(database_url=None, btcml_home=tmp_path_factory.mktemp("young"))
    store, key = open_store(settings), SeriesKey("replay:young", "BTCUSDT", "5m")
    clock = ReplayClock(NOON, utc_now(), speed=0.01)  # or the newest candle would be stale before the end
    with contextlib.ExitStack() as stack:
        ours, _ = stack.enter_context(trained_replay(settings, store, YoungListing(), clock, key))
        yield Running(stack.enter_context(Listening(create_app(ours, store))), ours, store, key)
    store.close()


def _fuzz(operation, cases, seed):
    """Generate requests for an operation; how many were made."""
    made = 0

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=cases,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(case=operation.as_strategy())
    def one(case):
        nonlocal made
        made += 1
        case.call_and_validate(checks=list(CHECKS))

    one()
    return made


def test_a_short_fuzz_finds_no_undocumented_answer(young_service):
    """A few cases of every route: no 5xx, no undocumented status, no schema violation."""
    schema = schemathesis.openapi.from_dict(requests.get(young_service.url + "/openapi.json", timeout=WAIT_S).json())
    schema.config.update(base_url=young_service.url, request_timeout=WAIT_S)
    made = {found.ok().label: _fuzz(found.ok(), 4, seed=1) for found in schema.get_all_operations()}
    assert sum(made.values()) >= 60
    assert {f"POST {path}" for path in SLOW} <= {label for label, count in made.items() if count}


@pytest.mark.soak
def test_every_check_of_the_tool_passes_in_all_its_phases(young_service, tmp_path):
    """Every route: examples, coverage, fuzzing and stateful walks along the links, more than two thousand cases."""
    command = [str(Path(sys.executable).parent / "schemathesis"), "run", young_service.url + "/openapi.json"]
    options = f"--checks all --max-examples {CASES} --generation-database none --suppress-health-check all"
    options += " --request-timeout 600 --max-response-time 600 --seed 3 --no-color"  # a training may take its time
    done = subprocess.run([*command, *options.split()], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "Stateful" in done.stdout
    operations = len(requests.get(young_service.url + "/openapi.json", timeout=WAIT_S).json()["paths"])
    assert int(re.search(r"Tested: (\d+)", done.stdout)[1]) >= operations
    found = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert found is not None
    assert int(found[1]) == int(found[2]) >= 2000 * CASES / 60


@pytest.mark.parametrize("path", SLOW)
@pytest.mark.parametrize("query", ["days=0", "days=5001", "days=x", "interval=7m", "symbol=a/b", "interval=1h&days=-1"])
def test_what_works_for_long_refuses_at_once(service, path, query):
    """422 before anything is begun."""
    before = service.get("/jobs").json()["items"]
    assert service.post(f"{path}?{query}").status_code == 422
    assert service.get("/jobs").json()["items"] == before
