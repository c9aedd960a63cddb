"""Folders of killed processes go, and no other."""

import os
import signal
import subprocess
import sys
import time

import pytest

from zhiyin.stores.unpacking import remove_left_behind, unpacking_folder

HOLD = """
import sys, time
from zhiyin.stores.unpacking import unpacking_folder
with unpacking_folder() as folder:
    (folder / "version").mkdir()
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def holding(place):
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    folder = place / os.path.basename(process.stdout.readline().strip())
    assert (folder / "version").is_dir()
    return process, folder


def test_a_folder_goes_with_a_killed_process_and_not_before(place):
    process, folder = holding(place)
    try:
        with unpacking_folder():
            assert folder.is_dir(), "its process is alive"
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        assert folder.is_dir(), "nobody cleaned up"
        with unpacking_folder() as own:
            assert not folder.exists()
            assert own.is_dir()
            assert remove_left_behind(place) == 0, "one's own is in use"
        assert list(place.iterdir()) == []
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_what_may_be_in_use_or_is_none_of_ours_stays(place):
    young, old, other = (place / name for name in ("zhiyin-bundle-a", "zhiyin-bundle-b", "somebodys"))
    for folder in (young, old, other):
        (folder / "version").mkdir(parents=True)
    day_before = time.time() - 90_000
    for folder in (old, other):
        os.utime(folder, (day_before, day_before))
    (place / "zhiyin-bundle-link").symlink_to(other)
    (place / "zhiyin-bundle-file").write_text("no folder")
    assert remove_left_behind(place) == 1
    assert sorted(path.name for path in place.iterdir()) == [
        *("somebodys", "zhiyin-bundle-a", "zhiyin-bundle-file", "zhiyin-bundle-link")
    ]
    assert (other / "version").is_dir()
