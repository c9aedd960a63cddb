"""Which scope each route needs, in one place; and who is asking.

A new route needs a row here: `without_row` finds those that have none, and a service with such a route does
not start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from zhiyin.serving.access.keys import ADMIN, INGEST, RECOMMEND

SCOPE_OF: Mapping[tuple[str, str], str] = {
    ("POST", "/v1/events"): INGEST,
    ("GET", "/v1/events"): INGEST,
    ("PUT", "/v1/items"): INGEST,
    ("DELETE", "/v1/items"): INGEST,
    ("PUT", "/v1/users"): INGEST,
    ("POST", "/v1/recommend"): RECOMMEND,
    ("POST", "/v1/similar"): RECOMMEND,
    ("POST", "/v1/search"): RECOMMEND,
    ("GET", "/v1/users"): ADMIN,
    ("DELETE", "/v1/users"): ADMIN,
    ("POST", "/v1/receipts"): ADMIN,
    ("GET", "/v1/experiments"): ADMIN,
    ("POST", "/v1/experiments"): ADMIN,
    ("PUT", "/v1/experiments"): ADMIN,
    ("DELETE", "/v1/experiments"): ADMIN,
    ("GET", "/v1/bundles"): ADMIN,
    ("POST", "/v1/bundles"): ADMIN,
    ("PUT", "/v1/bundles"): ADMIN,
    ("DELETE", "/v1/bundles"): ADMIN,
    ("GET", "/v1/audit"): ADMIN,
    ("GET", "/metrics"): ADMIN,
}
"""Method and area → scope. An area is the first two parts of a path, so ``/v1/users`` covers
``/v1/users/{user_id}`` and everything below."""
OPEN_AREAS = frozenset({"/healthz", "/readyz"})
"""Answer anybody: load balancers ask them."""
DESCRIPTION_AREAS = frozenset({"/docs", "/openapi.json"})
"""The description of the service; `AccessSettings.docs` decides."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks.

    Attributes:
        key_id: Public part of the key; empty where there are no keys yet and the caller is on this machine.
        tenant: Whose data they see.
        scopes: What they may do.
        requests_per_second: Their own limit; None for the limit of the service.
    """

    key_id: str
    tenant: str
    scopes: frozenset[str]
    requests_per_second: float | None = None


def area_of(path: str) -> str:
    """Return the first two parts of a path, or the one of a path outside ``/v1``."""
    second = path.find("/", 1)
    if second < 0:
        return path
    if path[:second] != "/v1":
        return path[:second]
    third = path.find("/", second + 1)
    return path if third < 0 else path[:third]


def scope_of(method: str, path: str) -> str | None:
    """Return the scope a request needs; None where there is no such route, or it is open.

    Args:
        method: As sent; HEAD needs what GET needs, because the framework may answer it from the same route.
        path: Decoded, without a prefix of the gateway.
    """
    return SCOPE_OF.get(("GET" if method == "HEAD" else method, area_of(path)))


def without_row(routes: Iterable[tuple[str, str]]) -> list[str]:
    """Return the routes, as method and path template, that the table forgets."""
    open_areas = OPEN_AREAS | DESCRIPTION_AREAS
    return [
        f"{method} {path}"
        for method, path in routes
        if scope_of(method, path) is None and area_of(path) not in open_areas
    ]
