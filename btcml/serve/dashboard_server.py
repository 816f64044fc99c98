"""Voilà set up for the dashboard: our page, no other host, warm kernels, a limit of visitors.

A kernel belongs to one visit. It ends when its tab closes, or when no socket has been open to it for
`KERNEL_TIMEOUT_S`; how long it waited in the pool, or has had nothing to do, does not count.
"""

from __future__ import annotations

import asyncio
import logging
import mimetypes
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_core.utils import run_sync
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.ioloop import IOLoop
from tornado.web import HTTPError, RequestHandler, StaticFileHandler
from traitlets.config import Config
from voila.app import Voila
from voila.shutdown_kernel_handler import VoilaShutdownKernelHandler
from voila.static_file_handler import TemplateStaticFileHandler
from voila.tornado.handler import TornadoVoilaHandler
from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler

from btcml.errors import NotFoundError
from btcml.files import resource
from btcml.serve.dashboard import FILES, STATIC, assets_hash
from btcml.system import check_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from btcml.settings import Settings


_POLICY = (
    "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
)
_DOCUMENTS = Path("build/docs")  # where `make docs` puts them
_REPORT_POLICY = "default-src 'self' 'unsafe-inline' data:; base-uri 'none'; form-action 'none'"
_PROTOCOL = "v1.kernel.websocket.jupyter.org"
KERNEL_TIMEOUT_S = 30.0
"""Time without a socket after which a kernel ends; a page takes a second or two to open one."""

_CHECK_S = 5
_PING_S = 10
_PONG_TIMEOUT_S = 45
"""Longer than some pings: a timeout as long as the interval would close every socket at its first ping."""

_SHORT = 24  # longest temporary folder with which the path of a socket fits into 100 characters


class _Kernels(AsyncMappingKernelManager):
    """Kernels that end soon after their socket has closed; those in the pool do not age."""

    _pools: dict[str, list[asyncio.Task[dict[str, Any]]]]

    def __init__(self, **kwargs: Any) -> None:
        self._unconnected: dict[str, float] = {}
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]

    def visitors(self) -> int:
        """Number of kernels that a visitor has."""
        waiting = sum(len(pool) for pool in self._pools.values())
        return max(len(self) - min(waiting, len(self)), 0)

    def _is_new(self, kernel_id: str) -> bool:
        """Whether a kernel is starting, or waits in the pool for a visitor."""
        tasks = [task for pool in self._pools.values() for task in pool]
        ready = [task for task in tasks if task.done() and not task.cancelled() and not task.exception()]
        pooled = {task.result()["kernel_id"] for task in ready}
        return kernel_id in pooled or not self.get_kernel(kernel_id).trait_has_value("last_activity")

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """End a kernel that a visitor got and to which no socket has been open for `KERNEL_TIMEOUT_S`."""
        now = time.monotonic()
        if kernel_id not in self or self._is_new(kernel_id) or self._kernel_connections.get(kernel_id):
            self._unconnected.pop(kernel_id, None)
        elif now - self._unconnected.setdefault(kernel_id, now) > KERNEL_TIMEOUT_S:
            del self._unconnected[kernel_id]
            await self.shutdown_kernel(kernel_id, now=True)  # type: ignore[no-untyped-call]


class _Page(TornadoVoilaHandler):  # type: ignore[misc]  # Voilà's own class
    """The page, or a static one where there are too many visitors."""

    def write_error(self, status_code: int, **_: Any) -> None:
        """Answer an error with a static page."""
        self._plain_page("error.html", status_code)

    def _plain_page(self, name: str, status: int) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Retry-After", "15")
        self.finish((STATIC / name).read_bytes())

    async def get(self, path: str | None = None) -> None:
        """Answer a visit."""
        if path:
            self._plain_page("not_found.html", 404)
            return
        kernels: _Kernels = self.kernel_manager
        if kernels.visitors() >= self.settings["btcml_most"]:
            self._plain_page("full.html", 503)
            return
        await super().get(path)


