"""Several processes on one database answer as one process would."""

import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from processes import Process, until

from zhiyin.online.versions import bundle_version
from zhiyin.serving.access.keys import Allowance, ApiKeys
from zhiyin.stores.opening import open_database

Serve = Callable[..., list[Process]]
USERS = [f"u{number}" for number in range(6)] + [f"new-{number}" for number in range(6)]
ITEMS = [f"i{number}" for number in range(30)] + [f"fresh-{number}" for number in range(4)]


def operations(seed: int, n: int) -> list[tuple[str, str, Any]]:
    """Random changes with times of their own, so that it does not matter who takes them when."""
    rng, made = random.Random(seed), []
    for number in range(n):
        user, item = rng.choice(USERS), rng.choice(ITEMS)
        kind = rng.choices(["event", "item", "gone", "user", "erase"], [12, 4, 2, 2, 2])[0]
        if kind == "event":
            ids = [f"{number}-{place}" for place in range(rng.randint(1, 3))]
            moment = 1_700_000_000 + number
            events = [
                {"user_id": user, "item_id": rng.choice(ITEMS), "event_id": one, "timestamp": moment}
                for one in ids
            ]
            made.append(("POST", "/v1/events", {"events": events}))
        elif kind == "item":
            made.append(("PUT", f"/v1/items/{item}", {"title": f"Tea number {number}"}))
        elif kind == "gone":
            made.append(("DELETE", f"/v1/items/{item}", None))
        elif kind == "user":
            made.append(("PUT", f"/v1/users/{user}", {"age": number}))
        else:
            made.append(("DELETE", f"/v1/users/{user}", None))
    return made


def told(process: Process, user_id: str) -> dict[str, Any]:
    """What can be seen of a user, without what differs by nature: what was shown, and when."""
    slate = process.said("POST", "/v1/recommend", {"user_id": user_id, "n": 34})
    stored = process.send("GET", f"/v1/users/{user_id}")
    export = stored.json() if stored.status_code == 200 else {}
    return {
        "shown": {item["item_id"] for item in slate["items"]},
        "known": slate["known_user"],
        "events": export.get("events", []),
        "attributes": export.get("attributes", {}),
    }


def scores(process: Process, user_id: str) -> dict[str, float]:
    """Item → score, as others' events have changed it too."""
    slate = process.said("POST", "/v1/recommend", {"user_id": user_id, "n": 34})
    return {item["item_id"]: pytest.approx(item["score"], rel=1e-4, abs=1e-5) for item in slate["items"]}


@pytest.mark.parametrize("with_redis", [True, False])
def test_three_processes_answer_as_one(
    with_redis: bool,
    serve: Serve,
    bundles: tuple[Path, Path],
    postgres_url: str,
    redis_url: str,
    tmp_path: Path,
) -> None:
    """The same requests in the same order, to three processes in turn, and to one alone with SQLite."""
    shared = {"store": postgres_url, "redis": redis_url if with_redis else "", "bundle": str(bundles[0])}
    [first] = serve(shared)
    alone, *others = serve(
        {"store": f"sqlite:///{tmp_path}/alone.db", "bundle": str(bundles[0])}, shared, shared
    )
    together = [first, *others]
    rng = random.Random(1)
    for number, (method, path, body) in enumerate(
        operations(seed=7 + with_redis, n=60 if with_redis else 30)
    ):
        expected = alone.send(method, path, body)
        answer = rng.choice(together).send(method, path, body)
        assert answer.status_code == expected.status_code, (method, path, answer.text, expected.text)
        if with_redis and number == 30:
            redis.Redis.from_url(redis_url).flushdb()
        if number % 6 == 5:
            user_id = rng.choice(USERS)
            expected_of_user = told(alone, user_id)
            for process in together:
                assert told(process, user_id) == expected_of_user, (number, user_id)
    # Counts that hold erased events go with the next rebuild; whoever starts anew never had them.
    others[0].end(signal.SIGKILL)
    alone.end()
    restarted, alone = serve(shared, {"store": f"sqlite:///{tmp_path}/alone.db", "bundle": str(bundles[0])})
    for user_id in USERS:
        assert told(restarted, user_id) == told(alone, user_id)
        until(lambda user_id=user_id: scores(restarted, user_id) == scores(alone, user_id))


