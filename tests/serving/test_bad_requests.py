"""Every kind of bad request gets a problem document that says what was wrong, where, and what to do."""

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from zhiyin.online.engine import LiveEngine
from zhiyin.pipeline.bundle import load_bundle
from zhiyin.serving.app import create_app
from zhiyin.serving.problems import TITLES
from zhiyin.serving.settings import ServingSettings


def engine_of(client: TestClient) -> LiveEngine:
    """The engine behind a service of one tenant."""
    return client.app.state.service.engines["default"]  # type: ignore[attr-defined]


JSON = {"Content-Type": "application/json"}
EVENT = {"user_id": "u1", "item_id": "i1"}
DEEP_FILTER: dict[str, Any] = {"price": 1}
for _ in range(10):
    DEEP_FILTER = {"not": DEEP_FILTER}


@pytest.fixture(scope="module")
def client(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """One service for all: what is refused changes nothing, so the tests cannot disturb each other."""
    store = tmp_path_factory.mktemp("store") / "store.db"
    settings = ServingSettings(log_requests=False)
    app = create_app(load_bundle(bundle), f"sqlite:///{store}", settings)
    with TestClient(app, raise_server_exceptions=False, client=("127.0.0.1", 50000)) as client:
        yield client


def problem(answer: Any, status: int, kind: str) -> dict[str, Any]:
    """Check everything a problem document must be; return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["type"] == f"urn:zhiyin:problem:{kind}"
    assert (document["status"], document["title"]) == TITLES[kind]
    assert document["request_id"] == answer.headers["X-Request-ID"]
    assert document["detail"]
    assert "Traceback" not in answer.text
    assert ".py" not in answer.text
    return document


@pytest.mark.parametrize(
    ("route", "body", "path", "says"),
    [
        # events
        ("events", {"user_id": "u1"}, "item_id", "This field is missing."),
        ("events", {**EVENT, "item_id": 2**64}, "item_id", "should be whole and of 64 bits at most"),
        ("events", {**EVENT, "user_id": -(2**63) - 1}, "user_id", "send others as text"),
        ("events", {**EVENT, "user_id": 1.5}, "user_id", "As a number it should be whole"),
        ("recommend", {"history": [{"item_id": "i1"}, 10**30]}, "history[1].item_id", "send others as text"),
        ("events", {**EVENT, "itemid": "x"}, "itemid", "not known. Did you mean 'item_id'?"),
        ("events", {**EVENT, "user_id": ""}, "user_id", "at least 1 character"),
        ("events", {**EVENT, "user_id": "x" * 257}, "user_id", "at most 256 characters"),
        ("events", {**EVENT, "user_id": "a\nb"}, "user_id", "control character"),
        ("events", {**EVENT, "item_id": "a\x00b"}, "item_id", "control character"),
        ("events", {**EVENT, "user_id": None}, "user_id", "should be a valid string"),
        ("events", {**EVENT, "user_id": True}, "user_id", "should be a valid string"),
        ("events", {**EVENT, "user_id": ["u1"]}, "user_id", "should be a valid string"),
        ("events", {**EVENT, "event": ""}, "event", "at least 1 character"),
        ("events", {**EVENT, "event": "x" * 65}, "event", "at most 64 characters"),
        ("events", {**EVENT, "timestamp": "yesterday"}, "timestamp", "UTC seconds or a date"),
        ("events", {**EVENT, "timestamp": True}, "timestamp", "UTC seconds or a date"),
        ("events", {**EVENT, "timestamp": -1}, "timestamp", "between 1970 and tomorrow"),
        ("events", {**EVENT, "timestamp": time.time() + 200_000}, "timestamp", "between 1970 and tomorrow"),
        ("events", {**EVENT, "timestamp": 1_700_000_000_000}, "timestamp", "looks like milliseconds"),
        ("events", {**EVENT, "timestamp": 1e300}, "timestamp", "between 1970 and tomorrow"),
        ("events", {**EVENT, "timestamp": "0001-01-01T00:00:00+14:00"}, "timestamp", "between 1970"),
        ("events", {**EVENT, "timestamp": "9999-12-31T23:59:59-14:00"}, "timestamp", "between 1970"),
        ("events", {**EVENT, "value": "5"}, "value", "valid number"),
        ("events", {**EVENT, "value": 1e300}, "value", "less than or equal to 1000000000000"),
        ("events", {**EVENT, "context": []}, "context", "should be an object"),
        ("events", {**EVENT, "context": {"a": {"b": 1}}}, "context.a", "a text, a number, true, false"),
        ("events", {**EVENT, "context": {"a": "x" * 1001}}, "context.a", "1000 characters at most"),
        ("events", {**EVENT, "context": {str(n): n for n in range(51)}}, "context", "at most 50 items"),
        ("events", {**EVENT, "event_id": ""}, "event_id", "at least 1 character"),
        ("events", {"events": []}, "events", "at least 1 item"),
        ("events", {"events": EVENT}, "events", "valid list"),
        ("events", {"events": [EVENT] * 10_001}, "events", "at most 10000 items"),
        ("events", {"events": [EVENT, {"user_id": "u1"}]}, "events[1].item_id", "missing"),
        ("events", {"events": [EVENT, 7]}, "events[1]", "should be an object"),
        ("events", {"events": [EVENT], "user_id": "u1"}, "user_id", "not known"),
        ("events", [EVENT], "", "should be an object"),
        ("events", "text", "", "should be an object"),
        ("events", None, "", "should be an object"),
        # recommend
        ("recommend", {}, "", "Exactly one of 'user_id' and 'history'"),
        ("recommend", {"user_id": "u1", "history": []}, "", "Exactly one of 'user_id' and 'history'"),
        ("recommend", {"user_id": "u1", "n": 0}, "n", "greater than or equal to 1"),
        ("recommend", {"user_id": "u1", "n": 1001}, "n", "less than or equal to 1000"),
        ("recommend", {"user_id": "u1", "n": "5"}, "n", "valid integer"),
        ("recommend", {"user_id": "u1", "n": 5.5}, "n", "valid integer"),
        ("recommend", {"user_id": "u1", "n": True}, "n", "valid integer"),
        ("recommend", {"user_id": "u1", "k": 5}, "k", "not known"),
        ("recommend", {"history": ["i1"] * 1001}, "history", "at most 1000 items"),
        ("recommend", {"history": "i1"}, "history", "valid list"),
        ("recommend", {"history": [{"event": "view"}]}, "history[0].item_id", "missing"),
        ("recommend", {"history": ["i1", None]}, "history[1].item_id", "valid string"),
        ("recommend", {"user_id": "u1", "diversity": 1.1}, "diversity", "less than or equal to 1"),
        ("recommend", {"user_id": "u1", "repeat": "yes"}, "repeat", "valid boolean"),
        ("recommend", {"user_id": "u1", "filter": {"prize": 1}}, "filter.prize", "Did you mean 'price'?"),
        ("recommend", {"user_id": "u1", "filter": {"price": "x"}}, "filter.price", "'x' is not a number"),
        ("recommend", {"user_id": "u1", "filter": []}, "filter", "should be an object"),
        (
            "recommend",
            {"user_id": "u1", "filter": {"price": {"at_mots": 5}}},
            "filter.price.at_mots",
            "Did you mean 'at_most'?",
        ),
        ("recommend", {"user_id": "u1", "filter": DEEP_FILTER}, "filter" + ".not" * 8, "8 deep"),
        (
            "recommend",
            {"user_id": "u1", "boost": [{"filter": {"brnd": "a"}, "by": 1}]},
            "boost[0].filter.brnd",
            "Did you mean 'brand'?",
        ),
        ("recommend", {"user_id": "u1", "boost": [{"filter": {}}]}, "boost[0].by", "missing"),
        ("recommend", {"user_id": "u1", "boost": [{"filter": {}, "by": 1e9}]}, "boost[0].by", "1000"),
        ("recommend", {"user_id": "u1", "boost": [{"filter": {}, "by": 1}] * 21}, "boost", "at most 20"),
        # similar, search
        ("similar", {"n": 3}, "item_id", "missing"),
        ("similar", {"item_id": "i1", "user_id": "u1"}, "user_id", "not known"),
        ("search", {"text": ""}, "text", "at least 1 character"),
        ("search", {"text": "   "}, "text", "at least 1 character"),
        ("search", {"text": "x" * 1001}, "text", "at most 1000 characters"),
        ("search", {"text": 5}, "text", "valid string"),
        ("search", {"query": "tea"}, "text", "missing"),
    ],
)
def test_bodies_that_cannot_be_understood(
    client: TestClient, route: str, body: object, path: str, says: str
) -> None:
    answer = client.post(f"/v1/{route}", content=json.dumps(body), headers=JSON)
    document = problem(answer, 422, "invalid-request")
    found = [error for error in document["errors"] if error["path"] == path]
    assert found, document
    assert says in found[0]["problem"]
    assert found[0]["problem"].split(". ")[0].rstrip(".") in document["detail"] or len(document["errors"]) > 1
    assert engine_of(client).store.counts().events == 0


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "The body is empty"),
        (b"  \n", "The body is empty"),
        (b"{", "The body is not JSON"),
        (b'{"user_id": "u1",}', "The body is not JSON"),
        (b'{"user_id": "u1", "n": NaN}', "The body is not JSON"),
        (b'{"user_id": "u1", "n": Infinity}', "The body is not JSON"),
        (b'{"user_id": "u1", "n": 1e999}', "infinity"),
        (b'{"user_id": "\xff"}', "The body is not JSON"),
        (b'{"user_id": "\\ud800"}', "surrogate"),
        (b"user_id=u1", "The body is not JSON"),
        (b"[" * 100 + b"]" * 100, "nested more than 32 deep"),
        (b"[" * 100_000, "The body is not JSON"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "not JSON"),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/recommend"), ("PUT", "/v1/items/a")])
def test_bodies_that_are_not_json(client: TestClient, method: str, path: str, body: bytes, says: str) -> None:
    answer = client.request(method, path, content=body, headers=JSON)
    assert says in problem(answer, 400, "malformed-json")["detail"]


def test_nothing_is_compressed(client: TestClient) -> None:
    body = gzip.compress(b'{"user_id": "u1"}')
    for route, kind in (("recommend", "application/json"), ("events/bulk", "application/x-ndjson")):
        headers = {"Content-Type": kind, "Content-Encoding": "gzip"}
        answer = client.post(f"/v1/{route}", content=body, headers=headers)
        assert "gzip" in problem(answer, 415, "unsupported-media-type")["detail"]
    plain = {"Content-Type": "application/json", "Content-Encoding": "identity"}
    assert client.post("/v1/recommend", content=b'{"user_id": "u1"}', headers=plain).status_code == 200


def test_a_slash_too_many_is_another_route(client: TestClient) -> None:
    problem(client.post("/v1/recommend/", json={"user_id": "u1"}, follow_redirects=False), 404, "not-found")


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application"]
)
def test_bodies_that_are_not_declared_as_json(client: TestClient, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = client.post("/v1/recommend", content=b'{"user_id": "u1"}', headers=headers)
    assert "application/json" in problem(answer, 415, "unsupported-media-type")["remedy"]


def test_json_with_a_charset_is_json(client: TestClient) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert client.post("/v1/recommend", content=b'{"user_id": "u1"}', headers=headers).status_code == 200


def test_bodies_that_are_too_long(client: TestClient) -> None:
    document = problem(client.post("/v1/events", content=b" " * 8_000_001, headers=JSON), 413, "too-large")
    assert document["possible"] == "A body may have 8000000 bytes."

    def in_chunks() -> Any:
        for _ in range(9):
            yield b" " * 1_000_000

    problem(client.post("/v1/events", content=in_chunks(), headers=JSON), 413, "too-large")


def test_routes_and_methods_that_do_not_exist(client: TestClient) -> None:
    document = problem(client.post("/v1/recomend", json={}), 404, "not-found")
    assert "Did you mean '/v1/recommend'?" in document["detail"]
    assert "/v1/search" in document["possible"]
    problem(client.get("/"), 404, "not-found")
    answer = client.get("/v1/recommend")
    assert problem(answer, 405, "method-not-allowed")["possible"] == "It takes POST."
    assert answer.headers["allow"] == "POST"
    problem(client.patch("/v1/items/a", json={}), 405, "method-not-allowed")
    problem(client.post("/healthz"), 405, "method-not-allowed")


def test_things_that_do_not_exist(client: TestClient) -> None:
    document = problem(client.post("/v1/similar", json={"item_id": "gone"}), 404, "unknown-item")
    assert "'gone'" in document["detail"]
    assert "PUT /v1/items" in document["remedy"]
    problem(client.delete("/v1/items/gone"), 404, "unknown-item")
    document = problem(client.delete("/v1/users/nobody"), 404, "unknown-user")
    assert "'nobody'" in document["detail"]


@pytest.mark.parametrize(
    ("body", "path", "says"),
    [
        ({"price": "cheap"}, "price", "'cheap' is not a number"),
        ({"price": True}, "price", "True is not a number"),
        ({"price": [1]}, "price", "[1] is not a number"),
        ({"title": 5}, "title", "5 is not a text"),
        ({"categories": [1]}, "categories", "1 is not a text"),
        ({"categories": ["a", None]}, "categories", "None is not a text"),
        ({"not": "x"}, "not", "This name is taken"),
        ({"item_id": "other"}, "item_id", "This name is taken"),
        ({"description": 5}, "description", "5 is not a text"),
        ({"mixed": [1, "a"]}, "mixed", "'a' is not a number"),
        ({"size": {"width": 5}}, "size", "It should be a text, a number"),
        ({"size": [[1]]}, "size", "It should be a text, a number"),
        ({"": 1}, "", "at least 1 character"),
        ({"a\tb": 1}, "a\tb", "control character"),
        ({"title": "x" * 100_001}, "title", "100000 characters at most"),
        ({"tags": ["x"] * 1001}, "tags", "1000 elements at most"),
        ({str(n): n for n in range(201)}, "", "at most 200 items"),
        ([], "", "should be an object"),
    ],
)
def test_items_that_do_not_fit(client: TestClient, body: object, path: str, says: str) -> None:
    document = problem(client.put("/v1/items/new", json=body), 422, "invalid-request")
    errors = [error for error in document["errors"] if error["path"].startswith(path)]
    assert errors, document
    assert says in errors[0]["problem"]
    assert engine_of(client).store.items() == []


@pytest.mark.parametrize("item_id", ["", "%00", "%0A", "i1%0A", "u1%0Au2", "x" * 257, "%C2%85"])
def test_ids_in_the_path(client: TestClient, item_id: str) -> None:
    for method, route in (("PUT", "items"), ("DELETE", "items"), ("PUT", "users"), ("DELETE", "users")):
        body = {"json": {}} if method == "PUT" else {}
        answer = client.request(method, f"/v1/{route}/{item_id}", **body)
        document = problem(answer, 422, "invalid-request")
        assert document["errors"][0]["path"] == route[:-1] + "_id"


@pytest.mark.parametrize("user_id", ["%FF", "u1%C3", "%ED%A0%80"])
def test_bytes_that_are_no_text_name_nobody(client: TestClient, user_id: str) -> None:
    client.put("/v1/users/%EF%BF%BD", json={"age": 40})
    for method, body in (("PUT", {"json": {}}), ("DELETE", {})):
        document = problem(client.request(method, f"/v1/users/{user_id}", **body), 422, "invalid-request")
        assert "not UTF-8" in document["detail"]
    assert client.delete("/v1/users/%EF%BF%BD").status_code == 200, "the sign itself may be an id"


@pytest.mark.parametrize("end", ["?dry_run=true", "?dry_run", "?dry_run&x=1", "?b=", "?=b", "?%FF"])
def test_what_stands_behind_a_question_mark_is_not_passed_over(client: TestClient, end: str) -> None:
    client.put("/v1/users/ann", json={"age": 40})
    document = problem(client.delete(f"/v1/users/ann{end}"), 422, "invalid-request")
    assert repr(end[1:].partition("&")[0].partition("=")[0]) in document["detail"]
    assert client.get("/v1/users/ann").status_code == 200, "nothing was erased"
    assert client.delete("/v1/users/ann?").status_code == 200, "a mark with nothing behind it says nothing"


def test_no_route_of_the_interface_reads_parameters(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method in methods:
            answer = client.request(method, path.replace("{", "").replace("}", "") + "?n=5", json={})
            if path.startswith("/v1/"):
                assert "'n'" in problem(answer, 422, "invalid-request")["detail"]
            else:
                assert answer.status_code == 200, "probes are asked with all kinds of things behind them"


def test_many_errors_are_counted_and_the_first_are_listed(client: TestClient) -> None:
    document = problem(client.post("/v1/events", json={"events": [{}] * 50}), 422, "invalid-request")
    assert len(document["errors"]) == 20
    assert "(and 99 more)" in document["detail"]


def test_a_request_id_that_could_break_a_log_is_replaced(client: TestClient) -> None:
    for given in ("a" * 200, "a b", 'a"b', "é"):
        answer = client.get("/healthz", headers={"X-Request-ID": given.encode("latin-1")})
        assert answer.headers["X-Request-ID"] != given
    assert client.get("/healthz", headers={"X-Request-ID": "mine-1"}).headers["X-Request-ID"] == "mine-1"
    assert client.get("/nowhere").headers["X-Request-ID"]
