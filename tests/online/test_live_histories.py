"""Histories that reflect events: order, unknown items, words for kinds, removal, a replayed log."""

import numpy as np
import polars as pl
import pytest

from zhiyin.data.kinds import EventKinds
from zhiyin.domain import NO_TIMESTAMP, Histories, Vocabulary
from zhiyin.online.histories import LiveHistories
from zhiyin.stores.events import BATCH_SCHEMA
from zhiyin.stores.records import Event, StoredUser


def base(timestamps: list[int] | None = None) -> Histories:
    """Ann did i0 and i1, Bob i2."""
    plain = Histories.of_items([np.array([0, 1]), np.array([2])])
    times = plain.timestamp if timestamps is None else np.array(timestamps, dtype=np.int64)
    return Histories(plain.offsets, plain.item_index, plain.event_index, times, plain.value)


def live(timestamps: list[int] | None = None) -> LiveHistories:
    histories = base(timestamps)
    kinds = EventKinds(("view", "purchase"), histories)
    return LiveHistories(Vocabulary(["ann", "bob"]), histories, kinds, ["i0", "i1", "i2", "i3"])


def event(
    user_id: str, item_id: str, timestamp: int = 100, kind: str = "view", value: float | None = None
) -> Event:
    return Event(f"{user_id}{item_id}{timestamp}", user_id, item_id, kind, timestamp, value)


def items_of(histories: LiveHistories, user_id: str) -> list[int]:
    return histories.of_user(user_id).histories.item_index.tolist()


def test_events_stand_after_what_the_bundle_remembers() -> None:
    histories = live()
    histories.record([event("ann", "i3", 100, "purchase", 2.5), event("eve", "i1", 90)])
    known = histories.of_user("ann")
    assert known.user_index == 0
    assert known.histories.item_index.tolist() == [0, 1, 3]
    assert known.histories.event_index.tolist() == [0, 0, 1]
    assert known.histories.timestamp.tolist() == [NO_TIMESTAMP, NO_TIMESTAMP, 100]
    assert known.histories.value[2] == 2.5
    assert np.isnan(known.histories.value[0])
    stranger = histories.of_user("eve")
    assert (stranger.user_index, stranger.is_known) == (-1, True)
    assert items_of(histories, "eve") == [1]
    assert not histories.of_user("nobody").is_known
    assert items_of(histories, "nobody") == []


def test_a_late_event_stands_where_it_happened_and_ties_keep_their_order() -> None:
    histories = live([10, 30, 50])
    histories.record([event("ann", "i3", 40), event("ann", "i2", 20), event("ann", "i0", 30)])
    assert items_of(histories, "ann") == [0, 2, 1, 0, 3]


def test_events_without_a_time_stay_after_those_they_followed() -> None:
    histories = live([10, NO_TIMESTAMP, 50])
    histories.record([event("ann", "i3", 5), event("ann", "i2", 10)])
    assert items_of(histories, "ann") == [3, 0, 1, 2]


def test_events_of_unknown_items_wait_for_them() -> None:
    histories = live()
    names = [f"new{number}" for number in range(100)]
    histories.record([event("eve", name, 10 + place) for place, name in enumerate(names)])
    assert items_of(histories, "eve") == []
    histories.items_arrived(["new7", "other", "new3"], first_index=4)
    assert items_of(histories, "eve") == [6, 4]
    histories.record([event("eve", "new7", 500)])
    assert items_of(histories, "eve") == [6, 4, 4]
    histories.items_arrived(["new99"], first_index=7)
    assert items_of(histories, "eve") == [6, 4, 7, 4]
    assert histories.item_index("new7") == 4
    assert histories.item_index("new8") == -1


def test_a_removed_user_is_forgotten_and_may_come_back_as_somebody_new() -> None:
    histories = live()
    histories.record([event("ann", "i3"), event("eve", "i3")])
    histories.describe([StoredUser("ann", {}), StoredUser("dan", {"age": 40})])
    assert histories.n_users == 3
    for user in ("ann", "eve", "dan", "nobody"):
        histories.forget(user)
        assert not histories.of_user(user).is_known
        assert not histories.is_user(user)
        assert items_of(histories, user) == []
    assert histories.n_users == 1
    histories.record([event("ann", "i2")])
    assert (histories.of_user("ann").user_index, items_of(histories, "ann")) == (-1, [2])
    assert histories.n_users == 2
    histories.forget("ann")
    assert histories.n_users == 1
    assert items_of(histories, "bob") == [2]