def test_what_one_acknowledged_all_know_at_once(
    serve: Serve, bundles: tuple[Path, Path], postgres_url: str, redis_url: str
) -> None:
    shared = {"store": postgres_url, "redis": redis_url, "bundle": str(bundles[0])}
    [first] = serve(shared)
    together = [first, *serve(shared)]
    rng, server = random.Random(2), redis.Redis.from_url(redis_url)
    for number in range(40):
        writer, reader = rng.sample(together, 2)
        user_id, best = f"visitor-{number}", together[0].slate("nobody", n=1)[0]
        writer.said("POST", "/v1/events", {"user_id": user_id, "item_id": best, "event": "view"})
        answer = reader.said("POST", "/v1/recommend", {"user_id": user_id, "n": 30})
        assert answer["known_user"]
        assert best not in {item["item_id"] for item in answer["items"]}
        if number % 13 == 12:
            server.flushdb()


def test_a_bundle_an_experiment_and_an_erasure_reach_all(
    serve: Serve, bundles: tuple[Path, Path], postgres_url: str, redis_url: str
) -> None:
    shared = {"store": postgres_url, "redis": redis_url, "bundle": str(bundles[0])}
    [first] = serve(shared)
    together = [first, *serve(shared)]
    versions = [bundle_version(folder) for folder in bundles]
    database = open_database(postgres_url)
    database.store().put_bundle(versions[1], bundles[1], position=0, facts={})
    database.close()
    arms = {"as-before": {"share": 0.5}, "popular": {"share": 0.5, "bundle": versions[1]}}
    together[1].said("PUT", "/v1/experiments/which", {"arms": arms, "control": "as-before"})

    def arms_of(process: Process) -> list[str | None]:
        answers = [process.said("POST", "/v1/recommend", {"user_id": f"v{number}"}) for number in range(12)]
        return [answer.get("arm") for answer in answers]

    until(lambda: None not in arms_of(together[0]) and None not in arms_of(together[1]))
    assert arms_of(together[0]) == arms_of(together[1])
    assert set(arms_of(together[0])) == {"as-before", "popular"}
    together[0].said("DELETE", "/v1/experiments/which")
    assert arms_of(together[0]) == arms_of(together[1]) == [None] * 12
    for version in (versions[1], versions[0], versions[1]):
        together[0].said("POST", f"/v1/bundles/{version}/activate")
    for process in together:
        until(lambda process=process: process.said("GET", "/v1/bundles")["serving"] == versions[1])
    assert together[0].slate("u1") == together[1].slate("u1")
    assert together[0].said("POST", "/v1/recommend", {"user_id": "u1"})["known_user"]
    for number in range(2, 8):  # what the bundle remembers of them is not told either
        together[number % 2].said("DELETE", f"/v1/users/u{number}")
        assert together[1 - number % 2].send("GET", f"/v1/users/u{number}").status_code == 404
    together[1].said("DELETE", "/v1/users/u1")
    assert not together[0].said("POST", "/v1/recommend", {"user_id": "u1"})["known_user"]


def test_tenants_and_limits_are_shared_and_apart(
    serve: Serve, bundles: tuple[Path, Path], postgres_url: str, redis_url: str
) -> None:
    database = open_database(postgres_url)
    for tenant, folder in zip(("default", "second"), bundles, strict=True):
        store = database.store(tenant)
        store.put_bundle(bundle_version(folder), folder, position=0, facts={})
        store.activate_bundle(bundle_version(folder)).result()
    keys = ApiKeys(database.access)
    scopes = ("ingest", "recommend", "admin")
    key = keys.create("first", Allowance(scopes)).text
    other = keys.create("second", Allowance(scopes, tenant="second")).text
    slow = keys.create("slow", Allowance(scopes, requests_per_second=5)).text
    database.close()
    shared = {"store": postgres_url, "redis": redis_url}
    together = serve(shared, shared)
    event = {"user_id": "anna", "item_id": "i0", "event": "view"}
    together[0].said("POST", "/v1/events", event, key)
    together[0].said("DELETE", "/v1/items/i3", None, key)
    for process in together:
        asked = {"user_id": "anna", "n": 30}
        assert process.said("POST", "/v1/recommend", asked, key)["known_user"]
        assert not process.said("POST", "/v1/recommend", asked, other)["known_user"]
        assert process.said("GET", "/v1/users/anna", None, other)["events"] == []
        assert "i3" in process.slate("anna", other, n=30)
        assert "i3" not in process.slate("anna", key, n=30)
    answers = [together[n % 2].send("GET", "/v1/bundles", None, slow).status_code for n in range(60)]
    allowed = answers.count(200)
    # Five a second and two seconds' worth at once, for both processes together.
    assert 10 <= allowed <= 30
    assert answers.count(429) == 60 - allowed
