"""Each public set, in its true file format, becomes a data folder with known contents."""

import zipfile
from pathlib import Path

import polars as pl
import pytest
from public_archives import (
    amazon_2014,
    amazon_2023,
    goodbooks,
    movielens_1m,
    movielens_10m,
    movielens_100k,
    movielens_csv,
    zipped,
)

from zhiyin.data.public.loading import cache_folder, load_public
from zhiyin.data.public.sets import PUBLIC_SETS
from zhiyin.domain.errors import DataError


def converted(name: str, files: dict[str, bytes], tmp_path: Path) -> tuple[pl.DataFrame, pl.DataFrame, Path]:
    source = tmp_path / "source"
    source.mkdir()
    for file, content in files.items():
        (source / file).write_bytes(content)
    folder = load_public(name, folder=source, cache=tmp_path / "cache")
    return pl.read_parquet(folder / "interactions.parquet"), pl.read_parquet(folder / "items.parquet"), folder


def test_movielens_100k(tmp_path):
    interactions, items, folder = converted("movielens-100k", {"ml-100k.zip": movielens_100k()}, tmp_path)
    assert interactions.rows() == [
        ("196", "242", 881250949, "rating", 3.0),
        ("186", "302", 891717742, "rating", 3.0),
        ("196", "302", 881250950, "rating", 5.0),
    ]
    assert interactions.columns == ["user_id", "item_id", "timestamp", "event", "value"]
    assert items["title"].to_list() == ["Toy Story (1995)", "Misérables, Les (1995)"]
    assert items["categories"].to_list() == [["Animation", "Children's", "Comedy"], []]
    assert items["released"].to_list() == ["01-Jan-1995", None]
    users = pl.read_parquet(folder / "users.parquet")
    assert users.rows() == [
        ("186", 39, "F", "executive", "00000"),
        ("196", 49, "M", "writer", "55105"),
    ]
    assert "research use" in (folder / "README.txt").read_text()


def test_movielens_1m_in_latin_1_with_control_characters(tmp_path):
    interactions, items, folder = converted("movielens-1m", {"ml-1m.zip": movielens_1m()}, tmp_path)
    assert interactions["item_id"].to_list() == ["1193", "661", "1193"]
    assert interactions["value"].to_list() == [5.0, 3.0, 4.0]
    assert items["title"].to_list()[1] == "Misérables, Les: a \x85 story (1995)"
    assert items["categories"].to_list() == [["Animation", "Children's", "Musical"], ["Drama"]]
    users = pl.read_parquet(folder / "users.parquet")
    assert users.rows()[0] == ("1", "F", "under 18", "school student", "48067")
    assert users.rows()[1] == ("2", "M", "56+", "self-employed", "70072")


def test_movielens_10m_has_half_stars_and_no_users(tmp_path):
    interactions, items, folder = converted("movielens-10m", {"ml-10m.zip": movielens_10m()}, tmp_path)
    assert interactions["value"].to_list() == [5.0, 4.5]
    assert interactions["timestamp"].to_list() == [838985046, 838983525]
    assert items["title"].to_list() == ["Boomerang (1992)", "Café"]
    assert items["categories"].to_list() == [["Comedy", "Romance"], []]
    assert not (folder / "users.parquet").exists()


@pytest.mark.parametrize("release", ["20m", "32m", "latest-small"])
def test_movielens_csv_releases(release, tmp_path):
    files = {"archive.zip": movielens_csv(f"ml-{release}")}
    interactions, items, _ = converted(f"movielens-{release}", files, tmp_path)
    assert interactions.rows() == [
        ("1", "1", 964982703, "rating", 4.0),
        ("2", "3", 964981247, "rating", 0.5),
    ]
    assert items["title"].to_list()[1] == "American President, The (1995)"
    assert items["categories"].to_list() == [["Adventure", "Animation"], []]


def test_goodbooks_takes_files_nearest_to_the_top(tmp_path):
    interactions, items, _ = converted("goodbooks-10k", {"goodbooks-10k.zip": goodbooks()}, tmp_path)
    assert interactions.columns == ["user_id", "item_id", "event", "value"]
    assert interactions.rows() == [
        ("1", "2", "rating", 5.0),
        ("2", "1", "rating", 4.0),
        ("1", "1", "rating", 2.0),
    ]
    assert items["tags"].to_list() == [None, ["to-read", "fantasy"]]
    assert items["year"].to_list() == [2008, None]
    assert items["brand"].to_list()[1] == "J.K. Rowling, Mary GrandPré"


def test_amazon_2014(tmp_path):
    interactions, items, _ = converted("amazon-2014-beauty", amazon_2014(), tmp_path)
    assert interactions.rows()[1] == ("A1", "B2", 1369699200, "rating", 2.0)
    assert items["item_id"].to_list() == ["B1", "B2", "B3"]
    assert items["categories"].to_list() == [["Beauty > Tools > Brushes", "Gifts"], ["Beauty > Hair"], None]
    assert items.row(0, named=True)["title"] == 'Brush\'s "Best"'
    assert items.row(0, named=True)["price"] == 12.5


