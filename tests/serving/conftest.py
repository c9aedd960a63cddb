"""A served tea shop."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from zhiyin.contracts import TrainingData
from zhiyin.pipeline.bundle import load_bundle, save_bundle
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe
from zhiyin.serving.app import create_app
from zhiyin.serving.settings import AnswerSettings, ServingSettings
from zhiyin.testing.tea_shop import tea_shop

# On a busy machine a first slate may take a second, and would be answered with what is popular.
QUIET = ServingSettings(log_requests=False, answers=AnswerSettings(budget_ms=30_000.0))


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real bundle of the recipe ``fast``."""
    dataset = tea_shop()
    pipeline = Pipeline(recipe("fast"))
    pipeline.fit(TrainingData(dataset, pipeline.language))
    return save_bundle(pipeline, tmp_path_factory.mktemp("bundles") / "tea")


@pytest.fixture
def start(bundle: Path, tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """Start the service on the same store as often as wanted; each start first stops the one before."""
    running: list[TestClient] = []

    def stop() -> None:
        while running:
            running.pop().__exit__(None, None, None)

    def start(settings: ServingSettings = QUIET) -> TestClient:
        stop()
        app = create_app(load_bundle(bundle), f"sqlite:///{tmp_path}/store.db", settings)
        running.append(
            TestClient(app, raise_server_exceptions=False, client=("127.0.0.1", 50000)).__enter__()
        )
        return running[0]

    yield start
    stop()


@pytest.fixture
def client(start: Callable[..., TestClient]) -> TestClient:
    """A service with an empty store."""
    return start()
