"""SQLite fulfils the contract of stores, and says clearly what is wrong with a file."""

import errno
import os
import resource
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sql

from zhiyin.domain.errors import BundleError, StoreError
from zhiyin.stores.database import SqlDatabase
from zhiyin.stores.opening import open_beside, open_database
from zhiyin.stores.records import AuditEntry, Event, StoredUser
from zhiyin.stores.sqlite import SqliteBackend
from zhiyin.testing.store_contract import DatabaseContract, an_event


class TestSqlite(DatabaseContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/a/store.db"


def opened(path: Path) -> SqlDatabase:
    return SqlDatabase(SqliteBackend(path))


def test_every_commit_reaches_the_disk(tmp_path: Path) -> None:
    store = opened(tmp_path / "s.db")
    with store.backend.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    store.close()


def test_a_removed_user_is_gone_from_the_bytes(tmp_path: Path) -> None:
    store = opened(tmp_path / "s.db")
    store.store().append_events(
        [an_event(n, user_id="Rumpelstilzchen", item_id="distaff") for n in range(500)]
    ).result()
    store.store().put_user("keeper", {}).result()
    assert b"distaff" in (tmp_path / "s.db-wal").read_bytes()
    store.store().delete_user("Rumpelstilzchen").result()
    left = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"distaff" not in left
    store.close()


def test_a_reader_in_the_way_delays_the_overwriting_no_longer_than_it_reads(tmp_path: Path) -> None:
    store = opened(tmp_path / "s.db")
    store.store().append_events([an_event(n, item_id="distaff") for n in range(50)]).result()
    with store.backend.engine.connect() as reader:
        assert reader.exec_driver_sql("SELECT count(*) FROM events").scalar() == 50
        store.store().delete_user("ann").result()
        assert b"distaff" in (tmp_path / "s.db-wal").read_bytes()
    store.store().append_events([an_event(99, user_id="bob")]).result()
    assert b"distaff" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    store.close()


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'x'", "DELETE FROM audit"])
def test_the_audit_log_only_grows(tmp_path: Path, statement: str) -> None:
    store = opened(tmp_path / "s.db")
    entry = AuditEntry(1, "t", "cli", "key.create", "k1", "done")
    store.access.append_audit(entry)
    with (
        sqlite3.connect(tmp_path / "s.db") as other,
        pytest.raises(sqlite3.IntegrityError, match="only grow"),
    ):
        other.execute(statement)
    assert store.access.audit() == [entry]
    store.close()


def test_a_stored_bundle_that_was_damaged_is_not_handed_out(tmp_path: Path) -> None:
    store = opened(tmp_path / "s.db")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "weights").write_bytes(b"right")
    store.store().put_bundle("v1", tmp_path / "bundle", position=0, facts={})
    with sqlite3.connect(tmp_path / "s.db") as other:
        other.execute("UPDATE bundle_parts SET content = x'00'")
    with pytest.raises(BundleError, match="sha256 differs"):
        store.store().fetch_bundle("v1", tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()
    assert not list(tmp_path.glob(".fetched*"))
    store.close()


def test_two_services_on_one_file_are_refused(tmp_path: Path) -> None:
    store = opened(tmp_path / "s.db")
    with pytest.raises(StoreError, match="locked: another service is using it"):
        opened(tmp_path / "s.db")
    store.close()
    opened(tmp_path / "s.db").close()


def test_a_guest_reads_and_changes_no_log(tmp_path: Path) -> None:
    service = opened(tmp_path / "s.db")
    service.store().put_user("ann", {"age": 30}).result()
    guest = open_beside(f"sqlite:///{tmp_path / 's.db'}")
    store = guest.store()
    event = Event("e1", "ann", "tea", "view", 1_700_000_000)
    for attempt in (
        lambda: store.put_user("ann", {"age": 31}),
        lambda: store.append_events([event]),
        lambda: store.delete_user("ann"),
    ):
        with pytest.raises(StoreError, match="another service is using it"):
            attempt().result()
    assert store.user("ann") == StoredUser("ann", {"age": 30})
    service.store().append_events([event]).result()
    assert store.events_of("ann") == [event]
    assert store.position() == service.store().position() == 2
    guest.close()
    service.close()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_text("user_id,item_id\n" * 100)
    with pytest.raises(StoreError, match="file is not a database") as caught:
        opened(tmp_path / "s.db")
    assert "Name another file" in caught.value.remedy
    assert (tmp_path / "s.db").read_text().startswith("user_id,item_id")


def test_a_database_of_another_program(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "s.db") as other:
        other.execute("CREATE TABLE customers (name)")
    with pytest.raises(StoreError, match="another program; its tables are customers"):
        opened(tmp_path / "s.db")


def test_a_store_of_a_newer_version(tmp_path: Path) -> None:
    opened(tmp_path / "s.db").close()
    with sqlite3.connect(tmp_path / "s.db") as other:
        other.execute("UPDATE zhiyin_store SET version = 99")
    with pytest.raises(StoreError, match="newer Zhiyin: its tables have version 99"):
        opened(tmp_path / "s.db")


def test_a_damaged_store(tmp_path: Path) -> None:
    store = opened(tmp_path / "s.db")
    store.store().append_events([an_event(n) for n in range(2000)]).result()
    store.close()
    blob = bytearray((tmp_path / "s.db").read_bytes())
    blob[4096:] = os.urandom(len(blob) - 4096)
    (tmp_path / "s.db").write_bytes(blob)
    with pytest.raises(StoreError, match="cannot be used"):
        list(opened(tmp_path / "s.db").store().event_batches())


def test_a_full_disk_stores_nothing_and_says_so(tmp_path: Path) -> None:
    store = opened(tmp_path / "s.db")
    # A page limit is what a full disk looks like to SQLite; it belongs to the connection that writes.
    sql.event.listen(
        store.backend.engine, "connect", lambda new, _: new.execute("PRAGMA max_page_count = 30")
    )
    store.backend.engine.dispose()
    store.store().append_events([an_event(1)]).result()
    with pytest.raises(StoreError, match="full") as caught:
        store.store().append_events([an_event(n, user_id="u" * 100) for n in range(2, 5000)]).result()
    assert "Free some space" in caught.value.remedy
    assert store.store().counts().events == 1
    assert store.store().append_events([an_event(2)]).result() == [True]
    store.close()


def test_a_file_held_by_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zhiyin.stores.sqlite.BUSY_SECONDS", 0.1)
    store = opened(tmp_path / "s.db")
    other = sqlite3.connect(tmp_path / "s.db")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        store.store().append_events([an_event(1)]).result()
    with pytest.raises(StoreError, match="locked"):
        store.check()
    other.close()
    assert store.store().append_events([an_event(1)]).result() == [True]
    store.close()


def test_a_file_that_may_not_be_written(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("needs a user other than root, whom no permission stops")
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(StoreError, match="cannot be opened"):
        opened(tmp_path / "closed" / "s.db")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://localhost/shop", "The store 'mysql://localhost/shop' is not known"),
        ("store.db", "is not known"),
        ("sqlite://", "is not known"),
        ("sqlite:///", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:////proc/version/s.db", "cannot be opened"),
        ("sqlite:////usr", "is a folder"),
    ],
)
def test_urls_that_name_no_store(url: str, says: str) -> None:
    with pytest.raises(StoreError, match=says):
        open_database(url)


def test_urls_name_relative_and_absolute_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("sqlite:///here.db", f"sqlite:///{tmp_path}/two%20words.db"):
        open_database(url).close()
    assert (tmp_path / "here.db").is_file()
    assert (tmp_path / "two words.db").is_file()


def test_a_disk_without_room_is_not_ready_although_small_writes_still_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path / "s.db")
    store.check()

    def refuse(*_: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", refuse)
        with pytest.raises(StoreError, match="no room: Disk quota exceeded"):
            store.check()
    longest = max(file.stat().st_size for file in tmp_path.glob("s.db*"))
    with monkeypatch.context() as patched:
        patched.setattr(resource, "getrlimit", lambda _: (longest + 500_000, longest + 500_000))
        with pytest.raises(StoreError, match="no room: its files may grow to"):
            store.check()
    store.store().append_events([an_event(1)]).result()
    store.check()
    assert not [file.name for file in tmp_path.iterdir() if not file.name.startswith("s.db")]
    store.close()
