"""Voilà set up for the dashboard: our page, no other host, warm kernels, limits of visitors.

A kernel belongs to one visit. It ends when its tab closes, when its page opened no socket within
`FIRST_SOCKET_S`, or when no socket has been open to it for `KERNEL_TIMEOUT_S`; how long it waited in
the pool, or has had nothing to do, does not count.
"""

from __future__ import annotations

import contextlib
import logging
import mimetypes
import os
import re
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_core.utils import run_sync
from jupyter_server.base.handlers import FileFindHandler
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager, ServerKernelManager
from tornado.ioloop import IOLoop
from tornado.web import HTTPError, RequestHandler, StaticFileHandler
from traitlets.config import Config
from voila.app import Voila
from voila.shutdown_kernel_handler import VoilaShutdownKernelHandler
from voila.static_file_handler import MultiStaticFileHandler, TemplateStaticFileHandler
from voila.tornado.handler import TornadoVoilaHandler
from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler

from btcml.errors import NotFoundError
from btcml.files import resource
from btcml.kernel import kernel_spec
from btcml.serve.dashboard_widgets import FILES, STATIC, assets_hash
from btcml.system import check_port, is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_client.kernelspec import KernelSpec
    from tornado.httputil import HTTPServerRequest

    from btcml.settings import Settings

_POLICY = (
    "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
)
_DOCUMENTS = Path("build/docs")  # where `make docs` puts them
_REPORT_POLICY = "default-src 'self' 'unsafe-inline' data:; base-uri 'none'; form-action 'none'"
_PROTOCOL = "v1.kernel.websocket.jupyter.org"
FIRST_SOCKET_S = 20.0
"""Time within which a page must open its first socket; it takes a second or two."""

KERNEL_TIMEOUT_S = 30.0
"""Time after its last socket after which a kernel ends."""

_CHECK_S = 5
_KEPT_S = 3600  # as long as an update of Voilà may go unnoticed by a browser
_DEATH_S = 1.0  # how often a kernel's process is looked at: a page whose kernel died opens again within three seconds
_PING_S = 10
_PONG_TIMEOUT_S = 45
"""Longer than some pings: a timeout as long as the interval would close every socket at its first ping."""

_EXTENSIONS = ("@jupyter-widgets/jupyterlab-manager", "@voila-dashboards/widgets-manager8", "anywidget")
_SHORT = 24  # longest temporary folder with which the path of a socket fits into 100 characters

_KERNEL_ID = re.compile(r'"kernelId": ?"([\w-]+)"')
_ROBOTS = re.compile(r"bot\b|crawl|spider|slurp|preview|facebookexternalhit|lighthouse|archiver", re.IGNORECASE)


@dataclass
class _Visit:
    """Who got a kernel, its open sockets, since when it has had none, and how long that may last."""

    address: str
    since: float
    timeout_s: float
    sockets: int = 0


class _Kernel(ServerKernelManager):
    @property
    def kernel_spec(self) -> KernelSpec:
        """A kernel that ends with the server, also by ``kill -9``."""
        return kernel_spec()


