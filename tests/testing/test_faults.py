"""The file of faults: every kind is understood, and a mistake in it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from btcml.contract import load_contract
from btcml.errors import UsageError
from btcml.testing import faults as module
from btcml.testing.faults import KINDS, RULES, Fault, FaultBook, load_faults, parse_faults, spoil_rows

ROWS = [[t * 60_000, "2", "3", "1", "2", "9", t * 60_000 + 59_999, "18", 5, "4", "8", "0"] for t in range(6)]


def test_yaml_and_json_are_read_alike(tmp_path: Path) -> None:
    """A list, or an object with the list; both languages."""
    yaml, json = tmp_path / "faults.yaml", tmp_path / "faults.json"
    yaml.write_text("- {kind: ban, after: 2, retry_after: 300}\n- kind: hole\n  rows: 4\n")
    json.write_text('{"faults": [{"kind": "ban", "after": 2, "retry_after": 300}, {"kind": "hole", "rows": 4}]}')
    assert load_faults(yaml) == load_faults(json)
    assert load_faults(yaml)[0].retry_after == 300


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ([{"kind": "earthquake"}], "0.kind"),
        ([{"kind": "ban", "afer": 1}], "0.afer"),
        ([{"kind": "ban"}, {"kind": "hole", "rows": 0}], "1.rows"),
        ("ban", "the top"),
    ],
)
def test_a_mistake_is_named_by_its_place(data: object, place: str) -> None:
    """Exit 2 with one sentence, before the exchange opens."""
    with pytest.raises(UsageError, match=f"an error at {place}"):
        parse_faults(data)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    """The path is in it."""
    with pytest.raises(UsageError, match=r"none\.yaml cannot be read"):
        load_faults(tmp_path / "none.yaml")


def test_every_kind_is_documented() -> None:
    """The module's table is the manual: no kind without a line in it."""
    assert all(f"\n{kind} " in (module.__doc__ or "") for kind in KINDS)


def test_every_rule_of_the_contract_can_be_broken() -> None:
    """The names are the contract's own."""
    assert {rule.name for rule in load_contract().rules} <= set(RULES)


def test_a_fault_comes_after_so_many_requests_and_so_many_times() -> None:
    """Counted per route; 0 times is for ever."""
    book = FaultBook((Fault(kind="server_error", after=1, times=2), Fault(kind="missing", times=0)))
    assert [bool(book.due("klines")) for _ in range(5)] == [False, True, True, False, False]
    assert [bool(book.due("archive")) for _ in range(3)] == [True] * 3
    assert not book.due("time")


def test_of_two_faults_at_once_the_second_waits() -> None:
    """A 429 and a ban do not share one answer, but a shifted clock goes with any other."""
    book = FaultBook((Fault(kind="rate_limit"), Fault(kind="clock", times=0), Fault(kind="ban")))
    assert [[fault.kind for fault in book.due("klines")] for _ in range(3)] == [
        ["rate_limit", "clock"],
        ["clock", "ban"],
        ["clock"],
    ]


@pytest.mark.parametrize("kind", ["duplicated", "unordered", "hole", "bad_row", "partial", "restated"])
def test_a_fault_of_content_changes_the_page_and_leaves_the_rows_alone(kind: str) -> None:
    """The source's rows are not touched: the next answer is right."""
    before = [list(row) for row in ROWS]
    assert spoil_rows(ROWS, Fault(kind=kind)) != ROWS
    assert before == ROWS


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_is_broken_in_one_row_only(rule: str) -> None:
    """The row that was requested, and no other."""
    spoilt = spoil_rows(ROWS, Fault(kind="bad_row", rule=rule, row=2))
    assert [i for i, row in enumerate(spoilt) if row != ROWS[i]] == [2]


def test_other_kinds_leave_the_rows_as_they_are() -> None:
    """A reset is a fault of delivery."""
    assert spoil_rows(ROWS, Fault(kind="reset")) == ROWS
