"""A folder is replaced whole, and its neighbours are left alone."""

from pathlib import Path

import pytest

from zhiyin.stores.whole_folder import bring_back, whole_folder


def written(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "text").write_text(text)
    return folder


def killed_between(folder: Path) -> Path:
    """Leave what a replacement leaves that was killed after the old folder was taken away."""
    return folder.rename(folder.parent / f".{folder.name}.0123abcd.old")


def test_a_folder_is_replaced_and_a_failed_draft_leaves_it(tmp_path: Path) -> None:
    folder = written(tmp_path / "model", "first")
    with pytest.raises(FileExistsError), whole_folder(folder) as draft:
        written(draft, "half")
    assert (folder / "text").read_text() == "first"
    with whole_folder(folder) as draft:
        (draft / "text").write_text("second")
    assert (folder / "text").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_a_killed_replacement_took_away_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "model[1]"
    killed_between(written(folder, "first"))
    bring_back(folder)
    assert (folder / "text").read_text() == "first"


def test_a_neighbour_whose_name_begins_alike_keeps_what_was_taken_away(tmp_path: Path) -> None:
    """``v1`` and ``v1.2`` lie side by side; the old one of ``v1.2`` is not one of ``v1``."""
    aside = killed_between(written(tmp_path / "v1.2", "of v1.2"))
    bring_back(tmp_path / "v1")
    assert not (tmp_path / "v1").exists()
    for _ in range(2):
        with whole_folder(tmp_path / "v1") as draft:
            (draft / "text").write_text("of v1")
    assert aside.exists()
    bring_back(tmp_path / "v1.2")
    assert (tmp_path / "v1.2" / "text").read_text() == "of v1.2"
