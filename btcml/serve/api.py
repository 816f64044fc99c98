"""The HTTP service: the application, its documents and its server; nothing is computed here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles

from btcml import __version__
from btcml.errors import BtcmlError, UsageError
from btcml.serve import actions
from btcml.serve.http_protocol import TimeoutProtocol
from btcml.serve.problems import Problem, register_problems
from btcml.serve.request_middleware import RequestMiddleware, ResponseCache, RootPath
from btcml.serve.routes import candle_router, forecast_router, status_router
from btcml.serve.service import Service
from btcml.store.engine import open_store
from btcml.system import check_port, is_loopback, log_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import FrameType

    from fastapi.responses import HTMLResponse

    from btcml.settings import Settings
    from btcml.store.engine import Store


_log = logging.getLogger("btcml.serve")
_DESCRIPTION = (
    "Forecasts of the next candle, each with the skill of its model. Every error is a problem document "
    "(RFC 9457) with a request id. Times are UTC."
)


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    try:
        await asyncio.to_thread(service.start)
    except BtcmlError as error:  # /ready reports what is missing
        _log.warning("not ready yet: %s", error)
    yield
    await asyncio.to_thread(service.end_jobs)
    await service.queue.drain()
    await asyncio.to_thread(service.stop)


def create_app(settings: Settings, store: Store, *, key_required: bool = False, root_path: str = "") -> FastAPI:
    """Make the application.

    Parameters
    ----------
    settings
        Frozen settings.
    store
        The database.
    key_required
        Whether changing routes require ``BTCML_API_KEY``.
    root_path
        Path below which a proxy serves the API, such as ``/api``; it may take the path away, or not.
    """
    app = FastAPI(
        title="btcml",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    app.state.service = Service(settings, store, key_required=key_required)
    for router in (status_router, candle_router, forecast_router, actions.router):
        app.include_router(router)
    register_problems(app)
    _add_documents(app, root_path)
    app.add_middleware(
        ResponseCache, paths={route.path for route in candle_router.routes if isinstance(route, APIRoute)}
    )
    if root_path:  # outside of what compares paths
        app.add_middleware(RootPath, path=root_path)
    if settings.btcml_cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.btcml_cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Prefer", "X-Request-ID"],
        )
    app.add_middleware(RequestMiddleware)
    return app


def _add_documents(app: FastAPI, root: str) -> None:
    """Serve Swagger UI from this machine, and a schema that names the problem documents."""
    app.mount("/docs/static", StaticFiles(packages=[("fastapi_swagger", "resources")]), name="swagger")
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        """Return the schema, made once."""
        if app.openapi_schema is None:
            schema = plain()
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            if not app.state.service.key_required:
                _without_key(schema)
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]

    @app.get("/docs", include_in_schema=False)
    def documents() -> HTMLResponse:
        """Show the routes."""
        return get_swagger_ui_html(
            openapi_url=f"{root}/openapi.json",
            title="btcml",
            swagger_js_url=f"{root}/docs/static/swagger-ui-bundle.js",
            swagger_css_url=f"{root}/docs/static/swagger-ui.css",
            swagger_favicon_url=f"{root}/docs/static/favicon-32x32.png",
        )


def _without_key(schema: dict[str, Any]) -> None:
    """Remove the key from the schema where none is required."""
    schema["components"].pop("securitySchemes", None)
    for operations in schema["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)


def check_host(settings: Settings, host: str) -> bool:
    """Whether changing routes must require the key at this address: where one is set, and always beyond loopback.

    Raises
    ------
    UsageError
        If they must and there is none.
    """
    key_required = settings.btcml_api_key is not None or not is_loopback(host)
    if key_required and settings.btcml_api_key is None:
        msg = f"listening on {host}, beyond this machine, needs a key: set BTCML_API_KEY, or listen on 127.0.0.1"
        raise UsageError(msg)
    return key_required


class _Server(uvicorn.Server):
    """uvicorn's server, which ends the jobs first: clients that wait for one get a response before it stops."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop."""
        super().handle_exit(sig, frame)
        threading.Thread(target=self._service.end_jobs, daemon=True).start()


def serve_api(settings: Settings, host: str = "127.0.0.1", port: int = 8000, *, root_path: str = "") -> None:
    """Serve until stopped.

    Raises
    ------
    UsageError
        If it would listen beyond loopback without a key, or the port is taken.
    """
    key_required = check_host(settings, host)
    check_port("API", host, port)
    log_json()
    app = create_app(settings, open_store(settings), key_required=key_required, root_path=root_path)
    config = uvicorn.Config(
        app,
        host,
        port,
        http=TimeoutProtocol,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=10,
        limit_concurrency=400,
    )
    _Server(config, app.state.service).run()
