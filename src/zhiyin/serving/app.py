"""The composition root of the service: database, bundles, engines, gate, routes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import Match

from zhiyin import __version__
from zhiyin.domain.errors import ZhiyinError, did_you_mean
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.serving import probes
from zhiyin.serving.access.browsers import allow_browsers
from zhiyin.serving.access.checking import KeyCheck
from zhiyin.serving.access.gate import Gate
from zhiyin.serving.access.rates import RateLimits
from zhiyin.serving.access.safety import refuse_unsafe
from zhiyin.serving.access.scopes import without_row
from zhiyin.serving.background import Background
from zhiyin.serving.direct import Direct
from zhiyin.serving.examples import examples_for
from zhiyin.serving.log import make_log
from zhiyin.serving.metrics import Metrics
from zhiyin.serving.openapi import describe
from zhiyin.serving.problems import Refused, internal_error, invalid_request, refuse
from zhiyin.serving.receiving import Received
from zhiyin.serving.requests import Requests
from zhiyin.serving.routes import auditing, bundles, events, experiments, items, people, slates
from zhiyin.serving.schemas import KNOWN_FIELDS
from zhiyin.serving.service import Service
from zhiyin.serving.settings import ServingSettings
from zhiyin.serving.sharing import Shared, shared_by
from zhiyin.serving.tracing import BatchSpans, tracer_from_environment
from zhiyin.stores.opening import open_database

DEFAULT_SETTINGS = ServingSettings()
_DESCRIPTION = "Personal recommendations from a catalogue and a log of what people did, in real time."
_ROUTERS = (
    events.router,
    items.router,
    people.router,
    slates.router,
    bundles.router,
    experiments.router,
    auditing.router,
    probes.router,
)


def create_app(
    bundle: str | Path | Pipeline | None, store_url: str, settings: ServingSettings = DEFAULT_SETTINGS
) -> FastAPI:
    """Build the service; it is ready when this returns, and closes its store when it is shut down.

    Args:
        bundle: Folder of a bundle; a trained pipeline, which the service changes from now on; or None to
            serve what the store holds.
        store_url: Such as ``sqlite:///zhiyin.db``.
        settings: Limits, access, privacy.

    Raises:
        BundleError: when the bundle cannot be read.
        StoreError: when the store cannot be opened.
        ConfigError: when the settings are not safe.
    """
    metrics = Metrics()
    database = open_database(store_url)
    try:
        refuse_unsafe(settings, len(database.access.keys()), store_url)
        shared = shared_by(settings, database, partial(metrics.count_store_error, "redis"))
    except ZhiyinError:
        database.close()
        raise
    service = Service(bundle, database, settings, metrics, heads=shared.heads)
    try:
        background = Background(service)
        tracer = tracer_from_environment()
    except BaseException:
        service.close()
        raise
    keys = KeyCheck(
        database.access,
        believed_seconds=settings.access.key_cache_seconds,
        outage_seconds=settings.access.key_outage_seconds,
        failed=partial(metrics.count_store_error, "database"),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        background.start()
        yield
        service.stop()
        await asyncio.to_thread(background.stop)
        await asyncio.to_thread(service.close)
        keys.close()
        shared.close()
        if tracer is not None:
            tracer.close()

    app = FastAPI(
        title="Zhiyin",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # its route would not say whether there are keys
        redirect_slashes=False,  # a client that followed would send its body twice
        lifespan=lifespan,
        # The middleware `Requests` measures; asking with each request whether others listen costs 10 µs.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.service, app.state.metrics, app.state.settings = service, metrics, settings
    app.state.received = Received(partial(metrics.count_shed, "bodies"))
    for router in _ROUTERS:
        app.include_router(router)
    _refuse_clearly(app)
    _describe(app, service)
    app.state.tracer = tracer
    if tracer is not None:
        service.batcher.spans = BatchSpans(tracer)
        metrics.listener = service.batcher.spans.observe
    _surround(app, service, keys, shared)
    return app


def _surround(app: FastAPI, service: Service, keys: KeyCheck, shared: Shared) -> None:
    """Put around the routes what every request passes; what is added last stands outermost."""
    settings = service.settings
    routes = [route for router in _ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    forgotten = without_row((method, route.path) for route in routes for method in route.methods or ())
    assert not forgotten, f"no scope is written down for {forgotten}"
    app.add_middleware(Direct, routes=routes)
    app.add_middleware(
        Gate,
        keys=keys,
        limits=RateLimits(
            shared.limiter,
            settings.access,
            waits=shared.is_remote,
            refused=service.metrics.count_limited,
        ),
        settings=settings,
        refusals=service.audit,
        tracer=app.state.tracer,
    )
    allow_browsers(app, settings.access)
    app.add_middleware(
        Requests,
        metrics=service.metrics,
        log=make_log(),
        log_requests=settings.log_requests,
        tracer=app.state.tracer,
    )


def _describe(app: FastAPI, service: Service) -> None:
    """Make the description when it is first asked for.

    It may be read by whoever reaches the service, so it names nobody; and where there are keys, the catalogue
    is not for everybody either.
    """
    made: dict[bool, dict[str, Any]] = {}

    def description(*, has_keys: bool = True) -> dict[str, Any]:
        if has_keys not in made:
            examples = examples_for() if has_keys else examples_for(service.catalogue_and_users()[0])
            made[has_keys] = describe(app, examples)
        return made[has_keys]

    app.openapi = description  # type: ignore[method-assign]


def _refuse_clearly(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return refuse(request, error)

    @app.exception_handler(ZhiyinError)
    async def known(request: Request, error: ZhiyinError) -> Response:
        return refuse(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return invalid_request(error.errors(), KNOWN_FIELDS).response(request.state.request_id)

    @app.exception_handler(HTTPException)
    async def unroutable(request: Request, error: HTTPException) -> Response:
        return _unroutable(app, request, error).response(request.state.request_id)


def _methods_at(request: Request) -> list[str]:
    """What a path takes; the router stops at the first route of a path and knows its methods alone."""
    routes = [route for router in _ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    found: set[str] = set()
    for route in routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= set(route.methods or ())
    return sorted(found)


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
        allowed = ", ".join(_methods_at(request))
        return Refused(
            "method-not-allowed",
            f"{path} does not take {request.method}.",
            possible=f"It takes {allowed}." if allowed else "",
            headers={"Allow": allowed},
        )
    if error.status_code == 400:
        return Refused("malformed-json", "The body cannot be read.")
    return internal_error()
