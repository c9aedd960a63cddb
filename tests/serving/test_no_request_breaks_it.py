"""Whatever is sent, the service answers with sense: never 500, always JSON, always a request id."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zhiyin.pipeline.bundle import load_bundle
from zhiyin.serving.app import create_app
from zhiyin.serving.settings import ServingSettings

BOUNDED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def client(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    store = tmp_path_factory.mktemp("store") / "store.db"
    app = create_app(load_bundle(bundle), f"sqlite:///{store}", ServingSettings(log_requests=False))
    with TestClient(app, raise_server_exceptions=False, client=("127.0.0.1", 50000)) as client:
        yield client


TEXTS = st.one_of(
    st.text(max_size=20), st.sampled_from(["i1", "u1", "view", "tea", "2024-01-01", "9999-12-31", "price"])
)
NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 12)
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=8,
)
WORDS = ["any", "all", "not", "in", "at_least", "below", "equals", "contains", "starts_with", "known"]
COLUMNS = ["item_id", "title", "categories", "brand", "price", "nothing"]
FILTERS = st.recursive(
    st.dictionaries(st.sampled_from(COLUMNS + WORDS), VALUES, max_size=3),
    lambda inner: st.dictionaries(
        st.sampled_from(COLUMNS + WORDS), st.one_of(inner, st.lists(inner, max_size=3), SCALARS), max_size=3
    ),
    max_leaves=5,
)
FIELDS: dict[str, Any] = {
    "user_id": SCALARS,
    "item_id": SCALARS,
    "event": SCALARS,
    "timestamp": SCALARS,
    "value": SCALARS,
    "event_id": SCALARS,
    "text": SCALARS,
    "n": st.one_of(st.integers(-1, 40), SCALARS),
    "context": VALUES,
    "diversity": st.one_of(st.floats(0, 1), SCALARS),
    "explain": st.one_of(st.booleans(), SCALARS),
    "repeat": st.booleans(),
    "filter": FILTERS,
    "boost": st.lists(st.fixed_dictionaries({"filter": FILTERS, "by": NUMBERS}), max_size=2),
    "history": st.lists(st.one_of(SCALARS, st.dictionaries(TEXTS, SCALARS, max_size=2)), max_size=4),
    "events": st.lists(st.fixed_dictionaries({"user_id": TEXTS, "item_id": TEXTS}), max_size=3),
}
NEEDED = {
    "events": ["user_id", "item_id"],
    "recommend": ["user_id"],
    "similar": ["item_id"],
    "search": ["text"],
}


def check(answer: Any) -> None:
    assert answer.status_code < 500, answer.text
    assert answer.headers["X-Request-ID"]
    if answer.status_code == 204:
        assert answer.content == b""
        return
    document = orjson.loads(answer.content)
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert document["status"] == answer.status_code
        assert document["detail"]


@BOUNDED
@given(data=st.data(), route=st.sampled_from(sorted(NEEDED)))
def test_bodies_that_look_right(client: TestClient, data: st.DataObject, route: str) -> None:
    optional = {
        name: values
        for name, values in FIELDS.items()
        if name not in NEEDED[route] or data.draw(st.booleans())
    }
    good = {"user_id": "u1", "item_id": "i1", "text": "tea"}
    names = data.draw(st.lists(st.sampled_from(sorted(optional)), max_size=3, unique=True))
    body = {name: good[name] for name in NEEDED[route]}
    body |= {name: data.draw(optional[name]) for name in names}
    check(
        client.post(f"/v1/{route}", content=orjson.dumps(body), headers={"Content-Type": "application/json"})
    )


@BOUNDED
@given(body=VALUES, route=st.sampled_from([*sorted(NEEDED), "items/i1", "users/u1"]))
def test_any_json(client: TestClient, body: object, route: str) -> None:
    method = "PUT" if "/" in route else "POST"
    headers = {"Content-Type": "application/json"}
    check(client.request(method, f"/v1/{route}", content=orjson.dumps(body), headers=headers))


@BOUNDED
@given(body=st.binary(max_size=60), route=st.sampled_from([*sorted(NEEDED), "items/i1", "users/u1"]))
def test_any_bytes(client: TestClient, body: bytes, route: str) -> None:
    method = "PUT" if "/" in route else "POST"
    check(client.request(method, f"/v1/{route}", content=body, headers={"Content-Type": "application/json"}))


@BOUNDED
@given(
    filter_=st.dictionaries(st.sampled_from(COLUMNS + WORDS), st.one_of(FILTERS, VALUES), max_size=3),
)
def test_any_filter(client: TestClient, filter_: dict[str, Any]) -> None:
    check(client.post("/v1/recommend", json={"history": [], "filter": filter_}))


@BOUNDED
@given(
    attributes=st.dictionaries(
        st.one_of(TEXTS, st.sampled_from(COLUMNS)), st.one_of(SCALARS, VALUES), max_size=3
    )
)
def test_any_attributes_and_what_comes_of_them(client: TestClient, attributes: dict[str, Any]) -> None:
    check(
        client.put(
            "/v1/items/any", content=orjson.dumps(attributes), headers={"Content-Type": "application/json"}
        )
    )
    check(client.post("/v1/recommend", json={"history": ["any"], "n": 40, "explain": True}))


@BOUNDED
@given(name=st.text(max_size=30), method=st.sampled_from(["GET", "POST", "PUT", "DELETE"]))
def test_any_path(client: TestClient, name: str, method: str) -> None:
    from urllib.parse import quote

    place = quote(name, safe="", errors="surrogatepass")
    for path in (f"/{place}", f"/v1/items/{place}", f"/v1/users/{place}"):
        answer = client.request(method, path, **({"json": {}} if method in ("POST", "PUT") else {}))
        if answer.headers.get("content-type", "").startswith("application/"):
            check(answer)
        assert answer.status_code < 500
