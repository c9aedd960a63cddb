"""The short road to the routes that are called all the time."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from zhiyin.domain.errors import ZhiyinError
from zhiyin.serving.body import Handler, JsonRoute
from zhiyin.serving.problems import Refused, refuse


class Direct:
    """ASGI middleware that finds routes without parameters in a table, and leaves the rest to the framework.

    The functions that answer are the same ones, read and checked by the same `JsonRoute`; only what lies
    between the server and them is left out.

    Args:
        app: The framework.
        routes: All routes.
    """

    def __init__(self, app: ASGIApp, *, routes: Iterable[APIRoute]) -> None:
        self._app = app
        self._routes: dict[tuple[str, str], tuple[APIRoute, Handler]] = {}
        for route in routes:
            if isinstance(route, JsonRoute) and "{" not in route.path:
                for method in route.methods or ():
                    self._routes[method, route.path] = (route, route.get_route_handler())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        found = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        scope["route"], answer = found
        request = Request(scope, receive)
        try:
            response = await answer(request)
        except (Refused, ZhiyinError) as error:
            response = refuse(request, error)
        await response(scope, receive, send)
