"""What was sent a moment ago is in the next answer, and still there after a restart."""

from collections.abc import Callable

from fastapi.testclient import TestClient

from zhiyin.online.engine import LiveEngine


def engine_of(client: TestClient) -> LiveEngine:
    """The engine behind a service of one tenant."""
    return client.app.state.service.engines["default"]  # type: ignore[attr-defined]


TEA = {f"i{number}" for number in range(1, 30, 2)}
COFFEE = {f"i{number}" for number in range(0, 30, 2)}


def recommended(client: TestClient, n: int = 5, **asked: object) -> list[str]:
    answer = client.post("/v1/recommend", json={"n": n, **asked})
    assert answer.status_code == 200, answer.text
    return [item["item_id"] for item in answer.json()["items"]]


def test_a_known_user_gets_what_they_like_and_lack(client: TestClient) -> None:
    answer = client.post("/v1/recommend", json={"user_id": "u1", "n": 5}).json()
    assert {item["item_id"] for item in answer["items"]} < TEA
    assert [item["rank"] for item in answer["items"]] == [1, 2, 3, 4, 5]
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)
    assert answer["known_user"] is True
    assert answer["bundle"] == "in-memory"
    assert "reasons" not in answer["items"][0]


def test_the_next_recommendation_reflects_the_last_event(client: TestClient) -> None:
    first = recommended(client, user_id="u1")[0]
    sent = client.post("/v1/events", json={"user_id": "u1", "item_id": first, "event": "purchase"})
    assert sent.status_code == 202
    assert first not in recommended(client, n=30, user_id="u1")
    assert first in recommended(client, n=30, user_id="u1", repeat=True)


def test_a_new_user_is_served_and_learned_at_once(client: TestClient) -> None:
    assert len(recommended(client, user_id="newcomer")) == 5
    answer = client.post("/v1/recommend", json={"user_id": "newcomer"}).json()
    assert answer["known_user"] is False
    for item in ("i1", "i3", "i5"):
        client.post("/v1/events", json={"user_id": "newcomer", "item_id": item, "event": "view"})
    assert set(recommended(client, user_id="newcomer")) < TEA
    for item in ("i0", "i2", "i4", "i6", "i8"):
        client.post("/v1/events", json={"user_id": "newcomer", "item_id": item, "event": "view"})
    assert set(recommended(client, n=3, user_id="newcomer")) < COFFEE


def test_a_visitor_is_served_by_what_they_did(client: TestClient) -> None:
    assert set(recommended(client, history=["i1", "i3"])) < TEA - {"i1", "i3"}
    past = [{"item_id": "i0", "event": "view", "timestamp": 10}, {"item_id": "i2"}]
    assert set(recommended(client, history=past)) < COFFEE
    answer = client.post("/v1/recommend", json={"history": ["gone", "i1", "gone"]}).json()
    assert answer["unknown_items"] == ["gone"]
    assert "known_user" not in answer
    assert len(recommended(client, history=[])) == 5


def test_a_new_item_can_be_recommended_at_once_and_after_a_restart(
    start: Callable[..., TestClient],
) -> None:
    client = start()
    put = client.put(
        "/v1/items/oolong",
        json={
            "title": "Tea of the Wuyi mountains",
            "categories": ["Drinks", "Tea"],
            "price": 99,
            "organic": True,
        },
    )
    assert put.status_code == 200
    assert put.json()["new_attributes"] == ["organic"]
    for _ in range(2):
        assert recommended(client, user_id="u1", filter={"organic": True}) == ["oolong"]
        assert "oolong" in recommended(client, n=30, user_id="u1")
        found = client.post("/v1/search", json={"text": "tea", "n": 40}).json()["items"]
        assert "oolong" in {item["item_id"] for item in found}
        similar = client.post("/v1/similar", json={"item_id": "oolong", "n": 3}).json()["items"]
        assert {item["item_id"] for item in similar} < TEA
        client = start()


def test_too_many_new_attributes_are_refused_by_name(start: Callable[..., TestClient]) -> None:
    client = start()
    for first in (0, 100):
        names = {f"attr-{number}": "x" for number in range(first, first + 100)}
        assert client.put(f"/v1/items/new-{first}", json=names).status_code == 200
    refused = client.put("/v1/items/more", json={"attr-1": "x", "flavour": "rose"})
    assert refused.status_code == 422
    document = refused.json()
    assert document["type"] == "urn:zhiyin:problem:invalid-request"
    assert document["errors"][0]["path"] == "flavour"
    assert "'flavour'" in document["detail"]
    assert "200" in document["possible"]
    assert "train a bundle" in document["remedy"]
    client = start()
    assert client.put("/v1/items/more", json={"flavour": "rose"}).status_code == 422, "also after a restart"


