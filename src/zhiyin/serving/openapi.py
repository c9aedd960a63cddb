"""The description of the routes: examples from the served catalogue, and every error each route can give."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from zhiyin.serving.access.gate import Gate
from zhiyin.serving.access.scopes import scope_of
from zhiyin.serving.examples import Examples
from zhiyin.serving.problems import MEDIA_TYPE, TITLES, Problem
from zhiyin.serving.schemas import trial_parts

_SAID: Mapping[str, str] = {
    "malformed-json": "The body is not JSON: unexpected end of data: line 1 column 12 (char 11).",
    "unauthenticated": "The key is not known.",
    "forbidden": "DELETE /v1/users needs the scope admin.",
    "request-timeout": "The body did not arrive within 20 seconds.",
    "rate-limited": "The key 5f0c2a9be1d37740 asks for more than 200 requests a second.",
    "headers-too-large": "The request has 120 headers of 4000 bytes.",
    "not-found": "There is no route /v1/recomend.",
    "unknown-item": "The catalogue does not hold the item 'B00X'.",
    "unknown-bundle": "The store holds no bundle 5910b1c16023.",
    "unknown-experiment": "There is no experiment 'tea-first'.",
    "unknown-user": "Nobody has the user id 'ann'; there was nothing to remove.",
    "method-not-allowed": "/v1/recommend does not take GET.",
    "too-large": "The body has more than 8000000 bytes.",
    "unsupported-media-type": "The content type is 'text/plain'.",
    "invalid-request": "n: It should be less than or equal to 1000.",
    "internal-error": "Something went wrong inside the service; the request may be sent again.",
    "store-unavailable": "The store shop.db cannot be used: database or disk is full.",
    "overloaded": "260 requests are being computed or wait.",
    "no-bundle": "The tenant shop-b has no bundle yet.",
    "no-whole-bundle": "The tenant 'shop-b' has no bundle that can be served: facts.json is damaged.",
    "stopping": "The service is stopping.",
}
"""An example of the detail of each kind of problem."""

_WITH_BODY = ("malformed-json", "request-timeout", "too-large", "unsupported-media-type")
WITH_KEY = ("unauthenticated", "forbidden", "rate-limited", "headers-too-large", "store-unavailable")
"""What the gate can answer on every route that needs a scope."""
_SERVED = ("invalid-request", "internal-error", "no-bundle", "no-whole-bundle")
_COMPUTED = (*_SERVED, "overloaded")
_WRITTEN = (*_SERVED, "overloaded", "store-unavailable")
_READ = ("invalid-request", "internal-error", "no-bundle", "no-whole-bundle", "store-unavailable")

ERRORS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("POST", "/v1/events"): (*_WITH_BODY, *_WRITTEN),
    ("PUT", "/v1/items/{item_id}"): (*_WITH_BODY, *_WRITTEN),
    ("DELETE", "/v1/items/{item_id}"): ("unknown-item", *_WRITTEN),
    ("PUT", "/v1/users/{user_id}"): (*_WITH_BODY, *_WRITTEN),
    ("DELETE", "/v1/users/{user_id}"): ("unknown-user", *_WRITTEN),
    ("POST", "/v1/recommend"): (*_WITH_BODY, *_COMPUTED),
    ("POST", "/v1/similar"): (*_WITH_BODY, "unknown-item", *_COMPUTED),
    ("POST", "/v1/search"): (*_WITH_BODY, *_COMPUTED),
    ("POST", "/v1/events/bulk"): ("unsupported-media-type", *_SERVED),
    ("GET", "/v1/users/{user_id}"): ("unknown-user", *_WRITTEN),
    ("POST", "/v1/receipts/verify"): (*_WITH_BODY, "invalid-request", "internal-error", "store-unavailable"),
    ("GET", "/v1/bundles"): _READ,
    ("POST", "/v1/bundles/{version}/activate"): ("unknown-bundle", *_WRITTEN),
    ("GET", "/v1/experiments"): _READ,
    ("PUT", "/v1/experiments/{name}"): (*_WITH_BODY, *_WRITTEN),
    ("GET", "/v1/experiments/{name}"): ("unknown-experiment", *_WRITTEN),
    ("DELETE", "/v1/experiments/{name}"): ("unknown-experiment", *_WRITTEN),
    ("GET", "/v1/audit"): ("invalid-request", "internal-error", "store-unavailable"),
    ("GET", "/readyz"): ("store-unavailable", "overloaded", "internal-error", "stopping"),
}
"""What each route can answer instead."""


def describe(app: FastAPI, examples: Examples) -> dict[str, Any]:
    """Return the OpenAPI document of an app."""
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    document["paths"] = {path.replace(":id}", "}"): methods for path, methods in document["paths"].items()}
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs", {})
    schemas["Problem"] = problem
    schemas |= trial_parts()
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    _describe_bulk(document["paths"]["/v1/events/bulk"]["post"])
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            _describe_route(operation, (method.upper(), path), examples)
    around: list[object] = [middleware.cls for middleware in app.user_middleware]
    if Gate in around:
        _describe_access(document)
    for methods in document["paths"].values():
        for operation in methods.values():
            for response in operation["responses"].values():
                response.setdefault("headers", {})["X-Request-ID"] = {
                    "description": "Names the request in the log; one that the caller sends is kept.",
                    "schema": {"type": "string"},
                }
    return document


def _describe_access(document: dict[str, Any]) -> None:
    """Say how a key is sent, which routes need one, and what comes without."""
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "A key: `Authorization: Bearer zk_…`."},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
    }
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            scope = scope_of(method.upper(), path)
            if scope is None:
                continue
            operation["security"] = [{"bearer": []}, {"key": []}]
            operation["description"] = f"{operation.get('description', '')}\n\nScope: `{scope}`.".strip()
            for kind in WITH_KEY:
                _add_error(operation["responses"], kind)


def _describe_bulk(operation: dict[str, Any]) -> None:
    """Say that lines go in and lines come out; each is JSON, the whole is not."""
    event = json.dumps({"user_id": "anna", "item_id": "tea-1", "event": "view", "event_id": "e-1"})
    operation["requestBody"] = {
        "required": True,
        "description": "One event a line, each as `EventIn`.",
        "content": {"application/x-ndjson": {"schema": {"type": "string", "examples": [event + "\n"]}}},
    }
    operation["responses"]["200"]["content"] = {
        "application/x-ndjson": {
            "schema": {"type": "string", "description": "One `BulkOut` a line, the last with `done`."}
        }
    }


def _describe_route(operation: dict[str, Any], route: tuple[str, str], examples: Examples) -> None:
    if route in examples:
        content = operation["requestBody"]["content"]["application/json"]
        content["examples"] = {
            name: {"summary": example.summary, "value": example.body}
            for name, example in examples[route].items()
        }
    operation["responses"].pop("422", None)
    for kind in ERRORS.get(route, ()):
        _add_error(operation["responses"], kind)


def _add_error(responses: dict[str, Any], kind: str) -> None:
    status, title = TITLES[kind]
    response = responses.setdefault(
        str(status),
        {
            "description": title,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
        },
    )
    response["content"][MEDIA_TYPE]["examples"][kind] = {
        "summary": title,
        "value": {
            "type": f"urn:zhiyin:problem:{kind}",
            "title": title,
            "status": status,
            "detail": _SAID[kind],
            "request_id": "9f2c6c1e0a6b4f0f",
        },
    }
