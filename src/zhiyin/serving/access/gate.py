"""The gate: before any route sees a request, it is known who asks, and that they may."""

from __future__ import annotations

import ipaddress
import time
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zhiyin.serving.access.checking import KeyCheck, unauthenticated
from zhiyin.serving.access.keys import ADMIN, SCOPES
from zhiyin.serving.access.rates import Headers, RateLimits
from zhiyin.serving.access.receiving import TimedBody
from zhiyin.serving.access.scopes import DESCRIPTION_AREAS, Principal, area_of, scope_of
from zhiyin.serving.paths import refuse_what_is_no_text
from zhiyin.serving.problems import Refused
from zhiyin.serving.settings import ServingSettings
from zhiyin.serving.tracing import Tracer
from zhiyin.stores.events import DEFAULT_TENANT

STREAMED = frozenset({"/v1/events/bulk"})
"""Routes whose body may take as long as it needs, while it does not stop."""
SOMEBODY_LOCAL = Principal("", DEFAULT_TENANT, frozenset(SCOPES))
"""Whoever asks from this machine while there are no keys."""
_FORWARDED = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via"})


class Refusals(Protocol):
    """Is told of refused calls with power."""

    async def refused(self, principal: Principal, route: str, request_id: str) -> None:
        """Note one."""
        ...


class Gate:
    """ASGI middleware; stands inside the one that gives requests their id, and outside everything else.

    Whom it lets in, it names in ``scope["state"]["principal"]``, and puts ``limits`` and ``keys`` beside it
    for routes that cost more, or last longer, than a request. Open and unknown routes name nobody.

    Args:
        app: What answers.
        keys: Tells who sends a key.
        limits: Takes from the bucket of a key.
        settings: Limits, and who sees the description.
        refusals: Told when somebody without the scope asks for something that needs ``admin``.
        tracer: Makes a span of what letting in took; None where nobody collects them.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyCheck,
        limits: RateLimits,
        settings: ServingSettings,
        refusals: Refusals | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._app = app
        self._keys = keys
        self._limits = limits
        self._settings = settings.access
        self._longest_body = settings.max_body_bytes
        self._refusals = refusals
        self._tracer = tracer
        docs = settings.access.docs
        self._description_scope = ADMIN if docs is None and settings.production else None
        self._description_is_hidden = docs is False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer why not."""
        if scope["type"] != "http":
            await self._not_http(scope, receive, send)
            return
        path = path_of(scope)
        sent: _Sent | None = None
        start = time.perf_counter()
        try:
            sent = _read(scope, self._settings.max_headers, self._settings.max_header_bytes)
            headers = await self._let_in(scope, sent, path)
            refuse_what_is_no_text(scope)
        except Refused as refused:
            if sent is None or sent.n_body_bytes > self._longest_body:
                refused.headers["Connection"] = "close"  # nobody will read what is still to come
            await refused.response(_request_id(scope))(scope, receive, send)
            return
        if self._tracer is not None:
            self._tracer.stage("gate", time.perf_counter() - start)
        if sent.n_body_bytes:
            receive = TimedBody(receive, self._settings.body_seconds, streamed=path in STREAMED)
        await self._app(scope, receive, _with_headers(send, headers) if headers else send)

    async def _let_in(self, scope: Scope, sent: _Sent, path: str) -> Headers:
        # A short cut behind the gate may go by the whole path, so whichever of the two needs a scope counts.
        needed = scope_of(scope["method"], path) or scope_of(scope["method"], scope["path"])
        if needed is None:
            if area_of(path) not in DESCRIPTION_AREAS:
                return []
            if self._description_is_hidden:
                raise Refused("not-found", f"There is no route {area_of(path)}.")
            if self._description_scope is None:
                return []
            needed = self._description_scope
        scope["route"] = _Area(area_of(path))  # until the router knows better, for logs and metrics
        if sent.problem:
            raise unauthenticated(sent.problem)
        principal = self._keys.at_once(sent.key) if sent.key else None
        if principal is None:
            principal = await self._who(scope, sent)
        # Noted first, so that the log tells whose requests are refused.
        scope.setdefault("state", {}).update(
            principal=principal,
            tenant=principal.tenant,
            key_id=principal.key_id,
            limits=self._limits,
            keys=self._keys,
        )
        headers = await self._limits.take(principal)  # before the next step, which may write to the audit log
        if needed not in principal.scopes:
            await self._forbid(principal, needed, f"{scope['method']} {area_of(path)}", _request_id(scope))
        return headers

    async def _who(self, scope: Scope, sent: _Sent) -> Principal:
        if sent.key:
            return await self._keys.slowly(sent.key)
        if await self._keys.has_keys():
            raise unauthenticated("The request has no key.")
        if not _is_local(scope, sent):
            raise unauthenticated("There are no keys yet, so only this machine itself is answered.")
        return SOMEBODY_LOCAL

    async def _forbid(self, principal: Principal, needed: str, route: str, request_id: str) -> None:
        if needed == ADMIN and self._refusals is not None:
            await self._refusals.refused(principal, route, request_id)
        raise Refused(
            "forbidden",
            f"{route} needs the scope {needed}.",
            possible=f"The key {principal.key_id} has {', '.join(sorted(principal.scopes))}.",
            remedy=f"Use a key with this scope:  zhiyin keys create NAME --scope {needed} --store URL",
        )

    async def _not_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # no route is one, and none shall become one without a scope
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._app(scope, receive, send)


