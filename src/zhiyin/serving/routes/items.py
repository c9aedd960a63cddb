"""Items come, change and go."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Path, Request, Response

from zhiyin.serving import paths, told, wire
from zhiyin.serving.body import JsonRoute
from zhiyin.serving.routes.asking import durable, engine_of, json_response

router = APIRouter(prefix="/v1", tags=["items"], route_class=JsonRoute)
ItemId = Annotated[wire.Id, Path(description="The shop's id of the item.")]


@router.put(
    f"/items/{paths.ITEM}",
    response_model=told.ItemOut,
    response_description="The item is on the disk and can be recommended.",
)
async def put_item(request: Request, item_id: ItemId, body: Annotated[wire.Attributes, Body()]) -> Response:
    """Add an item, or change one; it can be recommended at once.

    Attributes that are not named stay as they are, null removes one. The types are those of the catalogue. An
    item that was deleted comes back.
    """
    attributes = dict(body)
    if attributes.get("item_id") == item_id:
        del attributes["item_id"]
    engine = await engine_of(request)
    item, new_attributes = await durable(engine.intake.put_item(item_id, attributes))
    return json_response(
        {"item_id": item_id, "attributes": item.attributes, "new_attributes": new_attributes}
    )


@router.delete(
    f"/items/{paths.ITEM}", status_code=204, response_description="The item is not recommended any more."
)
async def delete_item(request: Request, item_id: ItemId) -> Response:
    """Never recommend an item again, until it is put again. What users did with it stays."""
    engine = await engine_of(request)
    await durable(engine.intake.delete_item(item_id))
    return Response(status_code=204)
