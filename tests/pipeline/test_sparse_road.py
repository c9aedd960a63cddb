"""The pipeline against the plain way: score everything, mask, sort."""

import numpy as np
import pytest

from zhiyin.contracts import best_of
from zhiyin.domain import Candidates, Queries, Wishes
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.policy.masks import barred_items

N_ITEMS = 24


def plainly(pipeline: Pipeline, queries: Queries, n: int, wishes: Wishes) -> Candidates:
    """Recommend by (B, I) scores of every source, a (B, I) mask, and a sort."""
    barred = barred_items(queries.histories, wishes, removed=pipeline.removed).dense()
    scores = {source.name: source.score_all(queries) for source in pipeline.sources}
    n_proposed = max(n, pipeline.config.merge.n_candidates)
    proposed = np.zeros(barred.shape, dtype=bool)
    for name, of_source in scores.items():
        n_of = min(n_proposed, max(n, 20)) if name == "popularity" else n_proposed
        best = best_of(np.where(barred, np.float32(np.nan), of_source), n_of, column="score")
        row, place = np.nonzero(best.is_item)
        proposed[row, best.item_index[row, place]] = True
    every = np.tile(np.arange(barred.shape[1], dtype=np.int32), (len(queries), 1))
    kept = pipeline.counts.beside(Candidates(every, scores).without(~proposed))
    return pipeline.merge.apply(kept, pipeline._circumstances(queries, kept)).top(n, by="score")


@pytest.mark.parametrize("share_allowed", [None, 0.1, 0.6])
@pytest.mark.parametrize("repeat", [False, True])
@pytest.mark.parametrize("n_candidates", [3, 200])
def test_slates_are_those_of_the_plain_way(
    trained: Pipeline, split, share_allowed: float | None, repeat: bool, n_candidates: int, monkeypatch
):
    merge = trained.config.merge.model_copy(update={"n_candidates": n_candidates})
    monkeypatch.setattr(trained, "config", trained.config.model_copy(update={"merge": merge}))
    allowed = None if share_allowed is None else np.random.default_rng(2).random(N_ITEMS) < share_allowed
    wishes = Wishes(allowed=allowed, repeat=repeat)
    queries = split.test.queries
    found, expected = trained.recommend(queries, 5, wishes), plainly(trained, queries, 5, wishes).padded(5)
    np.testing.assert_array_equal(found.item_index, expected.item_index)
    np.testing.assert_allclose(found.column("score"), expected.column("score"), rtol=1e-4, atol=1e-5)