def test_a_changed_item_keeps_what_was_not_named(start: Callable[..., TestClient]) -> None:
    client = start()
    put = client.put("/v1/items/i1", json={"price": 1000.5})
    assert put.json() == {"item_id": "i1", "attributes": {"price": 1000.5}, "new_attributes": []}
    client.put("/v1/items/i3", json={"brand": None})
    for _ in range(2):
        assert recommended(client, history=[], filter={"price": {"above": 500}}) == ["i1"]
        assert recommended(client, history=[], filter={"title": "Tea number 1"}) == ["i1"]
        assert recommended(client, history=[], filter={"brand": {"known": False}}) == ["i3"]
        client = start()


def test_slates_that_wait_to_be_stored_do_not_outlive_their_user(start: Callable[..., TestClient]) -> None:
    client = start()
    recommended(client, user_id="u1")
    recommended(client, user_id="u2")
    assert client.delete("/v1/users/u1").status_code == 200
    stored = [slate for batch in engine_of(start()).store.impression_batches() for slate in batch]
    assert [slate.user_id for slate in stored] == ["u2"]


def test_a_deleted_item_is_never_recommended_again(start: Callable[..., TestClient]) -> None:
    client = start()
    first = recommended(client, user_id="u1")[0]
    assert client.delete(f"/v1/items/{first}").status_code == 204
    assert client.delete(f"/v1/items/{first}").status_code == 204
    for _ in range(2):
        assert first not in recommended(client, n=30, user_id="u1", repeat=True)
        assert first not in recommended(client, n=30, history=[])
        client = start()
    client.put(f"/v1/items/{first}", json={})
    for _ in range(2):
        assert recommended(client, user_id="u1")[0] == first
        client = start()


def test_events_of_an_unknown_item_count_once_it_arrives(start: Callable[..., TestClient]) -> None:
    client = start()
    sent = client.post("/v1/events", json={"user_id": "early", "item_id": "oolong"}).json()
    assert sent["unknown_items"] == ["oolong"]
    assert sent["stored"] == 1
    client.put("/v1/items/oolong", json={"title": "Tea", "categories": ["Drinks", "Tea"]})
    for _ in range(2):
        assert "oolong" not in recommended(client, n=40, user_id="early")
        assert "oolong" in recommended(client, n=40, user_id="early", repeat=True)
        client = start()


def test_the_same_event_sent_again_is_not_counted_again(start: Callable[..., TestClient]) -> None:
    client = start()
    event = {"user_id": "u1", "item_id": "i1", "event_id": "order-1"}
    assert client.post("/v1/events", json=event).json()["duplicates"] == 0
    client = start()
    many = {"events": [event, {**event, "event_id": "order-2"}, {**event, "event_id": "order-2"}]}
    sent = client.post("/v1/events", json=many).json()
    assert (sent["accepted"], sent["stored"], sent["duplicates"]) == (3, 1, 2)
    assert sent["event_ids"] == ["order-1", "order-2", "order-2"]
    assert engine_of(client).store.counts().events == 2
    assert engine_of(client).live.histories.of_user("u1").histories.n_events == 8


def test_a_removed_user_is_a_stranger_even_after_a_restart(start: Callable[..., TestClient]) -> None:
    client = start()
    client.post("/v1/events", json={"user_id": "u1", "item_id": "i0", "event": "view"})
    client.put("/v1/users/u1", json={"age": 30})
    assert recommended(client, n=10, user_id="u1") != recommended(client, n=10, user_id="stranger")
    assert client.delete("/v1/users/u1").status_code == 200
    for _ in range(2):
        answer = client.post("/v1/recommend", json={"user_id": "u1", "n": 10}).json()
        assert answer["known_user"] is False
        assert [item["item_id"] for item in answer["items"]] == recommended(client, n=10, history=[])
        assert engine_of(client).store.events_of("u1") == []
        client = start()
    assert client.delete("/v1/users/u1").status_code == 200
    client.post("/v1/events", json={"user_id": "u1", "item_id": "i1", "event": "view"})
    client = start()
    assert client.post("/v1/recommend", json={"user_id": "u1"}).json()["known_user"] is True
    assert engine_of(client).live.histories.of_user("u1").histories.n_events == 1


def test_users_with_attributes_are_known(start: Callable[..., TestClient]) -> None:
    client = start()
    assert client.put("/v1/users/ann", json={"age": 30, "city": "北京"}).status_code == 200
    put = client.put("/v1/users/ann", json={"age": 31})
    assert put.json() == {"user_id": "ann", "attributes": {"age": 31, "city": "北京"}}
    for _ in range(2):
        assert client.post("/v1/recommend", json={"user_id": "ann"}).json()["known_user"] is True
        client = start()


