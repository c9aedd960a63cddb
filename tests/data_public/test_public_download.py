"""A download is whole, verified and resumed, or an error that says what to do."""

import hashlib
import json
import socket
from pathlib import Path

import pytest
from public_archives import Server, md5_file, movielens_csv

from zhiyin.data.public.checksums import FirstUse, checksum_of, published_md5, verify
from zhiyin.data.public.download import Patience, download
from zhiyin.data.public.loading import load_public
from zhiyin.domain import Silent
from zhiyin.domain.errors import DataError

CONTENT = bytes(range(256)) * 9_000
QUIET = Silent()


class Listener(Silent):
    def __init__(self) -> None:
        self.totals: list[int | None] = []

    def track(self, steps, description, total=None):
        self.totals.append(total)
        yield from steps


def fetch(server: Server, target: Path, patience: Patience) -> None:
    download(f"{server.url}/file.bin", target, progress=QUIET, patience=patience)


def test_file_arrives_whole_with_progress(server, patience, pauses, tmp_path):
    server.files["file.bin"] = CONTENT
    listener = Listener()
    download(f"{server.url}/file.bin", tmp_path / "a" / "file.bin", progress=listener, patience=patience)
    assert (tmp_path / "a" / "file.bin").read_bytes() == CONTENT
    assert listener.totals == [3]
    assert pauses == []
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file.bin"]


def test_interrupted_download_resumes_where_it_stopped(server, patience, pauses, tmp_path):
    server.files["file.bin"] = CONTENT
    server.breaks_after = [700_000, 100]
    fetch(server, tmp_path / "file.bin", patience)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None, "bytes=700000-", "bytes=700100-"]
    assert pauses == [1.0, 2.0]


def test_partial_file_of_an_earlier_process_is_continued(server, patience, tmp_path):
    server.files["file.bin"] = CONTENT
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1_000])
    fetch(server, tmp_path / "file.bin", patience)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == [("file.bin", "bytes=1000-")]


def test_server_without_ranges_starts_again_cleanly(server, patience, tmp_path):
    server.files["file.bin"] = CONTENT
    server.supports_ranges = False
    server.breaks_after = [5_000]
    fetch(server, tmp_path / "file.bin", patience)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_changed_file_is_not_glued_to_the_old_part(server, tmp_path):
    server.files["file.bin"] = b"old" * 100_000
    server.breaks_after = [5_000]

    def change(_: float) -> None:
        server.files["file.bin"], server.version = CONTENT, '"v2"'

    fetch(server, tmp_path / "file.bin", Patience(attempts=2, sleep=change))
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_part_that_is_already_whole_is_taken(server, patience, tmp_path):
    server.files["file.bin"] = CONTENT
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    fetch(server, tmp_path / "file.bin", patience)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_part_longer_than_the_file_is_thrown_away(server, patience, tmp_path):
    server.files["file.bin"] = CONTENT
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"more")
    fetch(server, tmp_path / "file.bin", patience)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_busy_server_is_asked_again_with_growing_pauses(server, patience, pauses, tmp_path):
    server.files["file.bin"] = CONTENT
    server.busy_answers = 3
    fetch(server, tmp_path / "file.bin", patience)
    assert pauses == [1.0, 2.0, 4.0]


def test_missing_file_is_refused_at_once(server, patience, pauses, tmp_path):
    with pytest.raises(DataError, match="404") as caught:
        fetch(server, tmp_path / "file.bin", patience)
    assert "folder=" in caught.value.remedy
    assert pauses == []
    assert list(tmp_path.iterdir()) == []


def test_no_network_gives_up_after_the_last_attempt(patience, pauses, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(DataError, match=r"4 attempts: no connection to 127.0.0.1") as caught:
        download(f"http://127.0.0.1:{port}/x", tmp_path / "x", progress=QUIET, patience=patience)
    assert "what has arrived is kept" in caught.value.remedy
    assert pauses == [1.0, 2.0, 4.0]


def test_what_arrived_survives_giving_up(server, tmp_path):
    server.files["file.bin"] = CONTENT
    server.breaks_after = [5_000]
    with pytest.raises(DataError, match="5,000 of"):
        fetch(server, tmp_path / "file.bin", Patience(attempts=1))
    assert (tmp_path / "file.bin.part").read_bytes() == CONTENT[:5_000]
    assert not (tmp_path / "file.bin").exists()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "nonsense"])
def test_other_addresses_are_refused(url, patience, tmp_path):
    with pytest.raises(DataError, match="not an address"):
        download(url, tmp_path / "x", progress=QUIET, patience=patience)


def test_both_forms_of_md5_files_are_read():
    digest = hashlib.md5(b"x").hexdigest()
    assert published_md5(f"MD5 (ml-1m.zip) = {digest}\n") == f"md5:{digest}"
    assert published_md5(f"{digest.upper()}  ml-1m.zip\n") == f"md5:{digest}"
    assert published_md5("<html>not found</html>") is None


def test_wrong_checksum_deletes_the_file_and_says_so(tmp_path):
    path = tmp_path / "x.zip"
    path.write_bytes(b"x")
    with pytest.raises(DataError, match="checksum is sha256:2d71") as caught:
        verify(path, "sha256:" + "0" * 64, source="the list")
    assert "deleted" in caught.value.remedy
    assert not path.exists()


def test_published_checksum_is_believed_and_a_wrong_file_deleted(server, patience, tmp_path):
    archive = movielens_csv("ml-32m")
    server.files = {"ml-32m.zip": archive, "ml-32m.zip.md5": md5_file("ml-32m.zip", archive)}
    folder = load_public("movielens-32m", cache=tmp_path, base_url=server.url, patience=patience)
    assert (folder / "interactions.parquet").exists()

    server.files["ml-32m.zip.md5"] = md5_file("ml-32m.zip", b"another")
    with pytest.raises(DataError, match=r"according to http.*md5"):
        load_public("movielens-32m", cache=tmp_path / "two", base_url=server.url, patience=patience)
    assert not (tmp_path / "two" / "public" / "movielens-32m" / "raw" / "ml-32m.zip").exists()


def test_known_checksum_counts_when_the_source_publishes_none(server, patience, tmp_path):
    server.files = {"ml-32m.zip": movielens_csv("ml-32m")}
    with pytest.raises(DataError, match="Zhiyin's list of public data sets"):
        load_public("movielens-32m", cache=tmp_path, base_url=server.url, patience=patience)


def test_first_download_is_written_down_and_later_ones_must_be_the_same(server, patience, tmp_path):
    server.files = {"ml-latest-small.zip": movielens_csv()}
    call = {"cache": tmp_path, "base_url": server.url, "patience": patience}
    folder = load_public("movielens-latest-small", **call)
    raw = folder.parent / "raw"
    assert json.loads((raw / "checksums.json").read_text()) == {
        "ml-latest-small.zip": checksum_of(raw / "ml-latest-small.zip")
    }
    (raw / "ml-latest-small.zip").unlink()
    (folder / "interactions.parquet").unlink()
    server.files = {"ml-latest-small.zip": movielens_csv("other")}
    with pytest.raises(DataError, match="the first download"):
        load_public("movielens-latest-small", **call)


def test_unreadable_record_of_checksums_says_what_to_do(tmp_path):
    (tmp_path / "checksums.json").write_text("{")
    with pytest.raises(DataError, match="Delete it"):
        FirstUse(tmp_path).known("x")