class _Kernels(AsyncMappingKernelManager):
    """Kernels that belong to a visit from when their page is sent; those in the pool do not age."""

    fill_if_needed: Callable[..., None]  # Voilà's, as is the next
    notebook_path: str

    def __init__(self, **kwargs: Any) -> None:
        self._visits: dict[str, _Visit] = {}
        self.opening: Counter[str] = Counter()
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]

    def visitors(self, address: str | None = None) -> int:
        """Number of visits, of all addresses or of one, with those whose page is being made."""
        open_ = [visit for kernel_id, visit in self._visits.items() if kernel_id in self]
        if address is None:
            return len(open_) + self.opening.total()
        return sum(visit.address == address for visit in open_) + self.opening[address]

    def assign(self, kernel_id: str, address: str) -> None:
        """Note that the page of a kernel was sent to an address."""
        self._visits[kernel_id] = _Visit(address, time.monotonic(), FIRST_SOCKET_S)

    def notify_connect(self, kernel_id: str) -> None:
        """Note a new socket."""
        super().notify_connect(kernel_id)  # type: ignore[no-untyped-call]
        self._visits.setdefault(kernel_id, _Visit("", 0.0, 0.0)).sockets += 1

    def notify_disconnect(self, kernel_id: str) -> None:
        """Note a closed socket."""
        super().notify_disconnect(kernel_id)  # type: ignore[no-untyped-call]
        if visit := self._visits.get(kernel_id):
            visit.sockets, visit.since, visit.timeout_s = visit.sockets - 1, time.monotonic(), KERNEL_TIMEOUT_S

    async def start_kernel(self, **kwargs: Any) -> str:  # type: ignore[override]
        """Start a kernel whose death is noticed wherever it is: in the pool it is replaced."""
        kernel_id: str = await super().start_kernel(**kwargs)
        self.add_restart_callback(kernel_id, lambda: IOLoop.current().add_callback(self._end, kernel_id), "dead")
        return kernel_id

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """End a kernel that a visitor got, and that has had no socket for longer than its timeout."""
        visit = self._visits.get(kernel_id)
        if visit and visit.sockets <= 0 and time.monotonic() - visit.since > visit.timeout_s:
            await self._end(kernel_id)

    async def _end(self, kernel_id: str) -> None:
        """End a kernel, or forget one that has died; the pool is filled again."""
        self._visits.pop(kernel_id, None)
        with contextlib.suppress(HTTPError):  # one that has died is unknown already: this takes it out of the pool
            await self.shutdown_kernel(kernel_id, now=True)  # type: ignore[no-untyped-call]
        self.fill_if_needed(notebook_name=self.notebook_path)


class _Page(TornadoVoilaHandler):  # type: ignore[misc]  # Voilà's own class
    """The page, or a static one: for machines, and where there are too many visitors."""

    def write_error(self, status_code: int, **_: Any) -> None:
        """Answer an error with a static page."""
        self._plain_page("error.html", status_code)

    def head(self, path: str | None = None) -> None:
        """Answer without a kernel: nobody looks at this page."""
        self._plain_page("not_found.html" if path else "static.html", 404 if path else 200)

    def _plain_page(self, name: str, status: int) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Retry-After", "15")
        self.finish((STATIC / name).read_text(encoding="utf-8").replace("{base}", self.base_url))

    async def get(self, path: str | None = None) -> None:
        """Answer a visit."""
        kernels, address, headers = self.kernel_manager, _address(self.request), self.request.headers
        if path:
            self._plain_page("not_found.html", 404)
        elif any("prefetch" in headers.get(name, "") for name in ("Sec-Purpose", "Purpose", "X-Moz")):
            self._plain_page("static.html", 503)  # the browser asks again when somebody wants to see it
        elif _ROBOTS.search(headers.get("User-Agent", "")):
            self._plain_page("static.html", 200)
        elif kernels.visitors() >= self.settings["btcml_most"]:
            self._plain_page("full.html", 503)
        elif kernels.visitors(address) >= self.settings["btcml_most_per_address"]:
            self._plain_page("busy.html", 429)
        else:
            kernels.opening[address] += 1
            try:
                await self._send_page(address)
            finally:
                kernels.opening[address] -= 1

    async def _send_page(self, address: str) -> None:
        async for html in self.get_generator():
            if found := _KERNEL_ID.search(html):
                self.kernel_manager.assign(found[1], address)
            self.write(html)
            self.flush()


def _address(request: HTTPServerRequest) -> str:
    """Address of a visitor; a proxy on this machine says whose."""
    peer, forwarded = str(request.remote_ip), str(request.headers.get("X-Forwarded-For", ""))
    return forwarded.rpartition(",")[2].strip() or peer if is_loopback(peer) else peer


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

    def write_error(self, status_code: int, **_: Any) -> None:
        """Answer a refusal without a page."""
        self.set_status(status_code)
        self.finish()

    async def get(self, kernel_id: str) -> None:
        """Refuse the older protocol, and a kernel that has ended."""
        if _PROTOCOL not in self.request.headers.get("Sec-WebSocket-Protocol", ""):
            raise HTTPError(400, f"this socket supports {_PROTOCOL} only")
        if kernel_id not in self.kernel_manager:
            raise HTTPError(404, "this kernel has ended")
        await super().get(kernel_id)


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


