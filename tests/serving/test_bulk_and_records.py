"""Streams of events, exports, receipts, versions, experiments and the audit log, through the service."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from zhiyin.domain import NO_TIMESTAMP
from zhiyin.stores.records import Event

NDJSON = {"Content-Type": "application/x-ndjson"}


def lines_of(client: TestClient, body: bytes) -> list[dict[str, Any]]:
    answer = client.post("/v1/events/bulk", content=body, headers=NDJSON)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def line(number: int) -> bytes:
    event = {"user_id": f"b{number % 500}", "item_id": f"i{number % 30}", "event_id": f"e-{number}"}
    return json.dumps(event).encode() + b"\n"


def test_a_hundred_thousand_lines_with_broken_ones_among_them(client: TestClient) -> None:
    broken = {7: b"{\n", 70_000: b'{"user_id": "x"}\n', 99_999: b'{"user_id": "x", "item_id": "y", "n": 1}\n'}
    body = b"".join(broken.get(number, line(number)) for number in range(100_000))
    told = lines_of(client, body)
    progress = [one["lines"] for one in told]
    assert len(told) >= 20
    assert progress == sorted(progress)
    assert all(one["stored"] + one["refused"] + one["duplicates"] == one["lines"] for one in told)
    assert all("done" not in one for one in told[:-1])
    last = told[-1]
    assert last["done"]
    assert (last["lines"], last["stored"], last["refused"]) == (100_000, 99_997, 3)
    assert [error["line"] for error in last["errors"]] == [8, 70_001, 100_000]
    exported = client.get("/v1/users/b7").json()["events"]
    assert [event["event_id"] for event in exported] == [f"e-{n}" for n in range(507, 100_000, 500)]
    again = lines_of(client, line(1) + line(100_001) + line(2))[-1]
    assert (again["stored"], again["duplicates"]) == (1, 2)


def test_empty_lines_count_where_lines_are_told_by_number(client: TestClient) -> None:
    body = b"".join([line(0), b"\n", b"  \r\n", b"{\n", line(1), b"\n" * 6_000, line(2), b"nonsense"])
    last = lines_of(client, body)[-1]
    assert last["done"]
    assert [error["line"] for error in last["errors"]] == [4, 6_007]
    assert (last["lines"], last["stored"], last["refused"]) == (6_007, 3, 2)


def test_a_line_without_end_ends_the_stream_and_says_how_far_it_came(client: TestClient) -> None:
    whole = b"".join(line(number) for number in range(5_000))
    told = lines_of(client, whole + b"x" * 1_000_001)
    assert "done" not in told[-1]
    assert "1000000 bytes" in told[-1]["problem"]
    stored = told[-1]["stored"]
    assert stored == told[-1]["lines"]
    assert sum(len(client.get(f"/v1/users/b{n}").json().get("events", ())) for n in range(500)) == stored


def test_a_caller_who_goes_away_leaves_what_was_told(client: TestClient) -> None:
    """The connection breaks in the middle: every line of progress that went out is stored."""
    body = b"".join(line(number) for number in range(12_000))
    told: list[dict[str, Any]] = []

    async def broken_off() -> None:
        parts = [body[: len(body) // 2], body[len(body) // 2 :]]

        async def receive() -> dict[str, Any]:
            if parts:
                return {"type": "http.request", "body": parts.pop(0), "more_body": True}
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            told.extend(json.loads(one) for one in message.get("body", b"").splitlines())

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
            "path": "/v1/events/bulk", "raw_path": b"/v1/events/bulk", "query_string": b"", "root_path": "",
            "scheme": "http", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1), "state": {},
            "headers": [(b"content-type", b"application/x-ndjson"), (b"host", b"127.0.0.1")],
        }  # fmt: skip
        await client.app(scope, receive, send)

    assert client.portal is not None
    client.portal.call(broken_off)
    assert told
    assert "done" not in told[-1]
    stored = [client.get(f"/v1/users/b{n}").json()["events"] for n in range(500)]
    ids = {event["event_id"] for events in stored for event in events}
    assert told[-1]["stored"] == told[-1]["lines"] >= 5_000
    assert ids >= {f"e-{n}" for n in range(told[-1]["lines"])}
    assert client.post("/v1/recommend", json={"user_id": "b1"}).status_code == 200


def test_an_export_holds_what_the_bundle_remembers_until_it_must_not(client: TestClient) -> None:
    pipeline = client.app.state.service.engines["default"].pipeline  # type: ignore[attr-defined]
    user_id = pipeline.users.ids[0]
    had = pipeline.histories.row(0)
    export = client.get(f"/v1/users/{user_id}").json()
    assert export["events"] == []
    names = [pipeline.catalogue.items.ids[item] for item in had.item_index.tolist()]
    assert [event["item_id"] for event in export["trained_on"]] == names
    times = [None if moment == NO_TIMESTAMP else moment for moment in had.timestamp.tolist()]
    assert [event["timestamp"] for event in export["trained_on"]] == times
    assert {event["event"] for event in export["trained_on"]} <= set(pipeline.event_kinds)
    client.delete(f"/v1/users/{user_id}")
    assert client.get(f"/v1/users/{user_id}").status_code == 404
    client.put(f"/v1/users/{user_id}", json={"city": "Graz"})
    assert client.get(f"/v1/users/{user_id}").json()["trained_on"] == []


def test_an_export_holds_what_an_old_log_holds_though_nobody_may_send_it_today(client: TestClient) -> None:
    intake = client.app.state.service.engines["default"].intake  # type: ignore[attr-defined]
    context = {"order": 2**64, "longer": 10**400}
    intake.accept([Event("e", "berta", "i1", "view", 1_700_000_000, None, context)]).result(10)
    answer = client.get("/v1/users/berta")
    assert answer.status_code == 200, answer.text
    assert answer.json()["events"][0]["context"] == context


def test_export_receipt_and_audit_tell_one_story(client: TestClient) -> None:
    event = {"user_id": "anna", "item_id": "i3", "event": "view", "timestamp": 1_700_000_000, "value": 2.5}
    client.post("/v1/events", json={**event, "event_id": "e", "context": {"page": "home"}})
    client.put("/v1/users/anna", json={"city": "Graz"})
    slate = client.post("/v1/recommend", json={"user_id": "anna", "n": 3}).json()
    export = client.get("/v1/users/anna").json()
    assert export["attributes"] == {"city": "Graz"}
    [stored] = export["events"]
    assert stored == {
        "event_id": "e", "item_id": "i3", "event": "view", "timestamp": 1_700_000_000, "value": 2.5,
        "context": {"page": "home"},
    }  # fmt: skip
    [shown] = export["shown"]
    assert shown["item_ids"] == [item["item_id"] for item in slate["items"]]
    assert shown["request_id"] == slate["request_id"]
    assert export["trained_on"] == [], "anna came after training"
    receipt = client.delete("/v1/users/anna").json()
    assert (receipt["n_events"], receipt["n_impressions"], receipt["had_attributes"]) == (1, 1, True)

    def verified(body: dict[str, Any]) -> bool:
        return client.post("/v1/receipts/verify", json=body).json()["is_valid"]

    assert verified({"receipt": receipt})
    assert verified({"receipt": receipt, "user_id": "anna"})
    assert not verified({"receipt": receipt, "user_id": "bert"})
    assert not verified({"receipt": {**receipt, "n_events": 0}})
    assert client.get("/v1/users/anna").status_code == 404
    entries = client.get("/v1/audit").json()["entries"]
    assert [(one["action"], one["outcome"]) for one in entries].count(("user.erase", "done")) == 1
    assert "anna" not in json.dumps(entries)


def test_events_of_one_change_what_others_are_told_soon_and_after_a_restart(
    start: Callable[..., TestClient],
) -> None:
    client = start()

    def scores() -> dict[str, float]:
        items = client.post("/v1/recommend", json={"user_id": "stranger", "n": 31}).json()["items"]
        return {item["item_id"]: pytest.approx(item["score"], rel=1e-5) for item in items}

    before = scores()
    events = [{"user_id": f"w{n}", "item_id": "i29", "event": "view"} for n in range(40)]
    # Half of them speak of an item that comes later, and count from then on.
    early = [{"user_id": f"w{n}", "item_id": "late", "event": "view"} for n in range(40)]
    assert client.post("/v1/events", json={"events": events + early}).json()["unknown_items"] == ["late"]
    deadline = time.monotonic() + 10
    while scores() == before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert scores() != before
    without = scores()
    assert "late" not in without
    assert client.put("/v1/items/late", json={"title": "Late tea"}).status_code == 200
    while scores().get("late", 0) == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    settled = scores()
    while time.monotonic() < deadline and (now := scores()) != settled:
        settled = now
        time.sleep(0.2)
    client = start()
    while scores() != settled and time.monotonic() < deadline + 10:
        time.sleep(0.05)
    assert scores() == settled


def test_versions_and_experiments_are_listed_as_they_are(client: TestClient) -> None:
    assert client.get("/v1/bundles").json()["serving"] == "in-memory"
    assert client.post("/v1/bundles/nobody/activate").status_code == 404
    arms = {"a": {"share": 0.5}, "b": {"share": 0.5, "diversity": 0.5}}
    assert client.get("/v1/experiments/which").status_code == 404
    started = client.put("/v1/experiments/which", json={"arms": arms, "control": "a"})
    assert started.status_code == 200
    told = [client.post("/v1/recommend", json={"user_id": f"v{n}"}).json() for n in range(40)]
    assert {one["arm"] for one in told} == {"a", "b"}
    again = [client.post("/v1/recommend", json={"user_id": f"v{n}"}).json()["arm"] for n in range(40)]
    assert again == [one["arm"] for one in told]
    assert client.delete("/v1/experiments/which").json()["is_over"]
    assert "arm" not in client.post("/v1/recommend", json={"user_id": "v1"}).json()
    mixed = {"kind": "interleaving", "arms": arms, "control": "a"}
    assert client.put("/v1/experiments/mixed", json=mixed).status_code == 200
    slate = client.post("/v1/recommend", json={"user_id": "v1", "n": 6}).json()
    assert slate["arm"] == "interleaved"
    [shown] = [one for one in client.get("/v1/users/v1").json()["shown"] if one["experiment"] == "mixed"]
    assert len(shown["arm"].split(",")) == len(slate["items"]) == 6
    assert set(shown["arm"].split(",")) == {"a", "b"}
    listed = client.get("/v1/experiments").json()["experiments"]
    assert {one["trial"]["name"]: one["is_over"] for one in listed} == {"which": True, "mixed": False}


def test_a_misspelt_field_of_a_line_is_told_with_what_it_should_be(client: TestClient) -> None:
    last = lines_of(client, b'{"user_id": "a", "item": "i1"}\n')[-1]
    [error] = last["errors"]
    assert "item_id: This field is missing." in error["problem"]
    assert "The field 'item' is not known. Did you mean 'item_id'?" in error["problem"]


def test_who_is_unknown_is_written_down_as_erased_and_gets_a_receipt_when_asked_again(
    client: TestClient,
) -> None:
    assert client.delete("/v1/users/stranger").status_code == 404
    again = client.delete("/v1/users/stranger")
    assert (again.status_code, again.json()["was_erased_before"]) == (200, True)
