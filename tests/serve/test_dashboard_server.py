"""How Voilà is set up for the dashboard: what reaches the kernels, what is allowed, when it refuses to start."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
from pathlib import Path

import pytest
from jupyter_server.services.kernels.kernelmanager import ServerKernelManager
from pydantic import SecretStr

from btcml.errors import UsageError
from btcml.serve.dashboard_server import (
    DashboardServer,
    Seat,
    _configuration,
    _Kernels,
    kernel_environment,
    notebook_file,
    serve_dashboard,
)
from btcml.settings import Settings

SEAT = Seat("127.0.0.1", 8866, locked=False, warm=2, most=5, reports=Path("reports/build"))


@pytest.fixture
def plain(tmp_path):
    """Settings with each secret that a kernel may need."""
    return Settings(
        database_url=SecretStr("postgresql://u:db-word@h/d"),
        btcml_home=tmp_path,
        btcml_api_key=SecretStr("key-word"),
        btcml_dashboard_password=SecretStr("pass-word"),
        btcml_symbols=("BTCUSDT", "ETHUSDT"),
    )


def test_kernels_know_what_they_need_and_not_the_database(plain):
    """A kernel is a client of the API: no password of the database reaches it by our hand."""
    values = kernel_environment(plain, dataclasses.replace(SEAT, locked=True, reports=Path("r"), sleep_s=7))
    assert values["BTCML_SYMBOLS"] == "BTCUSDT,ETHUSDT"
    assert (values["BTCML_API_KEY"], values["BTCML_DASHBOARD_PASSWORD"]) == ("key-word", "pass-word")
    assert (values["BTCML_DASHBOARD_LOCKED"], values["BTCML_DASHBOARD_SLEEP"]) == ("1", "7")
    assert "db-word" not in json.dumps(values)


def test_a_page_may_ask_its_own_host_only():
    """Law 10, said to the browser too."""
    policy = _configuration(SEAT).Voila.tornado_settings["headers"]["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy


def test_only_a_locked_dashboard_answers_to_any_name():
    """On loopback another host name is a page that wants to reach this machine."""
    assert not _configuration(SEAT).Voila.tornado_settings["allow_remote_access"]
    away = Seat("0.0.0.0", 1, locked=True, warm=1, most=1, reports=Path())  # noqa: S104 - nothing listens
    assert _configuration(away).Voila.tornado_settings["allow_remote_access"]


def test_kernels_go_soon_after_their_tab():
    """Half a minute without a connection, and never while a tab is open."""
    culling = _configuration(SEAT).MappingKernelManager
    assert culling.cull_idle_timeout <= 30
    assert not culling.cull_connected


def test_a_kernel_that_is_still_on_its_way_is_left_alone():
    """It has no last activity yet, and asking for its age fills the log with an error."""
    manager = _Kernels(parent=None)
    manager._pools, manager._kernels["k"] = {}, ServerKernelManager()
    asyncio.run(manager.cull_kernel_if_idle("k"))
    assert "k" in manager


def test_voila_runs_no_server_extension_of_the_user():
    """Only our configuration counts: no file of a home folder changes the page."""
    assert _configuration(SEAT).Voila.config_file_paths == []
    assert DashboardServer.most > 0


def test_a_taken_port_is_one_sentence(plain):
    """Before anything heavy starts."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        seat = Seat("127.0.0.1", taken.getsockname()[1], locked=False, warm=1, most=1, reports=Path())
        with pytest.raises(UsageError, match="choose another --port"):
            serve_dashboard(plain, seat, lambda: None)


def test_the_notebook_is_thin_and_carries_no_outputs():
    """One import, one call; the story in Markdown."""
    cells = json.loads(notebook_file().read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert code == ["from btcml.serve.dashboard import show", "show()"]
    assert all(cell.get("outputs", []) == [] for cell in cells)


def test_the_documents_are_linked_where_they_were_built(plain, tmp_path, monkeypatch):
    """Served by the dashboard itself, beside the reports; no link leads nowhere."""
    monkeypatch.chdir(tmp_path)
    assert kernel_environment(plain, SEAT)["BTCML_DOCUMENTS"] == ""
    (tmp_path / "build" / "docs").mkdir(parents=True)
    (tmp_path / "build" / "docs" / "index.html").touch()
    assert kernel_environment(plain, SEAT)["BTCML_DOCUMENTS"] == "documents/index.html"
