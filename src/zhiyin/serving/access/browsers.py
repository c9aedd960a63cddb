"""Which web pages may call the service from a browser: none, unless they are named."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from zhiyin.serving.settings import AccessSettings

_READABLE = (
    "X-Request-ID",
    "Retry-After",
    "RateLimit",
    "RateLimit-Policy",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
)


def allow_browsers(app: FastAPI, settings: AccessSettings) -> None:
    """Answer browsers that ask for another page's sake (CORS); call it after the gate was added.

    A key is sent in a header and never in a cookie, so credentials are not allowed: a page cannot use what a
    browser knows by itself. Questions beforehand (preflight) are answered without a key, as they carry none.
    """
    if not settings.cors_origins:
        return
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(settings.cors_origins),
        allow_credentials=False,
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=["Authorization", "X-API-Key", "Content-Type", "X-Request-ID"],
        expose_headers=_READABLE,
        max_age=600,
    )
