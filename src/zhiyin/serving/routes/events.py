"""What users did comes in here: one, many, or a stream of lines."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Body, Request, Response
from pydantic import TypeAdapter, ValidationError
from starlette.types import Receive, Scope, Send

from zhiyin.domain.errors import StoreError
from zhiyin.online.asked import Accepted
from zhiyin.online.engine import LiveEngine
from zhiyin.online.event_rules import SentEvents, read_together
from zhiyin.serving import schemas, told
from zhiyin.serving.body import JsonRoute, media_type_of, refuse_compressed
from zhiyin.serving.problems import Refused, invalid_request
from zhiyin.serving.receiving import LineStream
from zhiyin.serving.routes.asking import (
    durable,
    engine_of,
    json_response,
    keys_of,
    limits_of,
    people_of,
    principal_of,
    service_of,
    tenant_of,
)
from zhiyin.serving.service import Service
from zhiyin.serving.taking import take_events
from zhiyin.serving.tracing import Tracer
from zhiyin.stores.event_columns import EventColumns

router = APIRouter(prefix="/v1", tags=["events"], route_class=JsonRoute)

_MAX_SAID = 20
"""Refused lines that are described; the rest is counted."""
_MAX_FIELDS_SAID = 4
"""Wrong fields of one line that are described."""
_EVENT = TypeAdapter(schemas.EventIn)
_PROCESS = os.urandom(5).hex()
"""Sets ids of this process apart; asking the system for chance each time would cost 10 µs and more."""
_NUMBERS = count()


@router.post(
    "/events",
    status_code=202,
    response_model=told.EventsOut,
    response_description="The events are on the disk.",
)
async def post_events(request: Request, body: Annotated[schemas.EventsBody, Body()]) -> Response:
    """Store what users did.

    One event, or `{"events": [...]}` with up to 10,000, all or none. The answer comes when they are on the
    disk, and the next recommendation reflects them. Sending again with the same `event_id` is safe.
    """
    limits = await limits_of(request).take_events(principal_of(request), len(body))
    accepted = await _stored(request, await engine_of(request), body)
    response = json_response(
        {
            "accepted": len(body),
            "stored": accepted.n_stored,
            "duplicates": accepted.n_duplicates,
            "event_ids": accepted.event_ids,
            "unknown_items": accepted.unknown_items,
            "event_kinds": accepted.event_kinds,
        },
        status=202,
    )
    response.raw_headers += limits
    return response


@router.post(
    "/events/bulk",
    response_model=told.BulkOut,
    response_description="Lines of progress; the last one has `done`.",
)
async def post_bulk(request: Request) -> Response:
    """Store a stream of events: one JSON object a line, as long as wanted.

    The content type is `application/x-ndjson`. Lines are stored in groups while they arrive, and after each
    group a line of progress comes back, so that a broken stream tells how far it got: every line up to
    `lines` of the last progress is stored or was refused, or is empty. A line that is wrong is refused and
    the others go on; events with an `event_id` can be sent again safely. When the key is revoked or expires
    meanwhile, the stream ends.
    """
    refuse_compressed(request)
    if media_type_of(request) not in ("application/x-ndjson", "application/ndjson", "application/jsonl"):
        raise Refused(
            "unsupported-media-type",
            f"The content type is {media_type_of(request)!r}.",
            possible="The content type is application/x-ndjson.",
            remedy="Send the header  Content-Type: application/x-ndjson",
        )
    engine = await engine_of(request)
    return Lines(_progress(request, engine))


class Lines(Response):
    """Lines of JSON, sent one by one while the body of the request is still being read.

    The response of the framework listens for a caller who goes away, and would swallow parts of the body.
    """

    media_type = "application/x-ndjson"

    def __init__(self, lines: AsyncIterator[bytes]) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send them."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for line in self._lines:
            await send({"type": "http.response.body", "body": line, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _progress(request: Request, engine: LiveEngine) -> AsyncIterator[bytes]:
    """Store the lines of a body in groups; yield a line of progress after each.

    While one group is on its way to the disk, the next one is read and checked.
    """
    told: dict[str, Any] = {"lines": 0, "stored": 0, "duplicates": 0, "refused": 0}
    errors: list[dict[str, Any]] = []
    under_way: _UnderWay | None = None
    service, counted = service_of(request), request.app.state.received.counted
    try:
        with counted(principal_of(request).key_id) as bytes_of_it:
            stream = LineStream(request.stream(), bytes_of_it, lambda: service.is_stopping)
            async for lines in stream.groups():
                group = await _read(lines) if lines else None
                if under_way is not None:
                    before, under_way = under_way, None
                    yield await _told(told, errors, *before)
                if group is not None:
                    under_way = group, await _begun(request, engine, group.sent, stream)
        if under_way is not None:
            yield await _told(told, errors, *under_way)
    except Exception as error:  # The status has been sent; what failed must still be said.
        # Kept in no variable: it would hold this frame, and this frame the last group of lines.
        _tell_failure(service, told, await _what_failed_last(told, errors, under_way) or error)
    else:
        told["done"] = True
    yield orjson.dumps({**told, "errors": errors}, option=orjson.OPT_APPEND_NEWLINE)


def _tell_failure(service: Service, told: dict[str, Any], failed: Exception) -> None:
    if isinstance(failed, StoreError):
        service.metrics.count_store_error("database")
    said = getattr(failed, "problem", "Something went wrong inside the service.")
    told["problem"] = failed.detail if isinstance(failed, Refused) else said
    told["remedy"] = getattr(failed, "remedy", "") or _send_the_rest(told)


async def _what_failed_last(
    told: dict[str, Any], errors: list[dict[str, Any]], under_way: _UnderWay | None
) -> Exception | None:
    """Wait for what is on its way to the disk when a stream ends early; return what went wrong there."""
    try:
        if under_way is not None:
            await _told(told, errors, *under_way)
    except Exception as error:
        return error
    return None


async def _begun(
    request: Request, engine: LiveEngine, sent: SentEvents | None, stream: LineStream
) -> asyncio.Task[Accepted] | None:
    """Begin to store events as soon as the key may send them, and while it may send any at all."""
    if sent is None:
        return None
    principal = principal_of(request)

    async def go_on() -> None:
        stream.refuse_to_go_on()
        await keys_of(request).refuse_ended(principal)

    await go_on()
    await limits_of(request).wait_for_events(principal, len(sent), go_on)
    task = asyncio.create_task(_stored(request, engine, sent))
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # told where it is waited for
    return task


@dataclass(frozen=True, eq=False, slots=True)
class _Group:
    """Lines of a stream that are stored together.

    Attributes:
        n_lines: All of them, empty ones included.
        n_refused: Those that are no event.
        problems: Place in the group and reason of the first of these.
        sent: The others; None where there are none.
    """

    n_lines: int
    n_refused: int
    problems: Sequence[tuple[int, str]]
    sent: SentEvents | None


_UnderWay = tuple[_Group, asyncio.Task[Accepted] | None]
"""Lines of a stream on their way to the disk."""


def _send_the_rest(told: dict[str, Any]) -> str:
    return f"Everything up to line {told['lines']} is stored or was refused; send the lines after it again."


async def _read(lines: Sequence[bytes]) -> _Group:
    together = _read_together(lines)
    # One by one takes so long that everybody else would wait for it.
    return await asyncio.to_thread(_read_one_by_one, lines) if together is None else together


def _read_together(lines: Sequence[bytes]) -> _Group | None:
    """Read lines that are all plainly right; None where one is not, or they are none."""
    try:
        events = [orjson.loads(line) for line in lines if line.strip()]
    except orjson.JSONDecodeError:
        return None
    sent = read_together(events, time.time()) if events else None
    return None if sent is None else _Group(len(lines), 0, (), sent)


def _read_one_by_one(lines: Sequence[bytes]) -> _Group:
    events = []
    problems: list[tuple[int, str]] = []
    for place, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            events.append(_EVENT.validate_python(orjson.loads(line)))
        except (orjson.JSONDecodeError, ValidationError) as error:
            problems.append((place, _what_is_wrong(error) if len(problems) < _MAX_SAID else ""))
    sent = schemas.sent_one_by_one(events) if events else None
    return _Group(len(lines), len(problems), problems[:_MAX_SAID], sent)


async def _told(
    told: dict[str, Any],
    errors: list[dict[str, Any]],
    group: _Group,
    stored: asyncio.Task[Accepted] | None,
) -> bytes:
    """Wait until a group is durable; return the line of progress."""
    if stored is not None:
        accepted = await stored
        told["stored"] += accepted.n_stored
        told["duplicates"] += accepted.n_duplicates
    room = _MAX_SAID - len(errors)
    first = told["lines"] + 1
    errors += [{"line": first + place, "problem": problem} for place, problem in group.problems[:room]]
    told["lines"] += group.n_lines
    told["refused"] += group.n_refused
    return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)


def _what_is_wrong(error: orjson.JSONDecodeError | ValidationError) -> str:
    if isinstance(error, ValidationError):
        found = invalid_request(error.errors(), schemas.KNOWN_FIELDS).errors[:_MAX_FIELDS_SAID]
        # All of them: a misspelt field is missing first, and only then unknown, with what it should be.
        return " ".join(f"{path}: {problem}" if path else problem for path, problem in found)
    return f"The line is not JSON: {error}."


async def _stored(request: Request, engine: LiveEngine, sent: SentEvents) -> Accepted:
    start = time.perf_counter()
    events, metrics = _events(request, engine, sent), service_of(request).metrics
    accepted = await durable(take_events(engine.intake, events, metrics, tenant_of(request)))
    tracer: Tracer | None = request.app.state.tracer
    if tracer is not None:
        tracer.stage("commit", time.perf_counter() - start)
    return accepted


def _events(request: Request, engine: LiveEngine, sent: SentEvents) -> EventColumns:
    now = engine.clock.now()
    # Ids that rise with time keep the index of the store compact; process and number keep them distinct.
    prefix = f"{time.time_ns():016x}{_PROCESS}{next(_NUMBERS):06x}"
    border, tenant = service_of(request).border, tenant_of(request)
    contexts = sent.contexts
    if border.renames:
        contexts = [context and border.attributes(tenant, context) for context in contexts]
    return EventColumns(
        [event_id or f"{prefix}{place:04x}" for place, event_id in enumerate(sent.event_ids)],
        people_of(request, sent.user_ids),
        sent.item_ids,
        sent.kinds,
        [now if moment is None else moment for moment in sent.timestamps],
        sent.values,
        contexts,
    )
