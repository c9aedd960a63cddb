"""Every block of Python, every command and every curl line of README, CONTRIBUTING and the guide works."""

import shutil
from pathlib import Path

import pytest
from pages import Reader, blocks_of, in_folder, name_of, runnable_pages

from zhiyin.cli.terminal import OUT
from zhiyin.pipeline import registry

WIDTH = 140
"""Columns of the terminal on which the pages were written; tables do not break there."""
NOT_RUN = {
    "docs/guide/learning.md": 1,  # nothing stands before the first version
    "README.md": 4,  # make; the demo; PostgreSQL and Redis; language models
    "README.zh-CN.md": 4,
    "CONTRIBUTING.md": 2,  # make; writing the references again
    "docs/guide/access.md": 2,  # keys that only the reader has
    "docs/guide/cold-start.md": 1,  # training with language models
    "docs/guide/factor-models.md": 1,  # minutes of training
    "docs/guide/vectors.md": 1,  # a PostgreSQL
    "docs/guide/two-tower.md": 1,  # training with language models
    "docs/guide/pretraining.md": 1,  # training with language models
    "docs/guide/reranking.md": 1,  # training with language models
    "docs/guide/chinese.md": 2,  # training with language models
    "docs/guide/finetuning.md": 4,  # training with language models; several processes
    "docs/guide/ranking.md": 1,  # minutes of training
    "docs/guide/tuning.md": 1,  # training with language models
    "docs/guide/first-steps.md": 2,  # make; pip
    "docs/guide/privacy.md": 1,  # a key that only the reader has
    "docs/guide/public-data.md": 2,  # downloads
    "docs/guide/serving.md": 1,  # a version that only the reader has
    "docs/guide/stores.md": 1,  # programs of SQLite and PostgreSQL
    "docs/guide/streams.md": 2,  # a Redis server
    "docs/guide/deployment.md": 5,  # a service that listens; podman; a cluster
    "docs/guide/texts-and-encoders.md": 1,  # training with language models
    "docs/guide/watching.md": 1,  # a collector
}
"""Page → blocks that are not run, each with its reason there. Whoever adds one changes a number here."""


@pytest.mark.parametrize("page", runnable_pages(), ids=name_of)
def test_page_runs(page: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("ZHIYIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(OUT, "width", WIDTH)
    monkeypatch.setattr(registry, "SOURCES", dict(registry.SOURCES))  # a page may add one
    monkeypatch.syspath_prepend(tmp_path)
    with in_folder(tmp_path):
        Reader(tmp_path).follow(page)


def test_only_the_known_blocks_are_not_run() -> None:
    not_run: dict[str, int] = {}
    for page in runnable_pages():
        for block in blocks_of(page):
            if block.note.startswith("not run"):
                assert block.note.startswith("not run: "), f"{block.place} does not say why"
                not_run[block.page] = not_run.get(block.page, 0) + 1
    assert not_run == NOT_RUN