class _Leave(VoilaShutdownKernelHandler):  # type: ignore[misc]  # Voilà's own class
    """A tab that closes sends a beacon, which cannot carry a token; the id of the kernel is the secret."""

    def check_xsrf_cookie(self) -> None:
        """Accept the beacon."""

    async def post(self, kernel_id: str) -> None:
        """End the kernel of the tab."""
        if kernel_id in self.kernel_manager:
            await self.kernel_manager.shutdown_kernel(kernel_id, now=True)
        self.set_status(204)
        self.finish()


class _Socket(VoilaKernelWebsocketHandler):  # type: ignore[misc]  # Voilà's own class
    """The kernel's socket, in version 1 of the protocol only: Voilà 0.5 hangs on a buffer in the older one."""

    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Refuse the older protocol."""
        if _PROTOCOL not in self.request.headers.get("Sec-WebSocket-Protocol", ""):
            raise HTTPError(400, f"this socket supports {_PROTOCOL} only")
        await super().get(*args, **kwargs)


class _TemplateFiles(TemplateStaticFileHandler):  # type: ignore[misc]  # Voilà's own class
    """The static files of templates; any other path is unknown, where Voilà's own handler fails."""

    def parse_url_path(self, url_path: str) -> str:
        """Refuse what is not ``template/static/file``."""
        parts = os.path.normpath(url_path).split(os.path.sep, 2)
        if len(parts) != 3 or parts[1] != "static":  # noqa: PLR2004 - the three parts
            raise HTTPError(404)
        return str(super().parse_url_path(url_path))

    def write_error(self, status_code: int, **_: Any) -> None:
        """Answer an error without a page."""
        self.set_status(status_code)
        self.finish()


class _Reports(StaticFileHandler):
    """The built reports and documents, under their own policy."""

    def set_extra_headers(self, path: str) -> None:
        """Let a report use what it carries, and nothing else."""
        self.set_header("Content-Security-Policy", _REPORT_POLICY)
        self.set_header("Cache-Control", "no-cache" if path.endswith(".html") else "max-age=3600")


class _Alive(RequestHandler):
    def get(self) -> None:
        """Report that the process runs."""
        self.set_header("Content-Type", "application/json")
        self.finish('{"status":"ok"}')


class DashboardServer(Voila):  # type: ignore[misc]  # Voilà's own class
    """Voilà with the handlers above."""

    reports = ""
    most = 24

    def init_settings(self) -> dict[str, Any]:
        """Add what our handlers need."""
        settings: dict[str, Any] = super().init_settings()
        return settings | {"btcml_most": self.most}

    def init_handlers(self) -> list[Any]:
        """Put our handlers before Voilà's."""
        own: list[Any] = [(r"/health", _Alive), (r"/leave/([\w-]+)", _Leave)]
        for name, path in (("reports", self.reports), ("documents", str(_DOCUMENTS.absolute()))):
            own.append((rf"/{name}/(.*)", _Reports, {"path": path, "default_filename": "index.html"}))
        handlers = [self._ours(handler) for handler in super().init_handlers()]
        return own + handlers

    def stop(self) -> None:
        """End at once: kernels keep no data."""
        run_sync(self.kernel_manager.shutdown_all)(now=True)
        shutil.rmtree(self.connection_dir, ignore_errors=True)

    @staticmethod
    def _ours(handler: tuple[Any, ...]) -> tuple[Any, ...]:
        ours = {
            TornadoVoilaHandler: _Page,
            VoilaKernelWebsocketHandler: _Socket,
            TemplateStaticFileHandler: _TemplateFiles,
        }
        return (handler[0], ours.get(handler[1], handler[1]), *handler[2:])


def notebook_file() -> Path:
    """Find the dashboard's notebook: in the checkout, or in the installed package.

    Raises
    ------
    NotFoundError
        If it is missing from the installation.
    """
    found = resource("notebooks") / "dashboard.ipynb"
    if not found.is_file():
        msg = f"{found} belongs to btcml and is not there: install btcml again"
        raise NotFoundError(msg)
    return found


