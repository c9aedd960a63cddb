"""The routes a shop calls."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import APIRouter, Body, Path, Request, Response

from zhiyin.online.asked import Answer, Past, Wanted
from zhiyin.online.engine import LiveEngine
from zhiyin.serving import schemas
from zhiyin.serving.body import JsonRoute
from zhiyin.stores.records import Event

T = TypeVar("T")

router = APIRouter(prefix="/v1", route_class=JsonRoute)
ItemId = Annotated[schemas.Id, Path(description="The shop's id of the item.")]
UserId = Annotated[schemas.Id, Path(description="The shop's id of the user.")]


@router.post(
    "/events",
    status_code=202,
    response_model=schemas.EventsOut,
    response_description="The events are on the disk.",
    tags=["events"],
)
async def post_events(request: Request, body: Annotated[schemas.EventsBody, Body()]) -> Response:
    """Store what users did.

    One event, or `{"events": [...]}` with up to 10,000, all or none. The answer comes when they are on the
    disk, and the next recommendation reflects them. Sending again with the same `event_id` is safe.
    """
    sent = body.events if isinstance(body, schemas.EventsIn) else [body]
    accepted = await _durable(_engine(request).intake.accept(_events(sent)))
    metrics = request.app.state.metrics
    metrics.events_stored.inc(accepted.n_stored)
    metrics.events_duplicate.inc(accepted.n_duplicates)
    return _json(
        {
            "accepted": len(sent),
            "stored": accepted.n_stored,
            "duplicates": accepted.n_duplicates,
            "event_ids": accepted.event_ids,
            "unknown_items": accepted.unknown_items,
            "event_kinds": accepted.event_kinds,
        },
        status=202,
    )


@router.put(
    "/items/{item_id:path}",
    response_model=schemas.ItemOut,
    response_description="The item is on the disk and can be recommended.",
    tags=["items"],
)
async def put_item(
    request: Request, item_id: ItemId, body: Annotated[schemas.Attributes, Body()]
) -> Response:
    """Add an item, or change one; it can be recommended at once.

    Attributes that are not named stay as they are, null removes one. The types are those of the catalogue. An
    item that was deleted comes back.
    """
    attributes = dict(body)
    if attributes.get("item_id") == item_id:
        del attributes["item_id"]
    engine = _engine(request)
    item, new_attributes = await _durable(engine.intake.put_item(item_id, attributes))
    return _json({"item_id": item_id, "attributes": item.attributes, "new_attributes": new_attributes})


@router.delete(
    "/items/{item_id:path}",
    status_code=204,
    response_description="The item is not recommended any more.",
    tags=["items"],
)
async def delete_item(request: Request, item_id: ItemId) -> Response:
    """Never recommend an item again, until it is put again. What users did with it stays."""
    await _durable(_engine(request).intake.delete_item(item_id))
    return Response(status_code=204)


@router.put(
    "/users/{user_id:path}",
    response_model=schemas.UserOut,
    response_description="The attributes are on the disk.",
    tags=["users"],
)
async def put_user(
    request: Request, user_id: UserId, body: Annotated[schemas.Attributes, Body()]
) -> Response:
    """Store attributes of a user. Attributes that are not named stay as they are, null removes one."""
    user = await _durable(_engine(request).intake.put_user(user_id, body))
    return _json({"user_id": user_id, "attributes": user.attributes})


@router.delete(
    "/users/{user_id:path}",
    status_code=204,
    response_description="Nothing about the user is left.",
    tags=["users"],
)
async def delete_user(request: Request, user_id: UserId) -> Response:
    """Remove everything about a user: events, attributes, what was shown, and what the bundle remembers.

    The id itself is kept in a list, so that the bundle's memory stays hidden after a restart. Somebody who
    comes back is a new user.
    """
    await _durable(_engine(request).intake.delete_user(user_id))
    return Response(status_code=204)


@router.post(
    "/recommend",
    response_model=schemas.SlateOut,
    response_description="A slate, best first.",
    tags=["recommendations"],
)
async def recommend(request: Request, body: schemas.RecommendIn) -> Response:
    """Recommend to a user, or to a visitor by what they did."""
    who: str | list[Past] = body.user_id if body.user_id is not None else _past(body.history or [])
    wanted = Wanted(
        **_slate_wishes(body),
        diversity=body.diversity,
        repeat=body.repeat,
        explain=body.explain,
        context=body.context or {},
    )
    request_id: str = request.state.request_id
    engine = _engine(request)
    answer = await request.app.state.workers.run(lambda: engine.answering.recommend(who, wanted, request_id))
    return _slate(answer, request_id, explained=body.explain)


@router.post(
    "/similar",
    response_model=schemas.SlateOut,
    response_description="A slate, best first.",
    tags=["recommendations"],
)
async def similar(request: Request, body: schemas.SimilarIn) -> Response:
    """Recommend items that go with one item."""
    wanted = Wanted(**_slate_wishes(body), diversity=body.diversity)
    request_id: str = request.state.request_id
    engine = _engine(request)
    answer = await request.app.state.workers.run(
        lambda: engine.answering.similar(body.item_id, wanted, request_id)
    )
    return _slate(answer, request_id)


@router.post(
    "/search",
    response_model=schemas.SlateOut,
    response_description="A slate, best first.",
    tags=["recommendations"],
)
async def search(request: Request, body: schemas.SearchIn) -> Response:
    """Find items by free text, in an order for a user where one is named."""
    wanted = Wanted(**_slate_wishes(body))
    request_id: str = request.state.request_id
    engine = _engine(request)
    answer = await request.app.state.workers.run(
        lambda: engine.answering.search(body.text, wanted, request_id, body.user_id)
    )
    return _slate(answer, request_id)


def _engine(request: Request) -> LiveEngine:
    engine: LiveEngine = request.app.state.engine
    return engine


async def _durable(future: Future[T]) -> T:
    """Wait without blocking; a caller who goes away does not undo what is being written."""
    return await asyncio.shield(asyncio.wrap_future(future))


def _events(sent: list[schemas.EventIn]) -> list[Event]:
    now = int(time.time())
    # Ids that rise with time keep the index of the store compact; the random half keeps them distinct.
    prefix = f"{time.time_ns():016x}{os.urandom(6).hex()}"
    return [
        Event(
            event.event_id or f"{prefix}{place:04x}",
            event.user_id,
            event.item_id,
            event.event,
            now if event.timestamp is None else event.timestamp,
            event.value,
            event.context or {},
        )
        for place, event in enumerate(sent)
    ]


def _past(history: list[schemas.PastIn]) -> list[Past]:
    return [Past(event.item_id, event.event, event.timestamp, event.value) for event in history]


def _slate_wishes(body: schemas.SlateIn) -> dict[str, Any]:
    boost = tuple((boost.filter, boost.by) for boost in body.boost)
    return {"n": body.n, "filter": body.filter, "boost": boost}


def _slate(answer: Answer, request_id: str, *, explained: bool = False) -> Response:
    items = [
        {"item_id": item.item_id, "rank": item.rank, "score": item.score}
        | ({"reasons": item.reasons, "sources": dict(item.sources or {})} if explained else {})
        for item in answer.items
    ]
    document: dict[str, Any] = {"items": items, "bundle": answer.bundle, "request_id": request_id}
    if answer.known_user is not None:
        document["known_user"] = answer.known_user
    if answer.unknown_items:
        document["unknown_items"] = answer.unknown_items
    return _json(document)


def _json(document: Mapping[str, Any], *, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, media_type="application/json")
