"""One tenant's damaged bundle is that tenant's misfortune alone, and can be mended while the others shop."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sql
from fastapi.testclient import TestClient

from zhiyin.domain.errors import BundleError
from zhiyin.experiments.refreshing.versions import publish
from zhiyin.serving import unserved
from zhiyin.serving.access.keys import SCOPES, Allowance, ApiKeys
from zhiyin.serving.app import create_app
from zhiyin.serving.settings import ServingSettings
from zhiyin.stores import tables
from zhiyin.stores.database import SqlDatabase
from zhiyin.stores.opening import open_database

SETTINGS = ServingSettings(log_requests=False)
COMMAND = "zhiyin publish BUNDLE --store URL --tenant shop2 --activate"


def damage(database: object, tenant: str) -> None:
    """Change the first file of every bundle of a tenant."""
    assert isinstance(database, SqlDatabase)
    with database.backend.writing.begin() as connection:
        parts = tables.bundle_parts
        connection.execute(
            sql.update(parts).where(parts.c.tenant == tenant, parts.c.part == 0).values(content=b"rot")
        )


@pytest.fixture
def keys() -> dict[str, dict[str, str]]:
    return {}


@pytest.fixture
def url(bundle: Path, tmp_path: Path, keys: dict[str, dict[str, str]]) -> str:
    """Two tenants with a bundle each, of which that of shop2 is damaged."""
    address = f"sqlite:///{tmp_path}/store.db"
    database = open_database(address)
    for tenant in ("default", "shop2"):
        publish(database.store(tenant), bundle, activate=True)
        keys[tenant] = {
            "X-API-Key": ApiKeys(database.access).create(tenant, Allowance(SCOPES, tenant=tenant)).text
        }
    damage(database, "shop2")
    database.close()
    return address


@pytest.fixture
def client(url: str) -> Iterator[TestClient]:
    with TestClient(create_app(None, url, SETTINGS), client=("127.0.0.1", 50000)) as client:
        yield client


def test_the_others_are_served_and_the_damaged_one_is_told_why(
    client: TestClient, keys: dict[str, dict[str, str]]
) -> None:
    asked = {"user_id": "u1", "n": 2}
    assert client.post("/v1/recommend", json=asked, headers=keys["default"]).status_code == 200
    refused = client.post("/v1/recommend", json=asked, headers=keys["shop2"])
    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "2"
    told = refused.json()
    assert told["type"] == "urn:zhiyin:problem:no-whole-bundle"
    assert "The tenant 'shop2' has no bundle that can be served: The file" in told["detail"]
    assert COMMAND in told["remedy"]
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["unserved"]) == (200, 1)
    failed = 'zhiyin_bundle_swaps_total{outcome="failed",tenant="shop2"} 1'
    assert failed in client.get("/metrics", headers=keys["default"]).text


def test_it_comes_alive_when_the_bundle_is_published_again(
    client: TestClient,
    keys: dict[str, dict[str, str]],
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unserved, "_LOOK_AGAIN_SECONDS", 0.0)
    store = client.app.state.service.database.store("shop2")  # type: ignore[attr-defined]
    version = store.bundles()[0].version
    event = {"user_id": "u1", "item_id": "i1"}
    assert client.post("/v1/events", json=event, headers=keys["shop2"]).status_code == 503
    assert publish(store, bundle, activate=True) == version
    assert client.post("/v1/events", json=event, headers=keys["shop2"]).status_code == 202
    slate = client.post("/v1/recommend", json={"user_id": "u1"}, headers=keys["shop2"])
    assert slate.json()["bundle"] == version
    assert client.get("/readyz").json()["unserved"] == 0


def test_the_same_damaged_bundles_are_not_loaded_with_every_request(
    client: TestClient,
    keys: dict[str, dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(unserved, "_LOOK_AGAIN_SECONDS", 0.0)
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            client.post("/v1/recommend", json={"user_id": "u1"}, headers=keys["shop2"])
        assert not caplog.records
        monkeypatch.setattr(unserved, "_TRY_AGAIN_SECONDS", 0.0)
        client.post("/v1/recommend", json={"user_id": "u1"}, headers=keys["shop2"])
    assert "The tenant 'shop2' has no bundle that can be served" in caplog.text


def test_where_no_tenant_can_be_served_the_service_does_not_start(url: str, bundle: Path) -> None:
    database = open_database(url)
    damage(database, "default")
    database.close()
    with pytest.raises(BundleError, match="The tenant 'shop2' has no bundle") as refused:
        create_app(None, url, SETTINGS)
    assert COMMAND in str(refused.value)
    database = open_database(url)
    publish(database.store("shop2"), bundle)
    database.close()
    with TestClient(create_app(None, url, SETTINGS)) as client:
        assert client.get("/readyz").json()["unserved"] == 1
