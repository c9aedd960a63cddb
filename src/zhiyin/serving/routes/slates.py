"""Recommendations: to a user, to a visitor, beside an item, for words."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from zhiyin.online.asked import Answer, Asked, AskedSearch, AskedSimilar, AskedSlate, Past, Wanted
from zhiyin.serving import schemas, told
from zhiyin.serving.body import JsonRoute
from zhiyin.serving.routes.asking import engine_of, person_of, service_of

router = APIRouter(prefix="/v1", route_class=JsonRoute)


@router.post(
    "/recommend",
    response_model=told.SlateOut,
    response_description="A slate, best first.",
    tags=["recommendations"],
)
async def recommend(request: Request, body: schemas.RecommendIn) -> Response:
    """Recommend to a user, or to a visitor by what they did."""
    who: str | list[Past]
    if body.user_id is not None:
        who = person_of(request, body.user_id)
    else:
        who = [Past(event.item_id, event.event, event.timestamp, event.value) for event in body.history or ()]
    wanted = Wanted(
        **_slate_wishes(body),
        diversity=body.diversity,
        repeat=body.repeat,
        explain=body.explain,
        context=body.context or {},
    )
    return await _answered(request, AskedSlate(who, wanted, request.state.request_id), explained=body.explain)


@router.post(
    "/similar",
    response_model=told.SlateOut,
    response_description="A slate, best first.",
    tags=["recommendations"],
)
async def similar(request: Request, body: schemas.SimilarIn) -> Response:
    """Recommend items that go with one item."""
    wanted = Wanted(**_slate_wishes(body), diversity=body.diversity)
    return await _answered(request, AskedSimilar(body.item_id, wanted, request.state.request_id))


@router.post(
    "/search",
    response_model=told.SlateOut,
    response_description="A slate, best first.",
    tags=["recommendations"],
)
async def search(request: Request, body: schemas.SearchIn) -> Response:
    """Find items by free text, in an order for a user where one is named."""
    user_id = None if body.user_id is None else person_of(request, body.user_id)
    wanted = Wanted(**_slate_wishes(body))
    return await _answered(request, AskedSearch(body.text, wanted, request.state.request_id, user_id))


async def _answered(request: Request, asked: Asked, *, explained: bool = False) -> Response:
    answer = await service_of(request).batcher.answer(await engine_of(request), asked)
    state = request.scope["state"]
    state["bundle"] = answer.bundle
    if answer.degraded:
        state["degraded"] = answer.degraded
    if answer.degraded == "stale":  # the others are counted where the time has run out
        metrics = service_of(request).metrics
        metrics.count_fallback("stale")
        metrics.count_store_error("database")
    return Response(_slate(answer, asked.request_id, explained), media_type="application/json")


def _slate_wishes(body: schemas.SlateIn) -> dict[str, Any]:
    boost = tuple((boost.filter, boost.by) for boost in body.boost)
    return {"n": body.n, "filter": body.filter, "boost": boost}


def _slate(answer: Answer, request_id: str, explained: bool) -> bytes:
    items: list[dict[str, Any]] = [
        {"item_id": item.item_id, "rank": item.rank, "score": item.score} for item in answer.items
    ]
    if answer.items and answer.items[0].chance is not None:
        for document, item in zip(items, answer.items, strict=True):
            document["chance"] = item.chance
    if answer.items and answer.items[0].predictions:
        for document, item in zip(items, answer.items, strict=True):
            document["predictions"] = item.predictions
    if explained:
        for document, item in zip(items, answer.items, strict=True):
            document |= {"reasons": item.reasons, "sources": dict(item.sources or {})}
    answered: dict[str, Any] = {"items": items, "bundle": answer.bundle, "request_id": request_id}
    if answer.known_user is not None:
        answered["known_user"] = answer.known_user
    if answer.unknown_items:
        answered["unknown_items"] = answer.unknown_items
    if answer.degraded is not None:
        answered["degraded"] = answer.degraded
    if answer.experiment is not None:
        answered["experiment"], answered["arm"] = answer.experiment
    return orjson.dumps(answered)
