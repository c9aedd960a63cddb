"""Experiments through the service: what is refused at once, and what no arm may do to its users."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from zhiyin.online.engine import LiveEngine
from zhiyin.serving.settings import AnswerSettings, ServingSettings


def arms(**new: Any) -> dict[str, Any]:
    return {"now": {"share": 0.5}, "new": {"share": 0.5, **new}}


def put(client: TestClient, name: str, **settings: Any) -> Any:
    return client.put(f"/v1/experiments/{name}", json={"arms": arms(), "control": "now", **settings})


def arms_of(client: TestClient, users: range) -> list[str | None]:
    told = [client.post("/v1/recommend", json={"user_id": f"v{n}"}) for n in users]
    assert {one.status_code for one in told} == {200}
    return [one.json().get("arm") for one in told]


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ({"boost": [{}]}, "arms.new.boost.0.filter"),
        ({"boost": [{"filter": {"price": 3}, "by": "x"}]}, "arms.new.boost.0.by"),
        ({"boost": [{"filter": {"price": 3}, "by": 5_000}]}, "less than or equal to 1000"),
        ({"boost": [{"filter": {"price": 3}, "by": 1}] * 21}, "at most 20"),
        ({"boost": [{"filter": {"prize": 3}, "by": 2}]}, "Did you mean 'price'"),
        ({"boost": [{"filter": {"price": "x"}, "by": 2}]}, "'x' is not a number"),
        ({"diversity": 3}, "arms.new.diversity"),
    ],
)
def test_an_arm_that_no_user_could_be_answered_with_is_refused(
    client: TestClient, new: dict[str, Any], said: str
) -> None:
    refused = put(client, "broken", arms=arms(**new))
    problem = refused.json()
    assert (refused.status_code, problem["type"]) == (422, "urn:zhiyin:problem:invalid-request")
    assert said in problem["detail"]
    assert problem.get("possible") or problem.get("remedy")
    assert client.get("/v1/experiments").json()["experiments"] == []


def test_an_attribute_that_a_boost_cannot_name_is_said_where_it_stands(client: TestClient) -> None:
    problem = put(client, "e", arms=arms(boost=[{"filter": {"prize": 3}, "by": 2}])).json()
    [error] = problem["errors"]
    assert error["path"] == "arms.new.boost[0].filter.prize"
    assert "price" in problem["possible"]


def test_a_boost_that_fits_answers_its_users(client: TestClient) -> None:
    assert (
        put(client, "e", arms=arms(boost=[{"filter": {"price": {"below": 9}}, "by": 2}])).status_code == 200
    )
    assert set(arms_of(client, range(30))) == {"now", "new"}


def test_what_has_not_begun_is_moved_and_taken_back(client: TestClient) -> None:
    now = int(time.time())
    assert put(client, "later", start=now + 86_400).status_code == 200
    assert set(arms_of(client, range(5))) == {None}
    assert put(client, "later", start=now + 3_600).json()["trial"]["start"] == now + 3_600
    assert put(client, "another").status_code == 422, "all users are held"
    assert client.delete("/v1/experiments/later").json()["is_over"]
    assert client.get("/v1/experiments/later").status_code == 404
    assert put(client, "another").status_code == 200
    assert set(arms_of(client, range(30))) == {"now", "new"}
    assert client.delete("/v1/experiments/another").status_code == 200
    again = put(client, "another")
    assert (again.status_code, "another name" in again.json()["remedy"]) == (422, True)
    assert set(arms_of(client, range(5))) == {None}


@pytest.mark.parametrize("begin", [1e18, 10**18, 4_102_444_800])
def test_a_start_too_far_ahead_holds_nobody(client: TestClient, begin: float) -> None:
    refused = put(client, "far", start=begin)
    assert refused.status_code == 422
    assert "more than a year from now" in refused.json()["detail"]
    assert put(client, "near").status_code == 200


def test_slow_answers_are_counted_and_a_restart_loses_none(
    start: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start()
    rails = [{"metric": "slow_answers", "worst_change": 0.1}]
    measuring = {"least_users": 8, "planned_users": 30}
    assert put(client, "speed", guard_rails=rails, measuring=measuring).status_code == 200
    arm_of = {f"v{n}": arm for n, arm in enumerate(arms_of(client, range(30)))}
    new = [user for user, arm in arm_of.items() if arm == "new"]
    [rail] = client.get("/v1/experiments/speed").json()["guard_rails"]
    assert (rail["control_value"], rail["arm_value"], rail["state"]) == (0.0, 0.0, "held")

    compute, slow = LiveEngine.compute, set(new[1:])

    def slowly(engine: LiveEngine, asked: list[Any]) -> Any:
        if any(one.user_id in slow for one in asked):
            time.sleep(0.6)
        return compute(engine, asked)

    monkeypatch.setattr(LiveEngine, "compute", slowly)
    client = start(ServingSettings(log_requests=False, answers=AnswerSettings(budget_ms=300.0)))
    for _ in range(3):
        client.post("/v1/recommend", json={"history": []})
    told = [client.post("/v1/recommend", json={"user_id": user}).json() for user in slow]
    assert {(one["degraded"], one.get("arm")) for one in told} == {("popular", None)}
    seen = client.get("/v1/experiments/speed").json()
    [rail] = seen["guard_rails"]
    assert rail["arm_value"] == pytest.approx(len(slow) / (len(slow) + len(new)))
    assert (rail["control_value"], rail["state"]) == (0.0, "broken")
    assert seen["decision"] == "stop"
    assert "slow_answers is 0." in seen["sentence"]
    [_, noted] = client.get(f"/v1/users/{new[1]}").json()["shown"]
    assert (noted["experiment"], noted["arm"]) == ("speed", "new/late")
    monkeypatch.undo()
    assert start().get("/v1/experiments/speed").json()["guard_rails"] == [rail]