class _Sent(NamedTuple):
    """What the headers of a request say.

    ``problem`` is why the key cannot be used, or empty; open routes do not care. ``n_body_bytes`` is as
    declared, 0 where there is no body, and endless where the length is not said.
    """

    key: str
    problem: str
    host: bytes
    is_forwarded: bool
    n_body_bytes: float


class _Area(NamedTuple):
    """What stands for the route of a request that is refused; there are as many as rows of the table."""

    path: str


def _read(scope: Scope, max_headers: int, max_bytes: int) -> _Sent:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    n_bytes, n_body_bytes, key, problem, host, is_forwarded = 0, 0.0, b"", "", b"", False
    for name, value in headers:
        n_bytes += len(name) + len(value)
        if name in (b"authorization", b"x-api-key"):
            given = _bearer(value) if name == b"authorization" else value.strip()
            if given is None:
                problem = "The header Authorization does not begin with 'Bearer', or has nothing after it."
            elif key and given != key:
                problem = "The request has two different keys."
            key = given or key
        elif name == b"content-length":
            n_body_bytes = float(value) if value.isdigit() else float("inf")
        elif name == b"transfer-encoding":
            n_body_bytes = float("inf")
        elif name == b"host":
            host = value
        elif name in _FORWARDED:
            is_forwarded = True
    if len(headers) > max_headers or n_bytes > max_bytes:
        raise Refused(
            "headers-too-large",
            f"The request has {len(headers)} headers of {n_bytes} bytes.",
            possible=f"It may have {max_headers} headers of {max_bytes} bytes together.",
        )
    return _Sent(key.decode("latin-1"), problem, host, is_forwarded, n_body_bytes)


def _bearer(value: bytes) -> bytes | None:
    scheme, _, credentials = value.strip().partition(b" ")
    return credentials.strip() or None if scheme.lower() == b"bearer" else None


def _is_local(scope: Scope, sent: _Sent) -> bool:
    """Whether somebody on this machine asks, and not through a proxy on it or a deceived browser.

    A proxy on this machine makes everybody look local; it shows by its headers. A web page whose name was
    pointed at 127.0.0.1 shows by the name it asks for.
    """
    client: Any = scope.get("client")
    if client is None or sent.is_forwarded:
        return False
    return is_loopback(client[0]) and _is_local_name(sent.host.decode("latin-1"))


@lru_cache(1024)
def is_loopback(host: str) -> bool:
    """Tell whether an address, or the name localhost, is this machine itself."""
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return host.lower() == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _is_local_name(host: str) -> bool:
    name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
    # A name without a dot cannot be registered by a stranger.
    return not name or ("." not in name and ":" not in name) or is_loopback(name)


def path_of(scope: Scope) -> str:
    """Return the path that the router will match: without the prefix under which the app is mounted."""
    path, prefix = scope["path"], scope.get("root_path", "")
    if prefix and path.startswith(prefix) and (path == prefix or path[len(prefix)] == "/"):
        return str(path[len(prefix) :])
    return str(path)


def _request_id(scope: Scope) -> str:
    return str(scope.get("state", {}).get("request_id", ""))


def _with_headers(send: Send, headers: Headers) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            said = message.get("headers", [])
            names = {name.lower() for name, _ in said}  # what a route says of limits is newer
            message["headers"] = [*said, *(header for header in headers if header[0] not in names)]
        await send(message)

    return send_with_headers
