"""Every route × set of scopes × kind of key × own and other tenant, compared with a table written by hand."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
from fastapi.testclient import TestClient

from zhiyin.contracts import TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.domain import Catalogue, Vocabulary
from zhiyin.pipeline.bundle import save_bundle
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe
from zhiyin.serving.access.keys import SCOPES, Allowance, ApiKeys
from zhiyin.serving.access.scopes import SCOPE_OF, without_row
from zhiyin.serving.app import create_app
from zhiyin.serving.settings import AccessSettings, PrivacySettings, ServingSettings
from zhiyin.stores.opening import open_beside, open_database
from zhiyin.testing.tea_shop import tea_shop

OPEN, INGEST, RECOMMEND, ADMIN = "open", "ingest", "recommend", "admin"
SECRET = "v9Kq2mXw7Lr4Tz8Pb1Nc6Hd3Gf5Js0Ya-Ue"

TABLE = {
    "POST /v1/events": INGEST,
    "POST /v1/events/bulk": INGEST,
    "PUT /v1/items/{item_id}": INGEST,
    "DELETE /v1/items/{item_id}": INGEST,
    "PUT /v1/users/{user_id}": INGEST,
    "POST /v1/recommend": RECOMMEND,
    "POST /v1/similar": RECOMMEND,
    "POST /v1/search": RECOMMEND,
    "GET /v1/users/{user_id}": ADMIN,
    "DELETE /v1/users/{user_id}": ADMIN,
    "POST /v1/receipts/verify": ADMIN,
    "GET /v1/bundles": ADMIN,
    "POST /v1/bundles/{version}/activate": ADMIN,
    "GET /v1/experiments": ADMIN,
    "PUT /v1/experiments/{name}": ADMIN,
    "GET /v1/experiments/{name}": ADMIN,
    "DELETE /v1/experiments/{name}": ADMIN,
    "GET /v1/audit": ADMIN,
    "GET /metrics": ADMIN,
    "GET /openapi.json": ADMIN,
    "GET /docs": ADMIN,
    "GET /healthz": OPEN,
    "GET /readyz": OPEN,
}
"""Written by hand; the service is in production. A new route must be added here on purpose."""

BODIES: dict[str, Any] = {
    "POST /v1/events": {"user_id": "nobody", "item_id": "none"},
    "PUT /v1/items/{item_id}": {"title": "New"},
    "PUT /v1/users/{user_id}": {"city": "Hangzhou"},
    "POST /v1/recommend": {"history": []},
    "POST /v1/similar": {"item_id": "none"},
    "POST /v1/search": {"text": "tea"},
    "POST /v1/receipts/verify": {"receipt": {}},
    "PUT /v1/experiments/{name}": {
        "arms": {"now": {"share": 0.5}, "calm": {"share": 0.5, "diversity": 0.1}},
        "control": "now",
        "share_of_users": 0.01,
    },
}
SETS = [combined for n in (1, 2, 3) for combined in itertools.combinations(SCOPES, n)]
TENANTS = ("tea", "coffee")


@dataclass
class House:
    """A service with two tenants, and keys for everything."""

    client: TestClient
    keys: dict[tuple[str, tuple[str, ...]], str]
    bad_keys: dict[str, str]
    versions: dict[str, str]

    def ask(self, route: str, key: str | None, *, body: Any = None, **named: str) -> Any:
        method, path = route.split(" ")
        named = {"item_id": "none", "user_id": "nobody", "version": "none", "name": "calm"} | named
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        if path.endswith("/bulk"):
            line = json.dumps(body or BODIES["POST /v1/events"])
            headers["Content-Type"] = "application/x-ndjson"
            return self.client.request(method, path, headers=headers, content=line)
        sent = {"json": body if body is not None else BODIES[route]} if route in BODIES else {}
        return self.client.request(method, path.format(**named), headers=headers, **sent)

    def full(self, tenant: str) -> str:
        return self.keys[tenant, SCOPES]


def shop_of(tenant: str) -> Dataset:
    """The tea shop with ids that say whose they are."""
    shop = tea_shop()
    table = shop.catalogue.table.with_columns(pl.concat_str(pl.lit(f"{tenant}-"), "item_id").alias("item_id"))
    users = Vocabulary([f"{tenant}-{user_id}" for user_id in shop.users.ids])
    return Dataset(
        tenant, Catalogue.from_table(table), users, shop.histories, shop.event_kinds, shop.event_weights
    )


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('matrix')}/store.db"


@pytest.fixture(scope="module")
def house(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    database = open_database(url)
    versions = {}
    for tenant in TENANTS:
        dataset = shop_of(tenant)
        pipeline = Pipeline(recipe("fast"))
        pipeline.fit(TrainingData(dataset, pipeline.language))
        folder = save_bundle(pipeline, tmp_path_factory.mktemp("bundles") / tenant)
        versions[tenant] = f"of-{tenant}"
        database.store(tenant).put_bundle(versions[tenant], folder, position=0, facts={})
        database.store(tenant).activate_bundle(versions[tenant]).result()
    made = ApiKeys(database.access)
    keys = {
        (tenant, scopes): made.create(f"{tenant} {scopes}", Allowance(scopes, tenant)).text
        for tenant in TENANTS
        for scopes in SETS
    }
    past = ApiKeys(database.access, lambda: time.time() - 1_000)
    revoked = made.create("revoked", Allowance(SCOPES, "tea"))
    made.revoke(revoked.stored.key_id)
    full = keys["tea", SCOPES]
    bad_keys = {
        "expired": past.create("expired", Allowance(SCOPES, "tea", lifetime_seconds=10)).text,
        "revoked": revoked.text,
        "invented": f"zk_{'0' * 16}_{'a' * 52}",
        "wrong secret": full[:-1] + ("a" if full[-1] != "a" else "b"),
        "nonsense": "open sesame",
    }
    database.close()
    settings = ServingSettings(
        production=True,
        access=AccessSettings(requests_per_second=1e6),
        privacy=PrivacySettings.parse({"secret": SECRET}, where="privacy"),
    )
    app = create_app(None, url, settings)
    with TestClient(app, raise_server_exceptions=False, client=("203.0.113.9", 50000)) as client:
        yield House(client, keys, bad_keys, versions)


def test_the_table_knows_every_route(house: House) -> None:
    document = house.client.get("/openapi.json", headers={"X-API-Key": house.full("tea")}).json()
    described = {
        f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods
    }
    assert described | {"GET /openapi.json", "GET /docs"} == set(TABLE)
    assert without_row(tuple(route.split(" ")) for route in described) == []  # type: ignore[misc]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            needs_key = TABLE[f"{method.upper()} {path}"] != OPEN
            assert ("security" in operation) is needs_key
            assert ("401" in operation["responses"]) is needs_key


@pytest.mark.parametrize("route", TABLE)
def test_scopes(house: House, route: str) -> None:
    for tenant, scopes in itertools.product(TENANTS, SETS):
        status = house.ask(route, house.keys[tenant, scopes]).status_code
        if TABLE[route] in (OPEN, *scopes):
            assert status in (200, 202, 204, 404), (route, scopes, status)
        else:
            assert status == 403, (route, scopes, status)


@pytest.mark.parametrize("route", TABLE)
def test_bad_keys(house: House, route: str) -> None:
    for said, key in {"none": None, "empty": "", **house.bad_keys}.items():
        answered = house.ask(route, key)
        if TABLE[route] == OPEN:
            assert answered.status_code == 200
            continue
        assert answered.status_code == 401, (route, said, answered.status_code)
        assert answered.headers["www-authenticate"].startswith("Bearer")
        problem = answered.json()
        assert problem["type"] == "urn:zhiyin:problem:unauthenticated"
        assert problem["request_id"] == answered.headers["x-request-id"]
        assert not key or key not in answered.text


def test_a_refused_request_changes_nothing(house: House) -> None:
    event = {"user_id": "tea-u0", "item_id": "tea-i1", "event_id": "refused"}
    low = house.keys["tea", (RECOMMEND,)]
    for key in (None, house.bad_keys["revoked"], low):
        house.ask("POST /v1/events", key, body=event)
        house.ask("POST /v1/events/bulk", key, body=event)
        house.ask("DELETE /v1/users/{user_id}", key, user_id="tea-u0")
        house.ask("PUT /v1/users/{user_id}", key, user_id="tea-u0", body={"city": "X"})
    person = house.ask("GET /v1/users/{user_id}", house.full("tea"), user_id="tea-u0")
    assert "refused" not in person.text
    assert '"X"' not in person.text


def test_no_tenant_sees_the_other(house: House) -> None:
    tea, coffee = house.full("tea"), house.full("coffee")
    event = {"user_id": "shared", "item_id": "tea-i1", "event_id": "e1"}
    assert house.ask("POST /v1/events", tea, body=event).json()["stored"] == 1
    # The same ids are other events and other people at the other tenant.
    stored = house.ask("POST /v1/events", coffee, body=event | {"item_id": "coffee-i2"}).json()
    assert (stored["stored"], stored["unknown_items"]) == (1, [])
    house.ask("PUT /v1/users/{user_id}", tea, user_id="shared", body={"city": "Hangzhou"})
    house.ask("PUT /v1/items/{item_id}", tea, item_id="tea-new", body={"title": "Jasmine pearls"})

    exported = house.ask("GET /v1/users/{user_id}", coffee, user_id="shared").text
    assert "coffee-i2" in exported
    assert "tea-i1" not in exported
    assert "Hangzhou" not in exported
    for tenant, key in (("tea", tea), ("coffee", coffee)):
        slates = [
            house.ask("POST /v1/recommend", key, body={"user_id": "tea-u0", "n": 30}),
            house.ask("POST /v1/recommend", key, body={"user_id": "shared", "n": 30}),
            house.ask("POST /v1/recommend", key, body={"history": ["tea-i1", "coffee-i2"], "n": 30}),
            house.ask("POST /v1/search", key, body={"text": "jasmine pearls", "n": 30}),
        ]
        for slate in slates:
            assert slate.status_code == 200
            assert {item["item_id"].split("-")[0] for item in slate.json()["items"]} <= {tenant}
        assert slates[0].json()["known_user"] is (tenant == "tea")
    assert house.ask("POST /v1/similar", coffee, body={"item_id": "tea-i1"}).status_code == 404
    assert house.ask("DELETE /v1/items/{item_id}", coffee, item_id="tea-i1").status_code == 404
    assert house.ask("GET /v1/users/{user_id}", coffee, user_id="tea-u1").status_code == 404

    bundles = house.ask("GET /v1/bundles", coffee).json()
    assert [bundle["version"] for bundle in bundles["bundles"]] == ["of-coffee"]
    assert house.ask("POST /v1/bundles/{version}/activate", coffee, version="of-tea").status_code == 404

    assert house.ask("PUT /v1/experiments/{name}", tea, name="of-tea").status_code == 200
    names = [one["trial"]["name"] for one in house.ask("GET /v1/experiments", coffee).json()["experiments"]]
    assert "of-tea" not in names
    for method in ("GET", "DELETE"):
        assert house.ask(f"{method} /v1/experiments/{{name}}", coffee, name="of-tea").status_code == 404

    # Erased at one tenant, still there at the other; and the receipt is worth nothing there.
    receipt = house.ask("DELETE /v1/users/{user_id}", tea, user_id="shared")
    assert receipt.status_code == 200
    assert "shared" not in receipt.text
    assert "coffee-i2" in house.ask("GET /v1/users/{user_id}", coffee, user_id="shared").text
    asked = {"receipt": receipt.json(), "user_id": "shared"}
    assert house.ask("POST /v1/receipts/verify", tea, body=asked).json() == {"is_valid": True}
    assert house.ask("POST /v1/receipts/verify", coffee, body=asked).json()["is_valid"] is False

    for tenant, key in (("tea", tea), ("coffee", coffee)):
        entries = house.ask("GET /v1/audit", key).json()["entries"]
        assert ("user.erase" in [entry["action"] for entry in entries]) or tenant == "coffee"
        own = {key.split("_")[1] for (whose, _), key in house.keys.items() if whose == tenant}
        assert {entry["actor"] for entry in entries} <= own | {"cli"}
        assert "shared" not in json.dumps(entries)


def test_a_key_of_a_tenant_without_a_bundle(house: House, url: str) -> None:
    beside = open_beside(url)
    new = ApiKeys(beside.access).create("stranger", Allowance(SCOPES, "stranger"))
    beside.close()
    answered = house.ask("POST /v1/recommend", new.text)
    assert (answered.status_code, answered.json()["type"]) == (503, "urn:zhiyin:problem:no-bundle")
    assert "tea" not in answered.text.replace("/", "")


def test_events_cost_by_their_number(house: House, url: str) -> None:
    beside = open_beside(url)
    made = ApiKeys(beside.access)
    one, other = (made.create("slow", Allowance(SCOPES, "tea", requests_per_second=0.1)) for _ in range(2))
    many = made.create("many", Allowance(SCOPES, "tea", requests_per_second=3))
    beside.close()
    assert house.ask("POST /v1/recommend", one.text).status_code == 200
    refused = house.ask("POST /v1/recommend", one.text)
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:zhiyin:problem:rate-limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 10
    assert house.ask("POST /v1/recommend", other.text).status_code == 200  # another bucket
    events = [{"user_id": "busy", "item_id": "tea-i1"} for _ in range(300)]
    sent, refused = (house.ask("POST /v1/events", many.text, body={"events": events}) for _ in range(2))
    # 6 at once: the first takes 1 and 3, the second 1 and not 3 more
    assert (sent.status_code, refused.status_code) == (202, 429)
    assert sent.headers["ratelimit-remaining"] == "2"
    names = [name for name, _ in refused.headers.multi_items() if "ratelimit" in name]
    assert len(names) == len(set(names)) == 5
    assert (
        len(house.ask("GET /v1/users/{user_id}", house.full("tea"), user_id="busy").json()["events"]) == 300
    )


def test_a_revoked_key_is_refused_within_two_seconds(house: House, url: str) -> None:
    beside = open_beside(url)
    keys = ApiKeys(beside.access)
    new = keys.create("soon gone", Allowance(SCOPES, "tea"))
    assert house.ask("POST /v1/recommend", new.text).status_code == 200
    keys.revoke(new.stored.key_id)
    revoked_at = time.monotonic()
    beside.close()
    while house.ask("POST /v1/recommend", new.text).status_code == 200:
        assert time.monotonic() - revoked_at < 2.5
        time.sleep(0.02)


def test_a_stream_ends_with_its_key(house: House, url: str) -> None:
    """Lines that come after the key was revoked are not stored."""
    beside = open_beside(url)
    keys = ApiKeys(beside.access)
    new = keys.create("streams", Allowance((INGEST,), "tea"))

    async def lines() -> AsyncIterator[bytes]:
        for number in range(20_000):
            if number == 10_000:
                keys.revoke(new.stored.key_id)
                await asyncio.sleep(2.5)
            event = {"user_id": "streamer", "item_id": "tea-i1", "event_id": f"s-{number}"}
            yield json.dumps(event).encode() + b"\n"

    async def send() -> httpx.Response:
        door = httpx.ASGITransport(house.client.app)
        headers = {"X-API-Key": new.text, "Content-Type": "application/x-ndjson"}
        async with httpx.AsyncClient(transport=door, base_url="http://testserver") as client:
            return await client.post("/v1/events/bulk", content=lines(), headers=headers)

    told = [json.loads(line) for line in asyncio.run(send()).text.splitlines()]
    beside.close()
    assert told[-1]["problem"] == f"The key {new.stored.key_id} is revoked."
    assert "done" not in told[-1]
    assert told[-1]["lines"] == told[-1]["stored"] == 10_000
    kept = house.ask("GET /v1/users/{user_id}", house.full("tea"), user_id="streamer").json()["events"]
    assert len(kept) == 10_000


def test_neither_keys_nor_people_are_in_the_logs(
    house: House, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    key, person = house.full("tea"), "ann.smith@example.com"
    with caplog.at_level(logging.DEBUG):
        for route in TABLE:
            for shown in (key, house.keys["tea", (INGEST,)], *house.bad_keys.values()):
                house.ask(route, shown, user_id=person, item_id="x")
        event = {"user_id": person, "item_id": "tea-i1"}
        house.ask("POST /v1/events", key, body=event)
        house.ask("POST /v1/events/bulk", key, body=event)
        house.ask("POST /v1/recommend", key, body={"user_id": person})
        house.ask("POST /v1/recommend", key, body={"user_id": person, "filter": {person: 1}})
        house.client.get(f"/v1/users/{person}", headers={"X-API-Key": key, "X-Request-ID": "r-1"})
        house.client.get(f"/nothing/{person}?key={key}")
    ours = [line for line in caplog.records if not line.name.startswith("httpx")]  # the caller's own log
    logged = "".join(capfd.readouterr()) + "\n".join(caplog.handler.format(line) for line in ours)
    requests = [json.loads(line) for line in logged.splitlines() if line.startswith("{")]
    assert len(requests) > 100
    assert {line.get("route") for line in requests} >= {"/v1/users/{user_id:id}", "/v1/recommend"}
    for hidden in (person, "ann.smith", *(text.split("_")[-1] for text in [key, *house.bad_keys.values()])):
        assert hidden not in logged
    assert key.split("_")[1] in logged  # the public part names the key


def test_no_key_is_on_the_disk(house: House, url: str) -> None:
    """Nothing of a key but its hash is on the disk, not even in the audit log."""
    folder = Path(url.removeprefix("sqlite:///")).parent
    written = b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())
    for text in house.keys.values():
        assert text.split("_")[2].encode() not in written
    assert SECRET.encode() not in written


def test_the_table_of_the_service_is_this_table() -> None:
    by_hand = {
        (route.split(" ")[0], "/".join(route.split(" ")[1].split("/")[:3])): scope
        for route, scope in TABLE.items()
        if scope != OPEN and route not in ("GET /openapi.json", "GET /docs")
    }
    assert {row: scope for row, scope in SCOPE_OF.items() if row in by_hand} == by_hand
