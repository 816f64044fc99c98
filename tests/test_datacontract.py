"""The Open Data Contract Standard's own tool accepts our contract on a real database."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml
from sqlalchemy import text

from btcml.candles import SeriesKey
from btcml.contract import CONTRACT_FILE
from btcml.files import resource
from btcml.market.simulate import SimulatedMarket
from btcml.store.candles import upsert_candles

TOOL = Path(__file__).parent.parent / ".venv/contract/bin/datacontract"
KEY = SeriesKey("simulated", "BTCUSDT", "5m")
START = pd.Timestamp("2025-01-01", tz="UTC")


@pytest.fixture
def judge(store, tmp_path):
    """Run ``datacontract test`` against the test's database, as the role that may only read."""
    frame = SimulatedMarket().fetch_candles("BTCUSDT", "5m", START, START + pd.Timedelta(days=2))
    upsert_candles(store, KEY, frame, source="test", at=START)
    contract = yaml.safe_load((resource("data_contracts") / CONTRACT_FILE).read_text(encoding="utf-8"))
    contract["servers"][0] |= {"host": store.url.query["host"], "database": store.url.database}
    path = tmp_path / CONTRACT_FILE
    path.write_text(yaml.safe_dump(contract, sort_keys=False), encoding="utf-8")
    login = {"DATACONTRACT_POSTGRES_USERNAME": "btcml_read", "DATACONTRACT_POSTGRES_PASSWORD": "trusted"}

    def _run():
        command = [str(TOOL), "test", str(path), "--server", "local"]
        return subprocess.run(command, env=os.environ | login, capture_output=True, text=True, check=False)

    return _run


@pytest.mark.tools
def test_the_standards_own_tool_finds_the_contract_kept(judge):
    """Types, keys, nulls and every rule, checked by the standard's own tool."""
    done = judge()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Data contract is valid" in done.stdout


@pytest.mark.tools
def test_the_standards_own_tool_finds_a_planted_broken_row(judge, owner):
    """A row past the constraints: the tool must not stay green."""
    with owner.begin() as connection:
        connection.execute(text("ALTER TABLE candles DROP CONSTRAINT low_is_lowest"))
        connection.execute(text("UPDATE candles SET low = high + 1 WHERE open_time = :t"), {"t": START})
    try:
        done = judge()
    finally:
        with owner.begin() as connection:
            connection.execute(text("DELETE FROM candles"))
            connection.execute(
                text("ALTER TABLE candles ADD CONSTRAINT low_is_lowest CHECK (low <= least(open, close))")
            )
    assert done.returncode != 0
    assert "low_is_lowest" in done.stdout or "Data contract is invalid" in done.stdout
