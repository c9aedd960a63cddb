"""What every route needs: the engine of whoever asks, ids as they are stored, answers as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

import orjson
from fastapi import Request, Response

from zhiyin.online.engine import LiveEngine
from zhiyin.serving.access.checking import KeyCheck
from zhiyin.serving.access.rates import RateLimits
from zhiyin.serving.access.scopes import Principal
from zhiyin.serving.service import Service

T = TypeVar("T")


def service_of(request: Request) -> Service:
    """Return what stands behind the routes."""
    service: Service = request.app.state.service
    return service


def tenant_of(request: Request) -> str:
    """Return whose data the request may see; the gate has decided that."""
    return str(request.scope["state"]["tenant"])


def principal_of(request: Request) -> Principal:
    """Return who asks; the gate has found out."""
    principal: Principal = request.scope["state"]["principal"]
    return principal


def limits_of(request: Request) -> RateLimits:
    """Return who counts what a request costs beyond itself."""
    limits: RateLimits = request.scope["state"]["limits"]
    return limits


def keys_of(request: Request) -> KeyCheck:
    """Return who knows which keys are valid now."""
    keys: KeyCheck = request.scope["state"]["keys"]
    return keys


async def engine_of(request: Request) -> LiveEngine:
    """Return the engine of the tenant.

    Raises:
        Refused: when the tenant has no bundle.
    """
    service, tenant = service_of(request), tenant_of(request)
    engine = service.engine_at_once(tenant)
    return engine if engine is not None else await asyncio.to_thread(service.engine, tenant)


async def durable(future: Future[T]) -> T:
    """Wait without blocking; a caller who goes away does not undo what is being written."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[T] = loop.create_future()

    def settle() -> None:
        if waiting.done():  # the caller went away
            return
        error = future.exception()
        if error is None:
            waiting.set_result(future.result())
        else:
            waiting.set_exception(error)

    def wake(_: Future[T]) -> None:
        with suppress(RuntimeError):  # the service stopped, and nobody waits any more
            loop.call_soon_threadsafe(settle)

    future.add_done_callback(wake)
    return await waiting


def json_response(document: Mapping[str, Any], *, status: int = 200) -> Response:
    """Return a document as a response."""
    return Response(_as_json(document), status, media_type="application/json")


def _as_json(document: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(document)
    except TypeError:
        # An old log may hold whole numbers beyond 64 bits, which streams refuse today.
        return json.dumps(document).encode()


def person_of(request: Request, user_id: str) -> str:
    """Return a user's id as it is stored."""
    return people_of(request, [user_id])[0]


def people_of(request: Request, user_ids: list[str]) -> list[str]:
    """Return users' ids as they are stored: themselves, or pseudonyms."""
    return service_of(request).border.people(tenant_of(request), user_ids)
