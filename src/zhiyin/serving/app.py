"""The composition root of the service: bundle, store, engine, routes."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from zhiyin import __version__
from zhiyin.domain.errors import ZhiyinError, did_you_mean
from zhiyin.online.engine import LiveEngine
from zhiyin.pipeline.bundle import load_bundle
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.serving import probes, routes
from zhiyin.serving.examples import examples_for
from zhiyin.serving.metrics import Metrics
from zhiyin.serving.openapi import describe
from zhiyin.serving.problems import Refused, internal_error, invalid_request, refusal_of
from zhiyin.serving.requests import Requests, make_log
from zhiyin.serving.schemas import KNOWN_FIELDS
from zhiyin.serving.settings import ServingSettings
from zhiyin.serving.workers import Workers
from zhiyin.stores.opening import open_store

DEFAULT_SETTINGS = ServingSettings()
_DESCRIPTION = "Personal recommendations from a catalogue and a log of what people did, in real time."


def create_app(
    bundle: str | Path | Pipeline, store_url: str, settings: ServingSettings = DEFAULT_SETTINGS
) -> FastAPI:
    """Build the service; it is ready when this returns, and closes its store when it is shut down.

    Args:
        bundle: Folder of a bundle, or a trained pipeline, which the service changes from now on.
        store_url: Such as ``sqlite:///zhiyin.db``.
        settings: Limits.

    Raises:
        BundleError: when the bundle cannot be read.
        StoreError: when the store cannot be opened.
    """
    pipeline = bundle if isinstance(bundle, Pipeline) else load_bundle(bundle)
    metrics = Metrics()
    engine = LiveEngine(
        pipeline,
        open_store(store_url),
        bundle="in-memory" if isinstance(bundle, Pipeline) else bundle_version(bundle),
        impression_capacity=settings.impression_capacity,
        observe=metrics.observe_stage,
    )
    metrics.watch(engine)
    workers = Workers(settings.n_threads, settings.max_waiting)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        workers.close()
        engine.close()

    app = FastAPI(
        title="Zhiyin",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.engine, app.state.workers = engine, workers
    app.state.metrics, app.state.settings = metrics, settings
    app.include_router(routes.router)
    app.include_router(probes.router)
    _refuse_clearly(app)
    _describe(app, engine)
    app.add_middleware(Requests, metrics=metrics, log=make_log(), log_requests=settings.log_requests)
    return app


def bundle_version(folder: str | Path) -> str:
    """Return a short name of what a bundle holds: the digest of its card, which holds those of its files."""
    return hashlib.sha256((Path(folder) / "bundle.toml").read_bytes()).hexdigest()[:12]


def _describe(app: FastAPI, engine: LiveEngine) -> None:
    """Make the description when it is first asked for; the catalogue at that moment gives the examples."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            examples = examples_for(engine.catalogue.current, engine.pipeline.users)
            app.openapi_schema = describe(app, examples)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _refuse_clearly(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return error.response(request.state.request_id)

    @app.exception_handler(ZhiyinError)
    async def known(request: Request, error: ZhiyinError) -> Response:
        return refusal_of(error).response(request.state.request_id)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return invalid_request(error.errors(), KNOWN_FIELDS).response(request.state.request_id)

    @app.exception_handler(HTTPException)
    async def unroutable(request: Request, error: HTTPException) -> Response:
        return _unroutable(app, request, error).response(request.state.request_id)


def _unroutable(app: FastAPI, request: Request, error: HTTPException) -> Refused:
    path = request.url.path
    if error.status_code == 404:
        known = list(app.openapi()["paths"])
        return Refused(
            "not-found",
            f"There is no route {path}.{did_you_mean(path, known)}",
            possible=f"The routes are {', '.join(known)}.",
        )
    if error.status_code == 405:
        allowed = Headers(error.headers).get("allow", "")
        return Refused(
            "method-not-allowed",
            f"{path} does not take {request.method}.",
            possible=f"It takes {allowed}." if allowed else "",
            headers=error.headers,
        )
    if error.status_code == 400:
        return Refused("malformed-json", "The body cannot be read.")
    return internal_error()
