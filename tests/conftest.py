"""What tests share: the real candles beside the checkout, and a real PostgreSQL of their own."""

from __future__ import annotations

import os
import random
from pathlib import Path

from btcml.processor import limit_instructions

limit_instructions()  # before NumPy is loaded, as in the command line

import hypothesis
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from btcml.settings import Settings
from btcml.store.engine import Store, open_store, owner_url

# A busy machine is no fault of the code: the suite has no timed asserts, and no timed examples.
hypothesis.settings.register_profile("btcml", deadline=None)
hypothesis.settings.load_profile("btcml")

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"


def pytest_collection_modifyitems(config, items):
    """Draw a seeded share of the long drills where SOAK_SHARE says so; what is left out is said."""
    share = float(os.environ.get("SOAK_SHARE", "1"))
    drills = [item for item in items if item.get_closest_marker("soak")]
    if share >= 1 or not drills or "soak" not in config.option.markexpr:
        return
    seed = os.environ.get("SOAK_SEED", "0")
    kept = set(random.Random(seed).sample(range(len(drills)), max(1, round(share * len(drills)))))
    dropped = [item for n, item in enumerate(drills) if n not in kept]
    config.hook.pytest_deselected(items=dropped)
    # The longest stand last: two processes that begin with them end together.
    items[:] = [item for item in items if item not in dropped][::-1]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    """No variable of the developer's shell reaches a test."""
    for name in list(os.environ):
        if name.startswith("BTCML_") or name in {"DATABASE_URL", "MODELS_DIR", "API_BASE_URL", "REPORT_LANGUAGE"}:
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real candles; tests that need it are skipped, and say so, where it is not there."""
    if not SHARED.is_dir():
        pytest.skip("the real candles are not beside this checkout (../shared/data)")
    return SHARED


@pytest.fixture(scope="session")
def home(tmp_path_factory) -> Path:
    """State folder of this test process, with one embedded PostgreSQL."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def settings(home) -> Settings:
    """Settings of a fresh user with the embedded server and the simulated market."""
    return Settings(database_url=None, btcml_home=home, btcml_source="simulated")


@pytest.fixture(scope="session")
def migrated_store(settings) -> Store:
    return open_store(settings)


@pytest.fixture
def owner(settings, migrated_store):  # noqa: ARG001 - the schema must be there
    """Engine of the database's owner: what an administrator, or an attacker, could do."""
    engine = create_engine(owner_url(settings), poolclass=NullPool)
    yield engine
    engine.dispose()


@pytest.fixture
def store(migrated_store, owner) -> Store:
    """An empty database of the newest schema."""
    with owner.begin() as connection:
        names = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'btcml'")).scalars()
        tables = ", ".join(name for name in names if name != "alembic_version")
        connection.execute(text("SET LOCAL session_replication_role = replica"))  # triggers refuse TRUNCATE
        connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY"))
    return migrated_store


@pytest.fixture
def alone(owner):
    """Terminate all other sessions of the database, such as those left by earlier tests."""

    def _alone():
        others = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND usename = 'btcml_app'"
        with owner.connect() as connection:
            for pid in connection.execute(text(others)).scalars().all():
                connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})

    return _alone