def test_a_replayed_log_equals_the_events_as_they_came() -> None:
    rng = np.random.default_rng(3)
    log = [
        event(
            rng.choice(["ann", "bob", "eve", "dan"]),
            rng.choice(["i0", "i3", "new1", "new2"]),
            int(rng.integers(0, 50)),
            rng.choice(["view", "buy", "wave"]),
            float(rng.integers(0, 5)) if rng.random() < 0.5 else None,
        )
        for _ in range(200)
    ]
    one_by_one, replayed = live(), live()
    for one in log:
        one_by_one.record([one])
    rows = [(n, e.user_id, e.item_id, e.kind, e.timestamp, e.value) for n, e in enumerate(log)]
    for start in range(0, len(rows), 70):
        replayed.record_batch(pl.DataFrame(rows[start : start + 70], schema=BATCH_SCHEMA, orient="row"))
    for histories in (one_by_one, replayed):
        histories.items_arrived(["new2"], first_index=4)
    for user in ("ann", "bob", "eve", "dan"):
        first, second = one_by_one.of_user(user), replayed.of_user(user)
        assert first.user_index == second.user_index
        for name in ("item_index", "event_index", "timestamp", "value"):
            np.testing.assert_array_equal(getattr(first.histories, name), getattr(second.histories, name))
    assert one_by_one.n_users == replayed.n_users == 4


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("view", "view"),
        ("VIEW", "view"),
        ("click", "view"),
        ("Buy", "Add to cart"),
        ("add_to_cart", "Add to cart"),
        ("wishlist", "Add to cart"),
        ("rating", "purchase"),
        ("", "purchase"),
    ],
)
def test_words_for_event_kinds(word: str, kind: str) -> None:
    known = ("view", "Add to cart", "purchase")
    if word == "Buy":
        kind = "purchase"
    plain = Histories.of_items([np.array([0, 1, 2])])
    commonest_is_purchase = Histories(
        plain.offsets, plain.item_index, np.array([0, 2, 2], dtype=np.int16), plain.timestamp, plain.value
    )
    kinds = EventKinds(known, commonest_is_purchase)
    assert known[kinds.index(word)] == kind
    assert kinds.unknown({word}) == ({} if word in known else {word: kind})


def test_a_bundle_without_events_still_understands_words() -> None:
    assert EventKinds((), Histories.empty(0)).unknown({"view"}) == {"view": "interaction"}


@pytest.mark.parametrize("seed", range(8))
def test_many_users_are_known_as_each_of_them_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    histories = live([10, 30, 50] if seed % 2 else None)
    users = ["ann", "bob", "eve", "dan", "nobody"]
    for _ in range(rng.integers(0, 12)):
        user, item = rng.choice(users[:3]), rng.choice(["i0", "i3", "new1"])
        histories.record([event(str(user), str(item), int(rng.integers(0, 60)))])
    histories.describe([StoredUser("dan", {})])
    if seed % 3 == 0:
        histories.forget("bob")
    asked = [str(user) for user in rng.choice(users, rng.integers(1, 9))]
    together = histories.of_users(asked)
    each = [histories.of_user(user) for user in asked]
    assert together.user_index.tolist() == [known.user_index for known in each]
    assert list(together.is_known) == [known.is_known for known in each]
    expected = Histories.stacked([known.histories for known in each])
    for name in ("offsets", "item_index", "event_index", "timestamp", "value"):
        np.testing.assert_array_equal(getattr(together.histories, name), getattr(expected, name))


def test_nobody_is_known_to_an_empty_bundle() -> None:
    nothing = Histories.empty(0)
    histories = LiveHistories(Vocabulary([]), nothing, EventKinds(("view",), nothing), ["i0"])
    histories.record([event("eve", "i0")])
    together = histories.of_users(["eve", "ann"])
    assert together.user_index.tolist() == [-1, -1]
    assert list(together.is_known) == [True, False]
    assert together.histories.lengths.tolist() == [1, 0]


def test_a_bundle_that_knows_nobody_learns_from_the_first_event() -> None:
    empty = Histories.empty(0)
    histories = LiveHistories(Vocabulary([]), empty, EventKinds((), empty), ["i0", "i1"])
    recorded = histories.record([event("ann", "i0", 100), event("ann", "i1", 200)])
    steps, early = histories.steps(recorded)
    assert steps.item_index.tolist() == [0, 1]
    assert steps.before.lengths.tolist() == [0, 1]
    assert len(early) == 0
