"""Versions of the model: which there are, which one serves, and going back."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from zhiyin.experiments.refreshing.versions import pin_if_earlier
from zhiyin.serving import told, wire
from zhiyin.serving.access.audit import Deed
from zhiyin.serving.body import JsonRoute
from zhiyin.serving.routes.asking import durable, engine_of, json_response, principal_of, service_of

router = APIRouter(prefix="/v1", tags=["bundles"], route_class=JsonRoute)
Version = Annotated[wire.Id, Path(description="Version of a bundle, as GET /v1/bundles lists it.")]


@router.get("/bundles", response_model=told.BundlesOut, response_description="The versions, oldest first.")
async def list_bundles(request: Request) -> Response:
    """List the versions that the store holds, and say which one this process serves."""
    engine = await engine_of(request)
    stored = await asyncio.to_thread(engine.store.bundles)
    return json_response(
        {
            "serving": engine.bundle,
            "bundles": [
                {
                    "version": bundle.version,
                    "position": bundle.position,
                    "timestamp": bundle.timestamp,
                    "is_active": bundle.is_active,
                    "facts": dict(bundle.facts),
                }
                for bundle in stored
            ],
        }
    )


@router.post(
    "/bundles/{version}/activate",
    response_model=told.ActivatedOut,
    response_description="This process serves the version; others follow within seconds.",
)
async def activate_bundle(request: Request, version: Version) -> Response:
    """Serve another version, a newer one or one from before.

    Requests under way are finished with the version they began with. After going back to an earlier version
    the learning loop waits until a newer one is activated, or until it is released.
    """
    engine = await engine_of(request)
    deed = Deed.of(principal_of(request), "bundle.activate", version, request.state.request_id)
    async with service_of(request).audit.noting(deed):
        await asyncio.to_thread(pin_if_earlier, engine.store, version)
        await durable(await asyncio.to_thread(engine.activate, version))
    return json_response({"serving": version})