def kernel_environment(settings: Settings, options: DashboardOptions) -> dict[str, str]:
    """Environment variables with the settings for kernels; secrets go nowhere else."""
    values = {
        "API_BASE_URL": settings.api_base_url,
        "BTCML_API_PUBLIC_URL": settings.btcml_api_public_url,
        "BTCML_DOCUMENTS": "documents/index.html" if (_DOCUMENTS / "index.html").exists() else "",
        "BTCML_ADMINER_URL": settings.btcml_adminer_url,
        "BTCML_SYMBOLS": ",".join(settings.btcml_symbols),
        "BTCML_INTERVAL": settings.btcml_interval,
        "BTCML_API_KEY": settings.btcml_api_key.get_secret_value() if settings.btcml_api_key else "",
        "BTCML_DASHBOARD_LOCKED": "1" if options.locked else "",
        "BTCML_DASHBOARD_SLEEP": str(options.sleep_s),
        "BTCML_DASHBOARD_PAGE": "1",
        "BTCML_REPORTS_DIR": str(options.reports.absolute()),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MALLOC_ARENA_MAX": "2",
    }
    password = settings.btcml_dashboard_password
    return values | {"BTCML_DASHBOARD_PASSWORD": password.get_secret_value() if password else ""}


def _configuration(options: DashboardOptions) -> Config:
    config = Config()
    config.Voila.update(
        {"ip": options.host, "port": options.port, "port_retries": 0, "open_browser": False, "log_level": logging.ERROR}
    )
    config.Voila.config_file_paths = []
    config.Voila.tornado_settings = {
        "compress_response": True,
        "headers": {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"},
        "allow_remote_access": options.locked,  # on loopback another host name is an attack
        "local_hostnames": ["localhost", "127.0.0.1", "::1", "[::1]"],
        "ws_ping_interval": 1000 * _PING_S,
        "ws_ping_timeout": 1000 * _PONG_TIMEOUT_S,
        "btcml_assets": assets_hash(),
    }
    config.VoilaConfiguration.update(
        {
            "template": "btcml",
            "preheat_kernel": True,
            "default_pool_size": options.warm,
            "multi_kernel_manager_class": _Kernels,
            "file_allowlist": [],
            "allow_template_override": "NO",
            "allow_theme_override": "NO",
            "resources": {"btcml_assets": assets_hash()},
        }
    )
    config.MappingKernelManager.update({"cull_idle_timeout": int(KERNEL_TIMEOUT_S), "cull_interval": _CHECK_S})
    config.VoilaKernelManager.fill_delay = 0.5
    if len(tempfile.gettempdir()) <= _SHORT:
        config.KernelManager.transport = "ipc"  # other users of this machine cannot connect to a kernel
    return config


@dataclass(frozen=True)
class DashboardOptions:
    """Where and for how many a dashboard is served.

    Attributes
    ----------
    host, port
        Address to listen on.
    locked
        Whether the buttons require the password: when other machines can connect.
    warm
        Kernels kept ready for the next visitors.
    most
        Visitors at a time; one more gets a static page.
    reports
        Folder of built reports.
    sleep_s
        Seconds after which a hidden tab gives its kernel back.
    """

    host: str
    port: int
    locked: bool
    warm: int
    most: int
    reports: Path
    sleep_s: int = 600


def serve_dashboard(settings: Settings, options: DashboardOptions, on_ready: Callable[[], None]) -> None:
    """Serve until stopped.

    Parameters
    ----------
    on_ready
        Called once, when visitors can come.

    Raises
    ------
    UsageError
        If the port is taken.
    """
    check_port("dashboard", options.host, options.port)
    mimetypes.add_type("text/javascript", ".js")
    logging.getLogger("tornado.general").setLevel(logging.ERROR)  # it takes milliseconds of Jupyter for seconds
    os.environ.update(kernel_environment(settings, options))
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [str(FILES), os.environ.get("JUPYTER_PATH", "")]))
    app = DashboardServer(config=_configuration(options))
    app.notebook_path = str(notebook_file())
    app.reports, app.most = str(options.reports.absolute()), options.most
    app.initialize([])
    IOLoop.current().add_callback(on_ready)
    app.start()
