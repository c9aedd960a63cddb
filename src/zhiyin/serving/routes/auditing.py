"""The audit log, for whoever has to answer for it."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from zhiyin.serving import told
from zhiyin.serving.body import JsonRoute
from zhiyin.serving.routes.asking import json_response, service_of, tenant_of

router = APIRouter(prefix="/v1", tags=["operation"], route_class=JsonRoute)


@router.get("/audit", response_model=told.AuditOut, response_description="The newest 1,000 entries.")
async def audit(request: Request) -> Response:
    """List what was done with power in this tenant: erasures, exports, keys, swaps, refusals."""
    access = service_of(request).database.access
    entries = await asyncio.to_thread(access.audit, tenant_of(request))
    return json_response(
        {
            "entries": [
                {
                    "timestamp": entry.timestamp,
                    "actor": entry.actor,
                    "action": entry.action,
                    "subject": entry.subject,
                    "outcome": entry.outcome,
                    "request_id": entry.request_id,
                }
                for entry in entries
            ]
        }
    )
