# ruff: noqa: D102 - the name of a test is its sentence
"""One suite for every store: what `EventStore` promises, checked from the outside."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from zhiyin.domain.errors import StoreError
from zhiyin.stores.events import BATCH_SCHEMA, EventStore
from zhiyin.stores.records import Event, Impression, StoreCounts, StoredItem, StoredUser


def an_event(number: int, *, user_id: str = "ann", item_id: str = "tea") -> Event:
    """Return an event that differs with its number."""
    return Event(f"e{number}", user_id, item_id, "view", 1_700_000_000 + number, None, {})


class StoreContract(ABC):
    """Subclass it, say how to open a store in a folder, and pytest runs the suite.

    ``open`` is called again with the same folder after ``close`` to see what a restart finds.
    """

    @abstractmethod
    def open(self, folder: Path) -> EventStore:
        """Open the store that belongs to the folder, or make it."""

    def reopened(self, store: EventStore, folder: Path) -> EventStore:
        """Close a store and open it again."""
        store.close()
        return self.open(folder)

    def test_events_come_back_in_the_order_of_acceptance(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        full = Event("e0", "ann", "茶", "rating", 5, 4.5, {"device": "phone", "deep": {"a": [1, None]}})
        store.append_events([full, an_event(1, user_id="bob")]).result()
        store.append_events([an_event(2)]).result()
        store = self.reopened(store, tmp_path)
        assert store.events_of("ann") == [full, an_event(2)]
        assert store.events_of("nobody") == []
        batches = list(store.event_batches(size=2))
        assert [batch.height for batch in batches] == [2, 1]
        assert all(batch.schema == BATCH_SCHEMA for batch in batches)
        assert [row for batch in batches for row in batch["user_id"]] == ["ann", "bob", "ann"]
        assert batches[0]["value"].to_list() == [4.5, None]
        store.close()

    def test_the_same_event_id_is_stored_once(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        assert store.append_events([an_event(1), an_event(1), an_event(2)]).result() == [True, False, True]
        store = self.reopened(store, tmp_path)
        assert store.append_events([an_event(2), an_event(3)]).result() == [False, True]
        assert store.counts().events == 3
        store.close()

    def test_no_event_is_an_empty_answer(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        assert store.append_events([]).result() == []
        assert list(store.event_batches()) == []
        assert store.counts() == StoreCounts(0, 0, 0, 0)
        store.close()

    def test_writers_at_once_lose_nothing_and_repeat_nothing(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        live: list[str] = []

        def send(event: Event) -> bool:
            def hear(is_new: list[bool]) -> None:
                live.extend([event.event_id] * is_new[0])

            return store.append_events([event], on_durable=hear).result()[0]

        def write(worker: int) -> int:
            # Every event is sent by two workers, as retries of impatient clients are.
            return sum(send(an_event((worker // 2) * 1000 + step)) for step in range(25))

        with ThreadPoolExecutor(8) as pool:
            stored = sum(pool.map(write, range(8)))
        assert stored == store.counts().events == 100
        assert [event.event_id for event in store.events_of("ann")] == live
        store.close()

    def test_a_failing_listener_does_not_stop_the_store(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)

        def fail(new: list[bool]) -> None:
            raise RuntimeError(str(new))

        with pytest.raises(RuntimeError):
            store.append_events([an_event(1)], on_durable=fail).result()
        assert store.append_events([an_event(1), an_event(2)]).result() == [False, True]
        store.close()

    def test_a_failing_write_does_not_spoil_its_neighbours(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        go = threading.Event()

        def wait(_: list[bool]) -> None:
            go.wait(5)

        store.append_events([an_event(0)], on_durable=wait)
        # While the listener waits, these gather, and are written together.
        broken = Event("e9", "ann", "tea", "view", 1, None, {"not json": object()})
        waiting = [store.append_events([event]) for event in (an_event(1), broken, an_event(2))]
        go.set()
        with pytest.raises(StoreError):
            waiting[1].result()
        assert [waiting[0].result(), waiting[2].result()] == [[True], [True]]
        assert [event.event_id for event in store.events_of("ann")] == ["e0", "e1", "e2"]
        store.close()

    def test_items_are_merged_deleted_and_revived(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        seen: list[StoredItem] = []
        store.put_item("tea", {"title": "Tea", "price": 3.5}, on_durable=seen.append).result()
        merged = store.put_item("tea", {"price": None, "categories": ["a", "b"]}).result()
        everything = {"title": "Tea", "price": None, "categories": ["a", "b"]}
        assert merged == StoredItem("tea", everything)
        assert seen == [StoredItem("tea", {"title": "Tea", "price": 3.5})]
        assert store.delete_item("tea").result() is False
        assert store.delete_item("tea").result() is True
        assert store.delete_item("never put").result() is False
        store = self.reopened(store, tmp_path)
        assert store.items() == [StoredItem("tea", everything, True), StoredItem("never put", {}, True)]
        assert store.put_item("tea", {}).result() == StoredItem("tea", everything)
        assert not store.items()[0].deleted
        store.close()

    def test_deleting_a_user_leaves_only_the_tombstone(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.append_events([an_event(1), an_event(2, user_id="bob")]).result()
        store.put_user("ann", {"age": 30}).result()
        assert store.put_user("ann", {"city": "北京"}).result() == StoredUser(
            "ann", {"age": 30, "city": "北京"}
        )
        shown = [
            Impression("r", user, 1, "recommend", "b", ("tea",), (1.0,)) for user in ("ann", "bob", None)
        ]
        store.append_impressions(shown).result()
        heard: list[bool] = []
        assert store.delete_user("ann", on_durable=heard.append).result() is True
        assert store.delete_user("nobody").result() is False
        assert heard == [True]
        store = self.reopened(store, tmp_path)
        assert store.events_of("ann") == []
        assert store.users() == []
        assert store.impressions() == shown[1:]
        assert sorted(store.deleted_users()) == ["ann", "nobody"]
        assert store.events_of("bob") == [an_event(2, user_id="bob")]
        assert store.delete_user("ann").result() is True
        store.close()

    def test_impressions_come_back(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        shown = Impression("r1", None, 7, "search", "bundle-1", ("tea", "茶"), (1.0, 0.25))
        store.append_impressions([shown]).result()
        store = self.reopened(store, tmp_path)
        assert store.impressions() == [shown]
        store.check()
        store.close()

    def test_a_closed_store_refuses_and_close_can_be_repeated(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        waiting = [store.append_events([an_event(number)]) for number in range(50)]
        store.close()
        store.close()
        assert all(future.result() == [True] for future in waiting)
        with pytest.raises(Exception, match="closed"):
            store.append_events([an_event(99)])
