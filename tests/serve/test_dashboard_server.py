"""How Voilà is set up for the dashboard: what reaches the kernels, what is allowed, when it refuses to start."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from jupyter_server.services.kernels.kernelmanager import ServerKernelManager
from pydantic import SecretStr
from tornado.httpserver import HTTPServer
from tornado.web import Application

from btcml.errors import UsageError
from btcml.serve.dashboard import FILES
from btcml.serve.dashboard_server import (
    DashboardOptions,
    DashboardServer,
    _configuration,
    _Kernels,
    _TemplateFiles,
    kernel_environment,
    notebook_file,
    serve_dashboard,
)
from btcml.settings import Settings

OPTIONS = DashboardOptions("127.0.0.1", 8866, locked=False, warm=2, most=5, reports=Path("reports/build"))


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
    values = kernel_environment(plain, dataclasses.replace(OPTIONS, locked=True, reports=Path("r"), sleep_s=7))
    assert values["BTCML_SYMBOLS"] == "BTCUSDT,ETHUSDT"
    assert (values["BTCML_API_KEY"], values["BTCML_DASHBOARD_PASSWORD"]) == ("key-word", "pass-word")
    assert (values["BTCML_DASHBOARD_LOCKED"], values["BTCML_DASHBOARD_SLEEP"]) == ("1", "7")
    assert "db-word" not in json.dumps(values)


def test_a_page_may_ask_its_own_host_only():
    """Law 10, said to the browser too."""
    policy = _configuration(OPTIONS).Voila.tornado_settings["headers"]["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy


def test_only_a_locked_dashboard_answers_to_any_name():
    """On loopback another host name is a page that wants to reach this machine."""
    assert not _configuration(OPTIONS).Voila.tornado_settings["allow_remote_access"]
    away = DashboardOptions("0.0.0.0", 1, locked=True, warm=1, most=1, reports=Path())  # noqa: S104 - nothing listens
    assert _configuration(away).Voila.tornado_settings["allow_remote_access"]


def test_a_ping_that_is_not_answered_at_once_closes_no_socket():
    """The time-out is longer than two intervals: equal ones closed every socket at its first ping."""
    settings = _configuration(OPTIONS).Voila.tornado_settings
    assert settings["ws_ping_timeout"] > 2 * settings["ws_ping_interval"] > 0


class _Manager(_Kernels):
    """A manager without processes: kernels are names."""

    def __init__(self):
        self._kernels, self._pools, self._kernel_connections, self._unconnected = {}, {}, {}, {}

    async def shutdown_kernel(self, kernel_id, *, now):
        assert now
        del self._kernels[kernel_id]


@pytest.fixture
def kernels(monkeypatch):
    """A manager, and a function that lets time pass and checks its kernels."""
    clock = [1000.0]
    monkeypatch.setattr("btcml.serve.dashboard_server.time", SimpleNamespace(monotonic=lambda: clock[0]))
    manager = _Manager()

    def pass_time(seconds):
        for _ in range(seconds):
            clock[0] += 1
            for kernel_id in list(manager._kernels):
                asyncio.run(manager.cull_kernel_if_idle(kernel_id))
        return set(manager._kernels)

    return manager, pass_time


def _started():
    """A kernel that has started long ago, by its own last activity."""
    kernel = ServerKernelManager()
    kernel.last_activity = datetime(2020, 1, 1, tzinfo=UTC)
    return kernel


def _pooled(kernel_id):
    """An item of the pool as Voilà keeps it."""
    task = Future()
    task.set_result({"kernel_id": kernel_id})
    return task


def test_a_kernel_of_the_pool_does_not_age(kernels):
    """It waits for a visitor without a time limit; one that is still starting is kept too."""
    manager, pass_time = kernels
    manager._kernels |= {"warm": _started(), "new": ServerKernelManager()}
    manager._pools = {"dashboard.ipynb": [_pooled("warm")]}
    assert pass_time(600) == {"warm", "new"}


def test_a_kernel_that_waited_long_has_all_of_its_time_when_a_visitor_comes(kernels):
    """The time in the pool does not count: it ends only when no socket came within the time-out."""
    manager, pass_time = kernels
    manager._kernels["warm"] = _started()
    manager._pools = {"dashboard.ipynb": [_pooled("warm")]}
    pass_time(600)
    manager._pools["dashboard.ipynb"].clear()
    assert pass_time(25) == {"warm"}
    assert pass_time(10) == set()


def test_an_idle_kernel_lives_while_its_socket_is_open_and_through_a_reconnection(kernels):
    """Hours without a message do no harm; after the last socket the whole time-out is left."""
    manager, pass_time = kernels
    manager._kernels["k"] = _started()
    for _ in range(2):
        manager._kernel_connections["k"] = 1
        assert pass_time(3600) == {"k"}
        manager._kernel_connections["k"] = 0
        assert pass_time(25) == {"k"}
    assert pass_time(10) == set()


def test_voila_runs_no_server_extension_of_the_user():
    """Only our configuration counts: no file of a home folder changes the page."""
    assert _configuration(OPTIONS).Voila.config_file_paths == []
    assert DashboardServer.most > 0


def test_a_taken_port_is_one_sentence(plain):
    """Before anything heavy starts."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = DashboardOptions("127.0.0.1", taken.getsockname()[1], locked=False, warm=1, most=1, reports=Path())
        with pytest.raises(UsageError, match="choose another --port"):
            serve_dashboard(plain, options, lambda: None)


def test_the_notebook_is_thin_and_carries_no_outputs():
    """One import, one call; the story in Markdown."""
    cells = json.loads(notebook_file().read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert code == ["from btcml.serve.dashboard import show", "show()"]
    assert all(cell.get("outputs", []) == [] for cell in cells)


def test_the_documents_are_linked_where_they_were_built(plain, tmp_path, monkeypatch):
    """Served by the dashboard itself, beside the reports; no link leads nowhere."""
    monkeypatch.chdir(tmp_path)
    assert kernel_environment(plain, OPTIONS)["BTCML_DOCUMENTS"] == ""
    (tmp_path / "build" / "docs").mkdir(parents=True)
    (tmp_path / "build" / "docs" / "index.html").touch()
    assert kernel_environment(plain, OPTIONS)["BTCML_DOCUMENTS"] == "documents/index.html"


def test_a_path_that_is_no_static_file_of_a_template_is_unknown(monkeypatch):
    """404 for the template itself and for whatever else: Voilà's own handler fails with 500."""
    monkeypatch.setenv("JUPYTER_PATH", str(FILES))
    monkeypatch.setattr("tornado.web.access_log.disabled", True)
    found = ["btcml/static/icon.svg", "btcml/static/../static/icon.svg"]
    unknown = [
        "btcml/index.html.j2",
        "btcml/static/../index.html.j2",
        "btcml/static/none.js",
        "btcml",
        "",
        "x/static/y",
    ]
    unknown += ["x/static/y", "../../../../etc/passwd", "btcml/static/../../../conf.json"]
    statuses = asyncio.run(_statuses([f"/voila/templates/{path}" for path in [*found, *unknown]]))
    assert statuses == [200, 200, *[404] * len(unknown)]


async def _statuses(paths):
    """Status of the answer to each path, which is sent as it is."""
    server = HTTPServer(Application([(r"/voila/templates/(.*)", _TemplateFiles)]))
    server.listen(0, "127.0.0.1")
    (listening,) = server._sockets.values()
    found = []
    for path in paths:
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        found.append(int((await reader.readline()).split()[1]))
        writer.close()
    server.stop()
    return found
