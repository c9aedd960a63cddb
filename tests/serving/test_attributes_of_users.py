"""What is put for a user is read at the next request, by whatever reads attributes."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from zhiyin.domain import Queries
from zhiyin.pipeline.pipeline import Pipeline


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each recommendation is told of the moment, by a bundle that reads city and device."""
    told: list[dict[str, Any]] = []
    recommend = Pipeline.recommend

    def listening(self: Pipeline, queries: Queries, *others: Any, **named: Any) -> Any:
        told.append({name: values.tolist() for name, values in queries.context.items()})
        return recommend(self, queries, *others, **named)

    monkeypatch.setattr(Pipeline, "recommend", listening)
    monkeypatch.setattr(Pipeline, "reads_of_users", property(lambda _: frozenset({"city", "device"})))
    return told


def test_attributes_are_read_until_the_user_is_erased(
    start: Callable[..., TestClient], said: list[dict[str, Any]]
) -> None:
    client = start()

    def told(**wish: Any) -> dict[str, Any]:
        said.clear()
        assert client.post("/v1/recommend", json={"user_id": "u1", "n": 3, **wish}).status_code == 200
        return said[0]

    assert told() == {}
    client.put("/v1/users/u1", json={"city": "Graz", "shoes": 41, "device": ["a", "list"]})
    assert told() == {"city": ["Graz"]}, "what is not read, or is no plain value, is left out"
    client.put("/v1/users/u1", json={"device": "phone"})
    assert told() == {"city": ["Graz"], "device": ["phone"]}
    assert told(context={"city": "Wien"}) == {"city": ["Wien"], "device": ["phone"]}, (
        "the request knows better"
    )
    client = start()
    assert told() == {"city": ["Graz"], "device": ["phone"]}, "after a restart, too"
    said.clear()
    client.post("/v1/search", json={"user_id": "u1", "text": "tea"})
    assert said[0] == {"city": ["Graz"], "device": ["phone"]}
    client.put("/v1/users/u1", json={"city": None})
    assert told() == {"device": ["phone"]}
    client.delete("/v1/users/u1")
    assert told() == {}
    assert client.post("/v1/recommend", json={"history": [], "n": 3}).status_code == 200


def test_a_user_has_a_bounded_number_of_attributes(start: Callable[..., TestClient]) -> None:
    client = start()
    for part in range(2):
        client.put("/v1/users/u1", json={f"a{part}-{number}": number for number in range(100)})
    refused = client.put("/v1/users/u1", json={"one": 1, "more": 2})
    assert refused.status_code == 422
    assert "at most 200" in refused.json()["possible"]
    changed = client.put("/v1/users/u1", json={"one": 1, "a0-7": None})
    assert changed.status_code == 200
    kept = client.get("/v1/users/u1").json()["attributes"]
    assert kept == changed.json()["attributes"]
    assert len(kept) == 200
    assert "a0-7" not in kept
