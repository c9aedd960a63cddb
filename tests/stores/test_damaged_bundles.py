"""A version whose stored files are damaged is mended by putting it there again."""

from pathlib import Path

import pytest
import sqlalchemy as sql

from zhiyin.domain.errors import BundleError
from zhiyin.stores import tables
from zhiyin.stores.database import SqlDatabase

PARTS = tables.bundle_parts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "bundle"
    place.mkdir()
    (place / "a.txt").write_bytes(b"a" * 1_000)
    (place / "big.bin").write_bytes(bytes(range(256)) * 20_000)
    return place


@pytest.mark.parametrize(
    "damage",
    [
        sql.update(PARTS).where(PARTS.c.path == "big.bin", PARTS.c.part == 1).values(content=b"rot"),
        sql.delete(PARTS).where(PARTS.c.path == "a.txt"),
    ],
    ids=["changed", "gone"],
)
def test_putting_a_damaged_version_again_mends_it(
    database: SqlDatabase, folder: Path, tmp_path: Path, damage: sql.Executable
) -> None:
    store = database.store("shop2")
    store.put_bundle("v1", folder, position=7, facts={"recall": 0.5})
    store.put_bundle("v2", folder, position=8, facts={})
    store.activate_bundle("v1").result()
    other = database.store("shop3")
    other.put_bundle("v1", folder, position=0, facts={})
    with database.backend.writing.begin() as connection:
        connection.execute(damage.where(PARTS.c.tenant == "shop2", PARTS.c.version.startswith("v1")))
    with pytest.raises(BundleError, match="not what was stored") as refused:
        store.fetch_bundle("v1", tmp_path / "damaged")
    assert "zhiyin publish BUNDLE --store URL --tenant shop2" in str(refused.value)
    store.put_bundle("v1", folder, position=99, facts={"recall": 0.0})
    store.fetch_bundle("v1", tmp_path / "mended")
    for name in ("a.txt", "big.bin"):
        assert (tmp_path / "mended" / name).read_bytes() == (folder / name).read_bytes()
    first, second = store.bundles()
    assert (first.version, first.position, first.facts, first.is_active) == ("v1", 7, {"recall": 0.5}, True)
    assert (second.version, second.is_active) == ("v2", False)
    store.fetch_bundle("v2", tmp_path / "second")
    other.fetch_bundle("v1", tmp_path / "other")


def test_a_whole_version_stays_as_it_is(database: SqlDatabase, folder: Path, tmp_path: Path) -> None:
    store = database.store()
    store.put_bundle("v1", folder, position=0, facts={})
    before = store.bundles()
    (folder / "a.txt").write_bytes(b"something else")
    store.put_bundle("v1", folder, position=1, facts={})
    assert store.bundles() == before
    store.fetch_bundle("v1", tmp_path / "fetched")
    assert (tmp_path / "fetched" / "a.txt").read_bytes() == b"a" * 1_000
