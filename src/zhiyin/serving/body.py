"""From the bytes of a request to the arguments of its route: bounded, JSON, not too deep, all checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, get_type_hints

import orjson
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from zhiyin.serving.access.scopes import Principal
from zhiyin.serving.paths import refuse_parameters
from zhiyin.serving.problems import Refused, invalid_request
from zhiyin.serving.receiving import Received
from zhiyin.serving.schemas import KNOWN_FIELDS

MAX_DEPTH = 32
"""How deep objects and lists may be nested."""
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class JsonRoute(APIRoute):
    """A route that reads its body and its path by itself.

    Its function takes the request, each part of the path by name, and, where there is one, ``body``; and
    returns a response. What the framework would do in between costs more than many recommendations.
    """

    def get_route_handler(self) -> Handler:
        """Return what answers a request."""
        hints = get_type_hints(self.endpoint, include_extras=True)
        asked = {name: hints[name] for name in inspect.signature(self.endpoint).parameters}
        readers = {name: TypeAdapter(kind) for name, kind in asked.items() if name != "request"}
        body_reader = readers.pop("body", None)
        answer = self.endpoint

        async def read_and_answer(request: Request) -> Response:
            refuse_parameters(request.scope)
            given: dict[str, Any] = {}
            for name, reader in readers.items():
                given[name] = _checked(reader, request.path_params[name], "path", name)
            if body_reader is not None:
                given["body"] = _checked(body_reader, await read_json(request), "body")
            response: Response = await answer(request, **given)
            return response

        return read_and_answer


def _checked(reader: TypeAdapter[Any], value: object, *where: str) -> Any:
    try:
        return reader.validate_python(value)
    except ValidationError as error:
        errors = [{**found, "loc": (*where, *found["loc"])} for found in error.errors()]
        raise invalid_request(errors, KNOWN_FIELDS) from None


def media_type_of(request: Request) -> str:
    """Return the declared type of the body, in small letters, without parameters."""
    declared: str = request.headers.get("content-type", "")
    return declared.partition(";")[0].strip().lower()


def refuse_compressed(request: Request) -> None:
    """Refuse a body that is compressed.

    Raises:
        Refused: when the headers say so.
    """
    coding: str = request.headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity"):
        raise Refused(
            "unsupported-media-type",
            f"The content encoding is {coding[:40]!r}; bodies are read as they are.",
            remedy="Send the body without compressing it, and without the header Content-Encoding.",
        )


async def read_json(request: Request) -> Any:
    """Read the body.

    Raises:
        Refused: when it is too long, compressed, not JSON, not declared as JSON, or nested too deep.
    """
    refuse_compressed(request)
    media_type = media_type_of(request)
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
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _is_deeper(parsed, MAX_DEPTH):
        raise Refused("malformed-json", f"The body is nested more than {MAX_DEPTH} deep.")
    return parsed


async def _bounded(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "")
    n_bytes = int(declared) if declared.isascii() and declared.isdigit() else 0
    chunks: list[bytes] = []
    received: Received = request.app.state.received
    principal: Principal = request.scope["state"]["principal"]
    if n_bytes <= limit:
        n_bytes = 0
        with received.counted(principal.key_id) as counted:
            async for chunk in request.stream():
                counted.add(len(chunk))
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
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(depth):
        if not level:
            return False
        level = [
            part
            for whole in level
            for part in (whole.values() if isinstance(whole, dict) else whole)
            if isinstance(part, (dict, list))
        ]
    return bool(level)
