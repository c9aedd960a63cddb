"""A trained tea shop."""

import pytest

from zhiyin.contracts import TrainingData
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe
from zhiyin.testing.tea_shop import tea_shop


@pytest.fixture
def pipeline() -> Pipeline:
    """A real pipeline of the recipe ``fast``; it trains in a twentieth of a second."""
    pipeline = Pipeline(recipe("fast"))
    pipeline.fit(TrainingData(tea_shop(), pipeline.language))
    return pipeline
