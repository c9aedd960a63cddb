"""Errors as RFC 9457 problem documents: what was wrong, what is possible, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from zhiyin.domain.errors import (
    BundleError,
    ConfigError,
    RequestError,
    ShapeMismatch,
    StoreError,
    StoreOverloaded,
    UnknownBundle,
    UnknownExperiment,
    UnknownItem,
    UnknownUser,
    ZhiyinError,
    did_you_mean,
)

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 20
"""Errors listed in one document; the detail says how many there were."""

TITLES: Mapping[str, tuple[int, str]] = {
    "malformed-json": (400, "The body is not JSON"),
    "unauthenticated": (401, "The request has no valid key"),
    "forbidden": (403, "The key lacks the scope for this"),
    "not-found": (404, "There is no such route"),
    "unknown-item": (404, "The catalogue does not hold this item"),
    "unknown-bundle": (404, "The store does not hold this bundle"),
    "unknown-experiment": (404, "There is no such experiment"),
    "unknown-user": (404, "Nobody has this user id"),
    "method-not-allowed": (405, "The route does not take this method"),
    "request-timeout": (408, "The body did not arrive in time"),
    "too-large": (413, "The body is too long"),
    "unsupported-media-type": (415, "The body is of a kind that is not read"),
    "invalid-request": (422, "The request cannot be understood"),
    "rate-limited": (429, "The key asks too often"),
    "headers-too-large": (431, "The headers are too long or too many"),
    "internal-error": (500, "The service failed"),
    "damaged-bundle": (500, "The bundle cannot be loaded"),
    "store-unavailable": (503, "The store cannot be used"),
    "overloaded": (503, "Too many requests are waiting"),
    "no-bundle": (503, "The tenant has no bundle yet"),
    "no-whole-bundle": (503, "The tenant has no bundle that can be loaded"),
    "stopping": (503, "The service is stopping"),
}
"""Kind of problem → status and title; the type of a document is ``urn:zhiyin:problem:<kind>``."""


class FieldError(BaseModel):
    """One field that was wrong."""

    path: str
    problem: str


class Problem(BaseModel):
    """RFC 9457 problem document. ``type`` tells kinds apart; the other texts are for people."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:zhiyin:problem:invalid-request",
                    "title": "The request cannot be understood",
                    "status": 422,
                    "detail": "filter.prize: No item has the attribute 'prize'. Did you mean 'price'?",
                    "possible": "The attributes are item_id, title, price.",
                    "errors": [{"path": "filter.prize", "problem": "No item has the attribute 'prize'."}],
                    "request_id": "9f2c6c1e0a6b4f0f",
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    detail: str
    possible: str | None = None
    remedy: str | None = None
    errors: list[FieldError] | None = None
    request_id: str | None = None


class Refused(Exception):
    """Ends a request with a problem document.

    Args:
        kind: A key of `TITLES`.
        detail: What was wrong this time.
        possible: What would have been accepted.
        remedy: What to do.
        errors: Paths of fields and what was wrong with each.
        headers: Further headers of the response.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        possible: str = "",
        remedy: str = "",
        errors: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.possible = possible
        self.remedy = remedy
        self.errors = errors
        self.headers = dict(headers or {})

    def response(self, request_id: str) -> Response:
        """Return the document as a response."""
        status, title = TITLES[self.kind]
        document: dict[str, Any] = {
            "type": f"urn:zhiyin:problem:{self.kind}",
            "title": title,
            "status": status,
            "detail": self.detail,
        }
        if self.possible:
            document["possible"] = self.possible
        if self.remedy:
            document["remedy"] = self.remedy
        if self.errors:
            document["errors"] = [{"path": path, "problem": text} for path, text in self.errors]
        document["request_id"] = request_id
        return Response(orjson.dumps(document), status, self.headers, MEDIA_TYPE)


def refuse(request: Request, error: Refused | ZhiyinError) -> Response:
    """Answer with what was wrong; a store that failed is counted."""
    refused = error if isinstance(error, Refused) else refusal_of(error)
    if refused.kind == "store-unavailable":
        request.app.state.metrics.count_store_error("database")
    elif isinstance(error, StoreOverloaded):
        request.app.state.metrics.count_shed("writer")
    return refused.response(request.state.request_id)


def refusal_of(error: ZhiyinError) -> Refused:
    """Turn an error of the engine into an answer."""
    kind = next((kind for kinds, kind in _KINDS if isinstance(error, kinds)), "internal-error")
    if kind == "internal-error":
        return internal_error()
    path = getattr(error, "path", "")
    said = error.problem.removeprefix(f"{path}: ")
    return Refused(
        kind,
        error.problem,
        possible=error.possible,
        remedy=error.remedy,
        errors=[(path, said)] if path else (),
        headers={"Retry-After": "1"} if isinstance(error, StoreError) else None,
    )


_KINDS: tuple[tuple[tuple[type[ZhiyinError], ...], str], ...] = (
    ((UnknownItem,), "unknown-item"),
    ((UnknownUser,), "unknown-user"),
    ((UnknownBundle,), "unknown-bundle"),
    ((UnknownExperiment,), "unknown-experiment"),
    ((BundleError,), "damaged-bundle"),
    ((StoreOverloaded,), "overloaded"),
    ((StoreError,), "store-unavailable"),
    ((ShapeMismatch,), "internal-error"),
    ((RequestError, ConfigError), "invalid-request"),
)


def internal_error() -> Refused:
    """An answer that tells nothing about the inside."""
    return Refused(
        "internal-error",
        "Something went wrong inside the service; the request may be sent again.",
        remedy="When it happens again, look in the log of the service for the request_id of this answer.",
    )


def invalid_request(errors: Iterable[Mapping[str, Any]], known_fields: Iterable[str]) -> Refused:
    """Turn what pydantic found into an answer.

    Args:
        errors: As `pydantic.ValidationError.errors` gives them.
        known_fields: Names to suggest for a misspelt field.
    """
    known = list(known_fields)
    found = [(_path(error["loc"]), _sentence(error, known)) for error in errors]
    path, problem = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return Refused(
        "invalid-request", f"{path}: {problem}{more}" if path else problem + more, errors=found[:MAX_ERRORS]
    )


ONE, MANY = "<one>", "<many>"
"""Names of the two forms of a body, which pydantic writes into the place of an error."""


def _path(location: Sequence[str | int]) -> str:
    path = ""
    for part in location:
        if part in ("body", "path", "query", ONE, MANY):
            continue
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return path


def _sentence(error: Mapping[str, Any], known_fields: list[str]) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        name = str(error["loc"][-1])
        return f"The field '{name}' is not known.{did_you_mean(name, set(known_fields) - {name})}"
    if kind == "missing":
        return "This field is missing."
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        return "It should be an object."
    text = str(error["msg"]).removeprefix("Value error, ")
    text = text.replace("Input should be", "It should be").replace("Input", "It")
    return text if text.endswith((".", "?")) else text + "."
