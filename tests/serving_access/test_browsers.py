"""Browsers: no page may call the service unless it is named, and a preflight needs no key."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from zhiyin.serving.access.browsers import allow_browsers
from zhiyin.serving.access.checking import KeyCheck
from zhiyin.serving.access.gate import Gate
from zhiyin.serving.access.keys import Allowance, ApiKeys
from zhiyin.serving.access.rates import RateLimits
from zhiyin.serving.settings import AccessSettings, ServingSettings
from zhiyin.stores.redis.limits import LocalRateLimiter

SHOP, OTHER = "https://shop.example", "https://evil.example"


def service(store, *origins: str) -> TestClient:
    settings = ServingSettings(access=AccessSettings(cors_origins=origins))
    app = FastAPI()

    @app.post("/v1/recommend")
    def recommend() -> dict[str, str]:
        return {"items": "none"}

    limits = RateLimits(LocalRateLimiter(), settings.access)
    app.add_middleware(Gate, keys=KeyCheck(store, clock=lambda: 0.0), limits=limits, settings=settings)
    allow_browsers(app, settings.access)
    return TestClient(app)


def preflight(client: TestClient, origin: str) -> dict[str, str]:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    return dict(client.options("/v1/recommend", headers=asked).headers)


@pytest.fixture
def key(keys: ApiKeys) -> str:
    return keys.create("page", Allowance(("recommend",))).text


def test_no_page_at_first(store, key: str) -> None:
    client = service(store)
    answered = client.post("/v1/recommend", headers={"X-API-Key": key, "Origin": SHOP})
    assert answered.status_code == 200
    assert "access-control-allow-origin" not in answered.headers
    assert "access-control-allow-origin" not in preflight(client, SHOP)


def test_the_named_page_and_no_other(store, key: str) -> None:
    client = service(store, SHOP)
    allowed = preflight(client, SHOP)
    assert allowed["access-control-allow-origin"] == SHOP
    assert "authorization" in allowed["access-control-allow-headers"].lower()
    assert "access-control-allow-origin" not in preflight(client, OTHER)
    answered = client.post("/v1/recommend", headers={"X-API-Key": key, "Origin": SHOP})
    assert answered.headers["access-control-allow-origin"] == SHOP
    assert "RateLimit" in answered.headers["access-control-expose-headers"]
    other = client.post("/v1/recommend", headers={"X-API-Key": key, "Origin": OTHER})
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.usefixtures("key")
def test_a_page_can_read_why_it_was_refused_but_never_uses_cookies(store) -> None:
    refused = service(store, SHOP).post("/v1/recommend", headers={"Origin": SHOP})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, SHOP)
    for client in (service(store, SHOP), service(store, "*")):
        assert "access-control-allow-credentials" not in preflight(client, SHOP)
