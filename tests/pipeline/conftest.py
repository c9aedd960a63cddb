"""A small trained pipeline over a world whose answers are known."""

import numpy as np
import polars as pl
import pytest

from zhiyin.contracts import TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.data.splits import Split, leave_last_out
from zhiyin.domain import Catalogue, Histories, Vocabulary
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe

COLOURS = ("red", "blue")
N_ITEMS = 24


@pytest.fixture(scope="session")
def split() -> Split:
    """Users walk in circles through the items of one colour, from a random start; two items are untouched."""
    random = np.random.default_rng(0)
    rows = []
    for user in range(80):
        own = np.arange(user % 2, N_ITEMS - 2, 2)
        rows.append(np.roll(own, -random.integers(0, len(own)))[:6])
    table = pl.DataFrame(
        {
            "item_id": [f"i{item}" for item in range(N_ITEMS)],
            "title": [f"{COLOURS[item % 2]} thing {chr(97 + item)}" for item in range(N_ITEMS)],
            "price": [float(item) for item in range(N_ITEMS)],
        }
    )
    users = Vocabulary([f"u{user}" for user in range(len(rows))])
    dataset = Dataset("colours", Catalogue.from_table(table), users, Histories.of_items(rows))
    return leave_last_out(dataset)


@pytest.fixture(scope="session")
def trained(split: Split) -> Pipeline:
    return fitted("fast", split)


def fitted(name: str, split: Split) -> Pipeline:
    pipeline = Pipeline(recipe(name))
    pipeline.fit(TrainingData(split.train, pipeline.language, split.validation))
    return pipeline


@pytest.fixture
def pipeline(split: Split) -> Pipeline:
    """One that a test may change."""
    return fitted("fast", split)
