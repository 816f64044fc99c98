"""How Voilà is set up for the dashboard: what reaches the kernels, what is allowed, when it refuses to start."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import socket
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import SecretStr
from tornado.httpserver import HTTPServer
from tornado.web import Application, HTTPError

from btcml.errors import UsageError
from btcml.serve.dashboard import CHARTS
from btcml.serve.dashboard_server import (
    DashboardOptions,
    DashboardServer,
    _address,
    _configuration,
    _Kernels,
    _TemplateFiles,
    _VoilaFiles,
    buttons_locked,
    kernel_environment,
    notebook_file,
    serve_dashboard,
)
from btcml.serve.dashboard_widgets import FILES
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


def test_a_password_that_is_set_locks_the_buttons_on_loopback_too(plain):
    """A proxy on this machine connects from loopback for everyone."""
    assert buttons_locked(plain, "127.0.0.1")
    without = plain.model_copy(update={"btcml_dashboard_password": None})
    assert not buttons_locked(without, "127.0.0.1")
    assert buttons_locked(without, "0.0.0.0")  # noqa: S104 - nothing listens


def test_a_ping_that_is_not_answered_at_once_closes_no_socket():
    """The time-out is longer than two intervals: equal ones closed every socket at its first ping."""
    settings = _configuration(OPTIONS).Voila.tornado_settings
    assert settings["ws_ping_timeout"] > 2 * settings["ws_ping_interval"] > 0


class _Manager(_Kernels):
    """A manager without processes: kernels are names."""

    notebook_path = "dashboard.ipynb"

    def __init__(self):
        self._kernels, self._kernel_connections, self._visits, self.opening = {}, {}, {}, Counter()
        self.filled = []

    def add(self, kernel_id):
        self._kernels[kernel_id], self._kernel_connections[kernel_id] = object(), 0

    def fill_if_needed(self, *, notebook_name):
        self.filled.append(notebook_name)

    async def shutdown_kernel(self, kernel_id, *, now):
        assert now
        if kernel_id not in self._kernels:
            raise HTTPError(404)
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


def test_a_kernel_of_the_pool_does_not_age(kernels):
    """It waits for a visitor without a time limit."""
    manager, pass_time = kernels
    manager.add("warm")
    assert pass_time(600) == {"warm"}
    assert manager.visitors() == 0


def test_a_page_that_opens_no_socket_within_twenty_seconds_loses_its_kernel(kernels):
    """However long the kernel waited in the pool; another takes its place there."""
    manager, pass_time = kernels
    manager.add("k")
    pass_time(600)
    manager.assign("k", "10.0.0.1")
    assert pass_time(20) == {"k"}
    assert manager.visitors("10.0.0.1") == 1
    assert pass_time(2) == set()
    assert manager.visitors("10.0.0.1") == 0
    assert manager.filled == ["dashboard.ipynb"]


def test_an_idle_kernel_lives_while_its_socket_is_open_and_through_a_reconnection(kernels):
    """Hours without a message do no harm; after the last socket the whole time-out is left."""
    manager, pass_time = kernels
    manager.add("k")
    manager.assign("k", "10.0.0.1")
    for _ in range(2):
        manager.notify_connect("k")
        assert pass_time(3600) == {"k"}
        manager.notify_disconnect("k")
        assert pass_time(29) == {"k"}
    assert pass_time(10) == set()


def test_a_kernel_that_died_is_forgotten_and_replaced(kernels):
    """Also one in the pool, which no visitor shall get."""
    manager, _ = kernels
    manager.assign("gone", "10.0.0.1")
    asyncio.run(manager._end("gone"))
    assert manager.visitors() == 0
    assert manager.filled == ["dashboard.ipynb"]
    assert _configuration(OPTIONS).KernelRestarter.restart_limit == 0  # Jupyter's own restart is an empty kernel


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [("10.0.0.1", "", "10.0.0.1"), ("10.0.0.1", "1.2.3.4", "10.0.0.1"), ("127.0.0.1", "6.6.6.6, 1.2.3.4", "1.2.3.4")],
)
def test_only_a_proxy_on_this_machine_names_the_visitor(peer, forwarded, address):
    """A visitor cannot choose an address to pass the limit."""
    assert _address(SimpleNamespace(remote_ip=peer, headers={"X-Forwarded-For": forwarded})) == address


def test_voila_runs_no_server_extension_of_the_user():
    """Only our configuration counts: no file of a home folder changes the page."""
    assert _configuration(OPTIONS).Voila.config_file_paths == []
    assert DashboardServer.__mro__[1].__module__.startswith("voila")


def test_a_taken_port_is_one_sentence(plain):
    """Before anything heavy starts."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = DashboardOptions("127.0.0.1", taken.getsockname()[1], locked=False, warm=1, most=1, reports=Path())
        with pytest.raises(UsageError, match="choose another --port"):
            serve_dashboard(plain, options, lambda: None)


def test_the_notebook_arranges_widgets_in_cells_that_can_be_edited():
    """Controls, cards and charts stand in its own cells; it defines nothing and carries no outputs."""
    cells = json.loads(notebook_file().read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 4
    assert not any(re.search(r"^\s*(def|class) ", cell, re.MULTILINE) for cell in code)
    names = set(re.findall(r"page\.(\w+)", "".join(code)))
    assert {"symbol", "interval", "span", "compare", "ingest", "train", "predict", "cards", "charts", "visit"} <= names
    assert all(f'page.charts["{name}"]' in "".join(code) for name in CHARTS)
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


def test_a_browser_keeps_the_files_of_voilas_front_end(tmp_path):
    """A hundred of them: a second visit does not ask for each whether it is still the same."""
    (tmp_path / "voila.js").write_text("1")
    application = Application([(r"/(.*)", _VoilaFiles, {"paths": [str(tmp_path)]})])

    async def header():
        server = HTTPServer(application)
        server.listen(0, "127.0.0.1")
        (listening,) = server._sockets.values()
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(b"GET /voila.js HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        found = await reader.read()
        writer.close()
        server.stop()
        return found.decode()

    assert "Cache-Control: max-age=3600" in asyncio.run(header())


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