def test_filters_boosts_and_diversity(client: TestClient) -> None:
    assert set(recommended(client, n=30, user_id="u1", filter={"categories": "Coffee"})) == COFFEE
    rule = {"all": [{"price": {"at_least": 4, "below": 7}}, {"not": {"brand": "brand 2"}}]}
    assert set(recommended(client, n=30, history=[], filter=rule)) == {"i4", "i6"}
    boost = [{"filter": {"item_id": "i28"}, "by": 500}, {"filter": {"price": 28}, "by": 500}]
    assert recommended(client, user_id="u1", boost=boost)[0] == "i28"
    buried = [{"filter": {"categories": "Tea"}, "by": -900}]
    assert set(recommended(client, user_id="u1", boost=buried)) < COFFEE
    varied = recommended(client, n=6, user_id="u1", diversity=1)
    assert set(varied) & COFFEE


def test_the_service_says_why(client: TestClient) -> None:
    answer = client.post("/v1/recommend", json={"user_id": "u1", "n": 3, "explain": True}).json()
    for item in answer["items"]:
        assert item["reasons"]
        assert "item_graph" in item["sources"]


def test_search_in_an_order_for_a_user(client: TestClient) -> None:
    def search(**asked: object) -> list[str]:
        answer = client.post("/v1/search", json={"text": "number", "n": 8, **asked})
        return [item["item_id"] for item in answer.json()["items"]]

    assert set(search(user_id="u1")) <= TEA
    assert set(search(user_id="u0")) <= COFFEE
    assert len(search()) == 8
    assert search(filter={"item_id": "i7"}) == ["i7"]


def test_words_for_event_kinds_the_bundle_lacks(client: TestClient) -> None:
    events = [
        {"user_id": "u1", "item_id": "i1", "event": word}
        for word in ("click", "Purchase", "BUY", "wave", "view")
    ]
    sent = client.post("/v1/events", json={"events": events}).json()
    assert sent["event_kinds"] == {"click": "view", "Purchase": "purchase", "BUY": "purchase", "wave": "view"}


def test_what_was_shown_is_stored_with_rank_propensity_and_version(start: Callable[..., TestClient]) -> None:
    client = start()
    answer = client.post("/v1/recommend", json={"user_id": "u1", "n": 3}, headers={"X-Request-ID": "r-1"})
    assert answer.headers["X-Request-ID"] == answer.json()["request_id"] == "r-1"
    client.post("/v1/similar", json={"item_id": "i1", "n": 2})
    client.post("/v1/search", json={"text": "tea", "n": 2})
    shown = [slate for batch in engine_of(start()).store.impression_batches() for slate in batch]
    assert [one.route for one in shown] == ["recommend", "similar", "search"]
    assert shown[0].request_id == "r-1"
    assert shown[0].user_id == "u1"
    assert list(shown[0].item_ids) == [item["item_id"] for item in answer.json()["items"]]
    assert shown[0].propensities == (1.0, 1.0, 1.0)
    assert shown[0].bundle == "in-memory"


def test_ids_may_be_numbers_and_hold_slashes(client: TestClient) -> None:
    assert client.put("/v1/items/a%2Fb%20c", json={"title": "Tea"}).status_code == 200
    assert recommended(client, history=[], filter={"item_id": "a/b c"}) == ["a/b c"]
    client.put("/v1/items/42", json={"title": "Tea"})
    sent = client.post("/v1/events", json={"user_id": 7, "item_id": 42}).json()
    assert sent["unknown_items"] == []
    assert "42" not in recommended(client, n=40, user_id="7")
    longest = {"user_id": 2**64 - 1, "item_id": -(2**63)}
    assert client.post("/v1/events", json=longest).json()["unknown_items"] == [str(-(2**63))]
    assert client.get(f"/v1/users/{2**64 - 1}").json()["events"][0]["item_id"] == str(-(2**63))
    assert client.delete("/v1/items/a%2Fb%20c").status_code == 204


def test_where_nothing_may_be_shown_the_slate_is_empty(client: TestClient) -> None:
    nothing = {"not": {}}
    assert recommended(client, user_id="u1", filter=nothing) == []
    assert recommended(client, user_id="u1", filter=nothing, explain=True, diversity=0.5) == []
    everything = [f"i{number}" for number in range(30)]
    assert recommended(client, history=everything) == []
    assert recommended(client, history=everything, explain=True) == []
    for route, asked in (("similar", {"item_id": "i1"}), ("search", {"text": "tea", "user_id": "u1"})):
        answer = client.post(f"/v1/{route}", json={**asked, "filter": nothing})
        assert answer.json()["items"] == []
