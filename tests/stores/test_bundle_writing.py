"""Bundles go into the store part by part: nobody waits meanwhile, and nothing half written is ever read."""

import itertools
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sql

from zhiyin.domain.errors import StoreError
from zhiyin.stores import bundle_files, sql_store, tables
from zhiyin.stores.bundle_writing import LEFT_BEHIND_SECONDS, PART_BYTES, PutBundle, _PutPart, put_files
from zhiyin.stores.changes import Change
from zhiyin.stores.database import SqlDatabase
from zhiyin.stores.events import DEFAULT_TENANT
from zhiyin.stores.opening import open_database
from zhiyin.stores.records import StoredBundle
from zhiyin.testing.store_contract import an_event

PARTS = tables.bundle_parts
ROW = StoredBundle("v1", 7, int(time.time()), {"recall": 0.5}, is_active=False)
N_PARTS = 5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "bundle"
    (place / "deep").mkdir(parents=True)
    (place / "empty").write_bytes(b"")
    (place / "deep" / "big.bin").write_bytes(bytes(range(256)) * (N_PARTS * PART_BYTES // 256))
    return place


def kept(database: SqlDatabase, tenant: str = DEFAULT_TENANT) -> list[str]:
    """Return under which names parts are kept."""
    names = sql.select(PARTS.c.version).where(PARTS.c.tenant == tenant).distinct().order_by(PARTS.c.version)
    return [row.version for row in database.read(names)]


def assert_whole(database: SqlDatabase, folder: Path, fetched: Path) -> None:
    """Fetch v1 and compare it with what was put."""
    database.store().fetch_bundle("v1", fetched)
    for name in ("empty", "deep/big.bin"):
        assert (fetched / name).read_bytes() == (folder / name).read_bytes()


def test_others_write_between_two_parts(
    url: str, database: SqlDatabase, folder: Path, tmp_path: Path
) -> None:
    other = open_database(url) if database.is_shared else database
    numbers = itertools.count(1)

    def write(change: Change[Any]) -> Any:
        made = database.write_apart(change)
        other.store().append_events([an_event(next(numbers))]).result(timeout=5)
        return made

    put_files(write, DEFAULT_TENANT, ROW, folder, None)
    n_written = next(numbers) - 1
    assert n_written > N_PARTS, "once after each part"
    assert other.store().position() == n_written, "the bundle itself takes no position"
    assert_whole(database, folder, tmp_path / "fetched")
    if other is not database:
        other.close()


def test_a_writer_that_is_held_up_holds_up_nobody(url: str, database: SqlDatabase, folder: Path) -> None:
    if not database.is_shared:
        pytest.skip("an SQLite file has one writer, and a part is all that it is held up by")
    other = open_database(url)
    other.store().append_events([an_event(1)]).result()
    seen = []

    def make_slowly(change: Change[Any]) -> None:
        # The transaction stays open while somebody else writes, as over a line that stands still.
        with database.backend.writing.begin() as connection:
            change.make(connection, None)
            other.store().append_events([an_event(2 + len(seen))]).result(timeout=5)
            seen.append(change)

    def write(change: Change[Any]) -> Any:
        return (make_slowly if isinstance(change, _PutPart) else database.write_apart)(change)

    put_files(write, DEFAULT_TENANT, ROW, folder, None)
    assert len(seen) == N_PARTS
    other.close()


def test_what_is_broken_off_leaves_nothing(database: SqlDatabase, folder: Path, tmp_path: Path) -> None:
    written = itertools.count()

    def write(change: Change[Any]) -> Any:
        if next(written) == 3:
            raise KeyboardInterrupt
        return database.write_apart(change)

    with pytest.raises(KeyboardInterrupt):
        put_files(write, DEFAULT_TENANT, ROW, folder, None)
    assert (kept(database), database.store().bundles()) == ([], [])
    database.store().put_bundle("v1", folder, position=7, facts={})
    assert_whole(database, folder, tmp_path / "fetched")


def test_what_was_made_although_its_answer_was_lost_stays_whole(
    database: SqlDatabase, folder: Path, tmp_path: Path
) -> None:
    def write(change: Change[Any]) -> Any:
        made = database.write_apart(change)
        if isinstance(change, PutBundle):
            raise StoreError("The connection was lost.")
        return made

    with pytest.raises(StoreError, match="connection was lost"):
        put_files(write, DEFAULT_TENANT, ROW, folder, None)
    assert [one.version for one in database.store().bundles()] == ["v1"]
    assert_whole(database, folder, tmp_path / "fetched")


def test_what_somebody_who_was_killed_left_behind_is_swept_after_a_day(
    database: SqlDatabase, folder: Path
) -> None:
    store = database.store()
    store.put_bundle("v1", folder, position=7, facts={})
    (used,) = kept(database)
    now = int(time.time())
    old, young = f"v2@{now - LEFT_BEHIND_SECONDS - 60}-aa", f"v2@{now - 60}-bb"
    with database.backend.writing.begin() as connection:
        for tenant, name in ((DEFAULT_TENANT, old), (DEFAULT_TENANT, young), ("other", old)):
            row = {"tenant": tenant, "version": name, "path": "a", "part": 0, "content": b"a"}
            connection.execute(sql.insert(PARTS), row)
    store.put_bundle("v1", folder, position=7, facts={})
    assert kept(database) == sorted([used, old, young]), "a version that is whole is left as it is"
    store.put_bundle("v3", folder, position=8, facts={})
    store.drop_bundle("v3")
    assert kept(database) == sorted([used, young])
    assert kept(database, "other") == [old]


def test_of_two_who_put_the_same_version_one_is_kept(
    database: SqlDatabase, folder: Path, tmp_path: Path
) -> None:
    for position in (7, 8):
        row = StoredBundle("v1", position, ROW.timestamp, {}, is_active=False)
        put_files(database.write_apart, DEFAULT_TENANT, row, folder, None)
    assert [one.position for one in database.store().bundles()] == [7]
    assert len(kept(database)) == 1
    assert_whole(database, folder, tmp_path / "fetched")


def test_bundles_of_before_parts_had_names_of_their_own(
    database: SqlDatabase, folder: Path, tmp_path: Path
) -> None:
    store = database.store()
    store.put_bundle("v1", folder, position=7, facts={})
    (row,) = database.read(sql.select(tables.bundles.c.files))
    plain = {path: {"bytes": file["bytes"], "sha256": file["sha256"]} for path, file in row.files.items()}
    with database.backend.writing.begin() as connection:
        connection.execute(sql.update(tables.bundles).values(files=plain))
        connection.execute(sql.update(PARTS).values(version="v1"))
    assert_whole(database, folder, tmp_path / "fetched")
    store.put_bundle("v1", folder, position=9, facts={})
    assert kept(database) == ["v1"]
    store.drop_bundle("v1")
    assert (kept(database), store.bundles()) == ([], [])


def test_a_bundle_for_which_there_is_no_room_is_not_begun(
    database: SqlDatabase, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database.is_shared:
        pytest.skip("how much room another machine has is not seen from here")
    n_free = 3 * N_PARTS * PART_BYTES + 1_000_000 - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=n_free))
    with pytest.raises(
        StoreError, match="has no room: 16728 kB are left on its disk; to store 5242 kB takes"
    ):
        database.store().put_bundle("v1", folder, position=7, facts={})
    assert kept(database) == []
    n_free += 1
    database.store().put_bundle("v1", folder, position=7, facts={})


def test_a_version_that_is_removed_or_mended_while_it_is_fetched(
    url: str, database: SqlDatabase, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not database.is_shared:
        pytest.skip("an SQLite file is read as it was when the reading began")
    other = open_database(url)
    database.store().put_bundle("v1", folder, position=7, facts={})
    (name,) = kept(database)
    original, waiting = sql_store.write_files, list[Callable[[], None]]()

    def meanwhile(*arguments: Any) -> None:
        if waiting:
            waiting.pop()()
        original(*arguments)

    def mend() -> None:
        with database.backend.writing.begin() as connection:
            connection.execute(sql.update(PARTS).values(content=b"rot"))
        other.store().put_bundle("v1", folder, position=7, facts={})

    monkeypatch.setattr(sql_store, "write_files", meanwhile)
    waiting.append(mend)
    assert_whole(database, folder, tmp_path / "mended")
    assert kept(database) != [name]
    read = bundle_files.hashlib.sha256

    def read_a_part() -> Any:
        digest = read()

        class Digest:
            hexdigest = digest.hexdigest

            def update(self, content: bytes) -> None:
                digest.update(content)
                if waiting:
                    waiting.pop()()

        return Digest()

    monkeypatch.setattr(sql_store, "write_files", original)
    monkeypatch.setattr(bundle_files, "hashlib", SimpleNamespace(sha256=read_a_part))
    waiting.append(mend)
    assert_whole(database, folder, tmp_path / "mended in the middle of a file")
    waiting.append(lambda: other.store().drop_bundle("v1"))
    with pytest.raises(StoreError, match="no bundle 'v1'"):
        database.store().fetch_bundle("v1", tmp_path / "gone")
    other.close()