class _Kept(StaticFileHandler):
    """Files of Voilà's own front end: a hundred, which a browser need not ask about at every visit."""

    def set_headers(self) -> None:
        """Let a browser keep them for a while."""
        super().set_headers()
        self.set_header("Cache-Control", f"max-age={_KEPT_S}")


class _VoilaFiles(_Kept, MultiStaticFileHandler):  # type: ignore[misc]  # Voilà's own class
    """Voilà's scripts."""


class _Extensions(_Kept, FileFindHandler):
    """Front ends of the widgets."""


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

    options: DashboardOptions

    def init_settings(self) -> dict[str, Any]:
        """Add what our handlers need."""
        settings: dict[str, Any] = super().init_settings()
        most = {"btcml_most": self.options.most, "btcml_most_per_address": self.options.most_per_address}
        return settings | most | {"compress_response": True}  # Tornado reads it before Voilà's own settings come

    def init_handlers(self) -> list[Any]:
        """Put our handlers before Voilà's."""
        own: list[Any] = [(r"/health", _Alive)]
        for name, path in (("reports", self.options.reports.absolute()), ("documents", _DOCUMENTS.absolute())):
            own.append((rf"/{name}/(.*)", _Reports, {"path": str(path), "default_filename": "index.html"}))
        prefix = rf"(?:{re.escape(self.base_url.rstrip('/'))})?"  # a proxy may take it away, or not
        handlers = own + [self._ours(handler) for handler in super().init_handlers()]
        return [(prefix + handler[0], *handler[1:]) for handler in handlers]

    def stop(self) -> None:
        """End at once: kernels keep no data."""
        run_sync(self.kernel_manager.shutdown_all)(now=True)
        shutil.rmtree(self.connection_dir, ignore_errors=True)

    @staticmethod
    def _ours(handler: tuple[Any, ...]) -> tuple[Any, ...]:
        ours = {
            TornadoVoilaHandler: _Page,
            VoilaKernelWebsocketHandler: _Socket,
            VoilaShutdownKernelHandler: _Leave,
            TemplateStaticFileHandler: _TemplateFiles,
            MultiStaticFileHandler: _VoilaFiles,
            FileFindHandler: _Extensions,
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
        msg = f"{found} belongs to btcml and is missing: install btcml again"
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
        | {"base_url": options.root_path + "/", "server_url": "/"}
    )
    config.Voila.config_file_paths = []
    config.Voila.tornado_settings = {
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
            "extension_allowlist": list(_EXTENSIONS),
            "allow_template_override": "NO",
            "allow_theme_override": "NO",
            "resources": {"btcml_assets": assets_hash()},
        }
    )
    config.MappingKernelManager.kernel_manager_class = f"{__name__}.{_Kernel.__name__}"
    config.MappingKernelManager.update({"cull_idle_timeout": int(KERNEL_TIMEOUT_S), "cull_interval": _CHECK_S})
    config.VoilaKernelManager.fill_delay = 0.5
    config.KernelRestarter.update({"restart_limit": 0, "time_to_dead": _DEATH_S})  # a new kernel would be an empty one
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
        Whether the buttons require the password.
    warm
        Kernels kept ready for the next visitors.
    most
        Visitors at a time; one more gets a static page.
    reports
        Folder of built reports.
    sleep_s
        Seconds after which a hidden tab gives its kernel back.
    most_per_address
        Visitors at a time from one address; behind a proxy on this machine, from one it names.
    root_path
        Path below which a proxy serves the dashboard, such as ``/btcml``; empty: none.
    """

    host: str
    port: int
    locked: bool
    warm: int
    most: int
    reports: Path
    sleep_s: int = 600
    most_per_address: int = 12
    root_path: str = ""


def buttons_locked(settings: Settings, host: str) -> bool:
    """Whether the buttons require the password: where one is set, and always when other machines can connect."""
    return settings.btcml_dashboard_password is not None or not is_loopback(host)


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
    app.options = options
    app.initialize([])
    IOLoop.current().add_callback(on_ready)
    app.start()
