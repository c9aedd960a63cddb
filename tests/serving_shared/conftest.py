"""Service processes that share one database."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from processes import Process, started

from zhiyin.contracts import TrainingData
from zhiyin.pipeline.bundle import save_bundle
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe
from zhiyin.testing.tea_shop import tea_shop


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two bundles of one shop that answer differently: the second one knows popularity alone."""
    folder = tmp_path_factory.mktemp("bundles")
    dataset, made = tea_shop(), []
    for name in ("fast", "popular"):
        pipeline = Pipeline(recipe(name))
        pipeline.fit(TrainingData(dataset, pipeline.language))
        made.append(save_bundle(pipeline, folder / name))
    return made[0], made[1]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., list[Process]]]:
    """Start processes; they are ended after the test."""
    running: list[Process] = []

    def serve(*given: dict[str, str]) -> list[Process]:
        new = started(list(given), tmp_path)
        running.extend(new)
        return new

    yield serve
    for process in running:
        process.end()
