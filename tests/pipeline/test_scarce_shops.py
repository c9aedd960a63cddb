"""Pipelines of shops in which almost nothing has happened."""

import numpy as np
import polars as pl

from zhiyin.contracts import TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.data.splits import leave_last_out
from zhiyin.domain import Catalogue, Histories, Queries, Vocabulary
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.settings import PipelineConfig


def test_a_shop_without_anything_to_validate_on_may_keep_places_for_new_items() -> None:
    rows = [np.array([user % 3], dtype=np.int32) for user in range(6)]
    catalogue = Catalogue.from_table(pl.DataFrame({"item_id": [f"i{item}" for item in range(4)]}))
    users = Vocabulary([f"u{user}" for user in range(len(rows))])
    split = leave_last_out(Dataset("first day", catalogue, users, Histories.of_items(rows)))
    assert not len(split.validation)
    pipeline = Pipeline(PipelineConfig(sources={"popularity": {}}, new_items={"slots": 1}))
    pipeline.fit(TrainingData(split.train, pipeline.language, split.validation))
    slate = pipeline.recommend(Queries.of_histories(Histories.empty(1)), 4)
    assert sorted(slate.item_index[slate.is_item].tolist()) == [0, 1, 2, 3]
