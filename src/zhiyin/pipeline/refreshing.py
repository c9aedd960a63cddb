"""A pipeline that goes on learning."""

from __future__ import annotations

from zhiyin.contracts import Growth, TrainingData
from zhiyin.pipeline import ranker_files
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.ranker_continuing import continued
from zhiyin.pipeline.reranking_files import carried_over
from zhiyin.pipeline.trends import Trends
from zhiyin.policy.item_counts import ItemCounts

FEWEST_AT_FIRST = 50
"""Validation examples from which on a merge is fitted that never was: any weights are better than none."""


def refreshed(
    pipeline: Pipeline, training: TrainingData, growth: Growth, *, fewest_to_weigh: int
) -> Pipeline:
    """Return a pipeline that has learned from data that grew; the one it is made of stays as it was.

    Each source is refreshed with the settings that were chosen for it. The weights of the merge and
    the chances are fitted again where there are enough validation examples, and kept otherwise. So are those
    of a re-ranking; its model is carried over: it reads what users did since, and learns no more. The ranker
    learns on where the log holds what it learned from.

    Args:
        pipeline: Trained, knowing every item of the catalogue of ``training``.
        training: Everything, old and new.
        growth: What of it is new.
        fewest_to_weigh: Validation examples from which on the merge is fitted again; one that was trained
            before there was any needs `FEWEST_AT_FIRST` at most.
    """
    after = Pipeline(pipeline.config, pipeline.language)
    after.take_over(training.dataset.catalogue, pipeline.content, removed=pipeline.removed.copy())
    after.remember(training.dataset)
    after.sources = [source.refreshed(training, growth) for source in pipeline.sources]
    after.trends = Trends.of(training.dataset, pipeline.config.merge.trend_days)
    after.counts = ItemCounts(training.dataset.item_counts)
    after.merge.restore(pipeline.merge.state())
    after.merge.weights = after.merge.weights.copy()
    after.chances = pipeline.chances
    users, table = training.dataset.users, training.dataset.user_table
    if pipeline.ranker is not None:
        stage = ranker_files.carried_over(pipeline.ranker, pipeline.users, users, table)
        after.ranker = continued(stage, training, growth)
    if pipeline.reranking is not None:
        after.reranking = carried_over(pipeline.reranking, pipeline.users, users, table)
    needed = fewest_to_weigh if pipeline.chances is not None else min(fewest_to_weigh, FEWEST_AT_FIRST)
    enough = training.validation is not None and len(training.validation) >= max(needed, 1)
    after.new_items.restore(pipeline.new_items.state())
    if enough:
        after._fit_on_validation(training)
    return after