def test_amazon_2023(tmp_path):
    interactions, items, _ = converted("amazon-2023-all-beauty", amazon_2023(), tmp_path)
    assert interactions.rows() == [
        ("AG", "B1", 1452647382, "rating", 3.0),
        ("AG", "B2", 1454675785, "rating", 4.0),
    ]
    assert items.row(0, named=True) == {
        "item_id": "B1",
        "title": "Racing",
        "description": "Fast. Cars.",
        "categories": ["Video Games > PC > Games"],
        "brand": "Nintendo",
        "price": 1299.0,
        "image": "http://l",
    }
    assert items["title"].to_list() == ["Racing", None]


def test_unpacked_files_and_a_single_archive_are_read_too(tmp_path):
    archive = tmp_path / "ml.zip"
    archive.write_bytes(movielens_csv())
    one = load_public("movielens-20m", folder=archive, cache=tmp_path / "one")
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path / "unpacked")
    two = load_public("movielens-20m", folder=tmp_path / "unpacked", cache=tmp_path / "two")
    assert pl.read_parquet(one / "items.parquet").equals(pl.read_parquet(two / "items.parquet"))


def test_second_call_asks_nobody(server, patience, tmp_path):
    server.files = {"ml-latest-small.zip": movielens_csv()}
    call = {"cache": tmp_path, "base_url": server.url + "/", "patience": patience}
    first = load_public("movielens-latest-small", **call)
    server.files = {}
    assert load_public("movielens-latest-small", **call) == first
    assert len(server.asked) == 1


def test_two_files_are_downloaded_for_amazon(server, patience, tmp_path):
    server.files = amazon_2023()
    folder = load_public("amazon-2023-all-beauty", cache=tmp_path, base_url=server.url, patience=patience)
    assert pl.read_parquet(folder / "interactions.parquet").height == 2
    assert sorted(path.name for path in (folder.parent / "raw").iterdir()) == [
        "All_Beauty.csv.gz",
        "checksums.json",
        "meta_All_Beauty.jsonl.gz",
    ]


@pytest.mark.parametrize(
    "member", ["../evil.csv", "/etc/evil", "ml\\..\\..\\evil", "C:\\evil", "a/../../ratings.csv"]
)
def test_archive_that_points_outside_is_refused(member, tmp_path):
    source = tmp_path / "source" / "ml-20m.zip"
    source.parent.mkdir()
    source.write_bytes(zipped({"ml-20m/ratings.csv": "x", "ml-20m/movies.csv": "y", member: "evil"}))
    with pytest.raises(DataError, match="not safe"):
        load_public("movielens-20m", folder=source, cache=tmp_path / "cache")
    assert not list(tmp_path.rglob("evil*"))
    assert not list((tmp_path / "cache").rglob("*.parquet"))


@pytest.mark.parametrize("cut", [10, 200, -40])
def test_damaged_archive_is_said_to_be_damaged_and_is_never_believed(cut, server, patience, tmp_path):
    server.files = {"ml-latest-small.zip": movielens_csv()[:cut]}
    with pytest.raises(DataError, match="damaged") as caught:
        load_public("movielens-latest-small", cache=tmp_path, base_url=server.url, patience=patience)
    assert "Delete it" in caught.value.remedy
    assert not list(tmp_path.rglob("checksums.json"))
    assert not list(tmp_path.rglob("*.parquet"))


def test_flipped_bits_inside_an_archive_are_noticed(tmp_path):
    raw = bytearray(movielens_csv())
    raw[70] ^= 0xFF
    archive = tmp_path / "ml.zip"
    archive.write_bytes(bytes(raw))
    with pytest.raises(DataError, match="damaged"):
        load_public("movielens-20m", folder=archive, cache=tmp_path / "cache")


def test_damaged_gzip_is_noticed(tmp_path):
    files = amazon_2023()
    files["All_Beauty.csv.gz"] = files["All_Beauty.csv.gz"][:-12]
    with pytest.raises(DataError, match="damaged"):
        converted("amazon-2023-all-beauty", files, tmp_path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"lacks movies\.csv") as caught:
        converted("movielens-20m", {"ratings.csv": b"userId,movieId,rating,timestamp\n"}, tmp_path)
    assert "ml-20m.zip" in caught.value.possible


def test_files_of_another_format_are_refused(tmp_path):
    files = {"ratings.csv": b"user,film\n1,2\n", "movies.csv": b"movieId,title,genres\n1,x,y\n"}
    with pytest.raises(DataError, match="not in its format"):
        converted("movielens-20m", files, tmp_path)


def test_missing_folder_is_said(tmp_path):
    with pytest.raises(DataError, match="not there"):
        load_public("movielens-20m", folder=tmp_path / "nowhere", cache=tmp_path)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(DataError, match="Did you mean 'movielens-100k'"):
        load_public("movilens-100k")


def test_nothing_is_left_half_written(tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", fail)
    archive = tmp_path / "ml.zip"
    archive.write_bytes(movielens_csv())
    with pytest.raises(DataError, match="No space left"):
        load_public("movielens-20m", folder=archive, cache=tmp_path / "cache")
    assert list((tmp_path / "cache" / "public" / "movielens-20m").iterdir()) == []


def test_cache_is_where_the_variable_says(monkeypatch, tmp_path):
    monkeypatch.setenv("ZHIYIN_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("ZHIYIN_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "zhiyin"


def test_every_address_is_https_and_every_name_is_a_slug():
    for name, public in PUBLIC_SETS.items():
        assert name == name.lower()
        assert all(remote.url.startswith("https://") for remote in public.remote)
        assert all(remote.checksum == "" or ":" in remote.checksum for remote in public.remote)
