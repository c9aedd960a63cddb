"""The routes that operators call."""

from __future__ import annotations

import asyncio

import orjson
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from zhiyin.serving import told
from zhiyin.serving.docs_page import docs_page
from zhiyin.serving.problems import Refused

router = APIRouter(tags=["operation"])


@router.get("/healthz", response_model=told.HealthOut, response_description="It is alive.")
async def healthz() -> Response:
    """Tell that the process is alive."""
    return Response(orjson.dumps({"status": "alive"}), media_type="application/json")


@router.get("/readyz", response_model=told.ReadyOut, response_description="It can answer.")
async def readyz(request: Request) -> Response:
    """Tell that the service can answer and its store can be written to; 503 when not, or while it stops."""
    service = request.app.state.service
    if service.is_stopping:
        raise Refused("stopping", "The service is stopping.", headers={"Retry-After": "5"})
    await asyncio.to_thread(service.database.check)
    engines = service.engines
    document = {
        "status": "ready",
        "bundle": ", ".join(sorted({engine.bundle for engine in engines.values()})),
        "items": sum(engine.live.catalogue.n_items for engine in engines.values()),
        "users": sum(engine.live.histories.n_users for engine in engines.values()),
        "unserved": len(service.unserved.tenants),
        "lag": max((engine.following.lag() for engine in engines.values()), default=0),
    }
    return Response(orjson.dumps(document), media_type="application/json")


@router.get("/metrics", response_class=Response, response_description="The metrics.")
async def metrics(request: Request) -> Response:
    """Counters and latencies in the text format of Prometheus."""
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """Describe the routes for machines."""
    document = request.app.openapi(has_keys=await _has_keys(request))
    return Response(orjson.dumps(document), media_type="application/json")


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """Show the routes on one page that needs no other server."""
    has_keys = await _has_keys(request)
    document = request.app.openapi(has_keys=has_keys)
    return Response(
        docs_page(document, str(request.base_url), with_key=has_keys),
        media_type="text/html",
    )


async def _has_keys(request: Request) -> bool:
    return bool(await asyncio.to_thread(request.app.state.service.database.access.keys))
