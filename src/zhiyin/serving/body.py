"""Bodies of requests: bounded, JSON, not too deep; everything else is refused before anybody looks inside."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from zhiyin.serving.problems import Refused

MAX_DEPTH = 32
"""How deep objects and lists may be nested."""


class JsonRoute(APIRoute):
    """A route whose body, where it has one, is checked before the framework parses it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler with the check in front."""
        answer = super().get_route_handler()
        has_body = self.body_field is not None

        async def checked(request: Request) -> Response:
            if has_body:
                await _read(request)
            return await answer(request)

        return checked


async def _read(request: Request) -> None:
    """Read the body and leave it, parsed, where the framework looks for it."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refused(
            "unsupported-media-type",
            f"The content type is {media_type!r}." if media_type else "There is no content type.",
            possible="The content type is application/json.",
            remedy="Send the header  Content-Type: application/json",
        )
    limit: int = request.app.state.settings.max_body_bytes
    body = await _bounded(request, limit)
    if not body.strip():
        raise Refused("malformed-json", "The body is empty.", remedy="See /docs for an example.")
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused("malformed-json", f"The body is not JSON: {error}.") from None
    if _is_deeper(parsed, MAX_DEPTH):
        raise Refused("malformed-json", f"The body is nested more than {MAX_DEPTH} deep.")
    request._body, request._json = body, parsed


async def _bounded(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "")
    n_bytes = int(declared) if declared.isascii() and declared.isdigit() else 0
    chunks: list[bytes] = []
    if n_bytes <= limit:
        n_bytes = 0
        async for chunk in request.stream():
            n_bytes += len(chunk)
            if n_bytes > limit:
                break
            chunks.append(chunk)
    if n_bytes > limit:
        raise Refused(
            "too-large",
            f"The body has more than {limit} bytes.",
            possible=f"A body may have {limit} bytes.",
            remedy="Send several smaller requests.",
            # What is left of the body would otherwise be read as the next request.
            headers={"Connection": "close"},
        )
    return b"".join(chunks)


def _is_deeper(value: object, depth: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    if depth == 0:
        return True
    inner = value.values() if isinstance(value, dict) else value
    return any(_is_deeper(part, depth - 1) for part in inner)
