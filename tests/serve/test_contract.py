"""The service against its own description: every route, every parameter, no surprise."""

from __future__ import annotations

import os

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
