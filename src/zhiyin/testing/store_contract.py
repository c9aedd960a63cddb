# ruff: noqa: D102 - the name of a test is its sentence
"""One suite for every database: what `Database`, `EventStore` and `AccessStore` promise, from the outside."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from zhiyin.domain.errors import RequestError, StoreError
from zhiyin.stores.events import BATCH_SCHEMA, Database, EventStore
from zhiyin.stores.opening import open_database
from zhiyin.stores.records import (
    MOST_ATTRIBUTES,
    AuditEntry,
    Erased,
    Event,
    Impression,
    StoreCounts,
    StoredBundle,
    StoredDocument,
    StoredItem,
    StoredKey,
    StoredUser,
)


def an_event(number: int, *, user_id: str = "ann", item_id: str = "tea") -> Event:
    """Return an event that differs with its number."""
    return Event(f"e{number}", user_id, item_id, "view", 1_700_000_000 + number, None, {})


def a_slate(user_id: str | None, timestamp: int = 1) -> Impression:
    """Return one shown slate."""
    return Impression(
        "r1", user_id, timestamp, "recommend", "b1", ("tea", "茶"), (1.0, 0.25), "prices", "new"
    )


class Heard:
    """A listener that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, int]] = []

    def __call__(self, result: Any, position: int) -> None:
        self.told.append((result, position))

    @property
    def positions(self) -> list[int]:
        """The positions, in the order in which they came."""
        return [position for _, position in self.told]


