"""Going back over HTTP, where a service and its learning loop share one SQLite file."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from zhiyin.contracts import TrainingData
from zhiyin.experiments.refreshing.loop import LearningLoop
from zhiyin.experiments.refreshing.settings import LoopConfig
from zhiyin.experiments.refreshing.versions import publish
from zhiyin.pipeline.bundle import save_bundle
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe
from zhiyin.serving.app import create_app
from zhiyin.serving.settings import ServingSettings
from zhiyin.stores.events import EventStore
from zhiyin.testing.tea_shop import tea_shop


@pytest.fixture
def client(bundle: Path, tmp_path: Path) -> Iterator[TestClient]:
    app = create_app(bundle, f"sqlite:///{tmp_path}/store.db", ServingSettings(log_requests=False))
    with TestClient(app, client=("127.0.0.1", 50000)) as client:
        yield client


def serving(client: TestClient) -> str:
    return str(client.get("/v1/bundles").json()["serving"])


def last_step(store: EventStore) -> str:
    return [step.name for step in LearningLoop(store, LoopConfig()).round().steps][-1]


def test_the_loop_waits_on_what_somebody_went_back_to(client: TestClient, tmp_path: Path) -> None:
    store = client.app.state.service.engine("default").store  # type: ignore[attr-defined]
    dataset, before = tea_shop(), serving(client)
    pipeline = Pipeline(recipe("popular"))
    pipeline.fit(TrainingData(dataset, pipeline.language))
    after = publish(store, save_bundle(pipeline, tmp_path / "after"))

    assert client.post(f"/v1/bundles/{after}/activate").json() == {"serving": after}
    assert last_step(store) == "read", "a newer version is no reason to wait"
    assert client.post(f"/v1/bundles/{before}/activate").json() == {"serving": before}
    assert serving(client) == before
    assert last_step(store) == "wait"
    assert client.post(f"/v1/bundles/{after}/activate").json() == {"serving": after}
    assert last_step(store) == "read"
