"""Health, readiness, metrics, documentation, and how the service behaves when something fails."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from zhiyin.domain.errors import BundleError, StoreError, StoreOverloaded
from zhiyin.online.engine import LiveEngine
from zhiyin.online.versions import bundle_version
from zhiyin.pipeline.bundle import load_bundle
from zhiyin.serving import told
from zhiyin.serving.access.keys import SCOPES, Allowance, ApiKeys
from zhiyin.serving.app import create_app
from zhiyin.serving.examples import examples_for
from zhiyin.serving.openapi import ERRORS, WITH_KEY
from zhiyin.serving.problems import TITLES, Problem
from zhiyin.serving.running import what_to_try
from zhiyin.serving.settings import AnswerSettings, ServingSettings

NARROW = AnswerSettings(n_threads=1, max_waiting=2, max_batch=1, budget_ms=60_000)


def engine_of(client: TestClient) -> LiveEngine:
    """The engine behind a service of one tenant."""
    return client.app.state.service.engines["default"]  # type: ignore[attr-defined]


ANSWERS = {
    "/v1/events": told.EventsOut,
    "/v1/items/{item_id}": told.ItemOut,
    "/v1/users/{user_id}": told.UserOut,
    "/v1/recommend": told.SlateOut,
    "/v1/similar": told.SlateOut,
    "/v1/search": told.SlateOut,
    "/v1/receipts/verify": told.VerifiedOut,
    "/v1/experiments/{name}": told.ExperimentOut,
}
LINES = ("POST", "/v1/events/bulk")
"""Takes lines, not one JSON document."""


def test_health_and_readiness(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    ready = client.get("/readyz")
    assert ready.status_code == 200
    served = {"bundle": "in-memory", "items": 30, "users": 40, "unserved": 0}
    assert ready.json() == {"status": "ready", **served, "lag": 0}
    client.delete("/v1/items/i1")
    client.post("/v1/events", json={"user_id": "new", "item_id": "i2"})
    client.delete("/v1/users/u1")
    client.delete("/v1/users/u2")
    assert client.get("/readyz").json()["items"] == 29
    assert client.get("/readyz").json()["users"] == 39


def metrics_of(client: TestClient) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line[0] != "#"}


def test_metrics_count_what_happened(client: TestClient) -> None:
    event = {"user_id": "u1", "item_id": "i1", "event_id": "same"}
    client.post("/v1/events", json={"events": [event, event, {**event, "event_id": "other"}]})
    client.post("/v1/recommend", json={"user_id": "u1", "explain": True})
    client.post("/v1/recommend", json={"user_id": "u1", "n": 0})
    client.get("/nowhere/at/all")
    client.request("BREW", "/v1/recommend")
    client.put("/v1/items/a", json={})
    found = metrics_of(client)
    assert found["zhiyin_events_stored_total"] == 2
    assert found["zhiyin_events_duplicate_total"] == 1
    count = 'zhiyin_requests_total{method="POST",route="/v1/recommend",status="%d"}'
    assert found[count % 200] == 1
    assert found[count % 422] == 1
    assert found['zhiyin_requests_total{method="GET",route="unknown",status="404"}'] == 1
    assert found['zhiyin_requests_total{method="OTHER",route="/v1/recommend",status="405"}'] == 1
    assert found['zhiyin_requests_total{method="PUT",route="/v1/items/{item_id:id}",status="200"}'] == 1
    assert found['zhiyin_request_seconds_count{route="/v1/recommend"}'] == 3
    for stage in ("history", "filter", "rank", "explain"):
        assert found[f'zhiyin_stage_seconds_count{{stage="{stage}"}}'] == 1
    assert found['zhiyin_bundle_info{tenant="default",version="in-memory"}'] == 1
    assert found['zhiyin_items{tenant="default"}'] == 31
    assert found['zhiyin_users{tenant="default"}'] == 40
    assert found["zhiyin_impressions_dropped_total"] == 0


def test_two_services_in_one_process_count_apart(bundle: Path, tmp_path: Path) -> None:
    with (
        TestClient(create_app(bundle, f"sqlite:///{tmp_path}/a.db"), client=("127.0.0.1", 50000)) as one,
        TestClient(create_app(bundle, f"sqlite:///{tmp_path}/b.db"), client=("127.0.0.1", 50000)) as other,
    ):
        one.post("/v1/events", json={"user_id": "u1", "item_id": "i1"})
        assert metrics_of(one)["zhiyin_events_stored_total"] == 1
        assert metrics_of(other)["zhiyin_events_stored_total"] == 0
        assert one.get("/readyz").json()["bundle"] == bundle_version(bundle)


def operations(client: TestClient) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_every_documented_example_works(client: TestClient) -> None:
    tried = set()
    examples = examples_for(engine_of(client).live.catalogue.current)
    for method, path, operation in operations(client):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        for name, example in content.get("examples", {}).items():
            place = examples[method, path][name].path
            answer = client.request(method, place, json=example["value"])
            assert answer.is_success, (method, path, name, answer.text)
            assert str(answer.status_code) in operation["responses"]
            ANSWERS[path].model_validate(answer.json(), strict=True)
            tried.add((method, path))
            if path == "/v1/recommend":
                assert answer.json()["items"]
    takes_json = {(method, path) for method, path, op in operations(client) if "requestBody" in op} - {LINES}
    assert tried == takes_json


def test_every_documented_error_is_a_problem_document(client: TestClient) -> None:
    for method, path, operation in operations(client):
        kinds = set()
        for status, response in operation["responses"].items():
            assert "X-Request-ID" in response["headers"]
            if status.startswith("2"):
                continue
            for kind, example in response["content"]["application/problem+json"]["examples"].items():
                Problem.model_validate(example["value"], strict=True)
                assert TITLES[kind][0] == int(status)
                kinds.add(kind)
        of_the_gate = set(WITH_KEY) if "security" in operation else set()
        assert kinds == set(ERRORS.get((method, path), ())) | of_the_gate
        if "application/json" in operation.get("requestBody", {}).get("content", {}):
            assert {"malformed-json", "too-large", "invalid-request", "internal-error"} <= kinds
        assert operation["description"] or path.startswith("/")


def test_the_documentation_is_one_page_that_needs_nobody(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "<script" not in page
    assert "src=" not in page
    for method, path, operation in operations(client):
        assert f"{method} {path}" in page
        assert all(said["description"] != "Successful Response" for said in operation["responses"].values())
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        for example in content.get("examples", {}).values():
            assert json.dumps(example["value"], ensure_ascii=False) in unescape(page)
    for title in (
        "curl -s 'http://testserver/v1/recommend'",
        "What is looked for, in any words.",
        '"starts_with": "The "',
    ):
        assert title in unescape(page)


def test_the_description_names_nobody_and_with_keys_nothing_that_is_sold(client: TestClient) -> None:
    engine = engine_of(client)
    person, title = json.dumps(engine.pipeline.users.id(0)), engine.live.catalogue.current.table["title"][0]
    without = client.get("/openapi.json").text
    assert person not in without
    assert json.dumps("i1") in without
    ApiKeys(client.app.state.service.database.access).create("shop", Allowance(SCOPES))  # type: ignore[attr-defined]
    for route in ("/openapi.json", "/docs"):
        told = unescape(client.get(route).text)
        assert person not in told
        assert json.dumps("i1") not in told
        assert title not in told
        assert json.dumps("user-1") in told
    assert person not in what_to_try(client.app, "http://127.0.0.1:8000")


def test_what_to_try_is_the_documented_examples(client: TestClient) -> None:
    text = what_to_try(client.app, "http://127.0.0.1:8000")
    assert text.count("curl -s") == 5
    assert "curl -s 'http://127.0.0.1:8000/v1/recommend' -H 'Content-Type: application/json'" in text
    assert "curl -s 'http://127.0.0.1:8000/v1/search'" in what_to_try(client.app, "http://0.0.0.0:8000")


def test_what_to_try_shows_where_the_key_goes_once_there_is_one(client: TestClient) -> None:
    ApiKeys(client.app.state.service.database.access).create("shop", Allowance(SCOPES))
    text = what_to_try(client.app, "http://127.0.0.1:8000")
    assert text.count('-H "Authorization: Bearer $KEY"') == text.count("curl -s") == 5


def test_production_names_no_user_where_logs_are_read(client: TestClient) -> None:
    client.app.state.settings = ServingSettings(production=True)
    text = what_to_try(client.app, "http://127.0.0.1:8000")
    assert len(text.splitlines()) == 1
    assert "http://127.0.0.1:8000" in text
    assert not any(
        user_id in text for user_id in client.app.state.service.engine("default").pipeline.users.ids
    )


def test_a_store_that_fails_gives_503_and_nothing_is_acknowledged(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StoreError("The store cannot be used: disk is full.", remedy="Free some space.")

    monkeypatch.setattr(client.app.state.service.database._writer, "_commit", fail)
    for method, path, body in (
        ("POST", "/v1/events", {"user_id": "u1", "item_id": "i1"}),
        ("PUT", "/v1/items/new", {"price": 1}),
        ("PUT", "/v1/users/u1", {"age": 1}),
        ("DELETE", "/v1/items/i1", None),
        ("DELETE", "/v1/users/u1", None),
    ):
        answer = client.request(method, path, json=body) if body else client.request(method, path)
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "1"
        assert answer.json()["type"] == "urn:zhiyin:problem:store-unavailable"
        assert answer.json()["remedy"] == "Free some space."
    assert metrics_of(client)['zhiyin_store_errors_total{store="database"}'] == 5
    assert engine_of(client).live.histories.of_user("u1").histories.n_events == 6
    assert engine_of(client).live.catalogue.n_items == 30
    assert client.get("/readyz").status_code == 503


def test_drift_that_a_loop_measured_is_a_metric(client: TestClient) -> None:
    measured = [
        {"name": "event kinds", "value": 0.4, "level": "alert", "explanation": "far"},
        {"name": "popularity", "value": 0.01, "level": "steady", "explanation": "near"},
    ]
    engine = engine_of(client)
    engine.store.put_document("drift", "newest", {"measured": measured}).result()
    engine.following.read_log()
    found = metrics_of(client)
    assert found['zhiyin_drift_score{measure="event kinds",tenant="default"}'] == 2
    assert found['zhiyin_drift_score{measure="popularity",tenant="default"}'] == 0


def test_a_service_whose_store_cannot_be_written_is_not_ready(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise StoreError("The store cannot be used: locked.")

    monkeypatch.setattr(client.app.state.service.database, "check", fail)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert client.get("/healthz").status_code == 200


def test_a_failing_pipeline_leaks_nothing(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret of the house")

    monkeypatch.setattr(engine_of(client).pipeline, "recommend", fail)
    answer = client.post("/v1/recommend", json={"user_id": "u1"})
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:zhiyin:problem:internal-error"
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["X-Request-ID"] == answer.json()["request_id"]


def test_a_failing_source_is_skipped_and_counted(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    source = engine_of(client).pipeline.sources[0]
    for method in ("ask", "propose", "score_all", "score"):
        monkeypatch.setattr(source, method, fail)
    answer = client.post("/v1/recommend", json={"user_id": "u1"})
    assert answer.status_code == 200
    assert len(answer.json()["items"]) == 10
    assert metrics_of(client)[f'zhiyin_source_failures_total{{source="{source.name}"}}'] >= 1


def test_a_flood_is_refused_and_passes(
    start: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start(
        ServingSettings(
            answers=AnswerSettings(n_threads=1, max_waiting=2, max_batch=1, budget_ms=60_000),
            log_requests=False,
        )
    )
    pipeline = engine_of(client).pipeline
    answer_of, go = pipeline.recommend, threading.Event()

    def slow(*asked: Any) -> Any:
        go.wait(5)
        return answer_of(*asked)

    monkeypatch.setattr(pipeline, "recommend", slow)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(client.post, "/v1/recommend", json={"user_id": "u1"}) for _ in range(8)]
        refused = []
        while len(refused) < 6:
            refused = [one.result() for one in waiting if one.done()]
        go.set()
        answers = [one.result() for one in waiting]
    assert sorted(answer.status_code for answer in answers) == [200] * 2 + [503] * 6
    assert refused[0].json()["type"] == "urn:zhiyin:problem:overloaded"
    assert refused[0].headers["Retry-After"] == "1"
    assert client.post("/v1/recommend", json={"user_id": "u1"}).status_code == 200


def test_items_may_arrive_while_everybody_asks(client: TestClient) -> None:
    def put(number: int) -> int:
        body = {"title": f"Tea number {number}", "price": 500.0 + number, "categories": ["Drinks", "Tea"]}
        return client.put(f"/v1/items/n{number}", json=body).status_code

    def ask(number: int) -> int:
        asked = {"user_id": f"u{number % 40}", "filter": {"price": {"at_least": 5}}, "n": 50}
        return client.post("/v1/recommend", json=asked).status_code

    def tell(number: int) -> int:
        event = {"user_id": f"u{number % 40}", "item_id": f"n{number}", "event_id": f"e{number}"}
        return client.post("/v1/events", json=event).status_code

    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(work, number) for number in range(60) for work in (put, ask, tell)]
        assert {one.result() for one in done} == {200, 202}
    found = client.post("/v1/recommend", json={"history": [], "n": 1000}).json()["items"]
    assert {item["item_id"] for item in found} == {f"i{n}" for n in range(30)} | {f"n{n}" for n in range(60)}
    for user in range(40):
        numbers = [number for number in range(60) if number % 40 == user]
        histories = engine_of(client).live.histories.of_user(f"u{user}").histories
        items = engine_of(client).live.catalogue.current.items
        assert {items.id(index) for index in histories.item_index[6:]} == {f"n{n}" for n in numbers}


def test_what_is_wrong_with_bundle_or_store_is_said_before_anything_listens(
    bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        create_app(tmp_path / "nothing", f"sqlite:///{tmp_path}/s.db")
    with pytest.raises(StoreError, match="is not known"):
        create_app(bundle, "oracle://shop")
    with (
        TestClient(create_app(bundle, f"sqlite:///{tmp_path}/s.db"), client=("127.0.0.1", 50000)),
        pytest.raises(StoreError, match="locked"),
    ):
        create_app(load_bundle(bundle), f"sqlite:///{tmp_path}/s.db")


def test_every_request_is_a_line_of_json(
    start: Callable[..., TestClient], capsys: pytest.CaptureFixture[str]
) -> None:
    client = start(ServingSettings())
    client.post("/v1/similar", json={"item_id": "gone"}, headers={"X-Request-ID": "r-7"})
    line = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (line["event"], line["route"], line["status"]) == ("request", "/v1/similar", 404)
    assert line["request_id"] == "r-7"
    assert line["ms"] >= 0


def test_a_write_that_finds_no_place_is_refused_with_when_to_come_back_and_counted(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StoreOverloaded("Too many writes wait for the database; nothing of this one was stored.")

    monkeypatch.setattr(client.app.state.service.database._writer, "submit", full)  # type: ignore[attr-defined]
    refused = client.post("/v1/events", json={"user_id": "u1", "item_id": "i1"})
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert refused.json()["type"] == "urn:zhiyin:problem:overloaded"
    assert 'zhiyin_shed_total{reason="writer"} 1.0' in client.get("/metrics").text