class DatabaseContract:
    """Subclass it, say where a test's own database is, and pytest runs the suite."""

    @pytest.fixture
    def url(self) -> str:
        """URL of an empty database, another one for every test; each subclass has its own fixture."""
        raise NotImplementedError

    def open(self, url: str) -> Database:
        """Open the database; called again after ``close`` to see what a restart finds."""
        return open_database(url)

    @pytest.fixture
    def database(self, url: str) -> Iterator[Database]:
        opened = self.open(url)
        yield opened
        opened.close()

    @pytest.fixture
    def store(self, database: Database) -> EventStore:
        return database.store()

    def test_a_database_is_itself_in_every_process(self, url: str) -> None:
        told = set()
        for _ in range(2):
            database = self.open(url)
            told.add(database.identity())
            database.close()
        assert len(told) == 1

    # Events

    def test_events_come_back_in_the_order_of_acceptance(self, url: str) -> None:
        database = self.open(url)
        full = Event("e0", "ann", "茶", "rating", 5, 4.5, {"device": "phone", "deep": {"a": [1, None]}})
        database.store().append_events([full, an_event(1, user_id="bob")]).result()
        database.store().append_events([an_event(2)]).result()
        database.close()
        database = self.open(url)
        store = database.store()
        assert store.events_of("ann") == [full, an_event(2)]
        assert store.events_of("nobody") == []
        batches = list(store.event_batches(size=2))
        assert [batch.height for batch in batches] == [2, 1]
        assert all(batch.schema == BATCH_SCHEMA for batch in batches)
        assert [row for batch in batches for row in batch["user_id"]] == ["ann", "bob", "ann"]
        assert batches[0]["value"].to_list() == [4.5, None]
        sequences = [number for batch in batches for number in batch["sequence"]]
        assert sequences == sorted(set(sequences))
        database.close()

    def test_the_order_within_a_batch_is_the_order_given(self, store: EventStore) -> None:
        numbers = [(number * 7_919) % 2_000 for number in range(2_000)]
        store.append_events([an_event(number) for number in numbers]).result()
        assert [event.event_id for event in store.events_of("ann")] == [f"e{number}" for number in numbers]

    def test_the_same_event_id_is_stored_once(self, url: str) -> None:
        database = self.open(url)
        sent = [an_event(1), an_event(1), an_event(2)]
        assert database.store().append_events(sent).result() == [True, False, True]
        database.close()
        database = self.open(url)
        heard = Heard()
        store = database.store()
        assert store.append_events([an_event(2), an_event(3)], on_durable=heard).result() == [False, True]
        assert store.append_events([an_event(3)], on_durable=heard).result() == [False]
        assert heard.told == [([False, True], 2), ([False], 2)]
        assert store.counts().events == 3
        assert store.position() == 2
        database.close()

    def test_no_event_is_an_empty_answer(self, database: Database) -> None:
        store, heard = database.store(), Heard()
        assert store.append_events([], on_durable=heard).result() == []
        assert heard.told == [([], 0)]
        assert list(store.event_batches()) == []
        assert store.counts() == StoreCounts(0, 0, 0, 0)
        assert database.tenants() == []

    def test_writers_at_once_lose_nothing_and_repeat_nothing(self, database: Database) -> None:
        store, heard = database.store(), Heard()
        accepted: list[str] = []

        def send(event: Event) -> bool:
            def hear(is_new: list[bool], position: int) -> None:
                heard(is_new, position)
                accepted.extend([event.event_id] * is_new[0])

            return store.append_events([event], on_durable=hear).result()[0]

        def write(worker: int) -> int:
            # Every event is sent by two workers, as retries of impatient clients are.
            return sum(send(an_event((worker // 2) * 1000 + step)) for step in range(25))

        with ThreadPoolExecutor(8) as pool:
            stored = sum(pool.map(write, range(8)))
        assert stored == store.counts().events == store.position() == 100
        assert [event.event_id for event in store.events_of("ann")] == accepted
        assert heard.positions == sorted(heard.positions)
        assert [position for is_new, position in heard.told if is_new[0]] == list(range(1, 101))
        assert database.queue_depth() == 0

    def test_a_failing_listener_does_not_stop_the_store(self, store: EventStore) -> None:
        def fail(new: list[bool], position: int) -> None:
            raise RuntimeError(f"{new} {position}")

        with pytest.raises(RuntimeError):
            store.append_events([an_event(1)], on_durable=fail).result()
        assert store.append_events([an_event(1), an_event(2)]).result() == [False, True]

    def test_a_failing_write_does_not_spoil_its_neighbours(self, database: Database) -> None:
        store, go = database.store(), threading.Event()

        def wait(_new: list[bool], _position: int) -> None:
            go.wait(5)

        store.append_events([an_event(0)], on_durable=wait)
        # While the listener waits, these gather, and are written together.
        not_json = Event("e9", "ann", "tea", "view", 1, None, {"not json": object()})
        not_text = Event("e8", "ann", "tea\ud800", "view", 1)
        waiting = [
            store.append_events([event])
            for event in (an_event(1), not_json, an_event(2), not_text, an_event(3))
        ]
        waiting.append(database.store("other").append_events([an_event(1)]))
        assert database.queue_depth() >= 5
        go.set()
        for place in (1, 3):
            with pytest.raises(StoreError):
                waiting[place].result()
        assert [waiting[place].result() for place in (0, 2, 4, 5)] == [[True]] * 4
        assert [event.event_id for event in store.events_of("ann")] == ["e0", "e1", "e2", "e3"]
        assert store.position() == 4

    def test_known_events_among_new_ones_leave_no_gap(self, store: EventStore) -> None:
        heard, go = Heard(), threading.Event()

        def wait(_new: list[bool], _position: int) -> None:
            go.wait(5)

        store.append_events([an_event(0), an_event(1)], on_durable=wait)
        sent = [[2], [0], [1, 3], [], [2, 3], [4, 4], [0, 1]]
        futures = [store.append_events([an_event(n) for n in part], on_durable=heard) for part in sent]
        go.set()
        answers = [future.result() for future in futures]
        assert answers == [[True], [False], [False, True], [], [False, False], [True, False], [False, False]]
        assert heard.positions == [2, 2, 3, 3, 3, 4, 4]
        assert store.position() == 4
        seen = [store.changes_after(position, limit=1).events for position in range(4)]
        assert [frame["timestamp"].to_list() for frame in seen] == [
            [1_700_000_000 + number for number in part] for part in ([0, 1], [2], [3], [4])
        ]

    # Items, users, slates

    def test_items_are_merged_deleted_and_revived(self, url: str) -> None:
        database = self.open(url)
        store, heard = database.store(), Heard()
        store.put_item("tea", {"title": "Tea", "price": 3.5}, on_durable=heard).result()
        merged = store.put_item("tea", {"price": None, "categories": ["a", "b"]}).result()
        everything = {"title": "Tea", "price": None, "categories": ["a", "b"]}
        assert merged == StoredItem("tea", everything)
        assert heard.told == [(StoredItem("tea", {"title": "Tea", "price": 3.5}), 1)]
        assert store.delete_item("tea").result() is False
        assert store.delete_item("tea", on_durable=heard).result() is True
        assert heard.told[1:] == [(True, 3)], "nothing changed, so there is no new position"
        assert store.delete_item("never put").result() is False
        database.close()
        database = self.open(url)
        store = database.store()
        assert store.items() == [StoredItem("tea", everything, True), StoredItem("never put", {}, True)]
        assert store.put_item("tea", {}).result() == StoredItem("tea", everything)
        assert not store.items()[0].deleted
        database.close()

    def test_deleting_a_user_leaves_only_the_tombstone(self, url: str) -> None:
        database = self.open(url)
        store, heard = database.store(), Heard()
        store.append_events([an_event(1), an_event(2, user_id="bob"), an_event(3)]).result()
        store.put_user("ann", {"age": 30}).result()
        everything = StoredUser("ann", {"age": 30, "city": "北京"})
        assert store.put_user("ann", {"city": "北京"}).result() == store.user("ann") == everything
        shown = [a_slate(user) for user in ("ann", "bob", None)]
        store.append_impressions(shown).result()
        erased = Erased(n_events=2, n_impressions=1, had_attributes=True, was_erased_before=False)
        assert store.delete_user("ann", on_durable=heard).result() == erased
        assert not store.delete_user("nobody").result().found_anything
        assert heard.told == [(erased, 4)]
        database.close()
        database = self.open(url)
        store = database.store()
        assert (store.events_of("ann"), _users(store), store.impressions_of("ann")) == ([], [], [])
        assert store.user("ann") is None
        assert [one for batch in store.impression_batches() for one in batch] == shown[1:]
        assert sorted(store.deleted_users()) == ["ann", "nobody"]
        assert store.events_of("bob") == [an_event(2, user_id="bob")]
        assert store.delete_user("ann").result() == Erased(0, 0, False, was_erased_before=True)
        database.close()

    def test_attributes_of_a_user_are_removed_and_bounded(self, store: EventStore) -> None:
        store.put_user("ann", {"age": 30, "city": "北京"}).result()
        assert store.put_user("ann", {"age": None}).result() == StoredUser("ann", {"city": "北京"})
        others = {f"name {number}": number for number in range(MOST_ATTRIBUTES)}
        with pytest.raises(RequestError, match="at most"):
            store.put_user("ann", others).result()
        assert store.user("ann") == StoredUser("ann", {"city": "北京"})
        assert store.put_user("ann", {**others, "city": None}).result() == StoredUser("ann", others)

    def test_slates_shown_before_their_user_was_erased_are_dropped(self, store: EventStore) -> None:
        now = int(time.time())
        store.delete_user("ann").result()
        before, after = a_slate("ann", now - 100), a_slate("ann", now + 100)
        store.append_impressions([before, a_slate("bob", now - 100), a_slate(None, 5), after]).result()
        assert store.impressions_of("ann") == [after]
        assert store.counts().impressions == 3
        assert store.position() == 1, "slates take no position"

    def test_slates_come_back_since_a_moment_in_order(self, url: str) -> None:
        database = self.open(url)
        shown = [a_slate("ann", timestamp) for timestamp in (5, 9, 7, 3, 8)]
        for one in shown:
            database.store().append_impressions([one]).result()
        database.close()
        database = self.open(url)
        store = database.store()
        assert [one for batch in store.impression_batches(size=2) for one in batch] == shown
        since = [[one.timestamp for one in batch] for batch in store.impression_batches(since=7, size=2)]
        assert since == [[9, 7], [8]]
        assert list(store.impression_batches(since=10)) == []
        assert store.impressions_of("ann") == shown
        database.close()

    # Documents and bundles

    def test_documents_are_replaced_and_removed(self, store: EventStore) -> None:
        heard = Heard()
        store.put_document("experiment", "b", {"arms": ["x", "y"]}, on_durable=heard).result()
        store.put_document("experiment", "a", {}).result()
        store.put_document("receipt", "a", {"number": 1}).result()
        store.put_document("experiment", "b", {"arms": []}).result()
        a, b = StoredDocument("experiment", "a", {}), StoredDocument("experiment", "b", {"arms": []})
        assert store.documents("experiment") == [a, b]
        store.put_document("experiment", "a", None, on_durable=heard).result()
        store.put_document("experiment", "never", None, on_durable=heard).result()
        assert heard.told == [(None, 1), (None, 5), (None, 5)]
        assert store.documents("experiment") == [b]
        assert store.documents("nothing") == []
        changed = {(one.kind, one.name): one.body for one in store.changes_after(1).documents}
        assert changed == {
            ("receipt", "a"): {"number": 1},
            ("experiment", "b"): {"arms": []},
            ("experiment", "a"): None,
        }

    def test_bundles_come_back_byte_for_byte(self, store: EventStore, tmp_path: Path) -> None:
        folder = self._bundle(tmp_path / "made", size=9_000_001)
        store.put_bundle("v1", folder, position=7, facts={"recall_at_10": 0.25})
        store.put_bundle("v1", self._bundle(tmp_path / "else", size=3), position=9, facts={})
        assert store.position() == 0
        (found,) = store.bundles()
        assert found == StoredBundle("v1", 7, found.timestamp, {"recall_at_10": 0.25}, is_active=False)
        assert abs(found.timestamp - time.time()) < 100
        store.fetch_bundle("v1", tmp_path / "new" / "fetched")
        assert _content(tmp_path / "new" / "fetched") == _content(folder)
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["fetched"]
        with pytest.raises(StoreError, match="exists already"):
            store.fetch_bundle("v1", tmp_path / "new" / "fetched")
        with pytest.raises(StoreError, match="no bundle 'v2'"):
            store.fetch_bundle("v2", tmp_path / "other")
        with pytest.raises(StoreError, match="not a folder"):
            store.put_bundle("v2", tmp_path / "nowhere", position=0, facts={})

    def test_a_bundle_that_cannot_be_read_leaves_nothing(self, store: EventStore, tmp_path: Path) -> None:
        folder = self._bundle(tmp_path / "made", size=10)
        with pytest.raises(StoreError):
            store.put_bundle("v1", folder, position=0, facts={"not json": object()})
        assert store.bundles() == []
        store.put_bundle("v1", folder, position=0, facts={})
        store.fetch_bundle("v1", tmp_path / "fetched")
        assert _content(tmp_path / "fetched") == _content(folder)

    def test_one_bundle_is_active_and_kept(self, store: EventStore, tmp_path: Path) -> None:
        heard = Heard()
        for version in ("v1", "v2", "v3"):
            store.put_bundle(version, self._bundle(tmp_path / version, size=10), position=0, facts={})
        with pytest.raises(StoreError, match="no bundle 'v4'"):
            store.activate_bundle("v4").result()
        for version in ("v1", "v2", "v1"):
            assert store.activate_bundle(version, on_durable=heard).result() == version
        assert heard.told == [("v1", 1), ("v2", 2), ("v1", 3)]
        assert [one.version for one in store.bundles() if one.is_active] == ["v1"]
        with pytest.raises(StoreError, match="active"):
            store.drop_bundle("v1")
        store.drop_bundle("v2")
        assert [one.version for one in store.bundles()] == ["v1", "v3"]
        assert store.changes_after(0).bundle == store.changes_after(2).bundle == "v1"
        assert store.changes_after(3).bundle is None

    @staticmethod
    def _bundle(folder: Path, size: int) -> Path:
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "bundle.toml").write_text("[training]\nposition = 3\n", encoding="utf-8")
        (folder / "empty").touch()
        (folder / "deep" / "er" / "weights.bin").write_bytes(os.urandom(size))
        return folder

    # Tenants

    def test_tenants_with_the_same_ids_do_not_meet(self, database: Database, tmp_path: Path) -> None:
        mine, other = database.store("mine"), database.store("other")
        folder = self._bundle(tmp_path / "b", size=10)
        for store, word in ((mine, "m"), (other, "o")):
            assert store.append_events([an_event(1, item_id=word)]).result() == [True]
            assert store.put_item("tea", {word: 1}).result() == StoredItem("tea", {word: 1})
            assert store.put_user("ann", {word: 1}).result() == StoredUser("ann", {word: 1})
            store.append_impressions([a_slate("ann")]).result()
            store.put_document("experiment", "a", {word: 1}).result()
            store.put_bundle("v1", folder, position=0, facts={word: 1})
            store.activate_bundle("v1").result()
        assert database.tenants() == ["mine", "other"]
        assert (mine.tenant, other.tenant) == ("mine", "other")
        assert database.store("mine") is mine
        before = _everything(mine)
        assert before != _everything(other)
        other.delete_user("ann").result()
        other.delete_item("tea").result()
        other.put_document("experiment", "a", None).result()
        other.append_events([an_event(2)]).result()
        assert _everything(mine) == before
        assert (mine.position(), other.position()) == (5, 9)
        assert mine.events_of("ann") == [an_event(1, item_id="m")]

    # Keys and audit

    def test_keys_are_kept_and_changed(self, url: str) -> None:
        database = self.open(url)
        full = StoredKey("k1", "digest", "shop", "for the app", ("ingest", "admin"), 5, 90, None, 2.5)
        others = [StoredKey("k0", "d", "other", "n", (), 9), StoredKey("k2", "d", "shop", "n", (), 7)]
        for key in (full, *others):
            database.access.put_key(key)
        revoked = StoredKey("k2", "d", "shop", "n", (), 7, revoked=8)
        database.access.put_key(revoked)
        database.close()
        database = self.open(url)
        assert database.access.key("k1") == full
        assert database.access.key("none") is None
        assert database.access.keys() == [full, revoked, others[0]]
        assert database.access.keys("shop") == [full, revoked]
        database.close()

    def test_no_change_gives_a_key_back_what_somebody_else_took(self, database: Database) -> None:
        access, plain = database.access, StoredKey("k1", "d", "shop", "n", ("admin",), 5)
        access.put_key(plain)
        access.put_key(replace(plain, expires=90))
        access.put_key(replace(plain, revoked=20))
        assert access.key("k1") == replace(plain, expires=90, revoked=20)
        access.put_key(replace(plain, expires=100, revoked=30))
        access.put_key(plain)
        assert access.key("k1") == replace(plain, expires=90, revoked=20)
        access.put_key(replace(plain, expires=80, revoked=10))
        assert access.key("k1") == replace(plain, expires=80, revoked=10)

    def test_the_audit_log_is_read_newest_first(self, database: Database) -> None:
        entries = [
            AuditEntry(10 - number, f"t{number % 2}", "k1", "user.erase", "x", "done", f"r{number}")
            for number in range(5)
        ]
        for entry in entries:
            database.access.append_audit(entry)
        assert database.access.audit() == entries[::-1]
        assert database.access.audit("t1", limit=1) == [entries[3]]

    # Opening and closing

    def test_a_closed_database_refuses_and_close_can_be_repeated(self, url: str) -> None:
        database = self.open(url)
        store = database.store()
        waiting = [store.append_events([an_event(number)]) for number in range(50)]
        database.close()
        database.close()
        assert all(future.result() == [True] for future in waiting)
        with pytest.raises(StoreError, match="closed"):
            store.append_events([an_event(99)])

    def test_it_can_be_written_to(self, database: Database) -> None:
        database.check()
        assert database.tenants() == []

    def test_reads_do_not_wait_for_a_write(self, database: Database) -> None:
        store, reading, read = database.store(), threading.Event(), threading.Event()
        store.append_events([an_event(0)]).result()

        def hold(_new: list[bool], _position: int) -> None:
            reading.set()
            read.wait(10)

        held = store.append_events([an_event(1)], on_durable=hold)
        assert reading.wait(10)
        with ThreadPoolExecutor(12) as pool:
            assert list(pool.map(lambda _: store.counts().events, range(24))) == [2] * 24
        assert not held.done()
        read.set()
        held.result()


def _content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def _users(store: EventStore) -> list[StoredUser]:
    return [user for batch in store.user_batches() for user in batch]


def _everything(store: EventStore) -> tuple[Any, ...]:
    changes = store.changes_after(0)
    return (
        store.events_of("ann"),
        store.items(),
        _users(store),
        store.deleted_users(),
        store.impressions_of("ann"),
        store.documents("experiment"),
        [(one.version, one.facts, one.is_active) for one in store.bundles()],
        store.counts(),
        (changes.position, changes.items, changes.described, changes.documents, changes.bundle),
        changes.events.rows(),
    )
