"""Every face says what it said before: command line, HTTP, pages and database schema, against the records."""

from __future__ import annotations

import difflib
import json
import math
import re
from pathlib import Path

import pytest

from tests.frozen.record import Normal, same_anywhere

HERE = Path(__file__).parent
RECORDS = HERE / "records"
MINUS = "\N{MINUS SIGN}"
NUMBER = re.compile(rf"[-{MINUS}+]?\d+(?:,\d{{3}})*(?:\.\d+)?(?:e[-+]?\d+)?")
ADVICE = "if that was intended, run .venv/bin/python tests/frozen/record.py and review the diff of tests/frozen/records"
SHOWN = 60


def _value(text):
    return float(text.replace(MINUS, "-").replace(",", ""))


def same(ours, theirs):
    """Whether two lines agree: texts and whole numbers exactly, others to a millionth of their size."""
    if ours == theirs:
        return True
    if NUMBER.split(ours) != NUMBER.split(theirs):
        return False
    pairs = zip(NUMBER.findall(ours), NUMBER.findall(theirs), strict=True)
    return all(
        a == b or ("." in a + b and math.isclose(_value(a), _value(b), rel_tol=1e-6, abs_tol=1e-9)) for a, b in pairs
    )


def differences(file, record):
    """Lines of a unified diff, without those that agree."""
    ours, theirs = file.read_text("utf-8").splitlines(), record.read_text("utf-8").splitlines()
    if len(ours) == len(theirs):
        ours = [b if same(a, b) else a for a, b in zip(ours, theirs, strict=True)]
    return list(difflib.unified_diff(theirs, ours, f"recorded/{record.name}", f"today/{file.name}", lineterm="", n=1))


def check(folder, *names):
    """Fail with the differences between today's files and their records."""
    found = [line for name in names for line in differences(folder / name, RECORDS / name)]
    more = [f"... and {len(found) - SHOWN} lines more"] if len(found) > SHOWN else []
    assert not found, "\n".join([f"this differs from the record: {ADVICE}", *found[:SHOWN], *more])


def test_the_schema_is_the_recorded_one(faces):
    """Columns, types, constraints, indexes, triggers, views, functions, grants and roles."""
    check(faces, "schema.txt")


def test_every_route_answers_as_recorded(faces):
    """Status, headers and body of reading, changing and refusing answers on a market clock that stands still."""
    check(faces, "routes.json")


def test_the_text_of_every_page_is_as_recorded(report):
    """Visible text of the pages and the gallery."""
    check(report, *_recorded("report", ".txt"), "report/report.json")


def test_every_number_of_the_pages_is_as_recorded(report):
    """The CSV files, and no other."""
    names = _recorded("report/data", ".csv")
    assert sorted(path.name for path in (report / "report/data").iterdir()) == [Path(name).name for name in names]
    check(report, *names)


def test_the_service_describes_itself_as_recorded(faces):
    """The OpenAPI document: routes, parameters, schemas."""
    check(faces, "openapi.json")


def test_no_route_is_forgotten(faces):
    """Each one that the service describes has an answer in the record: a new one is added in record.py."""
    described = json.loads((faces / "openapi.json").read_text("utf-8"))["paths"]
    asked = [line.split(" ", 1) for line in json.loads((faces / "routes.json").read_text("utf-8"))]
    for path, operations in described.items():
        like = re.compile(re.sub(r"\{\w+\}", "[^/?]+", path) + "([? ].*)?")
        for method in operations:
            assert any(verb.lower() == method and like.fullmatch(rest) for verb, rest in asked), (method, path)


def test_every_verb_answers_as_recorded(faces):
    """Exit status, JSON and sentences of every verb that ends; the options of all."""
    check(faces, "cli.json", "options.json")


@pytest.mark.soak
def test_a_report_that_is_made_again_is_the_same(said):
    """What btcml verify says of it."""
    check(said("verified"), "report/verify.json")


def _recorded(folder, ending):
    return sorted(path.relative_to(RECORDS).as_posix() for path in (RECORDS / folder).glob(f"*{ending}"))


def test_one_model_more_changes_no_record():
    """A model is one file and its test; the reference has the names."""
    sentence = "a model is one of {} or a dotted scikit-learn name, found 'nonsense'"
    assert Normal()(sentence.format("arma, ridge")) == Normal()(sentence.format("arma, echo, ridge"))
    assert sentence.format("<models>") in (RECORDS / "cli.json").read_text("utf-8")


@pytest.mark.parametrize("place", ["/a", "/z"])
def test_the_order_of_a_record_does_not_depend_on_where_the_checkout_is(place):
    """A folder that sorts before or after that for temporary files gives the same text."""
    said = {f"restore {place}/home.zip": "whole", "restore /m/x.csv": "refused"}
    assert list(json.loads(same_anywhere(said, Normal(folder="/m", records=place)))) == [
        "restore <folder>/x.csv",
        "restore <records>/home.zip",
    ]


def test_numbers_are_compared_as_numbers_and_text_as_text():
    """A last digit may differ on another processor; a word, a sign or a count may not."""
    assert same('"ratio": 0.99248720408', '"ratio": 0.99248720409')
    assert same(f"1,234.5000001 bp, {MINUS}0.5", f"1,234.5000002 bp, {MINUS}0.5")
    assert not same('"ratio": 0.992487', '"ratio": 0.992387')
    assert not same(f"skill {MINUS}0.5", "skill 0.5")
    assert not same('"rows": 1000001', '"rows": 1000002')
    assert not same("36 candles", "36 rows")
