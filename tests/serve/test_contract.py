"""The service against its own description: every route, every parameter, no surprise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import hypothesis
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

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
)
SLOW = ("/train", "/init/backfill")
"""Routes that work for seconds: the fuzzer calls them with what they refuse only."""


def _fuzz(service, cases, seed):
    """Generate requests for every operation; how many were made."""
    service.post("/ingest/run")
    schema = schemathesis.openapi.from_dict(requests.get(service.url + "/openapi.json", timeout=30).json())
    schema.config.update(base_url=service.url)
    made = 0
    for operation in schema.get_all_operations():
        operation = operation.ok()  # noqa: PLW2901 - the result's value
        if operation.path in SLOW:
            continue

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


def test_a_short_fuzz_finds_no_undocumented_answer(service):
    """A few cases of every route: no 5xx, no undocumented status, no schema violation."""
    assert _fuzz(service, 4, seed=1) >= 60


@pytest.mark.soak
def test_thousands_of_cases_find_no_undocumented_answer(service):
    """The same, at length."""
    assert _fuzz(service, int(os.environ.get("FUZZ_CASES", "130")), seed=2) >= 2000


@pytest.mark.soak
def test_every_check_of_the_tool_passes_in_all_its_phases(service, tmp_path):
    """Examples, coverage, fuzzing and stateful walks along the links, more than two thousand cases together."""
    service.post("/ingest/run")
    command = [str(Path(sys.executable).parent / "schemathesis"), "run", service.url + "/openapi.json"]
    options = [
        "--checks",
        "all",
        "--max-examples",
        os.environ.get("FUZZ_CASES", "130"),
        "--generation-database",
        "none",
    ]
    options += ["--suppress-health-check", "all", "--request-timeout", "60", "--seed", "3", "--no-color"]
    left_out = [option for path in SLOW for option in ("--exclude-path", path)]
    done = subprocess.run([*command, *options, *left_out], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "Stateful" in done.stdout
    found = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert found is not None
    assert int(found[1]) == int(found[2]) >= 2000


@pytest.mark.parametrize("path", SLOW)
@pytest.mark.parametrize("query", ["days=0", "days=5001", "days=x", "interval=7m", "symbol=a/b", "interval=1h&days=-1"])
def test_what_works_for_long_refuses_at_once(service, path, query):
    """422 before anything is begun."""
    before = service.get("/jobs").json()["items"]
    assert service.post(f"{path}?{query}").status_code == 422
    assert service.get("/jobs").json()["items"] == before
