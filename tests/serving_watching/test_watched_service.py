"""The whole service, seen through its metrics and its log."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from zhiyin.contracts import TrainingData
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe
from zhiyin.serving.app import create_app
from zhiyin.serving.settings import ServingSettings
from zhiyin.stores.writer import CAPACITY
from zhiyin.testing.tea_shop import tea_shop

PERSON = "anna-4711"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    pipeline = Pipeline(recipe("popular"))
    pipeline.fit(TrainingData(tea_shop(), pipeline.language))
    app = create_app(pipeline, f"sqlite:///{tmp_path}/store.db", ServingSettings())
    with TestClient(app, raise_server_exceptions=False, client=("127.0.0.1", 50_000)) as found:
        yield found


def use(client: TestClient) -> None:
    """What a shop does in a minute, with everything that could name a person in every place."""
    event = {"user_id": PERSON, "item_id": "i1", "event": "view"}
    answer = client.post("/v1/events", json=event)
    assert answer.status_code == 202, answer.text
    assert client.post("/v1/recommend", json={"user_id": PERSON}).status_code == 200
    assert client.put(f"/v1/users/{PERSON}", json={"city": "Hangzhou"}).status_code == 200
    client.post("/v1/recommend", json={"user_id": PERSON, "n": 0})
    client.get(f"/v1/users/{PERSON}/nothing", headers={"Authorization": f"Bearer zk_none_{PERSON}"})
    client.get(f"/{PERSON}?user={PERSON}")
    assert client.delete(f"/v1/users/{PERSON}").status_code in (200, 204)


def test_no_line_of_the_log_names_a_person(client: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    use(client)
    text = capsys.readouterr().err
    assert PERSON not in text
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["event"] for line in lines].count("request") == 7
    for line in lines:
        assert {"timestamp", "level", "request_id", "method", "route", "status", "ms"} <= set(line)
    assert {line["tenant"] for line in lines if "tenant" in line} == {"default"}
    assert "/v1/users/{user_id:id}" in {line["route"] for line in lines}


def test_the_metrics_tell_what_happened_and_name_nobody(client: TestClient) -> None:
    use(client)
    text = client.get("/metrics").text
    assert PERSON not in text
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value

    def value(name: str, **labels: Any) -> float:
        return found[name][tuple(sorted(labels.items()))]

    assert value("zhiyin_events_stored_total") == 1
    assert value("zhiyin_events_by_kind_total", kind="view") == 1
    assert value("zhiyin_requests_total", route="/v1/recommend", method="POST", status="200") == 1
    assert value("zhiyin_requests_total", route="/v1/recommend", method="POST", status="422") == 1
    assert value("zhiyin_freshness_seconds_count", tenant="default") == 1
    assert value("zhiyin_bundle_info", tenant="default", version="in-memory") == 1
    assert value("zhiyin_items", tenant="default") == 30
    assert value("zhiyin_log_lag_positions", tenant="default") == 0
    assert value("zhiyin_stage_seconds_count", stage="rank") == 1
    assert value("zhiyin_queue_depth", queue="recommend") == 0
    # The rule for full queues divides one by the other, so both have to be there.
    assert {dict(labels)["queue"] for labels in found["zhiyin_queue_depth"]} >= {"recommend", "writer"}
    assert value("zhiyin_queue_capacity", queue="writer") == CAPACITY
