"""The service does what its own description says, whatever is sent to it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from described_fuzzing import CHECKS, fuzz, service_and_key
from schemathesis.python import asgi

from zhiyin.contracts import TrainingData
from zhiyin.pipeline.bundle import save_bundle
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe
from zhiyin.testing.tea_shop import tea_shop


@pytest.fixture
def app_and_key(tmp_path: Path) -> Iterator[tuple[Any, str]]:
    """The whole service, and a key that opens everything."""
    pipeline = Pipeline(recipe("fast"))
    pipeline.fit(TrainingData(tea_shop(), pipeline.language))
    bundle = save_bundle(pipeline, tmp_path / "tea")
    yield service_and_key(bundle, f"sqlite:///{tmp_path}/store.db")
    asgi.shutdown_lifespans()


def test_every_route_keeps_its_word(app_and_key: tuple[Any, str]) -> None:
    app, key = app_and_key
    found = fuzz(app, key, n_examples=3, seed=20)
    assert not found.errors
    assert not found.failures, "\n\n".join(f"{where}\n{what}" for where, what in found.failures.items())
    described = {
        f"{method.upper()} {path}" for path, methods in app.openapi()["paths"].items() for method in methods
    }
    assert {label for label, n in found.n_requests.items() if n >= 5} == described
    assert all(found.n_checks[check] > 1_000 for check in CHECKS)
    assert found.statuses[200] > 300
