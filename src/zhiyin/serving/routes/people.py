"""Users: what is said about them, what is kept of them, and that nothing is left of them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Request, Response

from zhiyin.serving import paths, schemas, told, wire
from zhiyin.serving.access.audit import Deed
from zhiyin.serving.access.scopes import Principal
from zhiyin.serving.body import JsonRoute
from zhiyin.serving.routes.asking import (
    durable,
    engine_of,
    json_response,
    person_of,
    principal_of,
    service_of,
    tenant_of,
)

router = APIRouter(prefix="/v1", tags=["users"], route_class=JsonRoute)
UserId = Annotated[wire.Id, Path(description="The shop's id of the user.")]


@router.put(
    f"/users/{paths.USER}",
    response_model=told.UserOut,
    response_description="The attributes are on the disk.",
)
async def put_user(request: Request, user_id: UserId, body: Annotated[wire.Attributes, Body()]) -> Response:
    """Store attributes of a user. Attributes that are not named stay as they are, null removes one.

    A user has at most 200. A ranker or a re-ranking that reads an attribute of this name reads it from the
    next request on.
    """
    engine = await engine_of(request)
    attributes = service_of(request).border.attributes(tenant_of(request), body)
    user = await durable(engine.intake.put_user(person_of(request, user_id), attributes))
    return json_response({"user_id": user_id, "attributes": user.attributes})


@router.get(
    f"/users/{paths.USER}",
    response_model=told.PersonOut,
    response_description="Everything that is kept.",
)
async def get_user(request: Request, user_id: UserId) -> Response:
    """Export everything that is kept about a person.

    Attributes, events, what was shown, and what the bundles in use were trained on, those of experiments
    too: events of before the service and, after it was refreshed, those of the log once more.
    """
    engine, person = await engine_of(request), person_of(request, user_id)
    async with service_of(request).audit.noting(_deed(request, "user.export", user_id)):
        exported = await asyncio.to_thread(engine.intake.export_user, person)
    return json_response(
        {
            "user_id": exported.user_id,
            "attributes": exported.attributes,
            "events": [
                {
                    "event_id": event.event_id,
                    "item_id": event.item_id,
                    "event": event.kind,
                    "timestamp": event.timestamp,
                    "value": event.value,
                    "context": dict(event.context),
                }
                for event in exported.events
            ],
            "shown": [
                {
                    "request_id": shown.request_id,
                    "timestamp": shown.timestamp,
                    "route": shown.route,
                    "bundle": shown.bundle,
                    "item_ids": list(shown.item_ids),
                    "experiment": shown.experiment,
                    "arm": shown.arm,
                }
                for shown in exported.impressions
            ],
            "trained_on": [
                {
                    "item_id": event.item_id,
                    "event": event.kind,
                    "timestamp": event.timestamp,
                    "value": event.value,
                }
                for event in exported.remembered
            ],
        }
    )


@router.delete(
    f"/users/{paths.USER}",
    response_model=told.ReceiptOut,
    response_description="Nothing about the user is left; the answer is a receipt.",
)
async def delete_user(request: Request, user_id: UserId) -> Response:
    """Remove everything about a user: events, attributes, what was shown, and what the bundle remembers.

    The id itself is kept in a list, so that the bundle's memory stays hidden after a restart, and so that the
    next model is trained without it. Somebody who comes back is a new user. The receipt can be verified with
    `POST /v1/receipts/verify`.
    """
    engine, service = await engine_of(request), service_of(request)
    async with service.audit.noting(_deed(request, "user.erase", user_id)):
        erasure = await durable(engine.intake.delete_user(person_of(request, user_id)))
        receipts = service.border.receipts(tenant_of(request))
        receipt = receipts.sign(user_id, erasure.erased, erasure.position)
    return json_response(receipt.document())


@router.post(
    "/receipts/verify",
    response_model=told.VerifiedOut,
    response_description="Whether the receipt is this service's own and unchanged.",
)
async def verify_receipt(request: Request, body: schemas.VerifyIn) -> Response:
    """Tell whether a receipt of erasure was made by this service, is unchanged, and is about somebody."""
    receipts = service_of(request).border.receipts(tenant_of(request))
    verified = receipts.verify(body.receipt, body.user_id)
    document: dict[str, Any] = {"is_valid": verified.is_valid}
    if not verified.is_valid:
        document["reason"] = verified.reason
    return json_response(document)


def _deed(request: Request, action: str, user_id: str) -> Deed:
    principal: Principal = principal_of(request)
    subject = service_of(request).audit.person(principal.tenant, user_id)
    return Deed.of(principal, action, subject, request.state.request_id)
